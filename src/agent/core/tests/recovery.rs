//! After a restart: from what was written down and what survived.

use std::time::Duration;

use super::support::{Capability, Reason, State, TestEnv, acknowledge, run_task, started, task_info};
use crate::agent::core::Input;
use crate::agent::core::container::{Exit, Signal, SurvivorState};
use crate::api::v1;
use crate::base::time::{Now, Timestamp};

fn ended(exit: Exit) -> Option<SurvivorState> {
    Some(SurvivorState::Ended { exit, at: Timestamp::default(), out_of_memory: false })
}

#[test]
fn a_task_that_runs_on_is_not_told_again() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    let known = env.restart(0, |_| Some(SurvivorState::Running(started())));
    assert_eq!(known, std::slice::from_ref(&spec));
    env.silence();
    let tasks = env.come_back();
    assert_eq!(tasks.iter().map(v1::Task::state).collect::<Vec<_>>(), [State::TaskRunning]);
    env.silence();
    env.wait(Duration::from_secs(3_600));
    env.silence();
    env.exited(&spec.container_id, Exit::Code(0));
    env.forget(&spec.container_id);
    env.acknowledged("t", State::TaskFinished);
    env.silence();
}

#[test]
fn updates_that_were_not_acknowledged_come_again_in_order() {
    let mut env = TestEnv::registered();
    let spec = env.launched(task_info("t"), &[]);
    env.handle(Input::Started { container_id: spec.container_id, started: started() });
    let starting = env.update("t", State::TaskStarting);
    env.restart(0, |_| Some(SurvivorState::Running(started())));
    env.silence();
    env.come_back();
    assert_eq!(env.update("t", State::TaskStarting).uuid, starting.uuid);
    env.silence();
    env.acknowledge(&starting);
    env.acknowledged("t", State::TaskRunning);
    env.silence();
}

#[test]
fn a_start_that_was_not_written_down_is_told() {
    let mut env = TestEnv::registered();
    let spec = env.launched(task_info("t"), &[]);
    env.late = true;
    env.handle(Input::Started { container_id: spec.container_id, started: started() });
    // Nothing, the first update, or both have reached the disk.
    for kept in 0..=2 {
        env.late = true;
        env.restart(kept, |_| Some(SurvivorState::Running(started())));
        env.late = false;
        env.sync(10);
        let tasks = env.come_back();
        assert_eq!(tasks.iter().map(v1::Task::state).collect::<Vec<_>>(), [State::TaskRunning]);
        env.update("t", State::TaskStarting);
        env.silence();
    }
}

#[test]
fn an_end_while_the_agent_was_away_is_exact() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    env.restart(0, |_| ended(Exit::Code(3)));
    env.forget(&spec.container_id);
    env.come_back();
    let status = env.acknowledged("t", State::TaskFailed);
    assert_eq!(status.message.as_deref(), Some("Command exited with status 3"));
    env.silence();
}

#[test]
fn a_task_that_did_not_survive_is_gone() {
    for (capabilities, state) in
        [(&[][..], State::TaskLost), (&[Capability::PartitionAware][..], State::TaskGone)]
    {
        let mut env = TestEnv::registered();
        let spec = env.running(task_info("t"), capabilities);
        env.restart(0, |_| None);
        env.forget(&spec.container_id);
        env.come_back();
        let status = env.acknowledged("t", state);
        assert_eq!(status.reason, Some(Reason::AgentRestarted.into()));
        env.silence();
        assert_eq!(env.durable.len(), 1, "only the agent's id is left");
    }
}

#[test]
fn an_end_that_was_not_acknowledged_is_told_and_nothing_is_asked() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    env.exited(&spec.container_id, Exit::Code(0));
    env.forget(&spec.container_id);
    let status = env.update("t", State::TaskFinished);
    let known = env.restart(0, |_| panic!("its container is over"));
    assert!(known.is_empty());
    env.come_back();
    assert_eq!(env.update("t", State::TaskFinished).uuid, status.uuid);
    env.acknowledge(&status);
    env.silence();
}

#[test]
fn a_launch_that_was_not_written_down_never_was() {
    let mut env = TestEnv::registered();
    env.late = true;
    env.hear(run_task(task_info("t"), &[]));
    env.restart(0, |_| panic!("nothing was launched"));
    env.late = false;
    assert!(env.come_back().is_empty());
    env.silence();
    env.hear(run_task(task_info("t"), &[]));
    env.launch();
    env.silence();
}

#[test]
fn the_last_acknowledgement_may_be_lost() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    env.exited(&spec.container_id, Exit::Code(0));
    env.forget(&spec.container_id);
    let status = env.update("t", State::TaskFinished);
    env.late = true;
    env.acknowledge(&status);
    env.restart(0, |_| None);
    env.late = false;
    env.come_back();
    assert_eq!(env.update("t", State::TaskFinished).uuid, status.uuid);
    env.hear(acknowledge("t", &status.uuid.expect("a uuid")));
    env.silence();
    assert_eq!(env.durable.len(), 1, "only the agent's id is left");
}

#[test]
fn the_time_of_a_task_runs_on() {
    let mut env = TestEnv::registered();
    let mut info = task_info("t");
    info.max_completion_time = Some(v1::DurationInfo { nanoseconds: 60_000_000_000 });
    env.running(info, &[]);
    env.wait(Duration::from_secs(50));
    env.restart(0, |_| Some(SurvivorState::Running(started())));
    env.come_back();
    env.silence();
    env.wait(Duration::from_secs(60));
    env.signal(Signal::Term);
    env.signal(Signal::Kill);
    env.silence();
}

#[test]
fn a_kill_that_was_told_goes_on() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[Capability::TaskKillingState]);
    env.kill("t", None);
    env.signal(Signal::Term);
    env.acknowledged("t", State::TaskKilling);
    let known = env.restart(0, |_| Some(SurvivorState::Running(started())));
    assert_eq!(known, std::slice::from_ref(&spec));
    env.signal(Signal::Term);
    let tasks = env.come_back();
    assert_eq!(tasks.iter().map(v1::Task::state).collect::<Vec<_>>(), [State::TaskKilling]);
    env.wait(Duration::from_secs(3));
    env.signal(Signal::Kill);
    env.silence();
    env.exited(&spec.container_id, Exit::Signal(9));
    env.forget(&spec.container_id);
    env.acknowledged("t", State::TaskKilled);
    env.silence();
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let mut env = TestEnv::registered();
    env.running(task_info("t"), &[]);
    let pairs: Vec<_> = env.durable.clone().into_iter().collect();
    for at in 0..pairs.len() {
        let mut damaged = pairs.clone();
        let name = String::from_utf8_lossy(&damaged[at].0).escape_debug().to_string();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let config = crate::agent::core::Config::new("/work".into(), address, Default::default());
        for (format, why) in [(0, "cannot be read"), (99, "upgrade this node")] {
            damaged[at].1[0] = format;
            let agent = &mut crate::agent::core::Agent::new(config.clone(), 9);
            let problem = agent.recover(&damaged).expect_err("refused");
            assert!(problem.contains(why), "{name}: {problem}");
        }
    }
}

#[test]
fn a_master_of_an_earlier_term_does_not_count() {
    let mut env = TestEnv::new();
    let now = env.now;
    let heard = [3, 3, 5, 4, 0, 5, 6].map(|term| env.agent.counts(term, now));
    assert_eq!(heard, [true, true, true, false, false, true, true]);
    // A cluster that was made from a snapshot counts its terms anew.
    let later = |seconds| Now { mono: now.mono.after(Duration::from_secs(seconds)), ..now };
    assert!(!env.agent.counts(2, later(10)) && !env.agent.counts(2, later(69)));
    assert!(
        env.agent.counts(2, later(70)) && !env.agent.counts(1, later(71)) && env.agent.counts(2, later(72))
    );
}
