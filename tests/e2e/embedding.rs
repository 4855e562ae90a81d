//! A cluster inside this process: with real processes, dropped in every way.

use mesita::Cluster;
use mesita::cluster::Executor;
use serde_json::{Value, json};

use crate::support::{own_run_id, processes_of, request, wait_for};

const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn start() -> Cluster {
    let builder = Cluster::builder().agents(2).executor(Executor::Process);
    let builder = builder.launcher(env!("CARGO_BIN_EXE_mesita")).run_id(own_run_id());
    builder.start().await.expect("a cluster")
}

/// Two sleeping processes on a cluster.
fn deploy(cluster: &Cluster) {
    let base = cluster.marathon_url();
    let app = json!({ "id": "/sleep", "cmd": "exec sleep 1000", "cpus": 0.1, "mem": 32, "instances": 2 });
    let (status, body) = request(&base, "POST", "/v2/apps", &[JSON], app.to_string().as_bytes());
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
    wait_for("both tasks to run", || {
        let (_, body) = request(&base, "GET", "/v2/apps/sleep", &[], b"");
        let answer: Value = serde_json::from_slice(&body).ok()?;
        (answer["app"]["tasksRunning"] == 2).then_some(())
    });
    let sleeping = processes_of(&own_run_id()).iter().filter(|line| line.contains("sleep 1000")).count();
    assert_eq!(sleeping, 2);
}

#[test]
fn shut_down_dropped_and_panicking_clusters_leave_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let nothing = || assert_eq!(processes_of(&own_run_id()), Vec::<String>::new());
    let cluster = runtime.block_on(start());
    deploy(&cluster);
    runtime.block_on(cluster.shutdown()).expect("nothing is left");
    nothing();

    let cluster = runtime.block_on(start());
    deploy(&cluster);
    drop(cluster);
    nothing();

    // Dropped in the middle of a panic, on a thread without a runtime.
    let cluster = runtime.block_on(start());
    let (run, panicking) = (
        own_run_id(),
        std::thread::spawn(move || {
            let _cluster = cluster;
            panic!("as a failing test does");
        }),
    );
    assert!(panicking.join().is_err());
    assert_eq!(processes_of(&run), Vec::<String>::new());
}

#[test]
fn many_clusters_at_a_time_do_not_meet() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let clusters: Vec<Cluster> = runtime.block_on(async {
        let mut clusters = Vec::new();
        for _ in 0..10 {
            clusters.push(Cluster::builder().start().await.expect("a cluster"));
        }
        clusters
    });
    let app = json!({ "id": "/only", "cmd": "x", "cpus": 0.1, "mem": 32 }).to_string();
    let first = clusters[0].marathon_url();
    assert_eq!(request(&first, "POST", "/v2/apps", &[JSON], app.as_bytes()).0, 201);
    for other in &clusters[1..] {
        assert_eq!(request(&other.marathon_url(), "GET", "/v2/apps/only", &[], b"").0, 404);
    }
}

#[test]
fn a_wait_that_is_in_vain_says_why() {
    use std::time::Duration;

    let cluster = Cluster::builder().start_blocking().expect("a cluster");
    cluster.deploy(json!({ "id": "/big", "cmd": "x", "cpus": 100, "mem": 32 })).expect("taken");
    let error = cluster.wait_healthy("big", Duration::from_secs(1)).expect_err("nobody has so many CPUs");
    let text = error.to_string();
    assert!(text.starts_with("waited 1000 ms for /big to be healthy\n- 0 of 1 instances run"), "{text}");
    assert!(text.contains("InsufficientCpus: 100 wanted"), "{text}");
    let error = cluster.wait_healthy("/nobody", Duration::from_millis(50)).expect_err("there is none");
    assert!(error.to_string().contains("nobody"), "{error}");
    cluster.shutdown().expect("nothing is left");
}

#[test]
fn a_setting_that_makes_no_sense_is_an_error() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let wrong = runtime.block_on(Cluster::builder().agent_resources("cpus:many").start());
    let said = wrong.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("cpus"), "{said}");
    let wrong = runtime.block_on(Cluster::builder().executor(Executor::Process).start());
    let said = wrong.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("launcher"), "{said}");
}
