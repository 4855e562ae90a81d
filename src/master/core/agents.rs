//! Agents: they register, come back, fall silent, leave.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::io::{Effect, LinkId};
use super::state::{Agent, Framework, Master, Pending, Task};
use super::wire::{self, Registration};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::api::v1::TaskState as State;
use crate::api::v1::scheduler::{Event, event};
use crate::base::id::{AgentId, FrameworkId, TaskId};
use crate::base::time::{Mono, Now};
use crate::registry::core::Change;
use crate::resources::Resources;

/// A link that is silent for this part of the unreachable time is pinged.
const PINGS: u32 = 3;

impl Master {
    pub(super) fn agent_message(
        &mut self,
        link: LinkId,
        message: from_agent::Message,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(agent) = self.links.get(&link).and_then(|id| self.agents.get_mut(id)) {
            agent.heard = now.mono;
        }
        match message {
            from_agent::Message::Register(register) => self.register(link, register.into(), effects),
            from_agent::Message::Reregister(register) => self.reregister(link, register.into(), now, effects),
            from_agent::Message::Unregister(_) => self.unregister(link, effects),
            from_agent::Message::Update(update) => self.status_update(link, update, now, effects),
            // Executors of their own come later; nobody can have started one.
            from_agent::Message::ExitedExecutor(_) | from_agent::Message::ExecutorMessage(_) => {}
            from_agent::Message::Pong(_) => {}
        }
    }

    fn refuse_agent(link: LinkId, reason: String, effects: &mut Vec<Effect>) {
        let message = Box::new(to_agent::Message::Shutdown(peer::Shutdown { reason }));
        effects.push(Effect::Tell { link, message });
        effects.push(Effect::Unlink { link });
    }

    /// An agent without an id gets one, once the registry has it.
    fn register(&mut self, link: LinkId, mut register: Registration, effects: &mut Vec<Effect>) {
        if let Err(problem) = check_agent(&register.info) {
            Self::refuse_agent(link, problem, effects);
            return;
        }
        let id = AgentId::from(format!("{}-S{}", self.id, self.next_agent));
        self.next_agent += 1;
        Arc::make_mut(&mut register.info).id = Some(wire::agent_id(&id));
        let change = Change::AdmitAgent { info: Arc::clone(&register.info) };
        self.propose(change, Pending::Admit { link, register: Box::new(register) }, effects);
    }

    fn reregister(&mut self, link: LinkId, register: Registration, now: Now, effects: &mut Vec<Effect>) {
        let id = match register.info.id.as_ref().map(|id| AgentId::new(&id.value)) {
            Some(id) => id,
            None => return Self::refuse_agent(link, "re-registration without an id".to_owned(), effects),
        };
        if let Err(problem) = check_agent(&register.info) {
            return Self::refuse_agent(link, problem, effects);
        }
        if self.gone.contains(&id) {
            return Self::refuse_agent(
                link,
                format!("the agent {id} was marked gone; remove its data to register anew"),
                effects,
            );
        }
        let pending = Pending::Readmit { link, register: Box::new(register.clone()) };
        let info = Arc::clone(&register.info);
        match self.agents.get(&id) {
            Some(known) if known.info.hostname != info.hostname => {
                Self::refuse_agent(link, format!("the agent {id} is known at another host"), effects);
            }
            // Another transition of this agent is running: it tries again.
            Some(known) if known.leaving => effects.push(Effect::Unlink { link }),
            Some(known) if known.info == info => self.readmitted(link, register, None, now, effects),
            Some(_) => self.propose(Change::UpdateAgent { info }, pending, effects),
            None if self.recovered.get(&id).is_some_and(|known| **known == *info) => {
                self.readmitted(link, register, None, now, effects);
            }
            None => self.propose(Change::MarkReachable { info }, pending, effects),
        }
    }

    /// A new agent is in the registry.
    pub(super) fn admitted(
        &mut self,
        link: LinkId,
        register: Registration,
        refused: Option<String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        match refused {
            Some(problem) => Self::refuse_agent(link, problem, effects),
            None => self.welcome(link, register, now, effects),
        }
    }

    /// An agent is back, with its tasks.
    pub(super) fn readmitted(
        &mut self,
        link: LinkId,
        register: Registration,
        refused: Option<String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(problem) = refused {
            return Self::refuse_agent(link, problem, effects);
        }
        self.welcome(link, register, now, effects);
    }

    fn welcome(&mut self, link: LinkId, register: Registration, now: Now, effects: &mut Vec<Effect>) {
        let Some(id) = register.info.id.as_ref().map(|id| AgentId::new(&id.value)) else { return };
        let total = Resources::from_wire(&register.info.resources).unwrap_or_default();
        let was_unreachable = self.unreachable.remove(&id).is_some();
        let was_recovered = self.recovered.remove(&id).is_some();
        let is_known = self.agents.contains_key(&id);
        if let Some(old) = self.agents.get(&id).and_then(|agent| agent.link).filter(|old| *old != link) {
            self.links.remove(&old);
            effects.push(Effect::Unlink { link: old });
        }
        self.links.insert(link, id.clone());
        let agent =
            self.agents.entry(id.clone()).or_insert_with(|| Agent::new(&register, total.clone(), now));
        agent.describe(&register, total.clone(), link, now);
        if is_known || was_recovered || was_unreachable {
            agent.reregistered = Some(now.wall);
        }
        if is_known {
            self.allocator.update_agent_total(&id, &total);
            self.allocator.activate_agent(&id);
        } else {
            self.allocator.add_agent(&id, &total, &std::collections::BTreeMap::new());
        }
        let registered = peer::Registered {
            agent_id: wire::agent_id(&id),
            master_timeout_ms: u64::try_from(self.config.agent_unreachable_after.as_millis())
                .unwrap_or(u64::MAX),
        };
        effects.push(Effect::Tell { link, message: Box::new(to_agent::Message::Registered(registered)) });
        self.take_in(&id, link, register, was_unreachable, now, effects);
    }

    /// Books what an agent brought: frameworks, tasks; asks for what it did not bring.
    fn take_in(
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
        framework.unreachable.remove(&task_id);
        if let Some(known) = framework.tasks.get_mut(&task_id) {
            // One id on two agents: the one that came first keeps it, and its books.
            if &known.agent_id != agent_id {
                return;
            }
            if known.charged && wire::is_terminal(state) {
                known.charged = false;
                let resources = known.resources.clone();
                known.wire.state = state.into();
                self.allocator.release(&id, agent_id, &resources, None, now.mono);
            }
            return;
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
        let task =
            Task { wire: wire_task, agent_id: agent_id.clone(), resources, charged, kill_pending: false };
        framework.tasks.insert(task_id.clone(), task);
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.tasks.insert((id, task_id));
        }
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
        let mut missing: std::collections::BTreeMap<&FrameworkId, Vec<v1::TaskId>> =
            std::collections::BTreeMap::new();
        for (framework_id, task_id) in agent.tasks.difference(brought) {
            missing.entry(framework_id).or_default().push(wire::task_id(task_id));
        }
        for (framework_id, task_ids) in missing {
            let framework = self.frameworks.get(framework_id).map(|framework| (*framework.info).clone());
            let framework_id = wire::framework_id(framework_id);
            let message = peer::ReconcileTasks { framework_id, task_ids, framework };
            effects
                .push(Effect::Tell { link, message: Box::new(to_agent::Message::ReconcileTasks(message)) });
        }
    }

    fn repeat_kills(&mut self, id: &AgentId, link: LinkId, effects: &mut Vec<Effect>) {
        let Some(agent) = self.agents.get(id) else { return };
        for (framework_id, task_id) in &agent.tasks {
            let task =
                self.frameworks.get_mut(framework_id).and_then(|framework| framework.tasks.get_mut(task_id));
            if let Some(task) = task.filter(|task| task.kill_pending) {
                task.kill_pending = false;
                let message = peer::KillTask {
                    framework_id: wire::framework_id(framework_id),
                    task_id: wire::task_id(task_id),
                    kill_policy: None,
                    framework: None,
                };
                effects.push(Effect::Tell { link, message: Box::new(to_agent::Message::KillTask(message)) });
            }
        }
    }

    /// The connection broke: no offers until it is back.
    pub(super) fn agent_disconnected(&mut self, link: LinkId, now: Now, effects: &mut Vec<Effect>) {
        let Some(id) = self.links.remove(&link) else { return self.left_early(link) };
        let Some(agent) = self.agents.get_mut(&id).filter(|agent| agent.link == Some(link)) else { return };
        agent.link = None;
        agent.heard = now.mono;
        self.allocator.deactivate_agent(&id);
        self.rescind_all(&id, now, effects);
    }

    /// It left while the registry wrote: what comes of that must not count on the connection.
    fn left_early(&mut self, gone: LinkId) {
        for pending in self.pending.values_mut() {
            match pending {
                Pending::Admit { link, register } if *link == gone => {
                    *pending = Pending::Discard { register: std::mem::take(register) };
                }
                Pending::Readmit { link, register } if *link == gone => {
                    *pending = Pending::Absent { register: std::mem::take(register) };
                }
                _ => {}
            }
        }
    }

    /// An agent was admitted that never heard of its id: nobody will come back under it.
    pub(super) fn discarded(&mut self, register: &Registration, effects: &mut Vec<Effect>) {
        let Some(agent_id) = register.info.id.as_ref().map(|id| AgentId::new(&id.value)) else { return };
        self.propose(Change::RemoveAgent { agent_id }, Pending::Nothing, effects);
    }

    /// An agent is admitted again, but not here: it has the usual time to come back.
    pub(super) fn absent(&mut self, register: Registration, refused: bool, now: Now) {
        let Some(id) = register.info.id.as_ref().map(|id| AgentId::new(&id.value)) else { return };
        if refused || self.agents.contains_key(&id) {
            return;
        }
        self.unreachable.remove(&id);
        self.recovered.insert(id, register.info);
        let deadline = now.mono.after(self.config.agent_unreachable_after);
        self.recovery_deadline.get_or_insert(deadline);
    }

    fn rescind_all(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        let offers: Vec<_> =
            self.agents.get(id).map(|agent| agent.offers.iter().cloned().collect()).unwrap_or_default();
        for offer_id in offers {
            self.rescind(&offer_id, now, effects);
        }
    }

    pub(super) fn next_ping(&self, agent: &Agent) -> Mono {
        agent.heard.max(agent.pinged).after(self.config.agent_unreachable_after / PINGS)
    }

    /// Pings silent agents and gives up those that are silent too long.
    pub(super) fn watch_agents(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let limit = self.config.agent_unreachable_after;
        let mut lost = Vec::new();
        for (id, agent) in self.agents.iter().filter(|(_, agent)| !agent.leaving) {
            if agent.heard.after(limit) <= now.mono {
                lost.push(id.clone());
            } else if let Some(link) = agent.link.filter(|_| self.next_ping(agent) <= now.mono) {
                effects
                    .push(Effect::Tell { link, message: Box::new(to_agent::Message::Ping(peer::Ping {})) });
            }
        }
        for agent in self.agents.values_mut().filter(|agent| agent.link.is_some()) {
            if agent.heard.max(agent.pinged).after(limit / PINGS) <= now.mono {
                agent.pinged = now.mono;
            }
        }
        for id in lost {
            self.give_up(&id, effects);
        }
        self.watch_recovery(now, effects);
    }

    /// Agents that have not come back since the election. While most are absent (a power cut, not a
    /// lost agent) all of them get the long time.
    fn watch_recovery(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.recovery_deadline.is_none_or(|deadline| deadline > now.mono) {
            return;
        }
        let (absent, present) = (self.recovered.len(), self.agents.len());
        if absent > present && now.mono < self.recovery_limit {
            self.recovery_deadline = Some(now.mono.after(Duration::from_secs(1)).min(self.recovery_limit));
            return;
        }
        self.recovery_deadline = None;
        let missing: Vec<AgentId> = self.recovered.keys().cloned().collect();
        for agent_id in missing {
            let change = Change::MarkUnreachable { agent_id: agent_id.clone() };
            self.propose(change, Pending::MarkUnreachable { agent_id }, effects);
        }
    }

    fn give_up(&mut self, id: &AgentId, effects: &mut Vec<Effect>) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.leaving = true;
            let change = Change::MarkUnreachable { agent_id: id.clone() };
            self.propose(change, Pending::MarkUnreachable { agent_id: id.clone() }, effects);
        }
    }

    fn unregister(&mut self, link: LinkId, effects: &mut Vec<Effect>) {
        let Some(agent_id) = self.links.get(&link).cloned() else { return };
        if let Some(agent) = self.agents.get_mut(&agent_id).filter(|agent| !agent.leaving) {
            agent.leaving = true;
            let change = Change::RemoveAgent { agent_id: agent_id.clone() };
            self.propose(change, Pending::RemoveAgent { agent_id }, effects);
        }
    }

    /// The registry has marked an agent unreachable.
    pub(super) fn marked_unreachable(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        self.recovered.remove(id);
        self.unreachable.insert(id.clone(), now.wall);
        self.drop_agent(id, true, now, effects);
    }

    /// The registry has removed an agent that left by itself.
    pub(super) fn agent_removed(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        self.drop_agent(id, false, now, effects);
    }

    /// Its tasks are lost or unreachable, its offers rescinded, every framework hears of it.
    fn drop_agent(&mut self, id: &AgentId, unreachable: bool, now: Now, effects: &mut Vec<Effect>) {
        let tasks = self.agents.get(id).map(|agent| agent.tasks.clone()).unwrap_or_default();
        for (framework_id, task_id) in tasks {
            self.lose_task(id, &framework_id, &task_id, unreachable, now, effects);
        }
        self.rescind_all(id, now, effects);
        if let Some(link) = self.agents.remove(id).and_then(|agent| agent.link) {
            self.links.remove(&link);
            effects.push(Effect::Unlink { link });
        }
        self.allocator.remove_agent(id);
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
        unreachable: bool,
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
        let partition_aware = framework.capabilities.partition_aware;
        let state = if unreachable && partition_aware { State::TaskUnreachable } else { State::TaskLost };
        let message =
            if unreachable { format!("Agent {id} is unreachable") } else { format!("Agent {id} removed") };
        let reason = v1::task_status::Reason::AgentRemoved;
        let mut status = wire::master_status(
            wire::task_id(task_id),
            Some(wire::agent_id(id)),
            state,
            reason,
            message,
            now.wall,
        );
        status.unreachable_time = unreachable.then(|| wire::time_info(now.wall));
        task.wire.state = state.into();
        super::updates::remember(&mut task.wire, &status);
        if let Some(conn) = framework.conn {
            effects.push(Effect::Send { conn, event: Box::new(wire::update(status)) });
        }
        if unreachable {
            framework.unreachable.insert(task_id.clone(), task);
        } else {
            framework.remember(task.wire);
        }
    }
}

impl Agent {
    fn new(register: &Registration, total: Resources, now: Now) -> Self {
        Self {
            info: Arc::clone(&register.info),
            link: None,
            version: register.version.clone(),
            capabilities: register.capabilities.clone(),
            total,
            registered: now.wall,
            reregistered: None,
            heard: now.mono,
            pinged: now.mono,
            offers: BTreeSet::new(),
            tasks: BTreeSet::new(),
            leaving: false,
        }
    }

    fn describe(&mut self, register: &Registration, total: Resources, link: LinkId, now: Now) {
        self.info = Arc::clone(&register.info);
        self.version.clone_from(&register.version);
        self.capabilities.clone_from(&register.capabilities);
        self.total = total;
        self.link = Some(link);
        self.heard = now.mono;
        self.leaving = false;
    }
}

/// What an agent tells must make sense.
fn check_agent(info: &v1::AgentInfo) -> Result<(), String> {
    if info.hostname.is_empty() {
        return Err("the agent has no hostname".to_owned());
    }
    Resources::from_wire(&info.resources)
        .map(drop)
        .map_err(|error| format!("the agent's resources are not valid: {error}"))
}
