//! `mesita dev` as a user runs it: files in, services out, nothing left behind.

use crate::support::{Dev, directories_of, file, processes_of, request, wait_for};
use serde_json::json;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn page(task: &serde_json::Value) -> (u16, String) {
    let base = format!("http://127.0.0.1:{}", task["ports"][0]);
    let (status, body) = request(&base, "GET", "/", &[], b"");
    (status, text(&body))
}

#[test]
fn hello_runs_through_a_real_offer_and_leaves_nothing() {
    let dev = Dev::start(&[file("testdata/apps/hello.json").to_str().expect("a path")]);
    let tasks = dev.tasks("/hello");
    assert_eq!(tasks.len(), 2);
    for task in &tasks {
        let (status, page) = page(task);
        assert_eq!(status, 200);
        assert!(
            page.contains(task["id"].as_str().expect("an id")),
            "the page says which instance it is: {page}"
        );
    }
    // The master knows the framework, its tasks and what they use.
    let (_, state) = dev.get("/state");
    let framework = &state["frameworks"][0];
    assert_eq!(framework["name"], "marathon");
    assert_eq!(framework["tasks"].as_array().map(Vec::len), Some(2));
    assert_eq!(state["slaves"][0]["used_resources"]["cpus"], json!(0.2));

    let (run_id, directories) = (dev.run_id.clone(), directories_of(&dev.run_id));
    assert_eq!(directories.len(), 1, "one temporary directory");
    assert_eq!(dev.stop("TERM"), Some(0));
    assert_eq!(processes_of(&run_id), Vec::<String>::new());
    assert_eq!(directories_of(&run_id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn nothing_survives_kill_9() {
    let dev = Dev::start(&[file("testdata/apps/hello.json").to_str().expect("a path")]);
    let run_id = dev.run_id.clone();
    let directory = directories_of(&run_id);
    assert!(processes_of(&run_id).len() >= 3, "dev and two tasks");
    assert_eq!(dev.stop("KILL"), None);
    wait_for("every process to end", || processes_of(&run_id).is_empty().then_some(()));
    // A temporary directory cannot remove itself after kill -9.
    for path in directory {
        std::fs::remove_dir_all(path).expect("removed");
    }
}

#[test]
fn services_scale_restart_and_recover() {
    let dev = Dev::start(&[file("testdata/apps/hello.json").to_str().expect("a path")]);
    let scaled = dev.cli(&["scale", "hello", "3"]);
    assert!(scaled.status.success(), "{}", text(&scaled.stderr));
    assert_eq!(dev.tasks("/hello").len(), 3);

    // A task that dies is replaced, under the same instance id.
    let victim = dev.tasks("/hello")[0].clone();
    let id = victim["id"].as_str().expect("an id").to_owned();
    let (status, killed) = dev.send("DELETE", &format!("/v2/apps/hello/tasks/{id}"), &json!(null));
    assert_eq!((status, &killed["task"]["id"]), (200, &victim["id"]));
    let again = id.replace("._app.1", "._app.2");
    wait_for("the instance to run again", || {
        dev.tasks("/hello")
            .into_iter()
            .find(|task| task["id"] == again.as_str() && task["state"] == "TASK_RUNNING")
    });

    // A change of configuration replaces every instance, and the deployment ends.
    let (status, changed) = dev.send("PUT", "/v2/apps/hello", &json!({ "env": { "A": "1" } }));
    assert_eq!(status, 200, "{changed}");
    let version = changed["version"].as_str().expect("a version").to_owned();
    wait_for("the deployment to end", || {
        dev.get("/v2/deployments").1.as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let tasks = dev.tasks("/hello");
    assert_eq!(tasks.len(), 3);
    assert!(tasks.iter().all(|task| task["version"] == version.as_str()), "{tasks:?}");

    let stopped = dev.cli(&["stop", "hello"]);
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    assert_eq!(dev.get("/v2/apps/hello").0, 404);
    assert_eq!(dev.stop("INT"), Some(0));
}

#[test]
fn the_second_service_finds_the_first() {
    let dev = Dev::start(&[file("testdata/apps/two-services.json").to_str().expect("a path")]);
    let front = dev.tasks("/shop/front").remove(0);
    let base = format!("http://127.0.0.1:{}", front["ports"][0]);
    let (status, body) = request(&base, "GET", "/upstream", &[], b"");
    assert_eq!(status, 200);
    assert!(text(&body).contains("shop_store.instance-"), "{}", text(&body));
}

#[test]
fn older_spellings_run_too() {
    let dev = Dev::start(&[file("testdata/apps/legacy-ports.json").to_str().expect("a path")]);
    let task = dev.tasks("/legacy-ports").remove(0);
    assert_eq!(task["ports"].as_array().map(Vec::len), Some(2));
    assert_eq!(page(&task).0, 200);
}

#[test]
fn an_unhealthy_app_is_killed_and_explained() {
    let dev = Dev::start(&[]);
    let path = file("testdata/apps/unhealthy.json");
    let deployed = dev.cli(&["deploy", "--no-wait", path.to_str().expect("a path")]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let first = wait_for("the first task", || dev.tasks("/unhealthy").into_iter().next());
    wait_for("its replacement", || {
        dev.tasks("/unhealthy").into_iter().find(|task| task["id"] != first["id"])
    });
    let reasons = wait_for("an explanation", || {
        let explained = dev.cli(&["explain", "unhealthy"]);
        let said = text(&explained.stdout);
        said.contains("HTTP status 500").then_some(said)
    });
    assert!(reasons.contains("/unhealthy is"), "{reasons}");
}

#[test]
fn state_survives_kill_9_of_the_whole() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().to_str().expect("a path").to_owned();
    let dev = Dev::start(&["--data-dir", &data, file("testdata/apps/hello.json").to_str().expect("a path")]);
    let framework = dev.get("/v2/info").1["frameworkId"].clone();
    let run_id = dev.run_id.clone();
    dev.stop("KILL");
    wait_for("every process to end", || processes_of(&run_id).is_empty().then_some(()));

    let dev = Dev::start(&["--data-dir", &data]);
    wait_for("two tasks that answer", || {
        let tasks = dev.tasks("/hello");
        (tasks.len() == 2 && tasks.iter().all(|task| page(task).0 == 200)).then_some(())
    });
    assert_eq!(dev.get("/v2/info").1["frameworkId"], framework, "the framework keeps its id");
    let payloads = processes_of(&dev.run_id).iter().filter(|line| line.contains("demo-web")).count();
    assert_eq!(payloads, 2, "not doubled");
    let run_id = dev.run_id.clone();
    assert_eq!(dev.stop("TERM"), Some(0));
    assert_eq!(processes_of(&run_id), Vec::<String>::new());
}

#[test]
fn tasks_have_time_to_end_and_haste_cuts_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let said = folder.path().join("said");
    let script = |after: &str| format!("trap '{after}' TERM; echo up; while true; do sleep 0.02; done");
    let app = |cmd: String| json!({ "id": "/tidy", "cmd": cmd, "cpus": 0.1, "mem": 32 });
    let start = |cmd: String| {
        let dev = Dev::start(&[]);
        assert_eq!(dev.send("POST", "/v2/apps", &app(cmd)).0, 201);
        wait_for("the task to be up", || {
            text(&dev.cli(&["logs", "tidy"]).stdout).contains("up").then_some(())
        });
        dev
    };
    let dev = start(script(&format!("echo saved > {}; exit 0", said.display())));
    assert_eq!(dev.stop("INT"), Some(0));
    assert_eq!(std::fs::read_to_string(&said).expect("what the task wrote"), "saved\n");
    // A task that never ends by itself is killed, at once if the signal comes twice.
    let dev = start(script(":"));
    let (run_id, pid) = (dev.run_id.clone(), dev.pid());
    crate::support::signal_process(pid, "INT");
    assert_eq!(dev.stop("INT"), Some(0));
    assert_eq!(processes_of(&run_id), Vec::<String>::new());
}
