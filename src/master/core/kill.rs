//! KILL.

use super::io::{Effect, LinkId};
use super::state::Master;
use super::wire;
use crate::api::peer::{self, to_agent};
use crate::api::v1;
use crate::api::v1::scheduler::call;
use crate::base::id::{FrameworkId, TaskId};
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Now;

impl Master {
    /// Kills a task. One that is not known (any more) is reconciled instead.
    pub(super) fn kill(&mut self, id: &FrameworkId, kill: call::Kill, now: Now, effects: &mut Vec<Effect>) {
        let task_id = TaskId::new(&kill.task_id.value);
        let Some(task) = self.frameworks.get_mut(id).and_then(|framework| framework.tasks.get_mut(&task_id))
        else {
            let one = call::reconcile::Task { task_id: kill.task_id, agent_id: kill.agent_id };
            self.reconcile(id, call::Reconcile { tasks: vec![one] }, now, effects);
            return;
        };
        if kill.agent_id.as_ref().is_some_and(|agent_id| agent_id.value != task.agent_id.as_str()) {
            return;
        }
        // Kept for when the agent is back: it may never hear of this one.
        task.kill = Some(kill.clone());
        #[cfg(planted)]
        if planted::has(Bug::ReleaseEarly) && std::mem::take(&mut task.charged) {
            self.allocator.release(id, &task.agent_id, &task.resources, None, now.mono);
        }
        let link = self.agents.get(&task.agent_id).and_then(|agent| agent.link);
        if let Some(link) = link {
            effects.push(self.tell_kill(link, id, &task_id, kill.kill_policy));
        }
    }

    /// Tells an agent to kill a task.
    pub(super) fn tell_kill(
        &self,
        link: LinkId,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        kill_policy: Option<v1::KillPolicy>,
    ) -> Effect {
        let message = peer::KillTask {
            framework_id: wire::framework_id(framework_id),
            task_id: wire::task_id(task_id),
            kill_policy,
            framework: self.info_of(framework_id),
        };
        Effect::Tell { link, message: Box::new(to_agent::Message::KillTask(message)) }
    }

    /// What is known of a framework, for an agent that may have forgotten it.
    pub(super) fn info_of(&self, id: &FrameworkId) -> Option<v1::FrameworkInfo> {
        self.frameworks.get(id).map(|framework| (*framework.info).clone())
    }
}
