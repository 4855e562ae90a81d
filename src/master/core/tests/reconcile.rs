//! RECONCILE: every answer of the table (Mesos, task reconciliation).

use std::time::Duration;

use super::support::{
    CallType, Capability, Reason, Scheduler, State, TestEnv, framework_info, task_info, with_id,
};
use crate::api::peer::to_agent;
use crate::api::v1::scheduler::event;
use crate::base::id::AgentId;
use crate::master::core::Input;
use crate::registry::core::{Change, Command};

/// What a scheduler without and with PARTITION_AWARE hears.
const BOTH: [&[Capability]; 2] = [&[], &[Capability::PartitionAware]];

fn answer(
    env: &mut TestEnv,
    scheduler: &Scheduler,
    task: &str,
    agent: Option<&AgentId>,
    aware: bool,
    state: State,
    message: &str,
) {
    env.reconcile(scheduler, &[(task, agent)]);
    let state = if aware { state } else { State::TaskLost };
    let status = env.master_update(scheduler.conn, task, state, Reason::Reconciliation);
    assert_eq!(status.message.as_deref(), Some(message));
    assert_eq!(status.agent_id.map(|id| id.value), agent.map(ToString::to_string), "the agent is echoed");
    let unreachable = message.contains("unreachable");
    assert_eq!(status.unreachable_time.is_some(), unreachable);
    env.silence();
}

#[test]
fn known_tasks_are_told_as_they_are() {
    let mut env = TestEnv::new();
    let (scheduler, agent) = env.running(&framework_info(&[]), "t");
    for tasks in [&[][..], &[("t", None)][..], &[("t", Some(&agent.id))][..]] {
        env.reconcile(&scheduler, tasks);
        let status = env.master_update(scheduler.conn, "t", State::TaskRunning, Reason::Reconciliation);
        assert_eq!(status.message.as_deref(), Some("Reconciliation: Latest task state"));
        assert_eq!(status.agent_id.map(|id| id.value).as_deref(), Some(agent.id.as_str()));
        assert!(status.data.is_none() && status.labels.is_none());
        env.silence();
    }
}

#[test]
fn a_task_that_was_not_reported_yet_is_staging() {
    let mut env = TestEnv::new();
    let (scheduler, agent, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    env.accept(&scheduler, &[offer.id], &[task_info("t", &agent.id, "cpus:1;mem:64")]);
    env.run_task(agent.link, "t");
    env.reconcile(&scheduler, &[]);
    env.master_update(scheduler.conn, "t", State::TaskStaging, Reason::Reconciliation);
    env.silence();
}

#[test]
fn unknown_tasks_are_told_by_their_agent() {
    for capabilities in BOTH {
        let aware = !capabilities.is_empty();
        let mut env = TestEnv::new();
        let (scheduler, agent) = env.running(&framework_info(capabilities), "t");
        env.call(&scheduler, CallType::Suppress, |_| ()).expect("accepted");
        let gone = env.agent("gone", "cpus:1");
        let lost = env.agent("lost", "cpus:1");
        env.silence();
        let time = env.now.wall;
        env.registry.apply(Command { time, change: Change::MarkGone { agent_id: gone.id.clone() } });
        env.registry.apply(Command { time, change: Change::MarkUnreachable { agent_id: lost.id.clone() } });
        env.fail_over();
        let scheduler = env.subscribe(&with_id(&framework_info(capabilities), &scheduler.id));
        env.silence();

        // Its agent is admitted and may still come back with it: no answer.
        env.reconcile(&scheduler, &[("t", Some(&agent.id)), ("x", None)]);
        env.silence();
        // What needs no waiting is answered at once.
        let unknown: AgentId = "S-unknown".into();
        let mut told = |agent: Option<&AgentId>, state, message| {
            answer(&mut env, &scheduler, "x", agent, aware, state, message);
        };
        told(Some(&unknown), State::TaskUnknown, "Reconciliation: Task is unknown");
        told(Some(&gone.id), State::TaskGoneByOperator, "Reconciliation: Task is gone");
        told(Some(&lost.id), State::TaskUnreachable, "Reconciliation: Task is unreachable");

        // The agent is back without the task.
        let mut agent = agent;
        env.come_back(&mut agent, &[], &[]);
        env.registered(agent.link);
        env.effects.clear();
        let mut told = |agent: Option<&AgentId>, state, message| {
            answer(&mut env, &scheduler, "t", agent, aware, state, message);
        };
        told(Some(&agent.id), State::TaskGone, "Reconciliation: Task is unknown to the agent");
        told(None, State::TaskUnknown, "Reconciliation: Task is unknown");
    }
}

#[test]
fn a_task_of_an_unreachable_agent_is_found_by_its_agent_alone() {
    for capabilities in BOTH {
        let aware = !capabilities.is_empty();
        let mut env = TestEnv::new();
        let (scheduler, agent) = env.running(&framework_info(capabilities), "t");
        env.handle(Input::AgentDisconnected { link: agent.link });
        env.wait(Duration::from_secs(10));
        let state = if aware { State::TaskUnreachable } else { State::TaskLost };
        env.master_update(scheduler.conn, "t", state, Reason::AgentRemoved);
        env.event(scheduler.conn, event::Type::Failure);
        env.silence();
        let (with, without) = (State::TaskUnreachable, State::TaskUnknown);
        let (id, conn) = (agent.id.clone(), &scheduler);
        answer(&mut env, conn, "t", Some(&id), aware, with, "Reconciliation: Task is unreachable");
        answer(&mut env, conn, "t", None, aware, without, "Reconciliation: Task is unknown");
        // The list of all tasks does not hold it either.
        env.reconcile(&scheduler, &[]);
        env.silence();
    }
}

#[test]
fn several_tasks_are_answered_one_by_one() {
    let mut env = TestEnv::new();
    let (scheduler, agent) = env.running(&framework_info(&[Capability::PartitionAware]), "t");
    env.reconcile(&scheduler, &[("x", Some(&agent.id)), ("t", None), ("y", None)]);
    env.master_update(scheduler.conn, "x", State::TaskGone, Reason::Reconciliation);
    env.master_update(scheduler.conn, "t", State::TaskRunning, Reason::Reconciliation);
    env.master_update(scheduler.conn, "y", State::TaskUnknown, Reason::Reconciliation);
    env.silence();
    // None of these answers is to be acknowledged, so nothing was told to the agent.
    env.status(&agent, &scheduler.id, "t", State::TaskKilled);
    let status = env.update(scheduler.conn, "t", State::TaskKilled);
    env.offer(scheduler.conn);
    env.acknowledge(&scheduler, &status);
    assert!(matches!(env.tell(agent.link), to_agent::Message::Acknowledge(_)));
    env.silence();
}
