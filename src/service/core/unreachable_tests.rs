//! Tasks that are out of reach.

use serde_json::json;

use super::script_tests::{Script, app, seconds};
use crate::api::v1::TaskState::{TaskRunning, TaskUnreachable};

fn unreachable(strategy: serde_json::Value) -> (Script, String) {
    let (mut script, tasks) = Script::running(&[app("/a", 1, json!({ "unreachableStrategy": strategy }))]);
    script.update(&tasks[0], TaskUnreachable);
    script.commit();
    (script, tasks[0].clone())
}

#[test]
fn by_default_what_is_out_of_reach_is_replaced_at_once() {
    let (mut script, lost) = unreachable(json!({ "inactiveAfterSeconds": 0, "expungeAfterSeconds": 0 }));
    script.launch_all();
    assert_eq!(script.take_launches().len(), 1);
    script.update(&lost, TaskRunning);
    assert_eq!(script.take_kills(), [lost], "forgotten, and killed when it shows up again");
}

#[test]
fn a_disabled_strategy_waits_for_ever() {
    let (mut script, lost) = unreachable(json!("disabled"));
    script.live(seconds(100_000));
    script.launch_all();
    assert!(script.take_launches().is_empty());
    script.update(&lost, TaskRunning);
    assert_eq!(script.take_kills(), [""; 0]);
    assert_eq!(script.core.counts("/a").running, 1);
}

#[test]
fn the_inactive_are_replaced_and_the_expunged_forgotten() {
    let strategy = json!({ "inactiveAfterSeconds": 60, "expungeAfterSeconds": 600 });
    let (mut script, lost) = unreachable(strategy.clone());
    script.live(seconds(59));
    script.launch_all();
    assert!(script.take_launches().is_empty(), "it may come back");
    script.live(seconds(2));
    script.launch_all();
    let launched = script.take_launches();
    assert_eq!(launched.len(), 1, "a replacement");
    assert_eq!(script.state.instances().len(), 2);
    script.update(&launched[0], TaskRunning);
    script.commit();
    // It is back: one of the two is too many.
    script.update(&lost, TaskRunning);
    assert_eq!(script.take_kills().len(), 1);

    let (mut script, lost) = unreachable(strategy);
    script.live(seconds(601));
    script.commit();
    assert!(script.instance(&lost).is_none(), "expunged");
    script.update(&lost, TaskRunning);
    assert_eq!(script.take_kills(), [lost]);
}
