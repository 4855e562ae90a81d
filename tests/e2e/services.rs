//! The service framework on a real cluster: how fast it starts, and what it survives.

use std::time::Duration;

use serde_json::json;

use super::support::{Dev, now, wait_for};

/// Three rounds of offers that wait for filters to end would take longer than this.
const AT_ONCE: Duration = Duration::from_secs(8);

fn start(dev: &Dev, instances: usize) {
    let app =
        json!({ "id": "/many", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 8, "instances": instances });
    assert_eq!(dev.send("POST", "/v2/apps", &app).0, 201);
    wait_for("all tasks to run", || (running(dev) == instances).then_some(()));
}

fn running(dev: &Dev) -> usize {
    dev.tasks("/many").iter().filter(|task| task["state"] == "TASK_RUNNING").count()
}

#[test]
fn twenty_instances_on_one_agent_start_at_once() {
    let dev = Dev::start(&[]);
    let from = now();
    start(&dev, 20);
    let took = from.elapsed();
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
fn services_come_back_after_their_framework_was_torn_down() {
    let dev = Dev::start(&[]);
    start(&dev, 3);
    let before: Vec<String> = dev.tasks("/many").iter().map(|task| task["id"].to_string()).collect();
    let framework = || dev.get("/v2/info").1["frameworkId"].clone();
    let old = framework();
    let teardown = json!({ "type": "TEARDOWN", "teardown": { "framework_id": { "value": old } } });
    assert_eq!(dev.send("POST", "/api/v1", &teardown).0, 200);
    wait_for("another framework with tasks of its own", || {
        let fresh = dev.tasks("/many").iter().all(|task| !before.contains(&task["id"].to_string()));
        (framework() != old && fresh && running(&dev) == 3).then_some(())
    });
}
