//! What an agent brings when it comes back: frameworks, tasks; and what it is told about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::{Effect, LinkId};
use super::state::{Framework, Master, Task};
use super::wire::{self, Registration};
use crate::api::peer::{self, to_agent};
use crate::api::v1;
use crate::base::id::{AgentId, FrameworkId, TaskId};
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Now;
use crate::resources::Resources;

impl Master {
    /// Books what an agent brought: frameworks, tasks; asks for what it did not bring.
    pub(super) fn take_in(
        &mut self,
        id: &AgentId,
        link: LinkId,
        register: Registration,
        was_unreachable: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        for info in register.frameworks {
            let Some(framework_id) = info.id.as_ref().map(|id| FrameworkId::new(&id.value)) else { continue };
            if self.removed.contains(&framework_id) {
                let message = peer::ShutdownFramework { framework_id: wire::framework_id(&framework_id) };
                effects.push(Effect::Tell {
                    link,
                    message: Box::new(to_agent::Message::ShutdownFramework(message)),
                });
            } else if !self.frameworks.contains_key(&framework_id) {
                let framework = Framework::new(Arc::new(info), now, true);
                self.allocator.add_framework(&framework_id, framework.spec(BTreeSet::new()), false);
                self.frameworks.insert(framework_id, framework);
            }
        }
        let mut brought = BTreeSet::new();
        for task in register.tasks {
            let key = (FrameworkId::new(&task.framework_id.value), TaskId::new(&task.task_id.value));
            if self.frameworks.contains_key(&key.0) {
                brought.insert(key.clone());
                self.take_in_task(id, key.0, key.1, task, was_unreachable, now, effects);
            }
        }
        #[cfg(planted)]
        if planted::has(Bug::KillReturned) && was_unreachable {
            for (framework_id, task_id) in &brought {
                effects.push(self.tell_kill(link, framework_id, task_id, None));
            }
        }
        self.forget_strays(id, &brought, now);
        self.kill_strays(id, link, effects);
        self.ask_for_missing(id, link, &brought, effects);
        self.repeat_kills(id, link, effects);
    }

    #[expect(clippy::too_many_arguments, reason = "one task with everything that decides about it")]
    fn take_in_task(
        &mut self,
        agent_id: &AgentId,
        id: FrameworkId,
        task_id: TaskId,
        wire_task: v1::Task,
        was_unreachable: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let state = wire::state_of(&wire_task);
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        if let Some(known) = framework.tasks.get_mut(&task_id) {
            if &known.agent_id != agent_id {
                self.take_in_stray(agent_id, (id, task_id), &wire_task, now);
            } else if known.charged && wire::is_terminal(state) {
                known.charged = false;
                let resources = known.resources.clone();
                known.wire.state = state.into();
                self.allocator.release(&id, agent_id, &resources, None, now.mono);
            }
            return;
        }
        if framework.unreachable.get(&task_id).is_some_and(|task| &task.agent_id == agent_id) {
            framework.unreachable.remove(&task_id);
        }
        let resources = Resources::from_wire(&wire_task.resources).unwrap_or_default();
        let charged = !wire::is_terminal(state);
        if charged {
            self.allocator.charge(&id, agent_id, &resources);
        }
        if let (true, Some(conn)) = (was_unreachable, framework.conn) {
            let mut status = wire::master_status(
                wire_task.task_id.clone(),
                Some(wire::agent_id(agent_id)),
                state,
                v1::task_status::Reason::AgentReregistered,
                "Unreachable agent re-registered",
                now.wall,
            );
            status.container_status =
                wire_task.statuses.last().and_then(|last| last.container_status.clone());
            effects.push(Effect::Send { conn, event: Box::new(wire::update(status)) });
        }
        let task = Task { wire: wire_task, agent_id: agent_id.clone(), resources, charged, kill: None };
        framework.tasks.insert(task_id.clone(), task);
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.tasks.insert((id, task_id));
        }
    }

    /// A task whose id belongs to a task on another agent by now (it was away, the scheduler started
    /// it again). It is killed; until it has ended, what it uses is not offered.
    fn take_in_stray(
        &mut self,
        agent_id: &AgentId,
        key: (FrameworkId, TaskId),
        wire_task: &v1::Task,
        now: Now,
    ) {
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        let has_ended = wire::is_terminal(wire::state_of(wire_task));
        match agent.strays.get_mut(&key) {
            Some(held) if has_ended => {
                let held = std::mem::take(held);
                self.allocator.release(&key.0, agent_id, &held, None, now.mono);
            }
            Some(_) => {}
            None => {
                let used = Resources::from_wire(&wire_task.resources).unwrap_or_default();
                let held = if has_ended { Resources::new() } else { used };
                self.allocator.charge(&key.0, agent_id, &held);
                agent.strays.insert(key, held);
            }
        }
    }

    /// Strays that the agent does not bring any more have ended.
    fn forget_strays(&mut self, id: &AgentId, brought: &BTreeSet<(FrameworkId, TaskId)>, now: Now) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let over: Vec<_> = agent.strays.keys().filter(|key| !brought.contains(key)).cloned().collect();
        for key in over {
            if let Some(held) = agent.strays.remove(&key) {
                self.allocator.release(&key.0, id, &held, None, now.mono);
            }
        }
    }

    fn kill_strays(&self, id: &AgentId, link: LinkId, effects: &mut Vec<Effect>) {
        let Some(agent) = self.agents.get(id) else { return };
        for ((framework_id, task_id), _) in agent.strays.iter().filter(|(_, held)| !held.is_empty()) {
            effects.push(self.tell_kill(link, framework_id, task_id, None));
        }
    }

    /// Whether an update is about a stray. Its scheduler must not hear of it: it would take it for news
    /// of the task that has the id now. The agent hears that it is known, so that it can forget it.
    pub(super) fn stray_update(
        &mut self,
        link: LinkId,
        agent_id: &AgentId,
        update: &peer::StatusUpdate,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let key = (FrameworkId::new(&update.framework_id.value), TaskId::new(&update.status.task_id.value));
        let known = self.frameworks.get(&key.0).and_then(|framework| framework.tasks.get(&key.1));
        let runs_elsewhere = known.is_some_and(|task| &task.agent_id != agent_id);
        let Some(agent) = self.agents.get_mut(agent_id) else { return false };
        if !runs_elsewhere && !agent.strays.contains_key(&key) {
            return false;
        }
        let ends = |state: i32| v1::TaskState::try_from(state).is_ok_and(wire::is_terminal);
        if ends(update.latest_state)
            && let Some(held) = agent.strays.get_mut(&key).map(std::mem::take)
        {
            self.allocator.release(&key.0, agent_id, &held, None, now.mono);
        }
        if ends(update.status.state) {
            agent.strays.remove(&key);
        }
        if let Some(uuid) = update.status.uuid.clone() {
            let (framework_id, task_id) = (update.framework_id.clone(), update.status.task_id.clone());
            let message = peer::Acknowledge { framework_id, task_id, uuid };
            effects.push(Effect::Tell { link, message: Box::new(to_agent::Message::Acknowledge(message)) });
        }
        true
    }

    /// Tasks that the master knows and the agent did not bring: it answers with updates.
    fn ask_for_missing(
        &self,
        id: &AgentId,
        link: LinkId,
        brought: &BTreeSet<(FrameworkId, TaskId)>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(agent) = self.agents.get(id) else { return };
        let mut missing: BTreeMap<&FrameworkId, Vec<v1::TaskId>> = BTreeMap::new();
        for (framework_id, task_id) in agent.tasks.difference(brought) {
            missing.entry(framework_id).or_default().push(wire::task_id(task_id));
        }
        for (framework_id, task_ids) in missing {
            let message = peer::ReconcileTasks {
                framework_id: wire::framework_id(framework_id),
                task_ids,
                framework: self.info_of(framework_id),
            };
            effects
                .push(Effect::Tell { link, message: Box::new(to_agent::Message::ReconcileTasks(message)) });
        }
    }

    /// Kills that were asked for are sent at each return, until the task has ended: the link may have
    /// broken before the agent heard of them.
    fn repeat_kills(&self, id: &AgentId, link: LinkId, effects: &mut Vec<Effect>) {
        let Some(agent) = self.agents.get(id) else { return };
        for (framework_id, task_id) in &agent.tasks {
            let task = self.frameworks.get(framework_id).and_then(|framework| framework.tasks.get(task_id));
            let live = task.filter(|task| !wire::is_terminal(wire::state_of(&task.wire)));
            if let Some(kill) = live.and_then(|task| task.kill.as_ref()) {
                effects.push(self.tell_kill(link, framework_id, task_id, kill.kill_policy));
            }
        }
    }
}
