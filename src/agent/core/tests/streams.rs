//! From RunTask to the last acknowledgement.

use std::time::Duration;

use super::support::{
    FRAMEWORK, Reason, State, TestEnv, acknowledge, framework_info, registered, run_task, shutdown_framework,
    started, task_info,
};
use crate::agent::core::container::{Exit, LaunchFailure};
use crate::agent::core::{Effect, Input};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;

#[test]
fn a_task_from_its_order_to_its_last_acknowledgement() {
    let mut env = TestEnv::registered();
    let spec = env.launched(task_info("t"), &[]);
    let id = spec.container_id;
    env.handle(Input::Started { container_id: id.clone(), started: started() });
    // Only the first is in flight.
    let starting = env.update("t", State::TaskStarting);
    env.silence();
    env.acknowledge(&starting);
    let running = env.update("t", State::TaskRunning);
    env.acknowledge(&starting);
    env.silence();
    env.acknowledge(&running);
    env.silence();
    env.exited(&id, Exit::Code(0));
    env.forget(&id);
    let finished = env.update("t", State::TaskFinished);
    env.silence();
    env.acknowledge(&finished);
    env.silence();
    assert_eq!(env.durable.len(), 1, "only the agent's id is left");
    env.acknowledge(&finished);
    env.silence();
}

#[test]
fn nothing_happens_before_it_is_written_down() {
    let mut env = TestEnv::registered();
    env.late = true;
    env.hear(run_task(task_info("t"), &[]));
    env.silence();
    env.sync(1);
    let spec = env.launch();
    env.handle(Input::Started { container_id: spec.container_id, started: started() });
    env.silence();
    env.wait(Duration::from_secs(60));
    env.silence();
    env.sync(1);
    let starting = env.update("t", State::TaskStarting);
    env.acknowledge(&starting);
    env.silence();
    env.sync(1);
    env.update("t", State::TaskRunning);
    env.silence();
}

#[test]
fn an_update_is_sent_again_until_it_is_acknowledged() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    env.exited(&spec.container_id, Exit::Code(1));
    env.forget(&spec.container_id);
    let status = env.update("t", State::TaskFailed);
    let mut delay = Duration::from_secs(10);
    for _ in 0..8 {
        env.wait(delay - Duration::from_millis(1));
        env.silence();
        env.wait(Duration::from_millis(1));
        assert_eq!(env.update("t", State::TaskFailed), status, "the same update");
        env.silence();
        delay = (delay * 2).min(Duration::from_secs(600));
    }
    // Not while the master is away; at once when it is back.
    env.handle(Input::Disconnected);
    env.wait(Duration::from_secs(3_600));
    env.silence();
    let tasks = env.come_back();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].status_update_uuid, status.uuid);
    env.update("t", State::TaskFailed);
    env.wait(Duration::from_secs(10));
    env.update("t", State::TaskFailed);
    env.hear(acknowledge("t", &[9; 16]));
    env.wait(Duration::from_secs(20));
    env.acknowledged("t", State::TaskFailed);
    env.wait(Duration::from_secs(3_600));
    env.silence();
}

#[test]
fn another_scheduler_hears_at_once_what_was_not_acknowledged() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    env.exited(&spec.container_id, Exit::Code(1));
    env.forget(&spec.container_id);
    let status = env.update("t", State::TaskFailed);
    env.wait(Duration::from_secs(3_600));
    env.effects.clear();
    let framework = framework_info(&[]);
    env.hear(to_agent::Message::UpdateFramework(peer::UpdateFramework { framework }));
    assert_eq!(env.update("t", State::TaskFailed), status);
    env.wait(Duration::from_secs(10));
    env.update("t", State::TaskFailed);
    env.acknowledge(&status);
    let framework = framework_info(&[]);
    env.hear(to_agent::Message::UpdateFramework(peer::UpdateFramework { framework }));
    env.silence();
}

#[test]
fn the_newest_state_goes_with_the_update_in_flight() {
    let mut env = TestEnv::registered();
    let spec = env.launched(task_info("t"), &[]);
    env.handle(Input::Started { container_id: spec.container_id.clone(), started: started() });
    env.update("t", State::TaskStarting);
    env.exited(&spec.container_id, Exit::Signal(9));
    env.forget(&spec.container_id);
    env.wait(Duration::from_secs(10));
    match env.tell() {
        from_agent::Message::Update(update) => {
            assert_eq!(update.status.state(), State::TaskStarting);
            assert_eq!(update.latest_state(), State::TaskFailed);
        }
        other => panic!("{other:?}"),
    }
    env.silence();
}

#[test]
fn an_order_that_comes_twice_is_one() {
    let mut env = TestEnv::registered();
    env.launched(task_info("t"), &[]);
    env.hear(run_task(task_info("t"), &[]));
    env.silence();
    let mut other = task_info("other");
    other.agent_id.value = "S2".to_owned();
    env.hear(run_task(other, &[]));
    env.silence();
}

#[test]
fn a_container_that_does_not_start_fails_its_task() {
    let mut env = TestEnv::registered();
    let spec = env.launched(task_info("t"), &[]);
    env.launch_failed(&spec, LaunchFailure::Prepare("no such image".to_owned()));
    env.forget(&spec.container_id);
    let status = env.acknowledged("t", State::TaskFailed);
    assert_eq!(status.reason, Some(Reason::ContainerLaunchFailed.into()));
    assert_eq!(status.message.as_deref(), Some("no such image"));
    env.silence();
    let spec = env.launched(task_info("t"), &[]);
    env.launch_failed(&spec, LaunchFailure::Start("refused".to_owned()));
    let starting = env.update("t", State::TaskStarting);
    env.forget(&spec.container_id);
    env.acknowledge(&starting);
    env.acknowledged("t", State::TaskFailed);
    env.silence();
}

#[test]
fn an_end_that_comes_before_the_news_of_the_start_is_kept() {
    let mut env = TestEnv::registered();
    let spec = env.launched(task_info("t"), &[]);
    env.exited(&spec.container_id, Exit::Code(0));
    env.silence();
    env.handle(Input::Started { container_id: spec.container_id.clone(), started: started() });
    let starting = env.update("t", State::TaskStarting);
    env.forget(&spec.container_id);
    env.acknowledge(&starting);
    for state in [State::TaskRunning, State::TaskFinished] {
        env.acknowledged("t", state);
    }
    env.silence();
}

#[test]
fn a_task_without_a_command_is_an_error() {
    let mut env = TestEnv::registered();
    let mut info = task_info("t");
    info.command = None;
    env.hear(run_task(info, &[]));
    assert!(matches!(env.effects.pop_front(), Some(Effect::Forget { .. })));
    let status = env.update("t", State::TaskError);
    // It is reported until it is acknowledged, whatever happens.
    env.restart(0, |_| None);
    env.come_back();
    assert_eq!(env.update("t", State::TaskError).uuid, status.uuid);
    env.acknowledge(&status);
    env.silence();
    assert_eq!(env.durable.len(), 1, "only the agent's id is left");
}

#[test]
fn unknown_tasks_are_told_to_be_lost() {
    let mut env = TestEnv::registered();
    env.launched(task_info("t"), &[]);
    let task_ids = ["x", "t"].map(|id| v1::TaskId { value: id.to_owned() }).to_vec();
    let framework_id = v1::FrameworkId { value: FRAMEWORK.to_owned() };
    env.hear(to_agent::Message::ReconcileTasks(peer::ReconcileTasks {
        framework_id,
        task_ids,
        framework: None,
    }));
    // It never had a container: to forget one does no harm, and nothing is said of one.
    let no_container = |env: &mut TestEnv| {
        assert!(matches!(env.effects.pop_front(), Some(Effect::Forget { .. })));
    };
    no_container(&mut env);
    let status = env.update("x", State::TaskLost);
    assert!(status.container_status.is_none());
    assert_eq!(status.reason, Some(Reason::Reconciliation.into()));
    env.silence();
    // It is told until it is acknowledged, whatever is asked meanwhile.
    env.kill("x", None);
    env.silence();
    env.wait(Duration::from_secs(10));
    assert_eq!(env.update("x", State::TaskLost).uuid, status.uuid);
    env.acknowledge(&status);
    env.kill("x", None);
    no_container(&mut env);
    env.acknowledged("x", State::TaskLost);
    env.silence();
}

#[test]
fn nobody_hears_of_tasks_of_a_framework_that_is_over() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    env.hear(shutdown_framework());
    env.signal(crate::agent::core::container::Signal::Term);
    env.silence();
    // Nothing new is run for it, and it is not told of any more.
    env.hear(run_task(task_info("late"), &[]));
    env.handle(Input::Disconnected);
    assert!(env.come_back().is_empty());
    env.silence();
    env.exited(&spec.container_id, Exit::Signal(15));
    env.forget(&spec.container_id);
    env.silence();
    assert_eq!(env.durable.len(), 1, "only the agent's id is left");
}

#[test]
fn pings_are_answered_and_a_refusal_ends_the_agent() {
    let mut env = TestEnv::registered();
    env.hear(to_agent::Message::Ping(peer::Ping {}));
    assert!(matches!(env.tell(), from_agent::Message::Pong(_)));
    env.hear(registered("S1"));
    env.silence();
    env.hear(to_agent::Message::Shutdown(peer::Shutdown { reason: "gone".to_owned() }));
    assert_eq!(env.effects.pop_front(), Some(Effect::Shutdown { reason: "gone".to_owned() }));
    env.silence();
}
