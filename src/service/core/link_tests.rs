//! The subscription, reconciliation, kills that must not be lost.

use serde_json::json;

use super::Input;
use super::script_tests::{Script, app, seconds};
use crate::api::v1::TaskState::{TaskGone, TaskKilled, TaskRunning};
use crate::api::v1::scheduler::call;
use crate::service::model::{Command, Instance};

#[test]
fn one_error_is_one_new_subscription_after_a_pause() {
    let (mut script, _) = Script::running(&[app("/a", 1, json!({}))]);
    script.error("Framework failed over");
    script.handle(Input::Disconnected);
    assert_eq!(script.take_subscriptions().len(), 0, "not without a pause");
    script.live(seconds(1));
    assert_eq!(script.take_subscriptions().len(), 1);
    script.live(seconds(60));
    assert_eq!(script.take_subscriptions().len(), 0, "one at a time");
}

#[test]
fn pauses_grow_until_the_master_says_subscribed() {
    let (mut script, _) = Script::running(&[app("/a", 1, json!({}))]);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let from = script.now.mono;
        script.handle(Input::Disconnected);
        while script.take_subscriptions().is_empty() {
            let at = script.core.next_deadline().expect("it tries again");
            script.wait(at.since(script.now.mono));
        }
        pauses.push(script.now.mono.since(from));
    }
    assert!(pauses[0] >= std::time::Duration::from_millis(10), "{pauses:?}");
    assert!(pauses.windows(2).all(|two| two[0] <= two[1]), "{pauses:?}");
    assert_eq!(pauses[11], seconds(5), "{pauses:?}");
    script.subscribe();
    script.handle(Input::Disconnected);
    let at = script.core.next_deadline().expect("it tries again");
    assert_eq!(at.since(script.now.mono), pauses[0]);
}

#[test]
fn a_removed_framework_begins_anew() {
    let (mut script, tasks) = Script::running(&[app("/a", 2, json!({}))]);
    script.handle(Input::Disconnected);
    script.live(seconds(1));
    let infos = script.take_subscriptions();
    assert_eq!(infos[0].id.as_ref().map(|id| id.value.as_str()), Some("framework"));
    script.error("Framework has been removed");
    script.handle(Input::Disconnected);
    script.commit();
    script.live(seconds(5));
    let infos = script.take_subscriptions();
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].id, None, "the old id is refused for ever");
    assert!(script.state.instances().is_empty(), "its tasks went with it");
    script.subscribe_as("another");
    assert_eq!(script.state.framework_id(), Some("another"));
    script.launch_all();
    let launched = script.take_launches();
    assert_eq!(launched.len(), 2);
    assert!(launched.iter().all(|task| !tasks.contains(task)));
    assert!(script.core.queue(script.now.mono).is_empty(), "nothing is delayed");
}

#[test]
fn orphans_are_looked_for_at_once_and_again() {
    let (mut script, _) = Script::running(&[app("/a", 1, json!({}))]);
    let all = |script: &mut Script| {
        let calls = script.take_calls(call::Type::Reconcile);
        calls.iter().filter(|call| call.reconcile.as_ref().is_some_and(|one| one.tasks.is_empty())).count()
    };
    script.new_term();
    script.subscribe();
    assert_eq!(all(&mut script), 1);
    script.update("a.instance-unknown._app.1", TaskRunning);
    assert_eq!(script.take_kills(), ["a.instance-unknown._app.1"]);
    for task in script.tasks() {
        script.update(&task, TaskRunning);
    }
    // Once more when the agents have come back, then now and then.
    script.live(seconds(59));
    assert_eq!(all(&mut script), 0);
    script.live(seconds(2));
    assert_eq!(all(&mut script), 1);
    script.live(seconds(597));
    assert_eq!(all(&mut script), 0);
    script.live(seconds(4));
    assert_eq!(all(&mut script), 1);
    script.live(seconds(600));
    assert_eq!(all(&mut script), 1);
}

#[test]
fn the_dead_that_live_are_killed() {
    let (mut script, tasks) = Script::running(&[app("/a", 1, json!({}))]);
    script.update(&tasks[0], TaskGone);
    // Its end is not recorded yet, and it was no end.
    script.update(&tasks[0], TaskRunning);
    assert_eq!(script.take_kills(), [tasks[0].clone()]);
}

#[test]
fn what_is_not_launched_yet_is_neither_asked_about_nor_killed() {
    let mut script = Script::new();
    script.put(&[app("/a", 2, json!({}))]);
    script.subscribe();
    script.effects.clear();
    script.offer("big");
    script.commit_one();
    assert_eq!(script.tasks().len(), 1, "one of two intents is recorded");
    script.live(std::time::Duration::ZERO);
    script.wait(seconds(3));
    let asked = script.take_calls(call::Type::Reconcile);
    assert!(asked.iter().all(|call| call.reconcile.as_ref().is_some_and(|one| one.tasks.is_empty())));
    // One of them is not wanted any more before it is launched.
    script.scale(&app("/a", 0, json!({})));
    assert_eq!(script.take_kills(), [""; 0], "the master would not know it");
    script.commit();
    let launched = script.take_launches();
    assert!(launched.len() <= 1, "{launched:?}");
    let kills = script.take_kills();
    assert_eq!(kills, launched, "what was launched all the same");
    for task in &kills {
        script.update(task, TaskKilled);
    }
    script.commit();
    assert!(script.state.instances().is_empty());
}

#[test]
fn launches_of_a_broken_stream_are_taken_back() {
    let mut script = Script::new();
    script.put(&[app("/a", 1, json!({}))]);
    script.subscribe();
    script.offer("big");
    script.handle(Input::Disconnected);
    script.live(seconds(1));
    script.subscribe();
    script.commit();
    assert!(script.take_launches().is_empty(), "the offer is void");
    assert!(script.state.instances().is_empty());
    script.launch_all();
    assert_eq!(script.take_launches().len(), 1);
    assert!(script.core.queue(script.now.mono).is_empty());
}

#[test]
fn a_kill_while_not_subscribed_is_not_lost() {
    let (mut script, tasks) = Script::running(&[app("/a", 1, json!({}))]);
    script.handle(Input::Disconnected);
    script.handle(Input::Kill { tasks: tasks.clone() });
    assert_eq!(script.take_kills(), [""; 0]);
    script.live(seconds(1));
    script.subscribe();
    script.update(&tasks[0], TaskRunning);
    assert_eq!(script.take_kills(), tasks);
    // And again until it has ended.
    script.live(seconds(31));
    assert_eq!(script.take_kills(), tasks);
    script.update(&tasks[0], TaskKilled);
    script.commit();
    script.live(seconds(100));
    assert_eq!(script.take_kills(), [""; 0]);
}

#[test]
fn many_tasks_are_asked_about_in_parts() {
    let (mut script, tasks) = Script::running(&[app("/a", 1, json!({}))]);
    let one = script.instance(&tasks[0]).expect("an instance").clone();
    for number in 1..1_500 {
        let (instance_id, task_id) = (format!("a.instance-{number}"), format!("a.instance-{number}._app.1"));
        let instance = Instance { instance_id, task_id, ..one.clone() };
        script.state.apply(Command::Intent(Box::new(instance)), script.now.wall);
    }
    script.new_term();
    script.subscribe();
    let sizes: Vec<usize> = script
        .take_calls(call::Type::Reconcile)
        .iter()
        .filter_map(|call| call.reconcile.as_ref().map(|one| one.tasks.len()))
        .filter(|size| *size > 0)
        .collect();
    assert_eq!(sizes, [1_000, 500]);
}
