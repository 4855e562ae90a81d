//! What is not remembered for ever: agents that are unreachable or gone, their tasks, removed frameworks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::io::Effect;
use super::state::{Framework, Master, Pending, Task};
use crate::base::id::{AgentId, FrameworkId, TaskId};
use crate::base::time::{Now, Timestamp};
use crate::registry::core::{Change, MAX_REMOVED_FRAMEWORKS};

/// How often it is looked for agents to forget (Mesos: `registry_gc_interval`).
const LOOK_EVERY: Duration = Duration::from_secs(15 * 60);
/// Age from which an unreachable or gone agent is forgotten (Mesos: `registry_max_agent_age`, 2 weeks).
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 3_600);
/// Unreachable and gone agents that are remembered, each (Mesos: `registry_max_agent_count`).
pub(super) const MAX_AGENTS: usize = 102_400;
/// Agents in one command: a command goes to disk and to every member at once.
const FORGET_AT_ONCE: usize = 1_000;
/// Pause before the next command, when there are more.
const GO_ON: Duration = Duration::from_secs(1);
/// Unreachable tasks of a framework that are remembered (Mesos: `max_unreachable_tasks_per_framework`).
pub(super) const MAX_UNREACHABLE_TASKS: usize = 1_000;

/// Ids of removed frameworks: as many as the registry keeps, oldest first.
#[derive(Debug, Default)]
pub(super) struct Removed {
    ids: BTreeSet<FrameworkId>,
    order: VecDeque<FrameworkId>,
}

impl Removed {
    pub(super) fn insert(&mut self, id: FrameworkId) {
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > MAX_REMOVED_FRAMEWORKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: &FrameworkId) -> bool {
        self.ids.contains(id)
    }
}

impl Framework {
    /// Remembers a task as unreachable; of too many the one that is so longest is forgotten.
    pub(super) fn remember_unreachable(&mut self, id: TaskId, task: Task) {
        self.unreachable.insert(id, task);
        if self.unreachable.len() > MAX_UNREACHABLE_TASKS {
            let since = |task: &Task| task.wire.statuses.last().and_then(|status| status.timestamp);
            let oldest = self.unreachable.iter().min_by(|(_, one), (_, other)| {
                since(one).unwrap_or(0.0).total_cmp(&since(other).unwrap_or(0.0))
            });
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.and_then(|id| self.unreachable.remove(&id));
        }
    }
}

/// The agents of a list that are too old, or too many.
fn overdue(agents: &BTreeMap<AgentId, Timestamp>, now: Timestamp) -> Vec<AgentId> {
    let mut by_age: Vec<(Timestamp, &AgentId)> = agents.iter().map(|(id, since)| (*since, id)).collect();
    by_age.sort_unstable();
    let too_many = by_age.len().saturating_sub(MAX_AGENTS);
    let over = by_age.into_iter().enumerate();
    over.take_while(|(at, (since, _))| *at < too_many || now.since(*since) >= MAX_AGE)
        .take(FORGET_AT_ONCE)
        .map(|(_, (_, id))| id.clone())
        .collect()
}

impl Master {
    /// Proposes to forget agents, when it is time to look for them.
    pub(super) fn forget_agents(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.forgets_agents || self.next_look > now.mono {
            return;
        }
        self.next_look = now.mono.after(LOOK_EVERY);
        let mut agent_ids = overdue(&self.unreachable, now.wall);
        agent_ids.extend(overdue(&self.gone, now.wall));
        agent_ids.truncate(FORGET_AT_ONCE);
        if agent_ids.len() == FORGET_AT_ONCE {
            self.next_look = now.mono.after(GO_ON);
        }
        if !agent_ids.is_empty() {
            let change = Change::ForgetAgents { agent_ids: agent_ids.clone() };
            self.propose(change, Pending::ForgetAgents { agent_ids }, effects);
        }
    }

    /// The registry has forgotten agents. One that came back before is in none of the lists any more.
    pub(super) fn agents_forgotten(&mut self, ids: &[AgentId]) {
        // What is remembered of one that came back is on record again.
        self.owners.retain(|id, _| self.agents.contains_key(id) || !ids.contains(id));
        let forgotten: BTreeSet<&AgentId> = ids
            .iter()
            .filter(|id| {
                let was_unreachable = self.unreachable.remove(*id).is_some();
                self.gone.remove(*id).is_some() || was_unreachable
            })
            .collect();
        for framework in self.frameworks.values_mut() {
            framework.unreachable.retain(|_, task| !forgotten.contains(&task.agent_id));
        }
    }
}
