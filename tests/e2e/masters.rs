//! Several masters: whoever leads may end, and nobody notices.
//!
//! `MESITA_LEADER_KILLS` sets how often (the default keeps the suite short).

use std::collections::BTreeSet;

use mesita::Cluster;
use mesita::cluster::Executor;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{Dev, exchange, own_run_id, program, request, signal_process, wait_for};

const JSON: (&str, &str) = ("Content-Type", "application/json");
/// Kills of a short run.
const KILLS: usize = 5;

pub(crate) fn get(base: &str, path: &str) -> (u16, Value) {
    let (status, body) = request(base, "GET", path, &[], b"");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

pub(crate) fn running(base: &str, app: &str) -> BTreeSet<String> {
    let (_, answer) = get(base, &format!("/v2/apps{app}/tasks"));
    let tasks = answer["tasks"].as_array().cloned().unwrap_or_default();
    let running = tasks.iter().filter(|task| task["state"] == "TASK_RUNNING");
    running.filter_map(|task| task["id"].as_str().map(str::to_owned)).collect()
}

pub(crate) fn wait_running(base: &str, app: &str, count: usize) -> BTreeSet<String> {
    wait_for(&format!("{count} instances of {app}"), || {
        let running = running(base, app);
        (running.len() == count).then_some(running)
    })
}

/// Waits until somebody leads and all agents have come back to it.
fn wait_leader(runtime: &Runtime, cluster: &Cluster, agents: usize) -> usize {
    wait_for("a leader with its agents", || {
        let leader = runtime.block_on(cluster.leader())?;
        let url = cluster.master_urls().get(leader)?.clone();
        let body = json!({ "type": "GET_AGENTS" }).to_string();
        let (status, answer) = request(&url, "POST", "/api/v1", &[JSON], body.as_bytes());
        let answer: Value = serde_json::from_slice(&answer).ok()?;
        let known = answer["get_agents"]["agents"].as_array()?.iter().filter(|agent| agent["active"] == true);
        (status == 200 && known.count() == agents).then_some(leader)
    })
}

#[test]
fn leaders_end_one_after_another_and_tasks_go_on() {
    let kills = std::env::var("MESITA_LEADER_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(KILLS);
    let runtime = Runtime::new().expect("a runtime");
    let builder = Cluster::builder().masters(3).agents(2).executor(Executor::Process);
    let builder = builder.launcher(env!("CARGO_BIN_EXE_mesita")).run_id(own_run_id());
    let cluster = runtime.block_on(builder.start()).expect("a cluster");
    let app = json!({ "id": "/sleep", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 32, "instances": 4 });
    let base = cluster.marathon_url();
    assert_eq!(request(&base, "POST", "/v2/apps", &[JSON], app.to_string().as_bytes()).0, 201);
    let mut tasks = wait_running(&base, "/sleep", 4);
    for round in 0..kills {
        let leader = wait_leader(&runtime, &cluster, 2);
        runtime.block_on(cluster.kill_master(leader)).expect("it ran");
        let next = wait_leader(&runtime, &cluster, 2);
        assert_ne!(next, leader);
        let base = cluster.master_urls()[next].clone();
        assert_eq!(wait_running(&base, "/sleep", 4 + round), tasks, "a task was restarted, lost or doubled");
        // What was recorded is still there, and work goes on: also the end of the deployment is in time.
        wait_for("the deployment to end", || {
            get(&base, "/v2/deployments").1.as_array().is_some_and(Vec::is_empty).then_some(())
        });
        let wanted = 5 + round;
        let scale = json!({ "instances": wanted }).to_string();
        let (status, body) = request(&base, "PUT", "/v2/apps/sleep", &[JSON], scale.as_bytes());
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let more = wait_running(&base, "/sleep", wanted);
        assert!(more.is_superset(&tasks), "a task was replaced");
        tasks = more;
        runtime.block_on(cluster.restart_master(leader)).expect("it was ended");
    }
    runtime.block_on(cluster.shutdown()).expect("nothing is left");
}

#[test]
fn a_minority_refuses_changes_and_says_so() {
    let runtime = Runtime::new().expect("a runtime");
    let cluster = runtime.block_on(Cluster::builder().masters(3).start()).expect("a cluster");
    let leader = wait_leader(&runtime, &cluster, 1);
    for number in (0..3).filter(|number| *number != leader) {
        runtime.block_on(cluster.kill_master(number)).expect("it ran");
    }
    let base = cluster.master_urls()[leader].clone();
    // Nobody confirms that it still leads, so it answers nothing that may be out of date.
    assert_eq!(get(&base, "/v2/apps").0, 503);
    assert_eq!(get(&base, "/state").0, 503);
    let app = json!({ "id": "/a", "cmd": "x", "cpus": 0.1, "mem": 32 }).to_string();
    let said = wait_for("a refusal", || {
        let (status, body) = request(&base, "POST", "/v2/apps", &[JSON], app.as_bytes());
        (status == 503).then(|| String::from_utf8_lossy(&body).into_owned())
    });
    assert!(said.contains("leads") || said.contains("leadership"), "{said}");
    for number in (0..3).filter(|number| *number != leader) {
        runtime.block_on(cluster.restart_master(number)).expect("it was ended");
    }
    let next = wait_leader(&runtime, &cluster, 1);
    let base = cluster.master_urls()[next].clone();
    let (status, _) = get(&base, "/v2/apps");
    assert_eq!(status, 200);
    assert!(runtime.block_on(cluster.restart_master(0)).is_err(), "it runs already");
}

#[test]
fn masters_that_do_not_lead_send_schedulers_on_and_ask_the_leader_for_everybody_else() {
    let dev = Dev::start(&["--masters", "3", "--agents", "2"]);
    let masters: Vec<String> = dev.ready["masters"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|master| master.as_str().map(str::to_owned))
        .collect();
    assert_eq!(masters.len(), 3);
    let app = json!({ "id": "/a", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 32 }).to_string();
    assert_eq!(request(&masters[2], "POST", "/v2/apps", &[JSON], app.as_bytes()).0, 201);
    let (mut leaders, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for master in &masters {
        wait_running(master, "/a", 1);
        let state = get(master, "/state").1;
        assert_eq!(state["activated_slaves"], 2, "{state}");
        seen.insert(state["leader"].as_str().map(str::to_owned));
        let call =
            json!({ "type": "SUBSCRIBE", "subscribe": { "framework_info": { "user": "u", "name": "n" } } });
        if master == &masters[0] {
            // The first of a new cluster leads; a subscription would not end.
            continue;
        }
        let answer = exchange(master, "POST", "/api/v1/scheduler", &[JSON], call.to_string().as_bytes());
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 307"), "{answer}");
        leaders.insert(answer.lines().find_map(|line| line.strip_prefix("location: ").map(str::to_owned)));
    }
    assert_eq!(seen.len(), 1, "they disagree on who leads: {seen:?}");
    let first = masters[0].trim_start_matches("http:");
    assert_eq!(leaders, BTreeSet::from([Some(format!("{first}/api/v1/scheduler"))]));
}

#[test]
fn three_masters_find_their_state_again() {
    let data = tempfile::tempdir().expect("a directory");
    let path = data.path().display().to_string();
    let start = || Dev::start(&["--masters", "3", "--data-dir", &path]);
    let dev = start();
    let app = json!({ "id": "/a", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 32 }).to_string();
    assert_eq!(request(&dev.master(), "POST", "/v2/apps", &[JSON], app.as_bytes()).0, 201);
    signal_process(dev.pid(), "KILL");
    drop(dev);
    let dev = start();
    wait_running(&dev.master(), "/a", 1);
    assert_eq!(dev.stop("TERM"), Some(0));
    // One master alone would begin with nothing.
    let refused = program().args(["dev", "--data-dir", &path]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--masters 3"), "{said}");
}
