//! `kill -9` of the whole at random moments, again and again, over one data directory.
//!
//! `MESITA_KILLS` sets how often (the default keeps the suite short, `scripts/kills.sh` does it at length);
//! `MESITA_SEED` repeats a run.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::engine::{Image, containers_of, remove_containers_of};
use crate::support::{Dev, file, own_run_id, processes_of, program, request, signal_process, wait_for};

/// Kills of a short run.
const KILLS: u64 = 10;
/// Kills between two looks at whether everything is as it should be.
const BETWEEN_LOOKS: u64 = 5;
/// Longest life of a cluster that is killed, in milliseconds: from before its first line of code to long
/// after everything runs.
const LONGEST_LIFE_MS: u64 = 1_500;

/// A small generator (xorshift): a seed decides everything that is random here.
pub(crate) struct Dice(u64);

impl Dice {
    /// Any seed but nought gives numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "a seed of a test")]
pub(crate) fn seed() -> u64 {
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.subsec_nanos());
    number("MESITA_SEED").unwrap_or_else(|| u64::from(drawn) | 1)
}

struct Sweep;

impl Drop for Sweep {
    fn drop(&mut self) {
        remove_containers_of(&own_run_id());
    }
}

/// Our own processes; what runs in containers carries the run's id, too, and lives on.
fn own_processes(run_id: &str) -> Vec<String> {
    processes_of(run_id).into_iter().filter(|line| line.contains("mesita")).collect()
}

/// Starts a cluster and kills it after `life`.
fn live_and_die(data: &str, life: Duration) {
    let (run_id, free) = (own_run_id(), "127.0.0.1:0");
    let mut child = program()
        .args(["dev", "--json", "--data-dir", data])
        .args(["--master-addr", free, "--agent-addr", free, "--marathon-addr", free])
        .env("MESITA_RUN_ID", &run_id)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    std::thread::park_timeout(life);
    signal_process(child.id(), "KILL");
    child.wait().expect("our own child");
    wait_for("every process of ours to end", || own_processes(&run_id).is_empty().then_some(()));
}

/// Says how the cluster stands when a test fails.
struct Why<'a>(&'a Dev);

impl Drop for Why<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for path in ["/v2/tasks", "/v2/deployments", "/v2/queue", "/v2/explain/web", "/v2/explain/box"] {
            eprintln!("{path}: {}", self.0.get(path).1);
        }
        let (_, state) = self.0.send("POST", "/api/v1", &json!({ "type": "GET_TASKS" }));
        for task in state["get_tasks"]["tasks"].as_array().into_iter().flatten() {
            eprintln!("the master knows {} {}", task["task_id"]["value"], task["state"]);
        }
        for line in processes_of(&own_run_id()) {
            eprintln!("runs: {line}");
        }
    }
}

/// Waits until both apps run as often as they should, and checks that nothing runs beside them.
fn look(dev: &Dev, instances: usize, with_docker: bool) {
    let run_id = own_run_id();
    // What a failure is found by: printed only then.
    let _why = Why(dev);
    wait_for("every instance to answer", || {
        let tasks = dev.tasks("/web");
        let answers = |task: &Value| {
            request(&format!("http://127.0.0.1:{}", task["ports"][0]), "GET", "/", &[], b"").0 == 200
        };
        (tasks.len() == instances && tasks.iter().all(answers)).then_some(())
    });
    wait_for("nothing surplus", || {
        let payloads = own_processes(&run_id).iter().filter(|line| line.contains("demo-web")).count();
        (payloads == instances).then_some(())
    });
    if with_docker {
        wait_for("each container once", || {
            let running = dev.tasks("/box").iter().filter(|task| task["state"] == "TASK_RUNNING").count();
            (running == 2 && containers_of(&run_id).len() == 2).then_some(())
        });
    }
}

#[test]
fn everything_comes_back_after_kill_9_at_random_moments() {
    let (kills, seed) = (number("MESITA_KILLS").unwrap_or(KILLS), seed());
    eprintln!("{kills} kills with MESITA_SEED={seed}");
    let (image, _sweep, mut dice) = (Image::make(), Sweep, Dice::new(seed));
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("data");
    let data = data.to_str().expect("a path");
    let dev = Dev::start(&["--data-dir", data]);
    let text = std::fs::read_to_string(file("testdata/apps/hello.json")).expect("readable");
    let mut web: Value = serde_json::from_str(&text).expect("JSON");
    web["id"] = json!("/web");
    assert_eq!(dev.send("POST", "/v2/apps", &web).0, 201);
    if let Some(image) = &image {
        let app = json!({ "id": "/box", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "instances": 2,
            "container": { "type": "DOCKER", "docker": { "image": image.name } } });
        assert_eq!(dev.send("POST", "/v2/apps", &app).0, 201);
    }
    let mut instances = 2;
    look(&dev, instances, image.is_some());
    dev.stop("KILL");
    for kill in 1..=kills {
        live_and_die(data, Duration::from_millis(dice.below(LONGEST_LIFE_MS)));
        if kill % BETWEEN_LOOKS == 0 || kill == kills {
            let dev = Dev::start(&["--data-dir", data]);
            look(&dev, instances, image.is_some());
            // The next kills come in the middle of a change.
            instances = usize::try_from(1 + dice.below(4)).expect("small");
            let (status, answer) =
                dev.send("PUT", "/v2/apps/web?force=true", &json!({ "instances": instances }));
            assert_eq!(status, 200, "{answer}");
            dev.stop("KILL");
        }
    }
    let dev = Dev::start(&["--data-dir", data]);
    look(&dev, instances, image.is_some());
    let run_id = own_run_id();
    assert_eq!(dev.stop("TERM"), Some(0));
    assert_eq!(own_processes(&run_id), Vec::<String>::new());
    if image.is_some() {
        assert_eq!(containers_of(&run_id), Vec::<Value>::new());
    }
}
