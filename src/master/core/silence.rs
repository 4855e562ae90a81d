//! Agents that say nothing: their links break, they do not answer pings, they do not come back.
//!
//! A linked agent is lost when a ping was not answered for too long, never because the master itself
//! did not look at its messages: after a pause of the master everybody's time begins anew, and what an
//! agent says before its loss is recorded keeps it.

use std::time::Duration;

use super::io::{Effect, LinkId};
use super::losses::Loss;
use super::state::{Agent, Master, Pending};
use crate::api::peer::{self, to_agent};
use crate::base::id::AgentId;
use crate::base::time::{Mono, Now};
use crate::registry::core::Change;

/// A link that is silent for this part of the unreachable time is pinged.
const PINGS: u32 = 3;
/// While most agents are absent after an election, how often it is looked again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Agent {
    /// When it is pinged next.
    fn next_ping(&self, limit: Duration) -> Mono {
        self.heard.max(self.pinged).after(limit / PINGS)
    }

    /// When it is given up, as far as is known now: some time after the first ping that it did not
    /// answer; without a link, after its last word.
    fn lost_at(&self, limit: Duration) -> Option<Mono> {
        match self.link {
            Some(_) => self.unanswered.map(|first| first.after(limit - limit / PINGS)),
            None => Some(self.heard.after(limit)),
        }
    }

    /// It said something.
    pub(super) fn speaks(&mut self, now: Mono) {
        self.heard = now;
        self.unanswered = None;
        self.spoke = true;
    }
}

impl Master {
    /// The connection broke: no offers until it is back.
    pub(super) fn agent_disconnected(&mut self, link: LinkId, now: Now, effects: &mut Vec<Effect>) {
        self.arriving.remove(&link);
        self.link_nodes.remove(&link);
        let Some(id) = self.links.remove(&link) else { return };
        let Some(agent) = self.agents.get_mut(&id).filter(|agent| agent.link == Some(link)) else { return };
        agent.link = None;
        agent.heard = now.mono;
        agent.unanswered = None;
        self.allocator.deactivate_agent(&id);
        self.rescind_all(&id, now, effects);
    }

    /// When silence has to be looked at next.
    pub(super) fn watch_deadline(&self) -> Option<Mono> {
        let limit = self.config.agent_unreachable_after;
        let agents = self.agents.values().filter(|agent| !agent.leaving);
        let times =
            agents.flat_map(|agent| [agent.lost_at(limit), agent.link.map(|_| agent.next_ping(limit))]);
        times.chain([self.recovery_deadline]).flatten().min()
    }

    /// Pings silent agents and gives up those that are silent too long.
    pub(super) fn watch_agents(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let limit = self.config.agent_unreachable_after;
        if self.watch_due.is_some_and(|due| now.mono.since(due) > limit / PINGS) {
            self.begin_anew(now.mono);
        }
        let mut lost = Vec::new();
        for (id, agent) in self.agents.iter_mut().filter(|(_, agent)| !agent.leaving) {
            if agent.lost_at(limit).is_some_and(|at| at <= now.mono) {
                lost.push(id.clone());
            } else if let Some(link) = agent.link.filter(|_| agent.next_ping(limit) <= now.mono) {
                agent.pinged = now.mono;
                agent.unanswered.get_or_insert(now.mono);
                effects
                    .push(Effect::Tell { link, message: Box::new(to_agent::Message::Ping(peer::Ping {})) });
            }
        }
        for id in lost {
            self.give_up(&id, effects);
        }
        self.watch_recovery(now, effects);
        self.watch_due = self.watch_deadline();
    }

    /// This master did not run for a while. What agents said meanwhile waits to be read, and those that
    /// were on their way back could not get in.
    fn begin_anew(&mut self, now: Mono) {
        for agent in self.agents.values_mut() {
            agent.heard = now;
            agent.unanswered = None;
        }
        let fresh = now.after(self.config.agent_unreachable_after);
        self.recovery_deadline = self.recovery_deadline.map(|deadline| deadline.max(fresh));
    }

    /// Agents that have not come back since the election. While most are absent (a power cut, not a
    /// lost agent) all of them get the long time.
    fn watch_recovery(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.recovery_deadline.is_none_or(|deadline| deadline > now.mono) {
            return;
        }
        let (absent, present) = (self.recovered.len(), self.agents.len());
        if absent > present && now.mono < self.recovery_limit {
            self.recovery_deadline = Some(now.mono.after(LOOK_AGAIN).min(self.recovery_limit));
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
            agent.spoke = false;
            let change = Change::MarkUnreachable { agent_id: id.clone() };
            self.propose(change, Pending::MarkUnreachable { agent_id: id.clone() }, effects);
        }
    }

    /// The registry has marked an agent unreachable. One that came back or said something meanwhile is
    /// not lost after all.
    pub(super) fn marked_unreachable(&mut self, id: &AgentId, now: Now, effects: &mut Vec<Effect>) {
        if let Some(agent) = self.agents.get_mut(id).filter(|agent| agent.spoke || !agent.leaving) {
            agent.leaving = false;
            let change = Change::MarkReachable { info: std::sync::Arc::clone(&agent.info), node: None };
            self.propose(change, Pending::Nothing, effects);
            return;
        }
        self.recovered.remove(id);
        self.unreachable.insert(id.clone(), now.wall);
        self.drop_agent(id, Loss::Unreachable, now, effects);
    }
}
