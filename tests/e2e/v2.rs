//! Marathon's `/v2` as its clients use it.

use std::collections::BTreeSet;

use crate::engine::{Image, remove_containers_of};
use crate::support::{Dev, exchange, own_run_id, request, wait_for};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// An app that sleeps.
fn sleeper(id: &str, more: &Value) -> Value {
    let mut app = json!({ "id": id, "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 32 });
    for (key, value) in more.as_object().expect("an object") {
        app[key] = value.clone();
    }
    app
}

fn create(dev: &Dev, app: &Value) -> Value {
    let (status, answer) = dev.send("POST", "/v2/apps", app);
    assert_eq!(status, 201, "{answer}");
    answer
}

fn settled(dev: &Dev) {
    wait_for("the deployments to end", || {
        dev.get("/v2/deployments").1.as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

fn ids(tasks: &[Value]) -> BTreeSet<String> {
    tasks.iter().map(|task| task["id"].as_str().expect("an id").to_owned()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The paths of what is wrong.
fn places(answer: &Value) -> Vec<&str> {
    answer["details"].as_array().into_iter().flatten().map(|detail| text(&detail["path"])).collect()
}

/// An app with two instances, and a deployment that never ends because a third finds no host.
fn stuck(dev: &Dev) -> String {
    let limit = json!({ "instances": 2, "constraints": [["hostname", "MAX_PER", "2"]] });
    create(dev, &sleeper("/stuck", &limit));
    settled(dev);
    let (status, answer) = dev.send("PUT", "/v2/apps/stuck", &json!({ "instances": 3 }));
    assert_eq!(status, 200, "{answer}");
    text(&answer["deploymentId"]).to_owned()
}

#[test]
fn seconds_are_whole_numbers() {
    let dev = Dev::start(&[]);
    let checks = json!({ "instances": 0, "backoffSeconds": 1.0, "healthChecks": [{ "protocol": "TCP" }] });
    create(&dev, &sleeper("/a", &checks));
    for path in ["/v2/apps", "/v2/apps/a"] {
        let (_, body) = request(&dev.master(), "GET", path, &[], b"");
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("\"gracePeriodSeconds\":300,") && body.contains("\"cpus\":0.01"), "{body}");
        assert!(!body.contains(".0,") && !body.contains(".0}"), "{body}");
    }
}

#[test]
fn kills_name_hosts_and_tasks() {
    let dev = Dev::start(&[]);
    create(&dev, &sleeper("/a", &json!({ "instances": 2 })));
    settled(&dev);
    let before = dev.tasks("/a");
    assert_eq!(dev.send("DELETE", "/v2/apps/a/tasks?host=elsewhere", &json!(null)).1, json!({ "tasks": [] }));
    assert_eq!(ids(&dev.tasks("/a")), ids(&before), "nothing was killed");
    let (status, answer) = dev.send("POST", "/v2/tasks/delete", &json!({ "ids": ["no-task"] }));
    assert_eq!(status, 400, "{answer}");
    assert!(text(&answer["message"]).contains("no-task"), "{answer}");
    assert_eq!(dev.send("DELETE", "/v2/apps/a/tasks/nonsense", &json!(null)).0, 400);
    assert_eq!(dev.send("DELETE", "/v2/apps/a/tasks?scale=true&wipe=true", &json!(null)).0, 400);
    let unknown = "a.instance-0f1e2d3c-0000-11ee-8c99-0242ac120002";
    assert_eq!(dev.send("DELETE", &format!("/v2/apps/a/tasks/{unknown}"), &json!(null)).0, 404);
    let none = dev.send("POST", "/v2/tasks/delete", &json!({ "ids": [unknown] }));
    assert_eq!(none, (200, json!({ "tasks": [] })));
    // The instance's own id means its present task.
    let task = text(&before[0]["id"]);
    let instance = task.split("._app.").next().expect("an instance");
    let (status, answer) = dev.send("DELETE", &format!("/v2/apps/a/tasks/{instance}"), &json!(null));
    assert_eq!((status, &answer["task"]["id"]), (200, &json!(task)), "{answer}");
    wait_for("a replacement", || {
        let tasks = ids(&dev.tasks("/a"));
        (tasks.len() == 2 && !tasks.contains(task)).then_some(())
    });
    // So does the id of its task before.
    let (status, answer) = dev.send("POST", "/v2/tasks/delete", &json!({ "ids": [task] }));
    assert_eq!(status, 200, "{answer}");
    assert!(text(&answer["tasks"][0]["id"]).starts_with(instance), "{answer}");
    let host = text(&before[0]["host"]);
    for host in [host, "*"] {
        wait_for("both instances", || (dev.tasks("/a").len() == 2).then_some(()));
        let (status, answer) = dev.send("DELETE", &format!("/v2/apps/a/tasks?host={host}"), &json!(null));
        assert_eq!((status, answer["tasks"].as_array().is_some_and(|tasks| !tasks.is_empty())), (200, true));
    }
}

#[test]
fn a_version_in_a_body_of_its_own_means_rollback() {
    let dev = Dev::start(&[]);
    let first = create(&dev, &sleeper("/a", &json!({ "instances": 0, "env": { "A": "1" } })));
    settled(&dev);
    let (status, _) = dev.send("PUT", "/v2/apps/a", &json!({ "env": { "A": "2" }, "mem": 64 }));
    assert_eq!(status, 200);
    let now = || dev.get("/v2/apps/a").1["app"].clone();
    assert_eq!((&now()["env"]["A"], &now()["mem"]), (&json!("2"), &json!(64)));
    settled(&dev);
    // Any form of the time will do.
    let version = text(&first["version"]).replace('Z', "+00:00");
    let (status, answer) = dev.send("PUT", "/v2/apps/a", &json!({ "version": version }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&now()["env"]["A"], &now()["mem"]), (&json!("1"), &json!(32)));
    assert_eq!(now()["version"], answer["version"], "it is a new version");
    assert_eq!(dev.get(&format!("/v2/apps/a/versions/{version}")).1["env"]["A"], "1");
    let (status, answer) = dev.send("PUT", "/v2/apps/a", &json!({ "version": "2001-01-01T00:00:00.000Z" }));
    assert_eq!(status, 404, "{answer}");
    assert!(text(&answer["message"]).contains("2001-01-01T00:00:00.000Z"), "{answer}");
    let (status, answer) = dev.send("PUT", "/v2/apps/a", &json!({ "version": "yesterday" }));
    assert_eq!((status, places(&answer)), (422, vec!["/version"]), "{answer}");
    assert_eq!(dev.send("PUT", "/v2/apps/nobody", &json!({ "version": version })).0, 404);
}

#[test]
fn a_docker_app_of_old_is_updated_with_its_own_definition() {
    let dev = Dev::start(&[]);
    let docker = json!({ "image": "x", "network": "BRIDGE", "portMappings": [{ "containerPort": 80 }] });
    let old = json!({ "id": "/old", "instances": 0, "container": { "type": "DOCKER", "docker": docker } });
    let version = create(&dev, &old)["version"].clone();
    let (status, answer) = dev.send("PUT", "/v2/apps/old", &old);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(dev.get("/v2/apps/old").1["app"]["version"], version, "nothing changed");
}

#[test]
fn changes_that_come_together_do_not_undo_each_other() {
    const CLIENTS: usize = 8;
    let dev = Dev::start(&[]);
    create(&dev, &sleeper("/shared", &json!({ "instances": 0 })));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let dev = &dev;
            scope.spawn(move || {
                create(dev, &sleeper(&format!("/own-{client}"), &json!({ "instances": 0 })));
                let fields = ["mem", "disk", "backoffFactor", "maxLaunchDelaySeconds"];
                let update = json!({ fields[client % fields.len()]: 1_000 });
                assert_eq!(dev.send("PUT", "/v2/apps/shared?force=true", &update).0, 200);
            });
        }
    });
    let apps = dev.get("/v2/apps").1["apps"].as_array().cloned().expect("apps");
    let ports: BTreeSet<String> =
        apps.iter().map(|app| app["portDefinitions"][0]["port"].to_string()).collect();
    assert_eq!((apps.len(), ports.len()), (CLIENTS + 1, CLIENTS + 1), "every service port is there once");
    let shared = &dev.get("/v2/apps/shared").1["app"];
    for field in ["mem", "disk", "backoffFactor", "maxLaunchDelaySeconds"] {
        assert_eq!(shared[field], 1_000, "{field} in {shared}");
    }
}

#[test]
fn kills_that_scale_honour_locks_and_take_whom_they_name() {
    let dev = Dev::start(&[]);
    let deployment = stuck(&dev);
    let before = dev.tasks("/stuck");
    let victim = text(&before[0]["id"]);
    for path in
        [format!("/v2/apps/stuck/tasks/{victim}?scale=true"), "/v2/apps/stuck/tasks?scale=true".into()]
    {
        let (status, answer) = dev.send("DELETE", &path, &json!(null));
        assert_eq!((status, &answer["deployments"]), (409, &json!([{ "id": deployment }])), "{answer}");
    }
    assert_eq!(ids(&dev.tasks("/stuck")), ids(&before), "a refused change kills nothing");
    assert_eq!(dev.send("DELETE", &format!("/v2/deployments/{deployment}?force=true"), &json!(null)).0, 202);
    assert_eq!(dev.send("PUT", "/v2/apps/stuck", &json!({ "instances": 2 })).0, 200);
    settled(&dev);
    // Left alone, the youngest would go.
    let mut tasks = dev.tasks("/stuck");
    tasks.sort_by_key(|task| text(&task["stagedAt"]).to_owned());
    let victim = text(&tasks[0]["id"]).to_owned();
    let path = format!("/v2/apps/stuck/tasks/{victim}?scale=true");
    let (status, answer) = dev.send("DELETE", &path, &json!(null));
    assert_eq!((status, answer["deploymentId"].is_string()), (200, true), "{answer}");
    settled(&dev);
    assert_eq!(dev.get("/v2/apps/stuck").1["app"]["instances"], 1);
    assert_eq!(ids(&dev.tasks("/stuck")), ids(&tasks[1..]));
}

#[test]
fn deployments_can_be_stopped_and_undone() {
    let dev = Dev::start(&[]);
    assert_eq!(dev.send("DELETE", "/v2/deployments/nobody", &json!(null)).0, 404);
    assert_eq!(dev.send("PUT", "/v2/deployments/nobody", &json!(null)).0, 405);
    let deployment = stuck(&dev);
    let path = format!("/v2/deployments/{deployment}?force=true");
    let (status, body) = request(&dev.master(), "DELETE", &path, &[], b"");
    assert_eq!((status, body.len()), (202, 0), "{body:?}");
    assert_eq!(dev.get("/v2/deployments").1, json!([]));
    assert_eq!(dev.get("/v2/apps/stuck").1["app"]["instances"], 3, "it stays half-way");
    // Without force another deployment goes back.
    let (_, answer) = dev.send("PUT", "/v2/apps/stuck", &json!({ "instances": 4 }));
    let path = format!("/v2/deployments/{}", text(&answer["deploymentId"]));
    let (status, undone) = dev.send("DELETE", &path, &json!(null));
    assert_eq!((status, undone["deploymentId"].is_string()), (200, true), "{undone}");
    let app = &dev.get("/v2/apps/stuck").1["app"];
    assert_eq!((&app["instances"], &app["version"]), (&json!(3), &undone["version"]));
    // What a deployment created goes away.
    let created = create(&dev, &sleeper("/huge", &json!({ "mem": 1e9 })));
    let (_, list) = dev.get("/v2/deployments");
    let shown = list.as_array().into_iter().flatten().find(|one| one["affectedApps"] == json!(["/huge"]));
    let shown = shown.unwrap_or_else(|| panic!("{list}"));
    let action = |kind: &str| json!([{ "action": kind, "app": "/huge" }]);
    assert_eq!(shown["steps"][0]["actions"], action("StartApplication"));
    assert_eq!(shown["steps"][1]["actions"], action("ScaleApplication"));
    assert_eq!((&shown["currentStep"], &shown["totalSteps"]), (&json!(2), &json!(2)), "{shown}");
    assert_eq!(shown["currentActions"][0]["action"], "ScaleApplication");
    let path = format!("/v2/deployments/{}", text(&created["deployments"][0]["id"]));
    assert_eq!(dev.send("DELETE", &path, &json!(null)).0, 200);
    assert_eq!(dev.get("/v2/apps/huge").0, 404);
}

#[test]
fn apps_are_checked_together() {
    let dev = Dev::start(&[]);
    let none = |more: Value| {
        let mut more = more;
        more["instances"] = json!(0);
        more
    };
    create(&dev, &sleeper("/shop/db", &none(json!({}))));
    create(&dev, &sleeper("/shop/front", &none(json!({ "dependencies": ["db"] }))));
    assert_eq!(dev.get("/v2/apps/shop/front").1["app"]["dependencies"], json!(["/shop/db"]));
    let (status, answer) = dev.send("PUT", "/v2/apps/shop/db", &json!({ "dependencies": ["/shop/front"] }));
    assert_eq!((status, places(&answer)), (422, vec!["/dependencies"]), "{answer}");
    for id in ["/shop", "/shop/db/inner"] {
        let (status, answer) = dev.send("POST", "/v2/apps", &sleeper(id, &none(json!({}))));
        assert_eq!((status, places(&answer)), (422, vec!["/id"]), "{answer}");
    }
    let twice = json!([{ "id": "/shop/db", "mem": 64 }, { "id": "shop/db", "mem": 65 }]);
    assert_eq!(dev.send("PUT", "/v2/apps", &twice).0, 400);
}

#[test]
fn put_creates_and_patch_does_not() {
    let dev = Dev::start(&[]);
    let app = json!({ "cmd": "exec sleep 1000", "instances": 0, "env": { "A": "1" } });
    assert_eq!(dev.send("PATCH", "/v2/apps/a", &app).0, 404);
    assert_eq!(dev.send("PATCH", "/v2/apps", &json!([sleeper("/a", &app)])).0, 404);
    let body = app.to_string();
    let answer = exchange(&dev.master(), "PUT", "/v2/apps/a", &[JSON], body.as_bytes());
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("location: /a\r\n") && answer.contains("deploymentId"), "{answer}");
    assert!(answer.contains("marathon-deployment-id: "), "{answer}");
    settled(&dev);
    let (status, answer) = dev.send("PUT", "/v2/apps/a", &json!({ "mem": 64 }));
    assert_eq!((status, answer["deploymentId"].is_string()), (200, true), "{answer}");
    settled(&dev);
    // PATCH is partial, whatever else is asked for.
    assert_eq!(dev.send("PATCH", "/v2/apps/a?partialUpdate=false", &json!({ "mem": 65 })).0, 200);
    let stored = &dev.get("/v2/apps/a").1["app"];
    assert_eq!((&stored["mem"], &stored["env"]), (&json!(65), &json!({ "A": "1" })));
    assert_eq!(dev.send("PUT", "/v2/apps", &json!([sleeper("/b", &app)])).0, 200, "an array answers as ever");
}

#[test]
fn lists_are_filtered() {
    let dev = Dev::start(&[]);
    create(&dev, &sleeper("/shop/db", &json!({ "labels": { "tier": "back" } })));
    settled(&dev);
    create(&dev, &sleeper("/shop/front", &json!({ "labels": { "tier": "front", "public": "" } })));
    create(&dev, &sleeper("/shopping", &json!({ "instances": 0 })));
    settled(&dev);
    create(&dev, &sleeper("/waiting", &json!({ "mem": 1e9 })));
    let found = |path: &str, key: &str| -> Vec<String> {
        let (status, answer) = dev.get(path);
        assert_eq!(status, 200, "{answer}");
        let list = answer[key].as_array().cloned().unwrap_or_default();
        list.iter().map(|one| text(one.get("appId").unwrap_or_else(|| &one["id"])).to_owned()).collect()
    };
    assert_eq!(found("/v2/apps?label=tier", "apps"), ["/shop/db", "/shop/front"]);
    assert_eq!(found("/v2/apps?label=tier%3D%3Dfront,public", "apps"), ["/shop/front"]);
    assert_eq!(found("/v2/apps?label=tier+notin+(front)", "apps"), ["/shop/db"]);
    assert_eq!(found("/v2/apps?label=tier&id=DB", "apps"), ["/shop/db"]);
    let (status, answer) = dev.get("/v2/apps?label=tier%3Dx");
    assert_eq!((status, places(&answer)), (422, vec!["/label"]), "{answer}");
    assert_eq!(found("/v2/apps/shop/*", "*"), ["/shop/db", "/shop/front"]);
    assert_eq!(found("/v2/apps//*", "*").len(), 4);
    assert_eq!(dev.get("/v2/apps/nothing/*").0, 404);
    assert_eq!(found("/v2/apps/shop/*/tasks", "tasks"), ["/shop/db", "/shop/front"]);
    assert_eq!(found("/v2/tasks?status=running", "tasks"), ["/shop/db", "/shop/front"]);
    assert_eq!(found("/v2/tasks?status%5B%5D=staging&status[]=running", "tasks").len(), 2);
    assert_eq!(found("/v2/tasks?status=staging", "tasks"), Vec::<String>::new());
    // Tasks and the last failure are shown on demand.
    let plain = &dev.get("/v2/apps").1["apps"][0];
    assert!(plain.get("tasks").is_none() && plain["deployments"] == json!([]), "{plain}");
    assert!(dev.get("/v2/apps?embed=apps.tasks").1["apps"][0]["tasks"].is_array());
    let stats = &dev.get("/v2/apps/shop/db?embed=app.taskStats").1["app"]["taskStats"];
    assert_eq!(stats["withLatestConfig"]["stats"]["counts"]["running"], 1, "{stats}");
}

#[test]
fn refusals_have_one_shape() {
    let dev = Dev::start(&[]);
    for (body, path) in [
        (json!({ "id": "/UPPER", "cmd": "x" }), "/id"),
        (json!({ "id": "/a", "cmd": "x", "tty": true }), "/tty"),
        (json!({ "id": "/a", "cmd": "x", "uris": ["x"], "fetch": [{ "uri": "y" }] }), "/uris"),
        (
            json!({ "id": "/a", "cmd": "x", "unreachableStrategy": { "inactiveAfterSeconds": 1 } }),
            "/unreachableStrategy",
        ),
    ] {
        let (status, answer) = dev.send("POST", "/v2/apps", &body);
        assert_eq!((status, &answer["message"]), (422, &json!("Object is not valid")), "{answer}");
        assert_eq!(places(&answer), [path], "{answer}");
    }
    let (status, answer) = request(&dev.master(), "POST", "/v2/apps", &[JSON], &vec![b' '; 5 * 1024 * 1024]);
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!((status, answer["message"].is_string()), (413, true), "{answer}");
    let deployment = stuck(&dev);
    let (status, answer) = dev.send("DELETE", "/v2/apps/stuck?force=false", &json!(null));
    assert_eq!((status, &answer["deployments"]), (409, &json!([{ "id": deployment }])), "{answer}");
    assert_eq!(dev.send("DELETE", "/v2/apps/stuck", &json!(null)).0, 200, "an app may go at any time");
}

#[test]
fn the_leader_is_told() {
    let dev = Dev::start(&[]);
    let (status, info) = dev.get("/v2/info");
    assert_eq!(status, 200);
    assert!(info.get("frameworkId").is_none(), "there is none before the first app: {info}");
    let leader = text(&dev.ready["marathon"]).trim_start_matches("http://");
    assert_eq!(dev.get("/v2/leader").1, json!({ "leader": leader }));
    assert_eq!(info["leader"], leader);
    let port = info["http_config"]["http_port"].to_string();
    assert!(leader.ends_with(&format!(":{port}")), "{info}");
    for path in ["/v2/leader", "/v2/apps/nobody"] {
        let answer = exchange(&dev.master(), "GET", path, &[], b"");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(&format!("x-marathon-leader: http://{leader}\r\n")), "{answer}");
    }
}

#[test]
fn the_queue_says_why_offers_were_refused() {
    let dev = Dev::start(&[]);
    let created = create(&dev, &sleeper("/huge", &json!({ "mem": 1e9 })));
    create(&dev, &sleeper("/small", &json!({})));
    let item = wait_for("a refused offer", || {
        let item = dev.get("/v2/queue").1["queue"]
            .as_array()?
            .iter()
            .find(|item| item["app"]["id"] == "/huge")?
            .clone();
        (item["processedOffersSummary"]["processedOffersCount"] != 0).then_some(item)
    });
    assert_eq!((&item["count"], &item["since"]), (&json!(1), &created["version"]), "{item}");
    let keys: Vec<&String> = item.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["app", "count", "delay", "since", "processedOffersSummary"], "clients know no others");
    let funnel =
        item["processedOffersSummary"]["rejectSummaryLastOffers"].as_array().cloned().expect("a list");
    let memory = funnel.iter().find(|stage| stage["reason"] == "InsufficientMemory").expect("the stage");
    assert_eq!(memory, &json!({ "reason": "InsufficientMemory", "declined": 1, "processed": 1 }));
    assert_eq!(dev.send("DELETE", "/v2/queue/huge/delay", &json!(null)).0, 204);
    wait_for("the small app to run", || {
        (dev.tasks("/small").first()?["state"] == "TASK_RUNNING").then_some(())
    });
    for app in ["small", "nobody"] {
        assert_eq!(dev.send("DELETE", &format!("/v2/queue/{app}/delay"), &json!(null)).0, 404, "{app}");
    }
}

/// Asserts that an object has no other members than those that the `marathon` package for Python takes:
/// it fails on any other.
fn only(object: &Value, known: &str) {
    let known: Vec<&str> = known.split(' ').collect();
    for key in object.as_object().unwrap_or_else(|| panic!("{object} is no object")).keys() {
        assert!(known.contains(&key.as_str()), "{key} in {object}");
    }
}

#[test]
fn objects_have_only_members_that_clients_know() {
    let dev = Dev::start(&[]);
    let check = json!({ "protocol": "COMMAND", "command": "true", "intervalSeconds": 1, "delaySeconds": 0 });
    create(&dev, &sleeper("/good", &json!({ "healthChecks": [check] })));
    settled(&dev);
    create(&dev, &json!({ "id": "/bad", "cmd": "exec false", "cpus": 0.01, "mem": 32 }));
    let bad = wait_for("a failure", || {
        let app = dev.get("/v2/apps/bad").1["app"].clone();
        app["lastTaskFailure"].is_object().then_some(app)
    });
    let embeds = "embed=apps.tasks&embed=apps.failures&embed=apps.taskStats&embed=apps.readiness";
    let (_, list) = dev.get(&format!("/v2/apps?{embeds}"));
    for app in list["apps"].as_array().into_iter().flatten().chain([&bad]) {
        only(
            app,
            "acceptedResourceRoles args backoffFactor backoffSeconds cmd constraints container cpus dependencies deployments disk env executor fetch gpus healthChecks id instances ipAddress killSelection labels lastTaskFailure maxLaunchDelaySeconds mem networks portDefinitions ports readinessCheckResults readinessChecks requirePorts residency role secrets storeUrls taskKillGracePeriodSeconds taskRateLimit tasks tasksHealthy tasksRunning tasksStaged tasksUnhealthy taskStats unreachableStrategy upgradeStrategy uris user version versionInfo",
        );
    }
    let failure = &bad["lastTaskFailure"];
    only(failure, "appId host instanceId message slaveId state taskId timestamp version");
    let tasks = dev.tasks("/good");
    only(
        &tasks[0],
        "appId healthCheckResults host id ipAddresses localVolumes ports region role servicePorts slaveId stagedAt startedAt state version zone",
    );
    let result = &tasks[0]["healthCheckResults"][0];
    only(
        result,
        "alive consecutiveFailures firstSuccess instanceId lastFailure lastFailureCause lastSuccess taskId",
    );
    create(&dev, &sleeper("/huge", &json!({ "mem": 1e9 })));
    let deployment = &dev.get("/v2/deployments").1[0];
    only(deployment, "affectedApps affectedPods currentActions currentStep id steps totalSteps version");
    only(&deployment["currentActions"][0], "action app apps pod readinessCheckResults type");
    let info = dev.get("/v2/info").1;
    only(
        &info,
        "buildref elected eventSubscriber frameworkId http_config leader marathon_config name version zookeeper_config",
    );
    assert!(info["frameworkId"].is_string(), "{info}");
}

/// Removes what a failed test leaves in the engine.
struct Sweep;

impl Drop for Sweep {
    fn drop(&mut self) {
        remove_containers_of(&own_run_id());
    }
}

#[test]
fn running_tasks_do_not_look_staged_after_a_restart() {
    let Some(image) = Image::make() else { return };
    let (_sweep, folder) = (Sweep, tempfile::tempdir().expect("a directory"));
    let arguments = ["--data-dir", folder.path().to_str().expect("a path")];
    let dev = Dev::start(&arguments);
    let container = json!({ "type": "DOCKER", "docker": { "image": image.name } });
    create(&dev, &sleeper("/boxed", &json!({ "container": container })));
    settled(&dev);
    let before = dev.tasks("/boxed");
    dev.stop("KILL");
    let dev = Dev::start(&arguments);
    // The first answer is the right one.
    let (_, answer) = dev.get("/v2/apps/boxed");
    let app = &answer["app"];
    assert_eq!((&app["tasksRunning"], &app["tasksStaged"]), (&json!(1), &json!(0)), "{app}");
    assert_eq!(
        (&app["tasks"][0]["id"], &app["tasks"][0]["state"]),
        (&before[0]["id"], &json!("TASK_RUNNING"))
    );
}
