//! Agents: silent, unreachable, back, gone for good.

use std::time::Duration;

use super::support::{
    Capability, Reason, State, TestEnv, agent_info, framework_info, register, reregister, task_info,
    task_message, with_id,
};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::api::v1::scheduler::event;
use crate::master::core::{Effect, Input, LinkId};
use crate::registry::core::{Change, Command, Standing};

#[test]
fn a_silent_agent_is_pinged_and_then_unreachable() {
    let mut env = TestEnv::new();
    let (scheduler, agent) = env.running(&framework_info(&[]), "t");
    env.wait(Duration::from_secs(60));
    env.silence();
    env.silent.insert(agent.link);
    // It was heard at most a third of its time ago.
    env.wait(Duration::from_secs(6));
    env.silence();
    env.wait(Duration::from_secs(5));
    let status = env.master_update(scheduler.conn, "t", State::TaskLost, Reason::AgentRemoved);
    assert!(status.unreachable_time.is_some());
    assert_eq!(env.effects.pop_front(), Some(Effect::Unlink { link: agent.link }));
    let failure = env.event(scheduler.conn, event::Type::Failure).failure.expect("its member");
    assert_eq!(failure.agent_id.map(|id| id.value).as_deref(), Some(agent.id.as_str()));
    env.silence();
    let standing = env.registry.agent(&agent.id).map(|entry| entry.standing);
    assert_eq!(standing, Some(Standing::Unreachable));
}

#[test]
fn an_unreachable_agent_comes_back_with_its_tasks() {
    let mut env = TestEnv::new();
    let info = framework_info(&[Capability::PartitionAware]);
    let (scheduler, mut agent) = env.running(&info, "t");
    env.handle(Input::AgentDisconnected { link: agent.link });
    env.wait(Duration::from_secs(10));
    env.master_update(scheduler.conn, "t", State::TaskUnreachable, Reason::AgentRemoved);
    env.event(scheduler.conn, event::Type::Failure);
    env.silence();
    let task = task_info("t", &agent.id, "cpus:1;mem:64");
    let tasks = [task_message(&scheduler.id, &task, State::TaskRunning)];
    env.come_back(&mut agent, &[with_id(&info, &scheduler.id)], &tasks);
    assert_eq!(env.registered(agent.link), agent.id);
    env.master_update(scheduler.conn, "t", State::TaskRunning, Reason::AgentReregistered);
    // The task has all of the agent, so there is nothing to offer.
    env.silence();
    env.reconcile(&scheduler, &[]);
    env.master_update(scheduler.conn, "t", State::TaskRunning, Reason::Reconciliation);
    assert_eq!(env.registry.agent(&agent.id).map(|entry| entry.standing), Some(Standing::Admitted));
}

#[test]
fn tasks_that_an_agent_does_not_bring_are_asked_for() {
    let mut env = TestEnv::new();
    let (scheduler, mut agent) = env.running(&framework_info(&[]), "t");
    env.handle(Input::AgentDisconnected { link: agent.link });
    env.silence();
    // A kill is remembered meanwhile.
    env.kill(&scheduler, "t", None);
    env.silence();
    env.come_back(&mut agent, &[], &[]);
    env.registered(agent.link);
    match env.tell(agent.link) {
        to_agent::Message::ReconcileTasks(reconcile) => assert_eq!(reconcile.task_ids[0].value, "t"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(env.tell(agent.link), to_agent::Message::KillTask(_)));
    env.silence();
    env.status(&agent, &scheduler.id, "t", State::TaskLost);
    env.update(scheduler.conn, "t", State::TaskLost);
    env.offer(scheduler.conn);
    env.silence();
}

#[test]
fn an_agent_on_a_new_link_leaves_the_old_one() {
    let mut env = TestEnv::new();
    let (_, mut agent, _) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    let old = agent.link;
    env.come_back(&mut agent, &[], &[]);
    assert_eq!(env.effects.pop_front(), Some(Effect::Unlink { link: old }));
    env.registered(agent.link);
    env.silence();
    env.handle(Input::AgentDisconnected { link: old });
    env.silence();
    env.wait(Duration::from_secs(60));
    env.silence();
}

#[test]
fn an_agent_that_leaves_by_itself_loses_its_tasks() {
    let mut env = TestEnv::new();
    let (scheduler, agent) = env.running(&framework_info(&[Capability::PartitionAware]), "t");
    let agent_id = crate::api::v1::AgentId { value: agent.id.to_string() };
    env.say(agent.link, from_agent::Message::Unregister(peer::Unregister { agent_id }));
    // Not unreachable: it will not come back with them.
    has_left(&mut env, agent.link);
    env.master_update(scheduler.conn, "t", State::TaskLost, Reason::AgentRemoved);
    assert_eq!(env.effects.pop_front(), Some(Effect::Unlink { link: agent.link }));
    env.event(scheduler.conn, event::Type::Failure);
    env.silence();
    assert!(env.registry.agent(&agent.id).is_none());
}

#[test]
fn an_agent_without_room_is_not_offered_until_it_has_some() {
    let mut env = TestEnv::new();
    let agent = env.agent("one", "cpus:1");
    let scheduler = env.subscribe(&framework_info(&[]));
    env.offer(scheduler.conn);
    let pausing = |is_paused| from_agent::Message::Pausing(peer::Pausing { is_paused });
    env.say(agent.link, pausing(true));
    env.event(scheduler.conn, event::Type::Rescind);
    env.wait(Duration::from_secs(600));
    env.silence();
    let shown = env.master.get_agents();
    assert_eq!((shown.agents[0].active, shown.agents[0].deactivated), (false, Some(true)));
    env.say(agent.link, pausing(false));
    env.offer(scheduler.conn);
    env.silence();
    // Room alone does not bring one back that leaves.
    env.say(agent.link, from_agent::Message::Draining(peer::Draining {}));
    env.event(scheduler.conn, event::Type::Rescind);
    env.say(agent.link, pausing(false));
    env.wait(Duration::from_secs(600));
    env.silence();
}

/// The agent is told that the registry knows.
fn has_left(env: &mut TestEnv, link: LinkId) {
    match env.tell(link) {
        to_agent::Message::Shutdown(shutdown) => assert!(shutdown.reason.contains("has left")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_that_drains_is_not_offered_and_comes_back_under_its_id() {
    let mut env = TestEnv::new();
    let agent = env.agent("one", "cpus:1");
    let scheduler = env.subscribe(&framework_info(&[]));
    let offered = env.offers(scheduler.conn);
    env.say(agent.link, from_agent::Message::Draining(peer::Draining {}));
    let rescinded = env.event(scheduler.conn, event::Type::Rescind);
    let rescinded = rescinded.rescind.expect("a rescind").offer_id;
    assert_eq!(Some(rescinded), offered.first().map(|offer| offer.id.clone()));
    env.wait(Duration::from_secs(600));
    env.silence();
    let shown = env.master.get_agents();
    assert_eq!((shown.agents[0].active, shown.agents[0].deactivated), (false, Some(true)));

    let agent_id = v1::AgentId { value: agent.id.to_string() };
    env.say(agent.link, from_agent::Message::Unregister(peer::Unregister { agent_id }));
    has_left(&mut env, agent.link);
    assert_eq!(env.effects.pop_front(), Some(Effect::Unlink { link: agent.link }));
    env.event(scheduler.conn, event::Type::Failure);
    env.silence();

    let link = LinkId(env.number());
    env.say(link, reregister(&agent.info, &[], &[]));
    assert_eq!(env.registered(link), agent.id);
    assert_eq!(env.offers(scheduler.conn).len(), 1);
}

#[test]
fn agents_that_make_no_sense_are_shut_down() {
    let mut env = TestEnv::new();
    let refused = |env: &mut TestEnv, message: from_agent::Message, part: &str| {
        let link = LinkId(env.number());
        env.say(link, message);
        match env.tell(link) {
            to_agent::Message::Shutdown(shutdown) => {
                assert!(shutdown.reason.contains(part), "{}", shutdown.reason);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(env.effects.pop_front(), Some(Effect::Unlink { link }));
        env.silence();
        env.handle(Input::AgentDisconnected { link });
        env.silence();
    };
    refused(&mut env, register(&agent_info("", "cpus:1")), "hostname");
    refused(&mut env, reregister(&agent_info("one", "cpus:1"), &[], &[]), "without an id");
    let agent = env.agent("one", "cpus:1");
    let mut moved = agent.info.clone();
    moved.hostname = "two".to_owned();
    refused(&mut env, reregister(&moved, &[], &[]), "another host");
    let time = env.now.wall;
    env.registry.apply(Command { time, change: Change::MarkGone { agent_id: agent.id.clone() } });
    env.fail_over();
    refused(&mut env, reregister(&agent.info, &[], &[]), "gone");
}

#[test]
fn an_agent_is_not_admitted_before_it_is_recorded() {
    let mut env = TestEnv::new();
    let scheduler = env.subscribe(&framework_info(&[]));
    env.late = true;
    let link = LinkId(env.number());
    env.say(link, register(&agent_info("one", "cpus:1;mem:64")));
    env.wait(Duration::from_secs(60));
    env.silence();
    env.late = false;
    env.commit();
    env.registered(link);
    env.offer(scheduler.conn);
    env.silence();
}

#[test]
fn an_agent_that_left_before_it_was_recorded_is_offered_to_nobody() {
    let mut env = TestEnv::new();
    let scheduler = env.subscribe(&framework_info(&[]));
    env.late = true;
    let link = LinkId(env.number());
    env.say(link, register(&agent_info("one", "cpus:1;mem:64")));
    env.handle(Input::AgentDisconnected { link });
    env.late = false;
    env.commit();
    // It never heard its id, so nobody will come back under it.
    assert_eq!(env.registry.agents().count(), 0);
    env.silence();
    env.wait(Duration::from_secs(60));
    env.reconcile(&scheduler, &[("t", None)]);
    env.master_update(scheduler.conn, "t", State::TaskLost, Reason::Reconciliation);
    env.silence();
}

#[test]
fn an_agent_that_left_again_before_it_was_recorded_has_its_time() {
    let mut env = TestEnv::new();
    let scheduler = env.subscribe(&framework_info(&[]));
    let mut agent = env.agent("one", "cpus:1;mem:64");
    env.effects.clear();
    env.handle(Input::AgentDisconnected { link: agent.link });
    env.wait(Duration::from_secs(10));
    env.effects.clear();
    env.late = true;
    env.come_back(&mut agent, &[], &[]);
    env.handle(Input::AgentDisconnected { link: agent.link });
    env.late = false;
    env.commit();
    // Nobody hears it any more.
    env.registered(agent.link);
    env.silence();
    env.wait(Duration::from_secs(601));
    env.event(scheduler.conn, event::Type::Failure);
    env.silence();
    env.come_back(&mut agent, &[], &[]);
    env.registered(agent.link);
    env.offer(scheduler.conn);
    env.silence();
}
