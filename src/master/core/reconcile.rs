//! RECONCILE: what the master knows of tasks, told once more.

use super::io::Effect;
use super::state::{Master, Task};
use super::wire;
use crate::api::v1;
use crate::api::v1::TaskState as State;
use crate::api::v1::scheduler::call;
use crate::base::id::{AgentId, FrameworkId, TaskId};
use crate::base::time::{Now, Timestamp};

impl Master {
    /// Without tasks: every live task. With tasks: each of them, also those that are not known.
    pub(super) fn reconcile(
        &mut self,
        id: &FrameworkId,
        reconcile: call::Reconcile,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let Some(conn) = framework.conn else { return };
        let statuses: Vec<v1::TaskStatus> = if reconcile.tasks.is_empty() {
            framework.tasks.values().map(|task| known(task, now.wall)).collect()
        } else {
            reconcile.tasks.into_iter().filter_map(|task| self.reconciled(id, task, now)).collect()
        };
        effects.extend(
            statuses.into_iter().map(|status| Effect::Send { conn, event: Box::new(wire::update(status)) }),
        );
    }

    /// The answer for one task; none while its agent may still come back with it.
    fn reconciled(&self, id: &FrameworkId, task: call::reconcile::Task, now: Now) -> Option<v1::TaskStatus> {
        let framework = self.frameworks.get(id)?;
        if let Some(task) = framework.tasks.get(&TaskId::new(&task.task_id.value)) {
            return Some(known(task, now.wall));
        }
        let agent_id = task.agent_id.as_ref().map(|agent_id| AgentId::new(&agent_id.value));
        let may_return = match &agent_id {
            Some(agent_id) => self.recovered.contains_key(agent_id),
            None => !self.recovered.is_empty(),
        };
        if may_return {
            return None;
        }
        let since = agent_id.as_ref().and_then(|agent_id| self.unreachable.get(agent_id));
        let (state, message) = match &agent_id {
            Some(agent_id) if self.agents.contains_key(agent_id) => {
                (State::TaskGone, "Reconciliation: Task is unknown to the agent")
            }
            Some(_) if since.is_some() => (State::TaskUnreachable, "Reconciliation: Task is unreachable"),
            Some(agent_id) if self.gone.contains_key(agent_id) => {
                (State::TaskGoneByOperator, "Reconciliation: Task is gone")
            }
            _ => (State::TaskUnknown, "Reconciliation: Task is unknown"),
        };
        let state = if framework.capabilities.partition_aware { state } else { State::TaskLost };
        let reason = v1::task_status::Reason::Reconciliation;
        let mut status = wire::master_status(task.task_id, task.agent_id, state, reason, message, now.wall);
        status.unreachable_time = since.map(|since| wire::time_info(*since));
        Some(status)
    }
}

/// The state of a live task: that of the update in flight, if there is one.
fn known(task: &Task, time: Timestamp) -> v1::TaskStatus {
    let state = task.wire.status_update_state.unwrap_or(task.wire.state);
    let last = task.wire.statuses.last();
    v1::TaskStatus {
        task_id: task.wire.task_id.clone(),
        state,
        message: Some("Reconciliation: Latest task state".to_owned()),
        source: Some(v1::task_status::Source::Master.into()),
        reason: Some(v1::task_status::Reason::Reconciliation.into()),
        agent_id: Some(task.wire.agent_id.clone()),
        executor_id: last.and_then(|last| last.executor_id.clone()),
        timestamp: Some(time.seconds()),
        healthy: last.and_then(|last| last.healthy),
        check_status: last.and_then(|last| last.check_status),
        container_status: last.and_then(|last| last.container_status.clone()),
        ..Default::default()
    }
}
