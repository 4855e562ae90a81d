//! Offers, launches, delays.

use serde_json::json;

use super::script_tests::{Script, app, seconds};
use crate::api::v1;
use crate::api::v1::TaskState::{TaskFailed, TaskKilled, TaskRunning, TaskStarting};
use crate::api::v1::scheduler::call;
use crate::service::model::Command;

#[test]
fn a_delay_that_has_passed_does_not_wake_the_loop_for_ever() {
    let mut script = Script::new();
    script.put(&[app("/a", 1, json!({ "backoffSeconds": 1 }))]);
    script.subscribe();
    script.launch_all();
    let task = script.tasks().remove(0);
    script.update(&task, TaskFailed);
    script.commit();
    assert!(script.core.next_deadline().is_some(), "it wakes when the delay ends");
    script.live(seconds(2));
    // No offer comes: nothing can be done.
    script.assert_rests();
    script.wait(seconds(100));
    script.assert_rests();
}

#[test]
fn twenty_instances_on_one_agent_need_no_waiting() {
    let mut script = Script::new();
    script.put(&[app("/a", 20, json!({}))]);
    script.subscribe();
    let mut launched = 0;
    for _ in 0..4 {
        script.take_calls(call::Type::Revive);
        script.offer("big");
        script.commit();
        let accepts = script.take_calls(call::Type::Accept);
        assert_eq!(accepts.len(), 1);
        let accept = accepts.into_iter().next().and_then(|call| call.accept).expect("an ACCEPT");
        launched += accept
            .operations
            .iter()
            .filter_map(|one| one.launch.as_ref())
            .map(|launch| launch.task_infos.len())
            .sum::<usize>();
        assert_eq!(accept.filters.and_then(|filters| filters.refuse_seconds), Some(0.0));
        let revives = script.take_calls(call::Type::Revive).len();
        assert_eq!(
            revives,
            usize::from(launched < 20),
            "what is left is wanted at once while something is missing"
        );
    }
    assert_eq!(launched, 20);
}

#[test]
fn another_version_of_an_app_that_does_not_fit_asks_for_offers_again() {
    let mut script = Script::new();
    script.put(&[app("/a", 1, json!({ "cpus": 1_000 }))]);
    script.subscribe();
    script.offer("big");
    assert_eq!(script.take_calls(call::Type::Decline).len(), 1);
    script.take_calls(call::Type::Revive);
    script.put(&[app("/a", 1, json!({ "cpus": 1 }))]);
    assert_eq!(script.take_calls(call::Type::Revive).len(), 1);
    script.wait(seconds(1));
    assert_eq!(script.take_calls(call::Type::Revive).len(), 0, "once");
}

#[test]
fn an_app_that_comes_while_another_one_shrinks_asks_for_offers() {
    let mut script = Script::new();
    let big = json!({ "cpus": 1_000 });
    script.put(&[app("/a", 3, big.clone())]);
    script.subscribe();
    script.offer("big");
    script.take_calls(call::Type::Revive);
    script.scale(&app("/a", 1, big));
    assert_eq!(script.take_calls(call::Type::Revive).len(), 1, "another version");
    script.offer("big");
    script.put(&[app("/b", 1, json!({}))]);
    assert_eq!(script.take_calls(call::Type::Revive).len(), 1);
}

/// Launches the missing instance and lets it fail; answers the seconds until the next launch.
fn fail_once(script: &mut Script) -> u64 {
    script.launch_all();
    let task = script.tasks().remove(0);
    script.update(&task, TaskStarting);
    script.update(&task, TaskFailed);
    script.commit();
    let started = script.now.mono;
    for _ in 0..10_000 {
        if script.core.queue(script.now.mono).first().is_some_and(|(_, _, left, _)| *left == 0) {
            break;
        }
        script.wait(seconds(1));
    }
    script.now.mono.since(started).as_secs()
}

#[test]
fn delays_grow_and_are_forgotten() {
    let mut script = Script::new();
    let delays = json!({ "backoffSeconds": 4, "backoffFactor": 2, "maxLaunchDelaySeconds": 60 });
    script.put(&[app("/a", 1, delays)]);
    script.subscribe();
    assert_eq!([fail_once(&mut script), fail_once(&mut script), fail_once(&mut script)], [4, 8, 16]);
    // It runs, and longer than the longest delay nothing fails.
    script.launch_all();
    let task = script.tasks().remove(0);
    script.update(&task, TaskRunning);
    script.commit();
    script.live(seconds(61));
    script.update(&task, TaskFailed);
    script.commit();
    assert_eq!(script.core.queue(script.now.mono)[0].2, 4, "the failures of long ago count no more");
}

#[test]
fn a_crash_loop_at_the_longest_delay_stays_there() {
    let mut script = Script::new();
    let delays = json!({ "backoffSeconds": 4, "backoffFactor": 2, "maxLaunchDelaySeconds": 10 });
    script.put(&[app("/a", 1, delays)]);
    script.subscribe();
    let times: Vec<u64> = (0..5).map(|_| fail_once(&mut script)).collect();
    assert_eq!(times, [4, 8, 10, 10, 10]);
}

#[test]
fn failures_of_an_earlier_configuration_delay_nothing() {
    let delays = json!({ "backoffSeconds": 100 });
    let (mut script, tasks) = Script::running(&[app("/a", 2, delays.clone())]);
    let mut next = app("/a", 2, delays);
    next["cmd"] = json!("sleep 2000");
    script.put(&[next]);
    script.update(&tasks[0], TaskFailed);
    script.commit();
    assert!(script.core.queue(script.now.mono).iter().all(|(_, _, left, _)| *left == 0));
    script.launch_all();
    assert_eq!(script.take_launches().len(), 2);
}

/// marathon-v2.md, 3.5: an agent that leaves says nothing of the app.
#[test]
fn what_a_drain_ends_is_launched_again_at_once() {
    let (mut script, tasks) = Script::running(&[app("/a", 2, json!({ "backoffSeconds": 100 }))]);
    script.update(&tasks[0], TaskFailed);
    script.commit();
    assert_eq!(script.core.queue(script.now.mono)[0].2, 100);
    let drained = v1::task_status::Reason::AgentDraining;
    script.update_with(&tasks[1], TaskKilled, |status| status.reason = Some(drained.into()));
    script.commit();
    assert_eq!(script.core.queue(script.now.mono)[0].2, 0);
    script.launch_all();
    assert_eq!(script.take_launches().len(), 2);
}

#[test]
fn constraints_on_attributes_count_values_not_agents() {
    let mut script = Script::new();
    let unique = json!({ "constraints": [["rack", "UNIQUE"]] });
    script.put(&[app("/a", 2, unique), app("/b", 3, json!({ "constraints": [["rack", "MAX_PER", "2"]] }))]);
    script.subscribe();
    let resources = "cpus:64;mem:65536;ports:[31000-31999]";
    let count = |script: &Script, app: &str| script.tasks_of(app).len();
    script.offer_of("one", resources, &[("rack", "r1")]);
    script.commit();
    assert_eq!((count(&script, "/a"), count(&script, "/b")), (1, 2));
    // Another agent of the same rack.
    script.offer_of("two", resources, &[("rack", "r1")]);
    script.commit();
    assert_eq!((count(&script, "/a"), count(&script, "/b")), (1, 2));
    // The values survive a restart.
    script.new_term();
    script.subscribe();
    script.offer_of("two", resources, &[("rack", "r1")]);
    script.commit();
    assert_eq!((count(&script, "/a"), count(&script, "/b")), (1, 2));
    script.offer_of("three", resources, &[("rack", "r2")]);
    script.commit();
    assert_eq!((count(&script, "/a"), count(&script, "/b")), (2, 3));
}

#[test]
fn an_instance_that_does_not_come_up_is_killed() {
    let mut script = Script::new();
    script.put(&[app("/a", 2, json!({}))]);
    script.subscribe();
    script.launch_all();
    let tasks = script.tasks();
    script.update(&tasks[0], TaskStarting);
    script.live(seconds(299));
    assert_eq!(script.take_kills(), [""; 0]);
    script.update(&tasks[1], TaskRunning);
    script.live(seconds(2));
    assert_eq!(script.take_kills(), [tasks[0].clone()], "five minutes are enough");
    script.update(&tasks[0], TaskKilled);
    script.commit();
    script.launch_all();
    assert_eq!(script.tasks().len(), 2);
}

#[test]
fn nothing_is_proposed_twice() {
    let mut script = Script::new();
    script.put(&[app("/a", 3, json!({}))]);
    script.subscribe();
    script.offer("big");
    script.offer("other");
    let intents = script.proposed.iter().filter(|(_, command)| matches!(command, Command::Intent(_))).count();
    assert_eq!(intents, 3);
}
