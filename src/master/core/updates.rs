//! Status updates: booked, passed on, acknowledged.

use super::io::{Effect, LinkId};
use super::state::Master;
use super::wire;
use crate::api::peer::{self, to_agent};
use crate::api::v1;
use crate::api::v1::scheduler::call;
use crate::base::id::{AgentId, FrameworkId, TaskId};
use crate::base::time::Now;

impl Master {
    /// An agent reports a status, and the newest state that it knows.
    pub(super) fn status_update(
        &mut self,
        link: LinkId,
        update: peer::StatusUpdate,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(agent_id) = self.links.get(&link).cloned() else { return };
        let id = FrameworkId::new(&update.framework_id.value);
        let task_id = TaskId::new(&update.status.task_id.value);
        let latest = v1::TaskState::try_from(update.latest_state).unwrap_or(v1::TaskState::TaskUnknown);
        if self.stray_update(link, &agent_id, &update, now, effects) {
            return;
        }
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        let mut freed = None;
        if let Some(task) = framework.tasks.get_mut(&task_id).filter(|task| task.agent_id == agent_id) {
            let ended = wire::is_terminal(wire::state_of(&task.wire));
            if !ended {
                task.wire.state = latest.into();
            }
            // Out of order after the end: the end is still what has to be acknowledged.
            if !wire::is_ending(&task.wire) || wire::is_terminal(update.status.state()) {
                remember(&mut task.wire, &update.status);
                task.wire.status_update_state = Some(update.status.state);
                task.wire.status_update_uuid.clone_from(&update.status.uuid);
            }
            if task.charged && wire::is_terminal(latest) {
                task.charged = false;
                freed = Some(task.resources.clone());
            }
        }
        if let Some(conn) = framework.conn {
            effects.push(Effect::Send { conn, event: Box::new(wire::update(update.status)) });
        }
        if let Some(resources) = freed {
            self.allocator.release(&id, &agent_id, &resources, None, now.mono);
        }
    }

    /// The scheduler has seen an update; the last one of a task lets it go.
    pub(super) fn acknowledge(
        &mut self,
        id: &FrameworkId,
        acknowledge: call::Acknowledge,
        effects: &mut Vec<Effect>,
    ) {
        let agent_id = AgentId::new(&acknowledge.agent_id.value);
        let task_id = TaskId::new(&acknowledge.task_id.value);
        // An agent that is away sends the update again when it is back.
        let Some(link) = self.agents.get(&agent_id).and_then(|agent| agent.link) else { return };
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let is_last = framework.tasks.get(&task_id).is_some_and(|task| {
            task.agent_id == agent_id
                && wire::is_ending(&task.wire)
                && task.wire.status_update_uuid.as_deref() == Some(acknowledge.uuid.as_slice())
        });
        let message = peer::Acknowledge {
            framework_id: wire::framework_id(id),
            task_id: acknowledge.task_id,
            uuid: acknowledge.uuid,
        };
        effects.push(Effect::Tell { link, message: Box::new(to_agent::Message::Acknowledge(message)) });
        if is_last && let Some(task) = framework.tasks.remove(&task_id) {
            framework.remember(task.wire);
            if let Some(agent) = self.agents.get_mut(&agent_id) {
                agent.tasks.remove(&(id.clone(), task_id));
            }
        }
    }
}

/// Adds a status to a task's history: one for each state, without its data.
pub(super) fn remember(task: &mut v1::Task, status: &v1::TaskStatus) {
    let mut status = status.clone();
    status.data = None;
    match task.statuses.last_mut().filter(|last| last.state == status.state) {
        Some(last) => *last = status,
        None => task.statuses.push(status),
    }
}
