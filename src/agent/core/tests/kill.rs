//! The kill ladder: ask to end, wait, end.

use std::time::Duration;

use super::support::{Capability, Reason, State, TestEnv, policy, run_task, started, task_info};
use crate::agent::core::container::{Exit, Signal};
use crate::agent::core::{Effect, Input};
use crate::api::v1;

const ALMOST: Duration = Duration::from_millis(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_task_is_asked_then_ended() {
    let mut docker = task_info("t");
    docker.container = Some(v1::ContainerInfo {
        r#type: v1::container_info::Type::Docker.into(),
        docker: Some(v1::container_info::DockerInfo { image: "x".to_owned(), ..Default::default() }),
        ..Default::default()
    });
    let mut own = task_info("t");
    own.kill_policy = Some(policy(seconds(20)));
    // The default of each kind, the task's own, and what the call says.
    let cases = [
        (task_info("t"), None, seconds(3)),
        (docker, None, seconds(5)),
        (own.clone(), None, seconds(20)),
        (own, Some(seconds(1)), seconds(1)),
    ];
    for (info, asked, grace) in cases {
        let mut env = TestEnv::registered();
        let spec = env.running(info, &[]);
        env.kill("t", asked);
        env.signal(Signal::Term);
        env.wait(grace - ALMOST);
        env.silence();
        env.wait(ALMOST);
        env.signal(Signal::Kill);
        env.wait(seconds(60));
        env.silence();
        env.exited(&spec.container_id, Exit::Signal(9));
        env.forget(&spec.container_id);
        let status = env.acknowledged("t", State::TaskKilled);
        assert_eq!(status.message.as_deref().map(|text| text.contains("SIGKILL")), Some(true));
        env.silence();
    }
}

#[test]
fn without_grace_it_ends_at_once() {
    let mut env = TestEnv::registered();
    env.running(task_info("t"), &[]);
    env.kill("t", Some(Duration::ZERO));
    env.signal(Signal::Term);
    env.signal(Signal::Kill);
    env.silence();
}

#[test]
fn a_later_kill_only_shortens() {
    let mut env = TestEnv::registered();
    env.running(task_info("t"), &[]);
    env.kill("t", Some(seconds(30)));
    env.signal(Signal::Term);
    env.wait(seconds(10));
    env.kill("t", Some(seconds(60)));
    env.silence();
    env.wait(seconds(10));
    env.kill("t", Some(seconds(2)));
    env.silence();
    env.wait(seconds(2) - ALMOST);
    env.silence();
    env.wait(ALMOST);
    env.signal(Signal::Kill);
    env.kill("t", None);
    env.wait(seconds(60));
    env.silence();
}

#[test]
fn a_later_kill_does_not_lengthen() {
    let mut env = TestEnv::registered();
    env.running(task_info("t"), &[]);
    env.kill("t", Some(seconds(5)));
    env.signal(Signal::Term);
    env.wait(seconds(4));
    env.kill("t", Some(seconds(60)));
    env.silence();
    env.wait(seconds(1));
    env.signal(Signal::Kill);
    env.silence();
}

#[test]
fn a_framework_that_knows_it_hears_of_the_killing() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[Capability::TaskKillingState]);
    env.kill("t", None);
    env.signal(Signal::Term);
    env.acknowledged("t", State::TaskKilling);
    env.kill("t", None);
    env.silence();
    env.exited(&spec.container_id, Exit::Code(0));
    env.forget(&spec.container_id);
    env.acknowledged("t", State::TaskKilled);
    env.silence();
}

#[test]
fn a_kill_before_the_launch_is_written_down_launches_nothing() {
    let mut env = TestEnv::registered();
    env.late = true;
    env.hear(run_task(task_info("t"), &[]));
    env.kill("t", None);
    env.silence();
    env.late = false;
    env.sync(1);
    assert!(matches!(env.effects.pop_front(), Some(Effect::Forget { .. })));
    let status = env.acknowledged("t", State::TaskKilled);
    assert_eq!(status.reason, Some(Reason::TaskKilledDuringLaunch.into()));
    env.silence();
}

#[test]
fn a_kill_during_a_long_launch_gives_it_up_and_waits() {
    let mut env = TestEnv::registered();
    let spec = env.launched(task_info("t"), &[]);
    env.kill("t", None);
    match env.effects.pop_front() {
        Some(Effect::Abandon { container_id }) => assert_eq!(container_id, spec.container_id),
        other => panic!("{other:?}"),
    }
    // Each tick must have something to do, or the loop would spin.
    env.wait(seconds(60));
    env.silence();
    env.handle(Input::Started { container_id: spec.container_id.clone(), started: started() });
    env.signal(Signal::Term);
    env.signal(Signal::Kill);
    env.exited(&spec.container_id, Exit::Signal(9));
    env.update("t", State::TaskStarting);
    env.forget(&spec.container_id);
    env.silence();
}

#[test]
fn a_task_has_its_time() {
    let mut env = TestEnv::registered();
    let mut info = task_info("t");
    info.max_completion_time = Some(v1::DurationInfo { nanoseconds: 60_000_000_000 });
    let spec = env.running(info, &[]);
    env.wait(seconds(60) - ALMOST);
    env.silence();
    env.wait(ALMOST);
    env.signal(Signal::Term);
    env.signal(Signal::Kill);
    env.exited(&spec.container_id, Exit::Signal(9));
    env.forget(&spec.container_id);
    let status = env.acknowledged("t", State::TaskFailed);
    assert_eq!(status.reason, Some(Reason::MaxCompletionTimeReached.into()));
    env.silence();
}
