//! Agents that belong to nodes, and agents that an operator declares gone.

use super::support::*;
use crate::api::ApiError;
use crate::api::peer::to_agent;
use crate::api::v1;
use crate::base::id::{AgentId, NodeId};
use crate::base::time::Timestamp;
use crate::master::core::{Effect, Input, LinkId, ReplyId};
use crate::registry::core::{Change, Command, KNOWS_NODES, Standing, State as Registry};

const RESOURCES: &str = "cpus:2;mem:100";

fn node(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

/// A cluster whose members all understand nodes.
fn env(version: u32) -> TestEnv {
    let mut registry = Registry::default();
    let time = Timestamp::from_nanos(1);
    registry.apply(Command { time, change: Change::RaiseVersion(version) });
    TestEnv::over(registry)
}

/// A connection that a node's certificate opened.
fn link_of(env: &mut TestEnv, number: u64) -> LinkId {
    let link = LinkId(env.number());
    env.handle(Input::AgentConnected { link, node: Some(node(number)) });
    link
}

/// An agent without an id, at an address of its own.
fn info(port: i32) -> v1::AgentInfo {
    v1::AgentInfo { port: Some(port), ..agent_info("a", RESOURCES) }
}

fn with_agent_id(info: &v1::AgentInfo, id: &AgentId) -> v1::AgentInfo {
    v1::AgentInfo { id: Some(v1::AgentId { value: id.to_string() }), ..info.clone() }
}

/// The agent of node 7.
fn agent_of_seven(env: &mut TestEnv) -> (LinkId, AgentId) {
    let link = link_of(env, 7);
    env.say(link, register(&info(1)));
    let id = env.registered(link);
    (link, id)
}

/// The connection is refused for this reason.
fn refused(env: &mut TestEnv, link: LinkId) -> String {
    let reason = match env.tell(link) {
        to_agent::Message::Shutdown(shutdown) => shutdown.reason,
        other => panic!("{other:?} is no refusal"),
    };
    assert_eq!(env.effects.pop_front(), Some(Effect::Unlink { link }));
    reason
}

#[test]
fn nobody_speaks_for_the_agent_of_another_node() {
    let mut env = env(KNOWS_NODES);
    let (link, id) = agent_of_seven(&mut env);
    assert_eq!(env.registry.agent(&id).and_then(|entry| entry.node), Some(node(7)));
    env.handle(Input::AgentDisconnected { link });
    env.silence();
    for foreign in [link_of(&mut env, 8), LinkId(99)] {
        env.say(foreign, reregister(&with_agent_id(&info(1), &id), &[], &[]));
        let reason = refused(&mut env, foreign);
        assert!(reason.contains("belongs to the node 0000000000000007"), "{reason}");
    }
    // Nor after a fail-over: the registry knows.
    env.fail_over();
    let foreign = link_of(&mut env, 8);
    env.say(foreign, reregister(&with_agent_id(&info(1), &id), &[], &[]));
    refused(&mut env, foreign);
    let own = link_of(&mut env, 7);
    env.say(own, reregister(&with_agent_id(&info(1), &id), &[], &[]));
    assert_eq!(env.registered(own), id);
}

#[test]
fn nobody_takes_the_address_of_the_agent_of_another_node() {
    let mut env = env(KNOWS_NODES);
    let (link, id) = agent_of_seven(&mut env);
    let foreign = link_of(&mut env, 8);
    env.say(foreign, register(&info(1)));
    refused(&mut env, foreign);
    env.silence();
    // While it may still come back, the other waits; it is not told to end.
    env.handle(Input::AgentDisconnected { link });
    let foreign = link_of(&mut env, 8);
    env.say(foreign, register(&info(1)));
    assert_eq!(env.effects.pop_front(), Some(Effect::Unlink { link: foreign }));
    env.wait(std::time::Duration::from_secs(20));
    assert_eq!(env.registry.agent(&id).map(|entry| entry.standing), Some(Standing::Unreachable));
    let foreign = link_of(&mut env, 8);
    env.say(foreign, register(&info(1)));
    assert_ne!(env.registered(foreign), id);
}

#[test]
fn an_agent_of_before_is_its_nodes_from_its_next_return_on() {
    let mut old = env(KNOWS_NODES - 1);
    let (_, id) = agent_of_seven(&mut old);
    assert_eq!(old.registry.agent(&id).and_then(|entry| entry.node), None, "not every member understands it");
    let time = Timestamp::from_nanos(1);
    old.registry.apply(Command { time, change: Change::RaiseVersion(KNOWS_NODES) });
    old.fail_over();
    let link = link_of(&mut old, 7);
    old.say(link, reregister(&with_agent_id(&info(1), &id), &[], &[]));
    assert_eq!(old.registered(link), id);
    assert_eq!(old.registry.agent(&id).and_then(|entry| entry.node), Some(node(7)));
}

fn mark_gone(env: &mut TestEnv, id: &AgentId) -> Result<(), ApiError> {
    let reply = ReplyId(env.number());
    env.handle(Input::MarkGone { reply, agent_id: id.clone() });
    let at = env.effects.iter().position(|effect| matches!(effect, Effect::Reply { .. }));
    match env.effects.remove(at.expect("it is answered")) {
        Some(Effect::Reply { result, .. }) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tasks_of_a_gone_agent_are_over_and_it_is_told_to_end() {
    for (capabilities, state, reason) in [
        (&[Capability::PartitionAware][..], State::TaskGoneByOperator, Reason::AgentRemovedByOperator),
        (&[][..], State::TaskLost, Reason::AgentRemoved),
    ] {
        let mut env = env(KNOWS_NODES);
        let (scheduler, agent) = env.running(&framework_info(capabilities), "t");
        mark_gone(&mut env, &agent.id).expect("it is known");
        assert!(matches!(env.tell(agent.link), to_agent::Message::Shutdown(_)));
        env.master_update(scheduler.conn, "t", state, reason);
        env.effects.clear();
        assert_eq!(env.registry.agent(&agent.id).map(|entry| entry.standing), Some(Standing::Gone));
        mark_gone(&mut env, &agent.id).expect("twice is the same");
        let link = LinkId(env.number());
        env.say(link, reregister(&agent.info, &[], &[]));
        let reason = refused(&mut env, link);
        assert!(reason.contains("gone"), "{reason}");
        env.reconcile(&scheduler, &[("t", Some(&agent.id))]);
        env.update(scheduler.conn, "t", state);
    }
}

#[test]
fn an_unreachable_agent_that_is_declared_gone_ends_what_it_had() {
    let mut env = env(KNOWS_NODES);
    let (scheduler, agent) = env.running(&framework_info(&[Capability::PartitionAware]), "t");
    env.handle(Input::AgentDisconnected { link: agent.link });
    env.wait(std::time::Duration::from_secs(20));
    env.effects.clear();
    mark_gone(&mut env, &agent.id).expect("it is known");
    let reason = Reason::AgentRemovedByOperator;
    env.master_update(scheduler.conn, "t", State::TaskGoneByOperator, reason);
    assert!(matches!(mark_gone(&mut env, &AgentId::new("no-such")), Err(ApiError::NotFound(_))));
}

#[test]
fn a_mark_that_comes_too_late_does_not_hide_that_an_agent_is_gone() {
    let mut env = env(KNOWS_NODES);
    let info = framework_info(&[Capability::PartitionAware]);
    let (scheduler, agent) = env.running(&info, "t");
    env.fail_over();
    // It is not back: an operator gives it up, and so does the new leader before that is recorded.
    env.late = true;
    env.handle(Input::MarkGone { reply: ReplyId(1), agent_id: agent.id.clone() });
    env.wait(std::time::Duration::from_secs(900));
    let mut marks = 0;
    while env.commit() {
        marks += 1;
    }
    env.late = false;
    assert_eq!(marks, 2);
    env.effects.clear();
    let again = env.subscribe(&with_id(&info, &scheduler.id));
    env.effects.clear();
    env.reconcile(&again, &[("t", Some(&agent.id))]);
    env.update(again.conn, "t", State::TaskGoneByOperator);
}
