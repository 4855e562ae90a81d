//! Upgrades, scaling, steps of deployments.

use serde_json::json;

use super::script_tests::{Script, app, check, seconds};
use crate::api::v1::TaskState::{TaskKilled, TaskRunning};
use crate::service::model::Command;

#[test]
fn one_missing_instance_is_launched_once() {
    let (mut script, tasks) = Script::running(&[app("/a", 1, json!({}))]);
    script.update(&tasks[0], TaskKilled);
    // Two agents offer before the end of the old task is recorded.
    script.offer("one");
    script.offer("two");
    script.commit();
    script.launch_all();
    assert_eq!(script.take_launches().len(), 1);
    assert_eq!(script.state.instances().len(), 1);
    let instance = script.state.instances().values().next().expect("an instance");
    assert_eq!(instance.incarnation, 2, "the same instance, launched again");
}

/// Four healthy instances, and an upgrade to another command begins.
fn upgrading(strategy: serde_json::Value) -> (Script, Vec<String>) {
    let checks = json!({ "healthChecks": [check(json!({}))], "upgradeStrategy": strategy });
    let (mut script, old) = Script::running(&[app("/a", 4, checks.clone())]);
    script.live(seconds(5));
    script.answer_probes(&Ok(()));
    let mut next = app("/a", 4, checks);
    next["cmd"] = json!("sleep 2000");
    script.put(&[next]);
    (script, old)
}

#[test]
fn a_new_term_in_the_middle_of_an_upgrade_kills_nothing_that_it_does_not_know() {
    let (mut script, old) = upgrading(json!({ "minimumHealthCapacity": 1.0, "maximumOverCapacity": 1.0 }));
    assert_eq!(script.take_kills(), [""; 0]);
    script.new_term();
    script.subscribe();
    assert_eq!(script.take_kills(), [""; 0], "before the master has said anything");
    for task in &old {
        script.update(task, TaskRunning);
    }
    assert_eq!(script.take_kills(), [""; 0], "running, and no check has an opinion yet");
    script.live(seconds(5));
    script.answer_probes(&Ok(()));
    assert_eq!(script.take_kills(), [""; 0], "all four are needed until new ones are well");
    // The upgrade still goes on.
    script.launch_all();
    let new = script.take_launches();
    assert_eq!(new.len(), 4);
    for task in &new {
        script.update(task, TaskRunning);
    }
    script.commit();
    script.live(seconds(5));
    script.answer_probes(&Ok(()));
    let mut kills = script.take_kills();
    kills.sort();
    let mut old = old;
    old.sort();
    assert_eq!(kills, old);
}

#[test]
fn one_unconfirmed_instance_keeps_all_others_alive() {
    let (mut script, old) = upgrading(json!({ "minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.0 }));
    script.new_term();
    script.subscribe();
    for task in &old[..3] {
        script.update(task, TaskRunning);
    }
    script.live(seconds(5));
    script.answer_probes(&Ok(()));
    assert_eq!(script.take_kills(), [""; 0], "the fourth may be well or not");
    let reasons = script.core.reasons("/a", script.now.mono);
    assert!(reasons.iter().any(|reason| reason.contains("has not spoken of 1")), "{reasons:?}");
    script.update(&old[3], TaskRunning);
    assert_eq!(script.take_kills(), [old[3].clone()], "three are well, two must be");
    script.live(seconds(10));
    script.answer_probes(&Ok(()));
    assert_eq!(script.take_kills(), [""; 0], "it has not ended yet");
    script.update(&old[3], TaskKilled);
    script.commit();
    assert_eq!(script.take_kills().len(), 1);
}

#[test]
fn unhealthy_old_instances_go_first_and_within_the_spare() {
    let (mut script, old) = upgrading(json!({ "minimumHealthCapacity": 1.0, "maximumOverCapacity": 1.0 }));
    assert_eq!(script.take_kills(), [""; 0]);
    // Two of the old ones turn bad: they may still serve somebody, and nothing is ready in their place.
    script.live(seconds(10));
    for (task_id, index, _) in script.take_probes() {
        let bad = task_id == old[0] || task_id == old[1];
        let result = if bad { Err("500".to_owned()) } else { Ok(()) };
        script.handle(super::Input::Probed { task_id, index, result });
    }
    assert_eq!(script.take_kills(), [""; 0]);
    script.launch_all();
    let new = script.take_launches();
    assert_eq!(new.len(), 4);
    for task in &new {
        script.update(task, TaskRunning);
    }
    script.commit();
    script.live(seconds(5));
    let probes = script.take_probes();
    let mut well = 0;
    for (task_id, index, _) in probes {
        if new.contains(&task_id) && well < 3 {
            well += 1;
            script.handle(super::Input::Probed { task_id, index, result: Ok(()) });
        }
    }
    // Two old and three new ones are well, four must be: one may go, and it is one that is not well.
    let first = script.take_kills();
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(old[..2].contains(&first[0]), "{first:?}");
    script.update(&first[0], TaskKilled);
    script.commit();
    let second = script.take_kills();
    assert_eq!(second.len(), 1, "{second:?}");
    assert!(old[..2].contains(&second[0]), "{second:?}");
    script.update(&second[0], TaskKilled);
    script.commit();
    let third = script.take_kills();
    assert!(third.len() == 1 && old[2..].contains(&third[0]), "{third:?}");
}

#[test]
fn unhealthy_old_instances_make_room_when_nothing_else_can() {
    let (mut script, old) = upgrading(json!({ "minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.0 }));
    script.live(seconds(10));
    script.answer_probes(&Err("500".to_owned()));
    script.launch_all();
    let kills = script.take_kills();
    assert!(!kills.is_empty(), "every place is taken by an instance that is not well");
    for task in &kills {
        assert!(old.contains(task));
        script.update(task, TaskKilled);
    }
    script.commit();
    script.launch_all();
    assert!(!script.take_launches().is_empty());
}

#[test]
fn scaling_down_with_another_configuration_keeps_what_must_stay_healthy() {
    let (mut script, old) = Script::running(&[app("/a", 10, json!({}))]);
    let mut next = app("/a", 2, json!({}));
    next["cmd"] = json!("sleep 2000");
    script.put(&[next]);
    script.commit();
    let first = script.take_kills();
    assert_eq!(first.len(), 8, "two must stay healthy");
    // Those eight take their time to end.
    script.wait(seconds(1));
    script.wait(seconds(1));
    assert_eq!(script.take_kills(), [""; 0]);
    assert_eq!(old.len(), 10);
}

#[test]
fn apps_of_later_steps_stay_as_they_are_until_their_turn() {
    let checks = json!({ "healthChecks": [check(json!({}))] });
    let (mut script, _) = Script::running(&[app("/db", 1, checks), app("/web", 3, json!({}))]);
    script.live(seconds(5));
    script.answer_probes(&Ok(()));
    let mut db = app("/db", 1, json!({ "healthChecks": [check(json!({}))] }));
    db["cmd"] = json!("sleep 2000");
    let mut web = app(
        "/web",
        1,
        json!({ "upgradeStrategy": { "minimumHealthCapacity": 0.0, "maximumOverCapacity": 0.0 } }),
    );
    web["cmd"] = json!("sleep 2000");
    script.put_in_steps(&[db, web], &[&["/db"], &["/web"]], true);
    script.commit();
    assert_eq!(script.take_kills(), [""; 0], "it is the database's turn");
    let reasons = script.core.reasons("/web", script.now.mono);
    assert!(reasons.iter().any(|reason| reason.contains("earlier step")), "{reasons:?}");
    // One that is lost meanwhile is replaced as it was.
    let web = script.tasks_of("/web");
    let before = script.instance(&web[0]).expect("an instance").version_ns;
    script.update(&web[0], TaskKilled);
    script.commit();
    script.launch_all();
    let launched = script.take_launches();
    let replaced: Vec<_> = launched.iter().filter(|task| task.starts_with("web.")).collect();
    assert_eq!(replaced.len(), 1, "{launched:?}");
    assert_eq!(script.instance(replaced[0]).expect("an instance").version_ns, before);
    // The database is well: the other app's step begins.
    for task in launched {
        script.update(&task, TaskRunning);
    }
    script.commit();
    script.live(seconds(5));
    script.answer_probes(&Ok(()));
    let old_db: Vec<String> = script.take_kills();
    assert_eq!(old_db.len(), 1, "{old_db:?}");
    script.update(&old_db[0], TaskKilled);
    script.commit();
    let kills = script.take_kills();
    assert_eq!(kills.len(), 3, "{kills:?}");
    assert!(kills.iter().all(|task| task.starts_with("web.")), "{kills:?}");
}

#[test]
fn a_deployment_ends_when_all_are_new_and_well() {
    let mut script = Script::new();
    script.put(&[app("/a", 2, json!({}))]);
    script.subscribe();
    script.launch_all();
    assert_eq!(script.state.deployments().len(), 1);
    for task in script.tasks() {
        script.update(&task, TaskRunning);
    }
    assert!(script.proposed.iter().any(|(_, command)| matches!(command, Command::Finish { .. })));
    script.commit();
    assert!(script.state.deployments().is_empty());
}

#[test]
fn a_removed_app_is_gone_when_its_tasks_are() {
    let (mut script, tasks) = Script::running(&[app("/a", 2, json!({}))]);
    script.remove("/a");
    let mut kills = script.take_kills();
    kills.sort();
    assert_eq!(kills, tasks);
    script.update(&tasks[0], TaskKilled);
    script.commit();
    assert_eq!(script.state.deployments().len(), 1, "one task still runs");
    script.update(&tasks[1], TaskKilled);
    script.commit();
    assert!(script.state.deployments().is_empty() && script.state.instances().is_empty());
    script.assert_rests();
}
