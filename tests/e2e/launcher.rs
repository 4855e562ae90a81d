//! What runs process tasks: nothing of a task outlives it, whoever dies first.

use serde_json::json;

use crate::support::{Dev, directories_of, processes_of, signal_process, wait_for};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pids(dev: &Dev, needle: &str) -> Vec<u32> {
    let lines = processes_of(&dev.run_id).into_iter().filter(|line| line.contains(needle));
    let mut pids: Vec<u32> =
        lines.filter_map(|line| line.split(' ').next().and_then(|pid| pid.parse().ok())).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn a_launcher_that_is_killed_takes_its_tasks_along() {
    let dev = Dev::start(&[]);
    // A grandchild in a session of its own is the hardest to find.
    let cmd = "setsid sleep 5550 & exec sleep 5551";
    let app = json!({ "id": "/s", "cmd": cmd, "cpus": 0.1, "mem": 32, "instances": 3, "backoffSeconds": 0 });
    assert_eq!(dev.send("POST", "/v2/apps", &app).0, 201);
    wait_for("three tasks", || (pids(&dev, "sleep 555").len() == 6).then_some(()));
    let before = pids(&dev, "sleep 555");
    let launcher = pids(&dev, "launcher --die")[0];
    signal_process(launcher, "KILL");
    let after = wait_for("three other tasks", || {
        let now = pids(&dev, "sleep 555");
        (now.len() == 6 && now.iter().all(|pid| !before.contains(pid))).then_some(now)
    });
    assert_eq!(pids(&dev, "launcher --die").len(), 1, "one launcher, and not the old one");
    let (_, answer) = dev.get("/v2/apps/s?embed=app.lastTaskFailure");
    assert_eq!(answer["app"]["lastTaskFailure"]["state"], "TASK_FAILED", "{answer}");
    assert_eq!(pids(&dev, "sleep 555"), after, "they stay");
    let run_id = dev.run_id.clone();
    assert_eq!(dev.stop("INT"), Some(0));
    assert_eq!(processes_of(&run_id), Vec::<String>::new());
}

#[test]
fn tasks_begin_with_no_signal_blocked() {
    let dev = Dev::start(&[]);
    let ran = dev.cli(&["run", "--", "grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]);
    let said = text(&ran.stdout);
    let mask = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).expect("a mask");
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).expect("hexadecimal")
    };
    assert_eq!(mask("SigBlk"), 0, "{said}");
    assert_eq!(mask("SigIgn") & (1 << 12), 0, "a closed pipe ends a program: {said}");
}

#[test]
fn checks_that_take_too_long_leave_nothing() {
    let dev = Dev::start(&[]);
    let check = json!({ "protocol": "COMMAND", "command": { "value": "sleep 5552; true" }, "delaySeconds": 0,
        "intervalSeconds": 0, "timeoutSeconds": 1, "gracePeriodSeconds": 0, "maxConsecutiveFailures": 100 });
    let app = json!({ "id": "/c", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "healthChecks": [check] });
    assert_eq!(dev.send("POST", "/v2/apps", &app).0, 201);
    let first = wait_for("a check to run", || pids(&dev, "sleep 5552").first().copied());
    wait_for("the next one, and the end of the first", || {
        let now = pids(&dev, "sleep 5552");
        (!now.is_empty() && !now.contains(&first)).then_some(())
    });
    // One check at a time, and nothing when all is over, however it ends.
    assert!(pids(&dev, "sleep 5552").len() <= 2, "a shell and its sleep");
    let (run_id, directories) = (dev.run_id.clone(), directories_of(&dev.run_id));
    dev.stop("KILL");
    wait_for("every process to end", || processes_of(&run_id).is_empty().then_some(()));
    // A temporary directory cannot remove itself after kill -9.
    for path in directories {
        std::fs::remove_dir_all(path).expect("removed");
    }
}
