//! Agents that are lost, and their tasks with them: unreachable, removed, or declared gone.

use super::frameworks::Answer;
use super::io::{Effect, ReplyId};
use super::state::{Master, Pending};
use super::wire;
use crate::api::ApiError;
use crate::api::peer::{self, to_agent};
use crate::api::v1;
use crate::api::v1::TaskState as State;
use crate::api::v1::scheduler::{Event, event};
use crate::api::v1::task_status::Reason;
use crate::base::id::{AgentId, FrameworkId, TaskId};
use crate::base::time::Now;
use crate::registry::core::Change;

/// How an agent is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It was silent too long; it may come back, with its tasks.
    Unreachable,
    /// It left by itself.
    Removed,
    /// An operator says that it will never come back.
    Gone,
}

impl Loss {
    /// What becomes of its tasks, why, and in words.
    fn of_tasks(self, is_partition_aware: bool, agent: &AgentId) -> (State, Reason, String) {
        match (self, is_partition_aware) {
            (Self::Unreachable, true) => {
                (State::TaskUnreachable, Reason::AgentRemoved, format!("Agent {agent} is unreachable"))
            }
            (Self::Unreachable, false) => {
                (State::TaskLost, Reason::AgentRemoved, format!("Agent {agent} is unreachable"))
            }
            (Self::Removed, _) => (State::TaskLost, Reason::AgentRemoved, format!("Agent {agent} removed")),
            (Self::Gone, true) => (
                State::TaskGoneByOperator,
                Reason::AgentRemovedByOperator,
                format!("Agent {agent} was marked gone"),
            ),
            (Self::Gone, false) => {
                (State::TaskLost, Reason::AgentRemoved, format!("Agent {agent} was marked gone"))
            }
        }
    }
}

impl Master {
    /// Its tasks are lost or unreachable, its offers rescinded, every framework hears of it.
    pub(super) fn drop_agent(&mut self, id: &AgentId, loss: Loss, now: Now, effects: &mut Vec<Effect>) {
        let tasks = self.agents.get(id).map(|agent| agent.tasks.clone()).unwrap_or_default();
        for (framework_id, task_id) in tasks {
            self.lose_task(id, &framework_id, &task_id, loss, now, effects);
        }
        self.rescind_all(id, now, effects);
        if let Some(link) = self.agents.remove(id).and_then(|agent| agent.link) {
            self.links.remove(&link);
            effects.push(Effect::Unlink { link });
        }
        self.allocator.remove_agent(id);
        self.tell_failure(id, effects);
    }

    fn tell_failure(&self, id: &AgentId, effects: &mut Vec<Effect>) {
        for conn in self.frameworks.values().filter_map(|framework| framework.conn) {
            let failure = Some(event::Failure { agent_id: Some(wire::agent_id(id)), ..Default::default() });
            let event = Box::new(Event { failure, ..wire::event(event::Type::Failure) });
            effects.push(Effect::Send { conn, event });
        }
    }

    fn lose_task(
        &mut self,
        id: &AgentId,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        loss: Loss,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else { return };
        let Some(mut task) = framework.tasks.remove(task_id) else { return };
        if let Some(agent) = self.agents.get_mut(id) {
            agent.tasks.remove(&(framework_id.clone(), task_id.clone()));
        }
        if task.charged {
            task.charged = false;
            self.allocator.release(framework_id, id, &task.resources, None, now.mono);
        }
        if wire::is_terminal(wire::state_of(&task.wire)) {
            framework.remember(task.wire);
            return;
        }
        let is_aware = framework.capabilities.partition_aware;
        let status = lost(id, task_id, loss, is_aware, now);
        task.wire.state = status.state;
        super::updates::remember(&mut task.wire, &status);
        if let Some(conn) = framework.conn {
            effects.push(Effect::Send { conn, event: Box::new(wire::update(status)) });
        }
        if loss == Loss::Unreachable || (loss == Loss::Gone && !is_aware) {
            framework.remember_unreachable(task_id.clone(), task);
        } else {
            framework.remember(task.wire);
        }
    }

    /// An operator says that an agent will never come back.
    pub(super) fn mark_gone(
        &mut self,
        reply: ReplyId,
        agent_id: AgentId,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, ApiError> {
        if self.gone.contains_key(&agent_id) {
            return Ok(Answer::Now);
        }
        let is_known = self.recovered.contains_key(&agent_id) || self.unreachable.contains_key(&agent_id);
        match self.agents.get_mut(&agent_id) {
            Some(agent) if agent.leaving => {
                return Err(ApiError::Unavailable(format!(
                    "Agent {agent_id} is on its way out already; try again"
                )));
            }
            Some(agent) => agent.leaving = true,
            None if is_known => {}
            None => return Err(ApiError::NotFound(format!("Agent {agent_id} is not known"))),
        }
        let change = Change::MarkGone { agent_id: agent_id.clone() };
        self.propose(change, Pending::MarkGone { agent_id, reply }, effects);
        Ok(Answer::WhenRecorded)
    }

    /// The registry has it: the agent is told to end, and its tasks are over.
    pub(super) fn marked_gone(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        if let Some(agent) = self.agents.get(id) {
            if let Some(link) = agent.link {
                let reason = format!("the agent {id} was marked gone");
                let message = Box::new(to_agent::Message::Shutdown(peer::Shutdown { reason }));
                effects.push(Effect::Tell { link, message });
            }
            self.drop_agent(id, Loss::Gone, now, effects);
        } else {
            self.end_unreachable_tasks(id, now, effects);
            self.tell_failure(id, effects);
        }
        self.recovered.remove(id);
        self.unreachable.remove(id);
        self.gone.insert(id.clone(), now.wall);
    }

    /// Tasks of an unreachable agent that is declared gone: who understands that hears of it.
    fn end_unreachable_tasks(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        for framework in self.frameworks.values_mut().filter(|one| one.capabilities.partition_aware) {
            let here = framework.unreachable.iter().filter(|(_, task)| task.agent_id == *id);
            let here: Vec<TaskId> = here.map(|(task_id, _)| task_id.clone()).collect();
            for task_id in here {
                let Some(mut task) = framework.unreachable.remove(&task_id) else { continue };
                let status = lost(id, &task_id, Loss::Gone, true, now);
                task.wire.state = status.state;
                super::updates::remember(&mut task.wire, &status);
                if let Some(conn) = framework.conn {
                    effects.push(Effect::Send { conn, event: Box::new(wire::update(status)) });
                }
                framework.remember(task.wire);
            }
        }
    }
}

/// The status of a task whose agent is lost.
fn lost(id: &AgentId, task_id: &TaskId, loss: Loss, is_aware: bool, now: Now) -> v1::TaskStatus {
    let (state, reason, message) = loss.of_tasks(is_aware, id);
    let agent_id = Some(wire::agent_id(id));
    let mut status = wire::master_status(wire::task_id(task_id), agent_id, state, reason, message, now.wall);
    status.unreachable_time = (loss == Loss::Unreachable).then(|| wire::time_info(now.wall));
    status
}
