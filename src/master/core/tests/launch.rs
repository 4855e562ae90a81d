//! From SUBSCRIBE to the last acknowledgement, and what makes a launch fail.

use super::support::{CallType, Capability, Reason, State, TestEnv, framework_info, task_info, update};
use crate::api::peer::to_agent;
use crate::api::v1;
use crate::api::v1::scheduler::event;
use crate::resources::Resources;

#[test]
fn a_task_from_subscription_to_acknowledgement() {
    let mut env = TestEnv::new();
    let agent = env.agent("one", "cpus:2;mem:128");
    env.silence();
    let scheduler = env.subscribe(&framework_info(&[]));
    let offer = env.offer(scheduler.conn);
    assert_eq!(offer.agent_id.value, agent.id.as_str());
    assert_eq!(offer.framework_id.value, scheduler.id.as_str());
    assert_eq!(Resources::from_wire(&offer.resources).expect("valid").to_string(), "cpus:2;mem:128");
    env.silence();

    env.accept(&scheduler, &[offer.id], &[task_info("t", &agent.id, "cpus:2;mem:128")]);
    env.run_task(agent.link, "t");
    env.silence();

    for state in [State::TaskStarting, State::TaskRunning] {
        env.status(&agent, &scheduler.id, "t", state);
        let status = env.update(scheduler.conn, "t", state);
        env.silence();
        env.acknowledge(&scheduler, &status);
        match env.tell(agent.link) {
            to_agent::Message::Acknowledge(told) => assert_eq!(Some(told.uuid), status.uuid),
            other => panic!("{other:?}"),
        }
        env.silence();
    }

    // The end frees the resources at once, before it is acknowledged.
    env.status(&agent, &scheduler.id, "t", State::TaskFinished);
    let status = env.update(scheduler.conn, "t", State::TaskFinished);
    let again = env.offer(scheduler.conn);
    assert_eq!(Resources::from_wire(&again.resources).expect("valid").to_string(), "cpus:2;mem:128");
    env.silence();
    env.reconcile(&scheduler, &[]);
    env.master_update(scheduler.conn, "t", State::TaskFinished, Reason::Reconciliation);
    env.silence();
    env.acknowledge(&scheduler, &status);
    assert!(matches!(env.tell(agent.link), to_agent::Message::Acknowledge(_)));
    env.reconcile(&scheduler, &[]);
    env.silence();
}

#[test]
fn the_newest_state_frees_what_the_update_in_flight_does_not() {
    let mut env = TestEnv::new();
    let (scheduler, agent, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    env.accept(&scheduler, &[offer.id], &[task_info("t", &agent.id, "cpus:1;mem:64")]);
    env.run_task(agent.link, "t");
    let starting = State::TaskStarting;
    env.say(agent.link, update(&scheduler.id, &agent.id, "t", starting, State::TaskFailed, &[7; 16]));
    env.update(scheduler.conn, "t", starting);
    env.offer(scheduler.conn);
    env.silence();
    // Reconciliation goes by the update in flight.
    env.reconcile(&scheduler, &[("t", Some(&agent.id))]);
    env.master_update(scheduler.conn, "t", starting, Reason::Reconciliation);
    env.silence();
}

#[test]
fn tasks_are_judged_one_by_one() {
    let mut env = TestEnv::new();
    let (scheduler, agent, offer) = env.one_offer(&framework_info(&[]), "cpus:2;mem:128");
    let mut elsewhere = task_info("elsewhere", &agent.id, "cpus:1;mem:64");
    elsewhere.agent_id.value = "another".to_owned();
    let mut idle = task_info("idle", &agent.id, "cpus:1;mem:64");
    idle.command = None;
    let tasks = [
        task_info("big", &agent.id, "cpus:3"),
        task_info("good", &agent.id, "cpus:1;mem:64"),
        elsewhere,
        task_info("good", &agent.id, "cpus:1;mem:64"),
        idle,
        task_info("a/b", &agent.id, "cpus:1;mem:64"),
        task_info("also", &agent.id, "cpus:1;mem:64"),
        task_info("late", &agent.id, "cpus:0.1"),
    ];
    env.accept(&scheduler, &[offer.id], &tasks);
    let mut wrong = |task: &str, part: &str| {
        let status = env.master_update(scheduler.conn, task, State::TaskError, Reason::TaskInvalid);
        let message = status.message.expect("a message");
        assert!(message.contains(part), "{message}");
    };
    wrong("big", "more than available");
    env.run_task(agent.link, "good");
    let mut wrong = |task: &str, part: &str| {
        let status = env.master_update(scheduler.conn, task, State::TaskError, Reason::TaskInvalid);
        let message = status.message.expect("a message");
        assert!(message.contains(part), "{message}");
    };
    wrong("elsewhere", "invalid agent");
    wrong("good", "duplicate ID");
    wrong("idle", "CommandInfo");
    wrong("a/b", "slash");
    env.run_task(agent.link, "also");
    env.master_update(scheduler.conn, "late", State::TaskError, Reason::TaskInvalid);
    env.silence();
}

#[test]
fn offers_that_are_not_valid_lose_their_tasks() {
    for (capabilities, state) in
        [(&[][..], State::TaskLost), (&[Capability::PartitionAware][..], State::TaskDropped)]
    {
        let mut env = TestEnv::new();
        let (scheduler, agent, offer) = env.one_offer(&framework_info(capabilities), "cpus:1;mem:64");
        let task = [task_info("t", &agent.id, "cpus:1;mem:64")];
        // Twice in one call: everything is taken back and offered anew.
        env.accept(&scheduler, &[offer.id.clone(), offer.id.clone()], &task);
        env.master_update(scheduler.conn, "t", state, Reason::InvalidOffers);
        let second = env.offer(scheduler.conn);
        env.silence();
        // One that is over.
        env.accept(&scheduler, std::slice::from_ref(&offer.id), &task);
        env.master_update(scheduler.conn, "t", state, Reason::InvalidOffers);
        env.silence();
        // None at all.
        env.accept(&scheduler, &[], &task);
        env.master_update(scheduler.conn, "t", state, Reason::InvalidOffers);
        env.silence();
        // Somebody else's, which stays theirs.
        let thief = env.subscribe(&framework_info(capabilities));
        env.accept(&thief, std::slice::from_ref(&second.id), &task);
        env.master_update(thief.conn, "t", state, Reason::InvalidOffers);
        env.silence();
        env.accept(&scheduler, &[second.id], &task);
        env.run_task(agent.link, "t");
        env.silence();
    }
}

#[test]
fn an_operation_that_asked_for_feedback_hears_that_it_failed() {
    let mut env = TestEnv::new();
    let (scheduler, _, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    let reserve = |id: Option<&str>| v1::offer::Operation {
        r#type: Some(v1::offer::operation::Type::Reserve.into()),
        id: id.map(|id| v1::OperationId { value: id.to_owned() }),
        ..Default::default()
    };
    let accept = v1::scheduler::call::Accept {
        offer_ids: vec![offer.id],
        operations: vec![reserve(Some("op")), reserve(None)],
        filters: None,
    };
    env.call(&scheduler, CallType::Accept, |call| call.accept = Some(accept)).expect("accepted");
    let update = env.event(scheduler.conn, event::Type::UpdateOperationStatus);
    let status = update.update_operation_status.expect("its member").status;
    assert_eq!(status.operation_id.map(|id| id.value).as_deref(), Some("op"));
    assert_eq!(status.state, i32::from(v1::OperationState::OperationError));
    env.silence();
}

#[test]
fn an_unknown_task_is_reconciled_instead_of_killed() {
    let mut env = TestEnv::new();
    let (scheduler, agent) = env.running(&framework_info(&[Capability::PartitionAware]), "t");
    env.kill(&scheduler, "other", Some(&agent.id));
    env.master_update(scheduler.conn, "other", State::TaskGone, Reason::Reconciliation);
    env.kill(&scheduler, "other", None);
    env.master_update(scheduler.conn, "other", State::TaskUnknown, Reason::Reconciliation);
    env.silence();
    // Of a task on another agent than the call says: nothing.
    env.kill(&scheduler, "t", Some(&"S-none".into()));
    env.silence();
    // Every kill of a known one is passed on.
    for _ in 0..2 {
        env.kill(&scheduler, "t", None);
        assert!(matches!(env.tell(agent.link), to_agent::Message::KillTask(_)));
        env.silence();
    }
}

#[test]
fn an_update_of_a_task_that_is_not_known_is_passed_on() {
    let mut env = TestEnv::new();
    let (scheduler, agent) = env.running(&framework_info(&[]), "t");
    env.status(&agent, &scheduler.id, "stranger", State::TaskRunning);
    let status = env.update(scheduler.conn, "stranger", State::TaskRunning);
    env.acknowledge(&scheduler, &status);
    assert!(matches!(env.tell(agent.link), to_agent::Message::Acknowledge(_)));
    env.silence();
    env.status(&agent, &"no-such-framework".into(), "t", State::TaskRunning);
    env.silence();
}

#[test]
fn an_update_out_of_order_does_not_hide_the_end() {
    let mut env = TestEnv::new();
    let (scheduler, agent) = env.running(&framework_info(&[]), "t");
    let finished = State::TaskFinished;
    env.say(agent.link, update(&scheduler.id, &agent.id, "t", finished, finished, &[1; 16]));
    let status = env.update(scheduler.conn, "t", finished);
    env.offer(scheduler.conn);
    env.say(agent.link, update(&scheduler.id, &agent.id, "t", State::TaskRunning, finished, &[2; 16]));
    env.update(scheduler.conn, "t", State::TaskRunning);
    env.reconcile(&scheduler, &[]);
    env.master_update(scheduler.conn, "t", finished, Reason::Reconciliation);
    env.acknowledge(&scheduler, &status);
    assert!(matches!(env.tell(agent.link), to_agent::Message::Acknowledge(_)));
    env.reconcile(&scheduler, &[]);
    env.silence();
}
