//! Leaving the cluster: offers end first, then tasks, then the registration.

use std::time::Duration;

use super::support::{Capability, Reason, State, TestEnv, registered, run_task, task_info};
use crate::agent::core::container::{Exit, LaunchFailure, Signal};
use crate::agent::core::{Effect, Input};
use crate::api::peer::{self, from_agent, to_agent};

const ALMOST: Duration = Duration::from_millis(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl TestEnv {
    fn draining(&mut self) {
        let message = self.tell();
        assert!(matches!(message, from_agent::Message::Draining(_)), "{message:?}");
    }

    fn unregister(&mut self) {
        match self.tell() {
            from_agent::Message::Unregister(message) => assert_eq!(message.agent_id.value, "S1"),
            other => panic!("{other:?} does not leave"),
        }
    }

    fn recorded(&mut self) {
        let reason = "it has left".to_owned();
        self.hear(to_agent::Message::Shutdown(peer::Shutdown { reason }));
    }

    fn drained(&mut self, unregistered: bool, unacknowledged: usize) {
        assert_eq!(
            self.effects.pop_front(),
            Some(Effect::Drained { unregistered, unacknowledged, unended: 0 })
        );
        self.silence();
    }
}

#[test]
fn the_master_hears_of_it_before_tasks_end_and_the_agent_leaves_after_them() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[Capability::TaskKillingState]);
    env.handle(Input::Drain);
    env.draining();
    env.signal(Signal::Term);
    let killing = env.acknowledged("t", State::TaskKilling);
    assert_eq!(killing.reason(), Reason::AgentDraining);
    // A second signal changes nothing.
    env.handle(Input::Drain);
    env.silence();
    env.exited(&spec.container_id, Exit::Code(0));
    env.forget(&spec.container_id);
    let killed = env.update("t", State::TaskKilled);
    assert_eq!(killed.reason(), Reason::AgentDraining);
    env.silence();
    env.acknowledge(&killed);
    env.unregister();
    env.silence();
    env.recorded();
    env.drained(true, 0);
}

#[test]
fn an_agent_without_tasks_leaves_at_once() {
    let mut env = TestEnv::registered();
    env.handle(Input::Drain);
    env.draining();
    env.unregister();
    env.recorded();
    env.drained(true, 0);
}

#[test]
fn a_task_has_its_grace() {
    let mut env = TestEnv::registered();
    env.running(task_info("t"), &[]);
    env.handle(Input::Drain);
    env.draining();
    env.signal(Signal::Term);
    env.wait(seconds(3) - ALMOST);
    env.silence();
    env.wait(ALMOST);
    env.signal(Signal::Kill);
    env.wait(seconds(100));
    env.silence();
}

#[test]
fn nothing_new_is_taken() {
    for (capabilities, state) in
        [(&[Capability::PartitionAware][..], State::TaskDropped), (&[], State::TaskLost)]
    {
        let mut env = TestEnv::registered();
        env.running(task_info("t"), capabilities);
        env.handle(Input::Drain);
        env.draining();
        env.signal(Signal::Term);
        // The order crossed the word on the wire.
        env.hear(run_task(task_info("late"), capabilities));
        assert!(matches!(env.effects.pop_front(), Some(Effect::Forget { .. })));
        let status = env.acknowledged("late", state);
        assert_eq!(status.reason(), Reason::AgentDraining);
        env.silence();
    }
}

#[test]
fn a_launch_under_way_ends() {
    let mut env = TestEnv::registered();
    let spec = env.launched(task_info("t"), &[]);
    env.handle(Input::Drain);
    env.draining();
    assert!(matches!(env.effects.pop_front(), Some(Effect::Abandon { .. })));
    env.launch_failed(&spec, LaunchFailure::Prepare("given up".to_owned()));
    env.forget(&spec.container_id);
    let killed = env.acknowledged("t", State::TaskKilled);
    assert_eq!(killed.reason(), Reason::AgentDraining);
    env.unregister();
    env.silence();
}

#[test]
fn a_framework_that_is_away_does_not_keep_the_agent() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    env.handle(Input::Drain);
    env.draining();
    env.signal(Signal::Term);
    env.exited(&spec.container_id, Exit::Code(0));
    env.forget(&spec.container_id);
    env.update("t", State::TaskKilled);
    env.wait(seconds(30) - ALMOST);
    env.update("t", State::TaskKilled);
    env.silence();
    env.wait(ALMOST);
    env.update("t", State::TaskKilled);
    env.unregister();
    env.recorded();
    env.drained(true, 1);
}

#[test]
fn a_master_that_is_away_does_not_keep_the_agent() {
    let mut env = TestEnv::registered();
    env.handle(Input::Disconnected);
    env.handle(Input::Drain);
    env.wait(seconds(10) - ALMOST);
    env.silence();
    env.wait(ALMOST);
    env.drained(false, 0);
}

#[test]
fn the_next_master_hears_all_of_it_again() {
    let mut env = TestEnv::registered();
    env.handle(Input::Drain);
    env.draining();
    env.unregister();
    env.handle(Input::Disconnected);
    env.silence();
    env.handle(Input::Connected);
    assert!(matches!(env.tell(), from_agent::Message::Reregister(_)));
    env.hear(registered("S1"));
    env.draining();
    env.unregister();
    env.recorded();
    env.drained(true, 0);
}

/// A master of an earlier version only closes the connection: it is not told for ever.
#[test]
fn masters_that_say_nothing_are_told_twice() {
    let mut env = TestEnv::registered();
    env.handle(Input::Drain);
    env.draining();
    env.unregister();
    env.handle(Input::Disconnected);
    env.handle(Input::Connected);
    assert!(matches!(env.tell(), from_agent::Message::Reregister(_)));
    env.hear(registered("S1"));
    env.draining();
    env.unregister();
    env.silence();
    env.handle(Input::Disconnected);
    env.drained(false, 0);
}

#[test]
fn an_agent_that_no_master_knows_has_left() {
    let mut env = TestEnv::new();
    env.handle(Input::Drain);
    env.drained(true, 0);
}

#[test]
fn a_task_that_cannot_be_ended_does_not_keep_the_agent() {
    let mut env = TestEnv::registered();
    env.running(task_info("t"), &[]);
    env.handle(Input::Drain);
    env.draining();
    env.signal(Signal::Term);
    env.wait(seconds(3));
    env.signal(Signal::Kill);
    env.wait(seconds(120) - ALMOST);
    env.silence();
    env.wait(ALMOST + seconds(30));
    env.unregister();
    env.recorded();
    let drained = env.effects.pop_front();
    assert!(matches!(drained, Some(Effect::Drained { unended: 1, .. })), "{drained:?}");
}

/// Whatever began to end it: of an agent that leaves, that is why.
#[test]
fn a_kill_under_way_has_the_reason_of_the_drain() {
    let mut env = TestEnv::registered();
    let spec = env.running(task_info("t"), &[]);
    env.kill("t", None);
    env.signal(Signal::Term);
    env.handle(Input::Drain);
    env.draining();
    env.exited(&spec.container_id, Exit::Code(0));
    env.forget(&spec.container_id);
    assert_eq!(env.update("t", State::TaskKilled).reason(), Reason::AgentDraining);
}

#[test]
fn a_lack_of_room_is_told_once_and_to_every_master() {
    let mut env = TestEnv::registered();
    let told = |env: &mut TestEnv| match env.tell() {
        from_agent::Message::Pausing(pausing) => pausing.is_paused,
        other => panic!("{other:?}"),
    };
    env.handle(Input::Room { is_short: false });
    env.silence();
    env.handle(Input::Room { is_short: true });
    assert!(told(&mut env));
    env.handle(Input::Room { is_short: true });
    env.silence();
    env.handle(Input::Disconnected);
    env.handle(Input::Connected);
    assert!(matches!(env.tell(), from_agent::Message::Reregister(_)));
    env.hear(registered("S1"));
    assert!(told(&mut env));
    env.handle(Input::Room { is_short: false });
    assert!(!told(&mut env));
    env.silence();
}

/// Who refuses an agent that has not asked to leave means it.
#[test]
fn a_refusal_is_no_farewell() {
    let mut env = TestEnv::registered();
    env.running(task_info("t"), &[]);
    env.handle(Input::Drain);
    env.draining();
    env.signal(Signal::Term);
    let reason = "it is gone".to_owned();
    env.hear(to_agent::Message::Shutdown(peer::Shutdown { reason: reason.clone() }));
    assert_eq!(env.effects.pop_front(), Some(Effect::Shutdown { reason }));
    env.silence();
}

#[test]
fn a_registration_that_nobody_answers_is_tried_over_another_connection() {
    let mut env = TestEnv::new();
    env.handle(Input::Connected);
    assert!(matches!(env.tell(), from_agent::Message::Register(_)));
    env.wait(seconds(29));
    env.silence();
    env.wait(seconds(1));
    assert_eq!(env.effects.pop_front(), Some(Effect::Reconnect));
    env.silence();
}
