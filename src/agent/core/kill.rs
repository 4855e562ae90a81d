//! The kill ladder: ask to end, wait, end.

use std::sync::Arc;
use std::time::Duration;

use super::checkpoint;
use super::container::{Kind, Signal};
use super::io::Effect;
use super::state::{Agent, KillCause, Killing, Phase, Task};
use crate::api::peer;
use crate::api::v1::framework_info::capability::Type as Capability;
use crate::api::v1::task_status::{Reason, Source};
use crate::api::v1::{self, TaskState as State};
use crate::base::id::{ContainerId, FrameworkId, TaskId};
use crate::base::time::Now;

/// Grace of process tasks without a kill policy (Mesos command executor).
const PROCESS_GRACE: Duration = Duration::from_secs(3);
/// Grace of docker tasks without a kill policy (Mesos docker executor).
const DOCKER_GRACE: Duration = Duration::from_secs(5);

/// Pause before SIGKILL is sent again when it could not be sent.
const RETRY: Duration = Duration::from_secs(2);

fn grace(policy: Option<&v1::KillPolicy>) -> Option<Duration> {
    let nanos = policy?.grace_period?.nanoseconds;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

impl Agent {
    pub(super) fn kill_task(&mut self, kill: &peer::KillTask, now: Now, effects: &mut Vec<Effect>) {
        let key = (FrameworkId::new(&kill.framework_id.value), TaskId::new(&kill.task_id.value));
        let Some(task) = self.tasks.get(&key) else {
            let (reason, message) =
                (Reason::ExecutorTerminated, "the task to be killed is not on this agent");
            self.report_unknown(&key, kill.framework.as_ref(), reason, message, now, effects);
            return;
        };
        if task.phase == Phase::Ended {
            return;
        }
        let asked = grace(kill.kill_policy.as_ref());
        self.kill(&key, KillCause::Asked, asked, now, effects);
    }

    /// Begins to kill a task, or shortens the time that it still has.
    pub(super) fn kill(
        &mut self,
        key: &(FrameworkId, TaskId),
        cause: KillCause,
        asked: Option<Duration>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let default = if task.spec.kind == Kind::Docker { DOCKER_GRACE } else { PROCESS_GRACE };
        let grace = asked.or_else(|| grace(task.info.kill_policy.as_ref())).unwrap_or(default);
        let until = now.mono.after(grace);
        let is_first = task.killing.is_none();
        let killing = task.killing.get_or_insert(Killing { escalate: Some(until), cause });
        // Whoever asked: of an agent that leaves, that is why.
        let is_drained = cause == KillCause::Draining && killing.cause != KillCause::Framework;
        if cause == KillCause::Framework || is_drained {
            killing.cause = cause;
        }
        // A later kill may shorten the remaining time, never lengthen it.
        killing.escalate = killing.escalate.map(|old| old.min(until));
        let left = killing.escalate.map_or(Duration::ZERO, |at| at.since(now.mono));
        task.run.kill = Some((killing.cause, now.wall.after(left)));
        task.checks.stop();
        match task.phase {
            Phase::Running(_) => {
                // An agent that restarts goes on where this one stood.
                let change = checkpoint::run(key, &task.run);
                self.persist(vec![change], None, effects);
                if is_first {
                    self.begin_kill(key, now, effects);
                }
            }
            Phase::Launching if is_first => {
                effects.push(Effect::Abandon { container_id: task.spec.container_id.clone() });
            }
            // Before the containerizer was asked: `launch_recorded` looks at `killing`.
            Phase::Recording | Phase::Launching | Phase::Ended => {}
        }
    }

    /// The agent stops, and its tasks with it.
    pub(super) fn on_stop(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.kill_all(KillCause::Asked, now, effects);
    }

    /// Every task is killed, with the grace that it would have anyway; no other begins.
    pub(super) fn kill_all(&mut self, cause: KillCause, now: Now, effects: &mut Vec<Effect>) {
        self.stopping = true;
        let running = self.tasks.iter().filter(|(_, task)| task.phase != Phase::Ended);
        let running: Vec<_> = running.map(|(key, _)| key.clone()).collect();
        for key in running {
            self.kill(&key, cause, None, now, effects);
        }
    }

    pub(super) fn begin_kill(&mut self, key: &(FrameworkId, TaskId), now: Now, effects: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get(key) else { return };
        let container_id = task.spec.container_id.clone();
        let cause = task.killing.as_ref().map(|killing| killing.cause);
        let told = cause != Some(KillCause::Framework) && cause != Some(KillCause::MaxCompletionTime);
        if told && self.is_capable(&key.0, Capability::TaskKillingState) {
            let reason = (cause == Some(KillCause::Draining)).then_some(Reason::AgentDraining);
            self.status(key, State::TaskKilling, reason, Source::Executor, None, None, now, effects);
        }
        effects.push(Effect::Signal { container_id, signal: Signal::Term });
        self.escalate_if_due(key, now, effects);
    }

    pub(super) fn escalate_if_due(
        &mut self,
        key: &(FrameworkId, TaskId),
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| matches!(task.phase, Phase::Running(_)))
        else {
            return;
        };
        let Some(killing) = &mut task.killing else { return };
        if killing.escalate.is_some_and(|at| at <= now.mono) {
            killing.escalate = None;
            effects
                .push(Effect::Signal { container_id: task.spec.container_id.clone(), signal: Signal::Kill });
        }
    }

    /// The last step of the ladder was not taken: it is tried again. For an earlier one the last stands in.
    pub(super) fn on_signal_failed(&mut self, container_id: &ContainerId, signal: Signal, now: Now) {
        let Some(task) = self.containers.get(container_id).and_then(|key| self.tasks.get_mut(key)) else {
            return;
        };
        if let Some(killing) = task.killing.as_mut().filter(|_| signal == Signal::Kill) {
            killing.escalate.get_or_insert_with(|| now.mono.after(RETRY));
        }
    }

    pub(super) fn complete_if_due(
        &mut self,
        key: &(FrameworkId, TaskId),
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.complete_by.is_some_and(|at| at <= now.mono) {
            task.complete_by = None;
            self.kill(key, KillCause::MaxCompletionTime, Some(Duration::ZERO), now, effects);
        }
    }

    /// A task that this agent does not know: its scheduler hears so, until it acknowledges. Of a framework
    /// of which nothing is known nobody hears.
    pub(super) fn report_unknown(
        &mut self,
        key: &(FrameworkId, TaskId),
        framework: Option<&v1::FrameworkInfo>,
        reason: Reason,
        message: &str,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(agent_id) = self.id.clone() else { return };
        let known = self.frameworks.get(&key.0).cloned();
        let Some(framework) = known.or_else(|| framework.cloned().map(Arc::new)) else { return };
        self.frameworks.insert(key.0.clone(), Arc::clone(&framework));
        let info = Arc::new(v1::TaskInfo {
            task_id: v1::TaskId { value: key.1.to_string() },
            agent_id: v1::AgentId { value: agent_id.to_string() },
            ..Default::default()
        });
        let container_id = ContainerId::from(self.chance.uuid().to_string());
        let spec = self.spec(&agent_id, &framework, &key.0, &info, container_id.clone());
        let changes = vec![
            checkpoint::framework(&key.0, &framework),
            checkpoint::task(key, &info, &container_id, now.wall),
        ];
        let task = Task { stranger: true, ..Task::new(info, key.0.clone(), spec, Phase::Ended) };
        self.tasks.insert(key.clone(), task);
        self.containers.insert(container_id, key.clone());
        self.persist(changes, None, effects);
        let partition_aware = self.is_capable(&key.0, Capability::PartitionAware);
        let state = if partition_aware { State::TaskDropped } else { State::TaskLost };
        let message = Some(message.to_owned());
        self.status(key, state, Some(reason), Source::Agent, message, None, now, effects);
    }
}
