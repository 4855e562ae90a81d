//! Health checks and checks: when they run, what is told, when they kill.

use std::time::Duration;

use super::support::{Reason, State, TestEnv, task_info};
use crate::agent::core::container::{Exit, LaunchSpec, Probe, ProbeResult, Signal};
use crate::agent::core::{Effect, Input};
use crate::api::v1;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Every 2 s from 5 s on, with 10 s of grace and two failures allowed.
fn with_health() -> v1::TaskInfo {
    let mut info = task_info("t");
    info.health_check = Some(v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Tcp.into()),
        tcp: Some(v1::health_check::TcpCheckInfo { port: 80, ..Default::default() }),
        delay_seconds: Some(5.0),
        interval_seconds: Some(2.0),
        timeout_seconds: Some(1.0),
        grace_period_seconds: Some(10.0),
        consecutive_failures: Some(3),
        ..Default::default()
    });
    info
}

/// The next effect is this probe, and it answers.
fn probed(env: &mut TestEnv, spec: &LaunchSpec, health: bool, result: ProbeResult) {
    match env.effects.pop_front() {
        Some(Effect::Probe { container_id, health: own, .. }) => {
            assert_eq!((&container_id, own), (&spec.container_id, health));
        }
        other => panic!("{other:?} is no probe"),
    }
    env.silence();
    env.handle(Input::Probed { container_id: spec.container_id.clone(), health, result });
}

fn told(env: &mut TestEnv, healthy: bool) {
    let status = env.acknowledged("t", State::TaskRunning);
    assert_eq!(status.healthy, Some(healthy));
    assert_eq!(status.reason, Some(Reason::TaskHealthCheckStatusUpdated.into()));
}

#[test]
fn health_begins_after_its_delay_and_news_is_told() {
    let mut env = TestEnv::registered();
    let spec = env.running(with_health(), &[]);
    env.wait(seconds(5) - Duration::from_millis(1));
    env.silence();
    env.wait(Duration::from_millis(1));
    probed(&mut env, &spec, true, ProbeResult::Tcp(true));
    told(&mut env, true);
    // The same again is no news.
    env.wait(seconds(2));
    probed(&mut env, &spec, true, ProbeResult::Tcp(true));
    env.silence();
    // The first success ended the grace period.
    for _ in 0..2 {
        env.wait(seconds(2));
        probed(&mut env, &spec, true, ProbeResult::Tcp(false));
        told(&mut env, false);
        env.silence();
    }
    // A success starts the count again.
    env.wait(seconds(2));
    probed(&mut env, &spec, true, ProbeResult::Tcp(true));
    told(&mut env, true);
    env.silence();
}

#[test]
fn failures_in_the_grace_period_do_not_count() {
    let mut env = TestEnv::registered();
    let spec = env.running(with_health(), &[]);
    for delay in [5, 2, 2] {
        env.wait(seconds(delay));
        probed(&mut env, &spec, true, ProbeResult::Failed("refused".to_owned()));
        env.silence();
    }
    for _ in 0..3 {
        env.wait(seconds(2));
        probed(&mut env, &spec, true, ProbeResult::Failed("refused".to_owned()));
        if env.effects.front().is_some_and(|effect| matches!(effect, Effect::Signal { .. })) {
            break;
        }
        told(&mut env, false);
        env.silence();
    }
    // The third one that counts kills.
    env.signal(Signal::Term);
    told(&mut env, false);
    env.wait(seconds(3));
    env.signal(Signal::Kill);
    env.silence();
    env.exited(&spec.container_id, Exit::Signal(9));
    env.forget(&spec.container_id);
    env.acknowledged("t", State::TaskKilled);
    env.silence();
}

#[test]
fn a_kill_ends_the_checking() {
    let mut env = TestEnv::registered();
    let spec = env.running(with_health(), &[]);
    env.wait(seconds(5));
    assert!(matches!(env.effects.pop_front(), Some(Effect::Probe { .. })));
    env.kill("t", Some(seconds(60)));
    env.signal(Signal::Term);
    let result = ProbeResult::Tcp(true);
    env.handle(Input::Probed { container_id: spec.container_id, health: true, result });
    env.wait(seconds(30));
    env.silence();
}

#[test]
fn a_check_tells_what_changed() {
    let mut env = TestEnv::registered();
    let mut info = task_info("t");
    info.check = Some(v1::CheckInfo {
        r#type: Some(v1::check_info::Type::Command.into()),
        command: Some(v1::check_info::Command {
            command: v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() },
        }),
        delay_seconds: Some(1.0),
        interval_seconds: Some(1.0),
        ..Default::default()
    });
    let spec = env.running(info, &[]);
    for (code, news) in [(0, true), (0, false), (3, true)] {
        env.wait(seconds(1));
        match env.effects.front() {
            Some(Effect::Probe { probe, .. }) => assert!(matches!(**probe, Probe::Command(_))),
            other => panic!("{other:?}"),
        }
        probed(&mut env, &spec, false, ProbeResult::Command(code));
        if news {
            let status = env.acknowledged("t", State::TaskRunning);
            assert_eq!(status.reason, Some(Reason::TaskCheckStatusUpdated.into()));
            let found = status.check_status.and_then(|found| found.command).and_then(|found| found.exit_code);
            assert_eq!(found, Some(code));
            assert_eq!(status.healthy, None);
        }
        env.silence();
    }
}
