//! Agents: they register, come back, leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::{Effect, LinkId};
use super::losses::Loss;
use super::state::{Agent, Master, Pending};
use super::wire::{self, Registration};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::base::id::AgentId;
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Now;
use crate::registry::core::Change;
use crate::resources::Resources;

impl Master {
    pub(super) fn agent_message(
        &mut self,
        link: LinkId,
        message: from_agent::Message,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(agent) = self.links.get(&link).and_then(|id| self.agents.get_mut(id)) {
            agent.speaks(now.mono);
        }
        match message {
            from_agent::Message::Register(register) => self.register(link, register.into(), now, effects),
            from_agent::Message::Reregister(register) => self.reregister(link, register.into(), now, effects),
            from_agent::Message::Draining(_) => self.agent_drains(link, now, effects),
            from_agent::Message::Pausing(pausing) => {
                self.agent_pauses(link, pausing.is_paused, now, effects);
            }
            from_agent::Message::Unregister(_) => self.unregister(link, effects),
            from_agent::Message::Update(update) => self.status_update(link, update, now, effects),
            // Executors of their own come later; nobody can have started one.
            from_agent::Message::ExitedExecutor(_) | from_agent::Message::ExecutorMessage(_) => {}
            from_agent::Message::Pong(_) => {}
        }
    }

    fn refuse_agent(&mut self, link: LinkId, reason: String, effects: &mut Vec<Effect>) {
        self.arriving.remove(&link);
        let message = Box::new(to_agent::Message::Shutdown(peer::Shutdown { reason }));
        effects.push(Effect::Tell { link, message });
        effects.push(Effect::Unlink { link });
    }

    /// An agent without an id gets one, once the registry has it. One at the address of a connected
    /// agent is that agent; a disconnected one there is gone, and its tasks are lost.
    fn register(&mut self, link: LinkId, mut register: Registration, now: Now, effects: &mut Vec<Effect>) {
        if let Err(problem) = check_agent(&register.info) {
            return self.refuse_agent(link, problem, effects);
        }
        let twin = self.agents.iter().find(|(_, agent)| same_address(&agent.info, &register.info));
        let twin = twin.map(|(id, agent)| (id.clone(), agent.link.is_some()));
        let problem = twin.as_ref().and_then(|(id, is_here)| Some((self.not_its_own(link, id)?, *is_here)));
        match problem {
            Some((problem, true)) => return self.refuse_agent(link, problem, effects),
            // Once it counts as lost, its address is free: this one tries again until then.
            Some((_, false)) => return effects.push(Effect::Unlink { link }),
            None => {}
        }
        match twin.and_then(|(id, _)| self.agents.get_mut(&id).map(|agent| (id, agent))) {
            Some((id, agent)) if agent.link.is_some() => {
                Arc::make_mut(&mut register.info).id = Some(wire::agent_id(&id));
                return self.reregister(link, register, now, effects);
            }
            Some((id, agent)) if !agent.leaving => {
                agent.leaving = true;
                let change = Change::RemoveAgent { agent_id: id.clone() };
                self.propose(change, Pending::RemoveAgent { agent_id: id }, effects);
            }
            _ => {}
        }
        let id = AgentId::from(format!("{}-S{}", self.id, self.next_agent));
        self.next_agent += 1;
        Arc::make_mut(&mut register.info).id = Some(wire::agent_id(&id));
        self.arriving.insert(link);
        register.node = self.new_owner(link, &id);
        let change = Change::AdmitAgent { info: Arc::clone(&register.info), node: register.node };
        self.propose(change, Pending::Admit { link, register: Box::new(register) }, effects);
    }

    fn reregister(&mut self, link: LinkId, mut register: Registration, now: Now, effects: &mut Vec<Effect>) {
        let id = match register.info.id.as_ref().map(|id| AgentId::new(&id.value)) {
            Some(id) => id,
            None => return self.refuse_agent(link, "re-registration without an id".to_owned(), effects),
        };
        if let Err(problem) = check_agent(&register.info) {
            return self.refuse_agent(link, problem, effects);
        }
        #[cfg(planted)]
        if planted::has(Bug::ResurrectGone) {
            self.gone.remove(&id);
        }
        if self.gone.contains_key(&id) {
            let problem = format!("the agent {id} was marked gone; remove its data to register anew");
            return self.refuse_agent(link, problem, effects);
        }
        if let Some(problem) = self.not_its_own(link, &id) {
            return self.refuse_agent(link, problem, effects);
        }
        self.arriving.insert(link);
        let info = Arc::clone(&register.info);
        register.node = self.new_owner(link, &id);
        let node = register.node;
        let known = self.agents.get(&id);
        let change = match known {
            Some(known) if known.info.hostname != info.hostname => {
                let problem = format!("the agent {id} is known at another host");
                return self.refuse_agent(link, problem, effects);
            }
            // Another transition of this agent is running: it tries again.
            Some(known) if known.leaving => {
                self.arriving.remove(&link);
                return effects.push(Effect::Unlink { link });
            }
            Some(known) if known.info == info && node.is_none() => {
                return self.readmitted(link, register, None, now, effects);
            }
            Some(_) => Change::UpdateAgent { info, node },
            None if node.is_none() && self.recovered.get(&id).is_some_and(|known| **known == *info) => {
                return self.readmitted(link, register, None, now, effects);
            }
            None => Change::MarkReachable { info, node },
        };
        self.propose(change, Pending::Readmit { link, register: Box::new(register) }, effects);
    }

    /// A new agent is in the registry. If its link has died meanwhile, nobody will ever use the id.
    pub(super) fn admitted(
        &mut self,
        link: LinkId,
        register: Registration,
        refused: Option<String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let is_alive = self.arriving.remove(&link);
        match refused {
            Some(problem) => self.refuse_agent(link, problem, effects),
            None if is_alive => self.welcome(link, register, now, effects),
            None => {
                let id = register.info.id.as_ref().map(|id| AgentId::new(&id.value));
                if let Some(agent_id) = id {
                    self.propose(Change::RemoveAgent { agent_id }, Pending::Nothing, effects);
                }
            }
        }
    }

    /// An agent is back, with its tasks. If its link has died meanwhile it is known, but away.
    pub(super) fn readmitted(
        &mut self,
        link: LinkId,
        register: Registration,
        refused: Option<String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let is_alive = self.arriving.remove(&link);
        if let Some(problem) = refused {
            return self.refuse_agent(link, problem, effects);
        }
        let id = register.info.id.as_ref().map(|id| AgentId::new(&id.value));
        let newer = id.and_then(|id| self.agents.get(&id)?.link).is_some_and(|newest| newest > link);
        if newer {
            // It came again before this was recorded.
            return effects.push(Effect::Unlink { link });
        }
        self.welcome(link, register, now, effects);
        if !is_alive {
            self.agent_disconnected(link, now, effects);
        }
    }

    fn welcome(&mut self, link: LinkId, register: Registration, now: Now, effects: &mut Vec<Effect>) {
        let Some(id) = register.info.id.as_ref().map(|id| AgentId::new(&id.value)) else { return };
        self.owners.extend(register.node.map(|node| (id.clone(), node)));
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
            self.allocator.add_agent(&id, &total, &BTreeMap::new());
        }
        let registered = peer::Registered {
            agent_id: wire::agent_id(&id),
            master_timeout_ms: u64::try_from(self.config.agent_unreachable_after.as_millis())
                .unwrap_or(u64::MAX),
        };
        effects.push(Effect::Tell { link, message: Box::new(to_agent::Message::Registered(registered)) });
        self.take_in(&id, link, register, was_unreachable, now, effects);
    }

    pub(super) fn rescind_all(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        let offers: Vec<_> =
            self.agents.get(id).map(|agent| agent.offers.iter().cloned().collect()).unwrap_or_default();
        for offer_id in offers {
            self.rescind(&offer_id, now, effects);
        }
    }

    /// It ends its tasks by itself; what was offered of it is taken back first.
    fn agent_drains(&mut self, link: LinkId, now: Now, effects: &mut Vec<Effect>) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.draining = true;
        self.offer_or_not(&id, now, effects);
    }

    /// It takes no more tasks for now, or again: its disk is nearly full, say.
    fn agent_pauses(&mut self, link: LinkId, is_paused: bool, now: Now, effects: &mut Vec<Effect>) {
        let Some(id) = self.links.get(&link).cloned() else { return };
        let Some(agent) = self.agents.get_mut(&id) else { return };
        agent.paused = is_paused;
        self.offer_or_not(&id, now, effects);
    }

    /// What an agent said of itself decides whether it is offered.
    fn offer_or_not(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        if self.agents.get(id).is_some_and(Agent::is_active) {
            self.allocator.activate_agent(id);
        } else {
            self.allocator.deactivate_agent(id);
            self.rescind_all(id, now, effects);
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

    /// The registry has removed an agent that left by itself.
    pub(super) fn agent_removed(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        self.owners.remove(id);
        if let Some(link) = self.agents.get(id).and_then(|agent| agent.link) {
            let reason = format!("the agent {id} has left");
            let message = Box::new(to_agent::Message::Shutdown(peer::Shutdown { reason }));
            effects.push(Effect::Tell { link, message });
        }
        self.drop_agent(id, Loss::Removed, now, effects);
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
            unanswered: None,
            spoke: false,
            offers: BTreeSet::new(),
            tasks: BTreeSet::new(),
            strays: BTreeMap::new(),
            leaving: false,
            draining: false,
            paused: false,
        }
    }

    /// Whether it is offered to frameworks.
    pub(super) fn is_active(&self) -> bool {
        self.link.is_some() && !self.is_deactivated()
    }

    /// Whether it said itself that nothing of it is to be offered.
    pub(super) fn is_deactivated(&self) -> bool {
        self.draining || self.paused
    }

    fn describe(&mut self, register: &Registration, total: Resources, link: LinkId, now: Now) {
        self.info = Arc::clone(&register.info);
        self.version.clone_from(&register.version);
        self.capabilities.clone_from(&register.capabilities);
        self.total = total;
        self.link = Some(link);
        self.speaks(now.mono);
        self.leaving = false;
        self.draining = false;
        self.paused = false;
    }
}

/// Whether two agents have one address. An agent that tells no port has none to compare.
fn same_address(one: &v1::AgentInfo, other: &v1::AgentInfo) -> bool {
    one.port.is_some() && one.port == other.port && one.hostname == other.hostname
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
