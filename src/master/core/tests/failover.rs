//! Another master is elected: what it knows comes from the registry, agents and schedulers.

use std::time::Duration;

use super::support::{Reason, State, TestEnv, framework_info, task_info, task_message, update, with_id};
use crate::api::peer::to_agent;
use crate::api::v1;
use crate::api::v1::scheduler::event;
use crate::registry::core::Standing;

#[test]
fn agents_come_back_before_their_scheduler() {
    let mut env = TestEnv::new();
    let info = framework_info(&[]);
    let (scheduler, mut agent) = env.running(&info, "t");
    env.fail_over();
    let task = task_info("t", &agent.id, "cpus:1;mem:64");
    let tasks = [task_message(&scheduler.id, &task, State::TaskRunning)];
    env.come_back(&mut agent, &[with_id(&info, &scheduler.id)], &tasks);
    env.registered(agent.link);
    env.silence();
    // Somebody else is offered nothing of what the task has.
    let other = env.subscribe(&info);
    env.silence();
    // An update while the scheduler is away is lost here and sent again by the agent.
    let finished = State::TaskFinished;
    env.say(agent.link, update(&scheduler.id, &agent.id, "t", finished, finished, &[1; 16]));
    env.offer(other.conn);
    env.silence();
    let again = env.subscribe(&with_id(&info, &scheduler.id));
    assert_eq!(again.id, scheduler.id);
    assert!(matches!(env.tell(agent.link), to_agent::Message::UpdateFramework(_)));
    env.silence();
    env.say(agent.link, update(&scheduler.id, &agent.id, "t", finished, finished, &[1; 16]));
    let status = env.update(again.conn, "t", finished);
    env.acknowledge(&again, &status);
    assert!(matches!(env.tell(agent.link), to_agent::Message::Acknowledge(_)));
    env.silence();
}

#[test]
fn agents_come_back_after_their_scheduler() {
    let mut env = TestEnv::new();
    let info = framework_info(&[]);
    let (scheduler, mut agent) = env.running(&info, "t");
    env.fail_over();
    let again = env.subscribe(&with_id(&info, &scheduler.id));
    env.silence();
    let task = task_info("t", &agent.id, "cpus:1;mem:64");
    let tasks = [task_message(&scheduler.id, &task, State::TaskRunning)];
    env.come_back(&mut agent, &[with_id(&info, &scheduler.id)], &tasks);
    env.registered(agent.link);
    // A master that has just been elected tells nothing that the scheduler knows already.
    env.silence();
    env.reconcile(&again, &[]);
    env.master_update(again.conn, "t", State::TaskRunning, Reason::Reconciliation);
    env.silence();
}

#[test]
fn agents_that_stay_away_are_unreachable_when_most_are_back() {
    let mut env = TestEnv::new();
    let mut agents: Vec<_> = (0..3).map(|number| env.agent(&format!("host{number}"), "cpus:1")).collect();
    env.fail_over();
    let scheduler = env.subscribe(&framework_info(&[]));
    // Most are absent: a power cut, nobody is given up.
    env.wait(Duration::from_secs(60));
    env.silence();
    for agent in agents.iter_mut().take(2) {
        env.come_back(agent, &[], &[]);
        env.registered(agent.link);
        env.offers(scheduler.conn);
    }
    env.wait(Duration::from_secs(1));
    let failure = env.event(scheduler.conn, event::Type::Failure).failure.expect("its member");
    assert_eq!(failure.agent_id.map(|id| id.value).as_deref(), Some(agents[2].id.as_str()));
    env.silence();
    assert_eq!(env.registry.agent(&agents[2].id).map(|entry| entry.standing), Some(Standing::Unreachable));
}

#[test]
fn the_rest_of_a_failover_timeout_is_kept() {
    let mut env = TestEnv::new();
    let info = v1::FrameworkInfo { failover_timeout: Some(300.0), ..framework_info(&[]) };
    let scheduler = env.subscribe(&info);
    env.handle(crate::master::core::Input::Disconnected { conn: scheduler.conn });
    env.wait(Duration::from_secs(60));
    env.fail_over();
    env.wait(Duration::from_secs(239));
    assert!(env.registry.framework(&scheduler.id).is_some_and(|framework| framework.removed.is_none()));
    env.wait(Duration::from_secs(1));
    assert!(env.registry.framework(&scheduler.id).is_some_and(|framework| framework.removed.is_some()));
}

#[test]
fn one_task_id_on_two_agents_does_no_harm() {
    let mut env = TestEnv::new();
    let info = framework_info(&[]);
    let (scheduler, mut agent) = env.running(&info, "t");
    env.fail_over();
    let again = env.subscribe(&with_id(&info, &scheduler.id));
    let second = env.agent("two", "cpus:2;mem:128");
    let offer = env.offer(again.conn);
    env.accept(&again, &[offer.id], &[task_info("t", &second.id, "cpus:1;mem:64")]);
    env.run_task(second.link, "t");
    let known = with_id(&info, &scheduler.id);
    let task = task_info("t", &agent.id, "cpus:1;mem:64");
    for state in [State::TaskRunning, State::TaskFinished] {
        env.come_back(&mut agent, std::slice::from_ref(&known), &[task_message(&scheduler.id, &task, state)]);
        env.effects.clear();
        // The first that came keeps the name.
        env.reconcile(&again, &[("t", None)]);
        let status = env.master_update(again.conn, "t", State::TaskStaging, Reason::Reconciliation);
        assert_eq!(status.agent_id.map(|id| id.value).as_deref(), Some(second.id.as_str()));
    }
}
