//! Probes of the framework's own checks.

use serde_json::json;

use super::script_tests::{Script, app, check, seconds};
use super::{Input, Target};
use crate::api::v1::TaskState::{TaskKilling, TaskRunning};

fn http(path: &str) -> Target {
    Target::Http { address: "big:8080".to_owned(), path: path.to_owned() }
}

#[test]
fn instances_are_probed_with_the_checks_that_they_were_launched_with() {
    let with = |path: &str, failures: u32| {
        let check = check(json!({ "path": path, "maxConsecutiveFailures": failures }));
        app("/a", 1, json!({ "healthChecks": [check] }))
    };
    let (mut script, old) = Script::running(&[with("/old", 3)]);
    script.live(seconds(5));
    script.answer_probes(&Ok(()));
    script.put(&[with("/new", 1)]);
    script.commit();
    script.live(seconds(10));
    assert_eq!(script.take_probes(), [(old[0].clone(), 0, http("/old"))]);
    // Nor do the new limits hold for it.
    for _ in 0..3 {
        script.handle(Input::Probed { task_id: old[0].clone(), index: 0, result: Err("500".to_owned()) });
    }
    assert_eq!(script.take_kills(), [""; 0]);
    script.handle(Input::Probed { task_id: old[0].clone(), index: 0, result: Err("500".to_owned()) });
    assert_eq!(script.take_kills(), [old[0].clone()], "the fourth failure in a row kills");
}

#[test]
fn checks_of_the_launched_version_hold_after_a_restart() {
    let with = |path: &str| app("/a", 1, json!({ "healthChecks": [check(json!({ "path": path }))] }));
    let (mut script, old) = Script::running(&[with("/old")]);
    script.put(&[with("/new")]);
    script.commit();
    script.new_term();
    script.subscribe();
    script.update(&old[0], TaskRunning);
    script.live(seconds(5));
    assert_eq!(script.take_probes(), [(old[0].clone(), 0, http("/old"))]);
}

#[test]
fn a_probe_that_cannot_be_made_does_not_wake_the_loop_for_ever() {
    // Its port index does not exist.
    let lost = json!({ "protocol": "HTTP", "portIndex": 3, "intervalSeconds": 5, "gracePeriodSeconds": 0 });
    let (mut script, _) = Script::running(&[app("/a", 1, json!({ "healthChecks": [lost] }))]);
    script.live(seconds(20));
    script.assert_rests();
    // A task that is being killed is not probed.
    let checks = json!({ "healthChecks": [check(json!({}))] });
    let (mut script, tasks) = Script::running(&[app("/a", 1, checks)]);
    script.update(&tasks[0], TaskKilling);
    script.wait(seconds(20));
    script.assert_rests();
    assert!(script.take_probes().is_empty());
}

#[test]
fn an_interval_of_zero_is_a_second() {
    let checks = json!({ "healthChecks": [check(json!({ "intervalSeconds": 0 }))] });
    let (mut script, tasks) = Script::running(&[app("/a", 1, checks)]);
    // The first one ran at once.
    script.handle(Input::Probed { task_id: tasks[0].clone(), index: 0, result: Ok(()) });
    let mut probes = 0;
    for _ in 0..100 {
        for (task_id, index, _) in script.take_probes() {
            probes += 1;
            script.handle(Input::Probed { task_id, index, result: Ok(()) });
        }
        script.wait(std::time::Duration::from_millis(100));
    }
    assert!((5..=15).contains(&probes), "{probes} probes in ten seconds");
}

#[test]
fn a_task_that_comes_up_is_probed_often() {
    let slow = json!({ "intervalSeconds": 60, "gracePeriodSeconds": 10 });
    let (mut script, tasks) = Script::running(&[app("/a", 1, json!({ "healthChecks": [check(slow)] }))]);
    let mut probes = 0;
    // Not well for two seconds, then well.
    for round in 0..100 {
        for (task_id, index, _) in script.take_probes() {
            probes += 1;
            let result = if round < 20 { Err("no connection".to_owned()) } else { Ok(()) };
            script.handle(Input::Probed { task_id, index, result });
        }
        script.wait(std::time::Duration::from_millis(100));
    }
    assert!((6..=12).contains(&probes), "{probes} probes until it was well, none for a minute after that");
    assert!(script.take_probes().is_empty(), "{tasks:?}");
}
