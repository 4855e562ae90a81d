//! Docker tasks against the real engine.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::engine::{Image, containers_of, engine, inspect, remove_containers_of};
use crate::support::{Dev, file, own_run_id, processes_of, request, wait_for};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Removes what a failed test leaves in the engine.
struct Sweep;

impl Drop for Sweep {
    fn drop(&mut self) {
        remove_containers_of(&own_run_id());
    }
}

/// An app file of the repository with the test's image in place of its own.
fn with_image(path: &str, image: &Image, folder: &Path) -> String {
    let text = std::fs::read_to_string(file(path)).expect("readable");
    let mut app: Value = serde_json::from_str(&text).expect("JSON");
    app["container"]["docker"]["image"] = json!(image.name);
    let path = folder.join("app.json");
    std::fs::write(&path, app.to_string()).expect("written");
    path.to_str().expect("a path").to_owned()
}

fn page(task: &Value) -> String {
    text(&request(&format!("http://127.0.0.1:{}", task["ports"][0]), "GET", "/", &[], b"").1)
}

#[test]
fn docker_apps_are_reached_through_mapped_ports_and_leave_nothing() {
    let Some(image) = Image::make() else { return };
    let (_sweep, folder) = (Sweep, tempfile::tempdir().expect("a directory"));
    for (path, app, said) in [
        ("testdata/apps/docker.json", "/boxed/web", "boxed"),
        ("testdata/apps/legacy-docker.json", "/legacy-docker", "legacy"),
    ] {
        let dev = Dev::start(&[&with_image(path, &image, folder.path())]);
        let task = dev.tasks(app).remove(0);
        wait_for("the page", || (page(&task).trim() == said).then_some(()));
        let list = containers_of(&dev.run_id);
        assert_eq!(list.len(), 1, "{list:?}");
        let found = inspect(&list[0]);
        assert!(found["Name"].as_str().is_some_and(|name| name.starts_with("/mesos-")), "{}", found["Name"]);
        assert_eq!(found["HostConfig"]["Memory"], 32 << 20);
        let bound = &found["HostConfig"]["PortBindings"]["8080/tcp"][0];
        assert_eq!(bound["HostIp"], "127.0.0.1", "nothing is published to the world");
        assert_eq!(found["Config"]["Labels"]["MESOS_TASK_ID"], task["id"]);
        assert_ne!(task["ipAddresses"][0]["ipAddress"], "127.0.0.1", "the container's own address");
        let run_id = dev.run_id.clone();
        assert_eq!(dev.stop("INT"), Some(0));
        assert_eq!(containers_of(&run_id), Vec::<Value>::new());
        assert_eq!(processes_of(&run_id), Vec::<String>::new());
    }
}

#[test]
fn the_example_framework_runs_a_docker_task() {
    let Some(image) = Image::make() else { return };
    let _sweep = Sweep;
    let dev = Dev::start(&[]);
    let output = Command::new("python3")
        .arg(file("examples/framework.py"))
        .args(["--master", &dev.master(), "--timeout", "60", "--image", &image.name])
        .output()
        .expect("python3 runs");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    for line in [
        "boxed: TASK_STARTING",
        "boxed: TASK_RUNNING",
        "boxed: TASK_FINISHED Container exited with status 0",
        "hello: TASK_FINISHED Command exited with status 0",
        "torn down",
    ] {
        assert!(said.contains(line), "{line:?} is missing in:\n{said}");
    }
    wait_for("the container to be removed", || containers_of(&dev.run_id).is_empty().then_some(()));
}

#[test]
fn run_in_a_container_passes_output_and_code_on() {
    let Some(image) = Image::make() else { return };
    let _sweep = Sweep;
    let dev = Dev::start(&[]);
    let run = |command: &[&str]| dev.cli(&[&["run", "--image", &image.name, "--"], command].concat());
    let ran = run(&["sh", "-c", "echo out; echo err >&2; seq 1 3; exit 7"]);
    assert_eq!(ran.status.code(), Some(7), "{}", text(&ran.stderr));
    assert_eq!(text(&ran.stdout), "out\n1\n2\n3\n");
    assert!(text(&ran.stderr).contains("err\n"), "{}", text(&ran.stderr));
    let ran = run(&["sh", "-c", "echo $MESOS_SANDBOX"]);
    assert_eq!(text(&ran.stdout), "/mnt/mesos/sandbox\n", "{}", text(&ran.stderr));
    let ran = run(&["no-such-program"]);
    assert_eq!(ran.status.code(), Some(127), "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("no-such-program"), "{}", text(&ran.stderr));
    wait_for("the containers to be removed", || containers_of(&dev.run_id).is_empty().then_some(()));
}

/// The newest failure of an app, once there is one.
fn failure(dev: &Dev, app: &str) -> Value {
    wait_for("a failure", || {
        let (_, answer) = dev.get(&format!("/v2/apps{app}?embed=app.lastTaskFailure"));
        answer["app"].get("lastTaskFailure").cloned()
    })
}

#[test]
fn what_cannot_run_says_why_and_the_cluster_goes_on() {
    let Some(image) = Image::make() else { return };
    let _sweep = Sweep;
    let dev = Dev::start(&[]);
    let deploy = |id: &str, docker: Value, volumes: Value| {
        let app = json!({
            "id": id, "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "backoffSeconds": 60,
            "container": { "type": "DOCKER", "docker": docker, "volumes": volumes },
        });
        let (status, answer) = dev.send("POST", "/v2/apps", &app);
        assert_eq!(status, 201, "{answer}");
        failure(&dev, id)
    };
    let absent = deploy("/absent", json!({ "image": "mesita.invalid/no-such-image" }), json!([]));
    let said = absent["message"].as_str().unwrap_or_default();
    assert!(said.contains("mesita.invalid/no-such-image") && said.contains("docker load"), "{said}");
    assert_eq!(absent["state"], "TASK_FAILED");
    for (id, docker, volumes, needle) in [
        ("/path", json!({ "image": "x/../../images" }), json!([]), "no image reference"),
        (
            "/parameter",
            json!({ "image": image.name, "parameters": [{ "key": "pid", "value": "host" }] }),
            json!([]),
            "\"pid\" is not supported",
        ),
        (
            "/socket",
            json!({ "image": image.name }),
            json!([{ "containerPath": "/s", "hostPath": "/var/run/docker.sock", "mode": "RW" }]),
            "/var/run/docker.sock",
        ),
    ] {
        let said = deploy(id, docker, volumes)["message"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains(needle), "{id}: {said}");
    }
    // An app is explained by the same words.
    let explained = text(&dev.cli(&["explain", "absent"]).stdout);
    assert!(explained.contains("no-such-image"), "{explained}");
    let ran = dev.cli(&["run", "--image", &image.name, "--", "true"]);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
}

#[test]
fn volumes_checks_and_a_graceful_end() {
    let Some(image) = Image::make() else { return };
    let (_sweep, folder) = (Sweep, tempfile::tempdir().expect("a directory"));
    std::fs::write(folder.path().join("given"), "from the host").expect("written");
    let dev = Dev::start(&[]);
    let script = "cat /in/given; touch /in/new || echo read-only; \
        trap 'echo bye; exit 0' TERM; httpd -p 127.0.0.1:9090 -h /www; touch /tmp/well; \
        while true; do sleep 0.05; done";
    let app = json!({
        "id": "/box", "cmd": script, "cpus": 0.1, "mem": 32,
        "networks": [{ "mode": "container/bridge" }],
        "container": {
            "type": "DOCKER", "docker": { "image": image.name },
            "volumes": [{ "containerPath": "/in", "hostPath": folder.path(), "mode": "RO" }],
            "portMappings": [{ "containerPort": 9090 }],
        },
        // Only from within the container's network does anything answer; only inside is the file.
        "healthChecks": [{ "protocol": "COMMAND", "command": { "value": "ls /tmp/well" },
            "intervalSeconds": 1, "gracePeriodSeconds": 20, "timeoutSeconds": 5, "delaySeconds": 0 }],
    });
    assert_eq!(dev.send("POST", "/v2/apps", &app).0, 201);
    let healthy = |app: &str| {
        wait_for("a healthy task", || {
            let task = dev.tasks(app).into_iter().next()?;
            (task["healthCheckResults"][0]["alive"] == true).then_some(task)
        })
    };
    healthy("/box");
    let mut over_http = app;
    over_http["id"] = json!("/box-http");
    over_http["healthChecks"] = json!([{ "protocol": "MESOS_HTTP", "portIndex": 0, "path": "/none",
        "intervalSeconds": 1, "gracePeriodSeconds": 0, "timeoutSeconds": 5, "delaySeconds": 1,
        "maxConsecutiveFailures": 100 }]);
    assert_eq!(dev.send("POST", "/v2/apps", &over_http).0, 201);
    // 404 from the server inside is a failed check; no connection would have no status.
    let reason = wait_for("the check's finding", || {
        let (_, state) = dev.send("POST", "/api/v1", &json!({ "type": "GET_TASKS" }));
        let tasks = state["get_tasks"]["tasks"].as_array()?.clone();
        let task = tasks.into_iter().find(|task| task["name"] == "box-http")?;
        let last = task["statuses"].as_array()?.iter().rev().find(|one| one["healthy"] == false)?.clone();
        Some(last["message"].as_str()?.to_owned())
    });
    assert!(reason.contains("404"), "{reason}");

    let id = dev.tasks("/box").remove(0)["id"].as_str().expect("an id").to_owned();
    let stopped = dev.cli(&["logs", &id]);
    let said = text(&stopped.stdout);
    assert!(said.contains("from the host") && said.contains("read-only"), "{said}");
    assert!(!folder.path().join("new").exists());
    assert_eq!(dev.send("DELETE", "/v2/apps/box?force=true", &json!(null)).0, 200);
    // SIGTERM reached the task, and what it said then was kept.
    let (_, state) = wait_for("the task's end", || {
        let (status, state) = dev.send("POST", "/api/v1", &json!({ "type": "GET_TASKS" }));
        let done = state["get_tasks"]["completed_tasks"].as_array()?.iter().any(|task| task["name"] == "box");
        done.then_some((status, state))
    });
    let ended = state["get_tasks"]["completed_tasks"][0].clone();
    assert_eq!(ended["state"], "TASK_KILLED", "{ended}");
    let last = ended["statuses"].as_array().and_then(|list| list.last().cloned()).expect("a status");
    assert_eq!(last["message"], "Container exited with status 0", "it had time to end by itself");
}

#[test]
fn a_container_that_wants_too_much_memory_is_named() {
    let Some(image) = Image::make() else { return };
    let _sweep = Sweep;
    let dev = Dev::start(&[]);
    // `tail` keeps what has no end of line.
    let ran = dev.cli(&["run", "--image", &image.name, "--mem", "32", "--", "tail", "/dev/zero"]);
    assert_eq!(ran.status.code(), Some(137), "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("Memory limit exceeded"), "{}", text(&ran.stderr));
}

#[test]
fn containers_survive_kill_9_and_are_adopted_not_doubled() {
    let Some(image) = Image::make() else { return };
    let (_sweep, folder) = (Sweep, tempfile::tempdir().expect("a directory"));
    let data = folder.path().join("data");
    let data = data.to_str().expect("a path");
    let app = folder.path().join("counter.json");
    let definition = json!({
        "id": "/counter", "cpus": 0.1, "mem": 32, "instances": 2,
        "cmd": "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done",
        "container": { "type": "DOCKER", "docker": { "image": image.name } },
    });
    std::fs::write(&app, definition.to_string()).expect("written");
    let dev = Dev::start(&["--data-dir", data, app.to_str().expect("a path")]);
    let ids = |run_id: &str| {
        let mut ids: Vec<String> = containers_of(run_id).iter().map(|one| one["Id"].to_string()).collect();
        ids.sort();
        ids
    };
    let (before, run_id) = (ids(&dev.run_id), dev.run_id.clone());
    let tasks = |dev: &Dev| {
        let mut ids: Vec<String> = dev.tasks("/counter").iter().map(|one| one["id"].to_string()).collect();
        ids.sort();
        ids
    };
    let known = tasks(&dev);
    dev.stop("KILL");
    // What runs in the containers goes on, and carries the run's id, too.
    let own = || processes_of(&run_id).iter().filter(|line| line.contains("mesita")).count();
    wait_for("every process of ours to end", || (own() == 0).then_some(()));
    assert_eq!(ids(&run_id), before, "containers outlive the agent");
    // A container of this agent that no task owns is an orphan.
    let agent = inspect(&containers_of(&run_id)[0])["Config"]["Labels"]["mesita.agent"].clone();
    let orphan = json!({ "Image": image.name, "Cmd": ["true"],
        "Labels": { "mesita.agent": agent, "MESITA_RUN_ID": run_id } });
    assert_eq!(engine("POST", "/containers/create", orphan.to_string().as_bytes()).0, 201);

    let dev = Dev::start(&["--data-dir", data]);
    wait_for("both tasks to run again", || {
        let running = dev.tasks("/counter").iter().filter(|one| one["state"] == "TASK_RUNNING").count();
        (running == 2).then_some(())
    });
    // The tasks are shown as they were known until the agent is back; then the orphan goes.
    wait_for("the orphan to go", || (ids(&run_id) == before).then_some(()));
    assert_eq!(tasks(&dev), known);
    // Every line of the log is there once: copying went on where it stopped.
    let first = known[0].trim_matches('"').to_owned();
    let lines = || {
        let logs = text(&dev.cli(&["logs", &first, "--no-prefix", "--stream", "stdout"]).stdout);
        logs.lines().filter_map(|line| line.parse::<usize>().ok()).collect::<Vec<_>>()
    };
    let now = lines().len();
    let later = wait_for("more lines", || Some(lines()).filter(|lines| lines.len() > now + 20));
    assert_eq!(later, (1..=later.len()).collect::<Vec<_>>());
    assert_eq!(dev.stop("TERM"), Some(0));
    assert_eq!(ids(&run_id), Vec::<String>::new());
}

#[test]
fn what_a_killed_cluster_left_is_reaped() {
    let Some(image) = Image::make() else { return };
    let (_sweep, folder) = (Sweep, tempfile::tempdir().expect("a directory"));
    let app = folder.path().join("sleep.json");
    let definition = json!({
        "id": "/sleep", "cpus": 0.1, "mem": 32, "cmd": "sleep 1000",
        "container": { "type": "DOCKER", "docker": { "image": image.name } },
    });
    std::fs::write(&app, definition.to_string()).expect("written");
    let dev = Dev::start(&[app.to_str().expect("a path")]);
    let run_id = dev.run_id.clone();
    let data = crate::support::directories_of(&run_id).pop().expect("a temporary directory");
    let reap = |more: &[&str]| {
        let output = crate::support::program()
            .args(["reap", "--output", "json", "--data-dir", data.to_str().expect("a path")])
            .args(more)
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let orphans = answer["orphans"].as_array().expect("a list").clone();
        orphans.iter().map(|orphan| orphan["kind"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(reap(&[]), Vec::<String>::new(), "its node runs");
    dev.stop("KILL");
    let own = || processes_of(&run_id).iter().filter(|line| line.contains("mesita")).count();
    wait_for("every process of ours to end", || (own() == 0).then_some(()));
    let both = ["\"container\"", "\"directory\""];
    assert_eq!(reap(&["--dry-run"]), both);
    assert!(data.exists() && containers_of(&run_id).len() == 1, "nothing was done yet");
    assert_eq!(reap(&[]), both);
    assert!(!data.exists() && containers_of(&run_id).is_empty());
    assert_eq!(reap(&[]), Vec::<String>::new());
}

#[test]
fn containers_of_an_agent_that_is_killed_go_on_and_end_with_the_cluster() {
    use mesita::Cluster;
    use mesita::cluster::{Executor, Part};

    let Some(image) = Image::make() else { return };
    let _sweep = Sweep;
    let soon = std::time::Duration::from_secs(60);
    let builder = Cluster::builder().executor(Executor::Docker).testing().run_id(own_run_id());
    let cluster = builder.start_blocking().expect("a cluster");
    let app = json!({
        "id": "/counter", "cpus": 0.1, "mem": 32,
        "cmd": "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done",
        "container": { "type": "DOCKER", "docker": { "image": image.name } },
    });
    cluster.deploy(app).expect("accepted");
    cluster.wait_healthy("/counter", soon).expect("it runs");
    let before = containers_of(&own_run_id());
    let (_, tasks) = {
        let (status, body) = request(&cluster.marathon_url(), "GET", "/v2/apps/counter/tasks", &[], b"");
        (status, serde_json::from_slice::<Value>(&body).expect("JSON"))
    };
    let task = tasks["tasks"][0]["id"].as_str().expect("an id").to_owned();
    cluster.kill(Part::Agent(0)).expect("it runs");
    cluster.restart(Part::Agent(0)).expect("it was ended");
    // Each line of its output is there once: nobody else copies it, too.
    let lines = || {
        let text = cluster.task_log(&task, "stdout").unwrap_or_default();
        let numbers: Vec<usize> = text.lines().filter_map(|line| line.parse().ok()).collect();
        numbers
    };
    let now = wait_for("its log", || Some(lines().len()).filter(|count| *count > 0));
    let later = wait_for("more lines", || Some(lines()).filter(|lines| lines.len() > now + 20));
    assert_eq!(later, (1..=later.len()).collect::<Vec<_>>());
    let ids = |list: &[Value]| list.iter().map(|one| one["Id"].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&containers_of(&own_run_id())), ids(&before));
    cluster.kill(Part::Agent(0)).expect("it runs");
    cluster.shutdown().expect("nothing is left");
    assert_eq!(containers_of(&own_run_id()), Vec::<Value>::new());
}

#[test]
fn without_an_engine_everything_else_works_and_stops() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().to_str().expect("a path");
    for _ in 0..2 {
        let mut child = crate::support::program()
            .args(["dev", "--json", "--data-dir", data])
            .args([
                "--master-addr",
                "127.0.0.1:0",
                "--agent-addr",
                "127.0.0.1:0",
                "--marathon-addr",
                "127.0.0.1:0",
            ])
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
            .env("MESITA_RUN_ID", own_run_id())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a ready line");
        let ready: Value = serde_json::from_str(&line).expect("JSON");
        let base = ready["masters"][0].as_str().expect("a URL");
        let ran = crate::support::program()
            .args(["run", "--image", "busybox", "--", "true"])
            .env("MESITA_ADDR", base)
            .output()
            .expect("the program runs");
        let said = text(&ran.stderr);
        assert!(said.contains("no Docker engine answers") && said.contains("DOCKER_HOST"), "{said}");
        crate::support::signal_process(child.id(), "INT");
        assert_eq!(child.wait().expect("our own child").code(), Some(0));
    }
}
