//! KILL.

use std::sync::Arc;

use super::io::Effect;
use super::state::Master;
use super::wire;
use crate::api::peer::{self, to_agent};
use crate::api::v1::scheduler::call;
use crate::base::id::{FrameworkId, TaskId};
use crate::base::time::Now;

impl Master {
    /// Kills a task. One that is not known (any more) is reconciled instead.
    pub(super) fn kill(&mut self, id: &FrameworkId, kill: call::Kill, now: Now, effects: &mut Vec<Effect>) {
        let task_id = TaskId::new(&kill.task_id.value);
        let Some(known) = self.frameworks.get_mut(id) else { return };
        let info = Arc::clone(&known.info);
        let Some(task) = known.tasks.get_mut(&task_id) else {
            let one = call::reconcile::Task { task_id: kill.task_id, agent_id: kill.agent_id };
            self.reconcile(id, call::Reconcile { tasks: vec![one] }, now, effects);
            return;
        };
        if kill.agent_id.as_ref().is_some_and(|agent_id| agent_id.value != task.agent_id.as_str()) {
            return;
        }
        let framework = Some((*info).clone());
        let link = self.agents.get(&task.agent_id).and_then(|agent| agent.link);
        // The agent hears of it when it is back.
        task.kill_pending = link.is_none();
        if let Some(link) = link {
            let message = peer::KillTask {
                framework_id: wire::framework_id(id),
                task_id: kill.task_id,
                kill_policy: kill.kill_policy,
                framework,
            };
            effects.push(Effect::Tell { link, message: Box::new(to_agent::Message::KillTask(message)) });
        }
    }
}
