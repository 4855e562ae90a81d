//! Schedulers: who they are, who takes over, when a framework ends.

use std::time::Duration;

use super::support::{CallType, State, TestEnv, framework_info, task_info, task_message, with_id};
use crate::api::ApiError;
use crate::api::peer::to_agent;
use crate::api::v1;
use crate::api::v1::scheduler::event;
use crate::master::core::{ConnId, Effect, Input, ReplyId};

fn closes(env: &mut TestEnv, wanted: ConnId) {
    match env.effects.pop_front() {
        Some(Effect::Close { conn }) if conn == wanted => {}
        other => panic!("{other:?} does not close {wanted:?}"),
    }
}

fn refused(env: &mut TestEnv, info: &v1::FrameworkInfo, message: &str) {
    let (conn, _) = env.open(info);
    let error = env.event(conn, event::Type::Error).error.expect("its member");
    assert!(error.message.contains(message), "{}", error.message);
    closes(env, conn);
    env.silence();
    env.handle(Input::Disconnected { conn });
    env.silence();
}

#[test]
fn the_newest_of_two_schedulers_with_one_id_wins() {
    let mut env = TestEnv::new();
    let (old, agent, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    let (conn, stream_id) = env.open(&with_id(&framework_info(&[]), &old.id));
    let error = env.event(old.conn, event::Type::Error).error.expect("its member");
    assert_eq!(error.message, "Framework failed over");
    closes(&mut env, old.conn);
    assert_eq!(env.subscribed(conn), old.id);
    let new = super::support::Scheduler { conn, stream_id, id: old.id.clone() };
    // The old offer is gone without a word; the same resources are offered anew.
    let again = env.offer(new.conn);
    env.silence();
    let refusal = env.call(&old, CallType::Revive, |_| ()).expect_err("the old stream is over");
    assert!(matches!(refusal, ApiError::Invalid(_)), "{refusal:?}");
    env.accept(&new, &[offer.id], &[task_info("t", &agent.id, "cpus:1")]);
    env.master_update(new.conn, "t", State::TaskLost, super::support::Reason::InvalidOffers);
    env.silence();
    // The end of the old connection changes nothing.
    env.handle(Input::Disconnected { conn: old.conn });
    env.silence();
    env.accept(&new, &[again.id], &[task_info("t", &agent.id, "cpus:1")]);
    env.run_task(agent.link, "t");
    env.silence();
}

#[test]
fn decline_filters_survive_a_takeover_but_not_a_disconnection() {
    let mut env = TestEnv::new();
    let (old, _, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    env.decline(&old, &[offer.id], Some(1_000.0));
    let info = with_id(&framework_info(&[]), &old.id);
    let (conn, _) = env.open(&info);
    env.event(old.conn, event::Type::Error);
    closes(&mut env, old.conn);
    env.subscribed(conn);
    env.silence();
    env.handle(Input::Disconnected { conn });
    env.silence();
    let new = env.subscribe(&info);
    env.offer(new.conn);
    env.silence();
}

#[test]
fn calls_say_who_they_are() {
    let mut env = TestEnv::new();
    let scheduler = env.subscribe(&framework_info(&[]));
    let mut stranger = scheduler.clone();
    stranger.id = "unknown".into();
    let refusal = env.call(&stranger, CallType::Revive, |_| ()).expect_err("unknown");
    assert_eq!(refusal, ApiError::Invalid("Framework cannot be found".to_owned()));
    env.handle(Input::Disconnected { conn: scheduler.conn });
    let refusal = env.call(&scheduler, CallType::Revive, |_| ()).expect_err("not connected");
    assert!(matches!(refusal, ApiError::Forbidden(_)), "{refusal:?}");
    env.silence();
}

#[test]
fn a_framework_without_a_scheduler_ends_after_its_time() {
    let mut env = TestEnv::new();
    let info = v1::FrameworkInfo { failover_timeout: Some(30.0), ..framework_info(&[]) };
    let (scheduler, agent) = env.running(&info, "t");
    env.handle(Input::Disconnected { conn: scheduler.conn });
    env.wait(Duration::from_secs(29));
    env.silence();
    // It came back in time: nothing has happened, and nothing will.
    let again = env.subscribe(&with_id(&info, &scheduler.id));
    assert!(matches!(env.tell(agent.link), to_agent::Message::UpdateFramework(_)));
    env.wait(Duration::from_secs(60));
    env.silence();
    env.handle(Input::Disconnected { conn: again.conn });
    env.wait(Duration::from_secs(30));
    match env.tell(agent.link) {
        to_agent::Message::ShutdownFramework(shutdown) => {
            assert_eq!(shutdown.framework_id.value, scheduler.id.as_str());
        }
        other => panic!("{other:?}"),
    }
    env.silence();
    refused(&mut env, &with_id(&info, &scheduler.id), "Framework has been removed");
    // The resources are free again.
    let other = env.subscribe(&info);
    env.offer(other.conn);
    env.silence();
}

#[test]
fn without_a_failover_timeout_a_framework_ends_with_its_connection() {
    for timeout in [None, Some(0.0), Some(-5.0)] {
        let mut env = TestEnv::new();
        let info = v1::FrameworkInfo { failover_timeout: timeout, ..framework_info(&[]) };
        let (scheduler, agent) = env.running(&info, "t");
        env.handle(Input::Disconnected { conn: scheduler.conn });
        assert!(matches!(env.tell(agent.link), to_agent::Message::ShutdownFramework(_)));
        env.silence();
    }
}

#[test]
fn teardown_ends_everything_of_a_framework() {
    let mut env = TestEnv::new();
    let (scheduler, agent) = env.running(&framework_info(&[]), "t");
    env.late = true;
    env.call(&scheduler, CallType::Teardown, |_| ()).expect("accepted");
    env.silence();
    // Until it is recorded nothing ends, but nothing new begins either.
    let refusal = env.call(&scheduler, CallType::Revive, |_| ()).expect_err("leaving");
    assert!(matches!(refusal, ApiError::Invalid(_)), "{refusal:?}");
    env.late = false;
    env.commit();
    assert!(matches!(env.tell(agent.link), to_agent::Message::ShutdownFramework(_)));
    closes(&mut env, scheduler.conn);
    env.silence();
    // Nobody wants updates any more.
    env.status(&agent, &scheduler.id, "t", State::TaskKilled);
    env.silence();
    refused(&mut env, &with_id(&framework_info(&[]), &scheduler.id), "Framework has been removed");
    // An agent that still has tasks of it is told again.
    let mut agent = agent;
    let task = task_info("t", &agent.id, "cpus:1;mem:64");
    let tasks = [task_message(&scheduler.id, &task, State::TaskRunning)];
    env.come_back(&mut agent, &[with_id(&framework_info(&[]), &scheduler.id)], &tasks);
    assert!(matches!(env.effects.pop_front(), Some(Effect::Unlink { .. })));
    env.registered(agent.link);
    assert!(matches!(env.tell(agent.link), to_agent::Message::ShutdownFramework(_)));
    env.silence();
}

#[test]
fn an_operator_ends_a_framework_once() {
    let mut env = TestEnv::new();
    let scheduler = env.subscribe(&framework_info(&[]));
    for expected in [true, false] {
        env.handle(Input::Teardown { reply: ReplyId(99), framework_id: scheduler.id.clone() });
        // The answer comes when it is done, not before.
        if expected {
            closes(&mut env, scheduler.conn);
        }
        match env.effects.pop_front() {
            Some(Effect::Reply { result, .. }) => assert_eq!(result.is_ok(), expected),
            other => panic!("{other:?}"),
        }
        env.silence();
    }
}

#[test]
fn a_scheduler_that_left_before_it_was_recorded_is_not_waited_for() {
    let mut env = TestEnv::new();
    env.agent("one", "cpus:1;mem:64");
    env.late = true;
    let info = v1::FrameworkInfo { failover_timeout: Some(0.0), ..framework_info(&[]) };
    let (conn, _) = env.open(&info);
    env.silence();
    env.handle(Input::Disconnected { conn });
    env.late = false;
    env.commit();
    env.effects.clear();
    // Its resources are not held by anybody.
    let other = env.subscribe(&info);
    env.offer(other.conn);
    env.silence();
}

#[test]
fn what_a_framework_cannot_be_is_told_on_its_stream() {
    let mut env = TestEnv::new();
    let with = |change: &dyn Fn(&mut v1::FrameworkInfo)| {
        let mut info = framework_info(&[]);
        change(&mut info);
        info
    };
    refused(&mut env, &with(&|info| info.roles = vec!["a".to_owned()]), "MULTI_ROLE");
    refused(&mut env, &with(&|info| info.role = Some("-x".to_owned())), "role");
    refused(&mut env, &with(&|info| info.failover_timeout = Some(f64::INFINITY)), "failover_timeout");
    refused(&mut env, &with(&|info| info.failover_timeout = Some(f64::NAN)), "failover_timeout");
    let slash = with(&|info| info.id = Some(v1::FrameworkId { value: "a/b".to_owned() }));
    refused(&mut env, &slash, "framework id");
}
