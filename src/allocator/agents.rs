//! Agents: what they have, what is given out, which offers were declined.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::Allocator;
use crate::base::id::{AgentId, FrameworkId, Role};
use crate::base::time::Mono;
use crate::resources::Resources;

/// Filters of one framework in one role on one agent: beyond that the one that ends first is forgotten,
/// and its resources are offered a little early.
const MAX_FILTERS: usize = 32;

/// A framework does not want these resources for a while.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) refused: Resources,
    pub(super) until: Mono,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Agent {
    pub(super) total: Resources,
    /// Without allocations.
    pub(super) used: Resources,
    /// `total` without `used`.
    pub(super) free: Resources,
    /// By framework, with allocations.
    pub(super) charged: BTreeMap<FrameworkId, Resources>,
    pub(super) filters: BTreeMap<(FrameworkId, Role), Vec<Filter>>,
    /// When the first of them ends, as in the allocator's list.
    pub(super) expiry: Option<Mono>,
    pub(super) active: bool,
    pub(super) has_gpus: bool,
    /// It told of less than is in use: what is free is what nothing uses of the rest.
    pub(super) shrunk: bool,
}

impl Agent {
    pub(super) fn free_now(&self) -> Resources {
        self.total.without(&self.used)
    }

    fn first_end(&self) -> Option<Mono> {
        self.filters.values().flatten().map(|filter| filter.until).min()
    }

    fn refresh(&mut self) {
        // Only what an agent tells makes more in use than there is; what is given out never does.
        self.shrunk = self.shrunk && !self.total.contains(&self.used);
        self.free = self.free_now();
    }

    /// The agent told what it has, or what runs there.
    fn told(&mut self) {
        self.shrunk = true;
        self.refresh();
    }
}

/// Adds a filter, unless one says the same for at least as long; those that it outlasts go.
fn add_filter(filters: &mut Vec<Filter>, new: Filter) {
    let says_it =
        |one: &Filter, other: &Filter| one.until >= other.until && one.refused.contains(&other.refused);
    if filters.iter().any(|known| says_it(known, &new)) {
        return;
    }
    filters.retain(|known| !says_it(&new, known));
    if filters.len() >= MAX_FILTERS {
        let first = filters.iter().enumerate().min_by_key(|(_, known)| known.until).map(|(at, _)| at);
        first.map(|at| filters.swap_remove(at));
    }
    filters.push(new);
}

impl Allocator {
    /// Adds an agent, with what frameworks already use there (with allocations).
    pub fn add_agent(&mut self, id: &AgentId, total: &Resources, used: &BTreeMap<FrameworkId, Resources>) {
        self.remove_agent(id);
        let mut agent = Agent {
            total: total.clone(),
            active: true,
            has_gpus: total.milli("gpus") > 0,
            ..Agent::default()
        };
        agent.refresh();
        self.agents.insert(id.clone(), agent);
        self.change_totals(&total.clone(), 1);
        for (framework_id, resources) in used {
            self.charge(framework_id, id, resources);
        }
        self.dirty.insert(id.clone());
    }

    /// Removes an agent; what was charged there is not any more.
    pub fn remove_agent(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.remove(id) else { return };
        for (framework_id, resources) in &agent.charged {
            self.book(framework_id, resources, -1);
        }
        self.change_totals(&agent.total, -1);
        self.dirty.remove(id);
        self.expiries.retain(|(_, other)| other != id);
    }

    /// An agent has more or less than before.
    pub fn update_agent_total(&mut self, id: &AgentId, total: &Resources) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let old = std::mem::replace(&mut agent.total, total.clone());
        agent.has_gpus = total.milli("gpus") > 0;
        agent.told();
        self.change_totals(&old, -1);
        self.change_totals(&total.clone(), 1);
        self.dirty.insert(id.clone());
    }

    /// Offers of an agent are made again.
    pub fn activate_agent(&mut self, id: &AgentId) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.active = true;
            self.dirty.insert(id.clone());
        }
    }

    /// No more offers of an agent.
    pub fn deactivate_agent(&mut self, id: &AgentId) {
        if let Some(agent) = self.agents.get_mut(id) {
            agent.active = false;
        }
    }

    /// Resources are in use that no grant gave out (an agent told of them). They carry allocations.
    pub fn charge(&mut self, framework_id: &FrameworkId, agent_id: &AgentId, resources: &Resources) {
        self.give(framework_id, agent_id, resources);
        if let Some(agent) = self.agents.get_mut(agent_id) {
            agent.told();
        }
    }

    /// The same for what is given out of what is free: it must be there.
    pub(super) fn give(&mut self, framework_id: &FrameworkId, agent_id: &AgentId, resources: &Resources) {
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        if resources.is_empty() {
            return;
        }
        agent.charged.entry(framework_id.clone()).or_default().add(resources);
        agent.used.add(&resources.unallocated());
        agent.refresh();
        self.book(framework_id, resources, 1);
    }

    /// Resources come back: declined, rescinded, or their task ended. With `refuse` the framework does
    /// not want them for that long (at least the allocation interval, so that a refusal of zero does
    /// not spin). What is not charged is ignored.
    pub fn release(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        resources: &Resources,
        refuse: Option<Duration>,
        now: Mono,
    ) {
        let Some(agent) = self.agents.get_mut(agent_id) else { return };
        let Some(charged) = agent.charged.get_mut(framework_id) else { return };
        if resources.is_empty() || charged.subtract(resources).is_err() {
            return;
        }
        if charged.is_empty() {
            agent.charged.remove(framework_id);
        }
        let plain = resources.unallocated();
        if agent.used.subtract(&plain).is_err() {
            // Both books were written together; `sanity_check` would have told.
            agent.used = Resources::new();
        }
        agent.refresh();
        if let Some(refuse) = refuse {
            let until = now.after(refuse.max(self.config.allocation_interval));
            for (role, part) in resources.by_allocation_role() {
                let filters = agent.filters.entry((framework_id.clone(), role)).or_default();
                add_filter(filters, Filter { refused: part.unallocated(), until });
            }
            if agent.expiry.is_none_or(|first| until < first) {
                self.note_expiry(agent_id);
            }
        }
        self.book(framework_id, resources, -1);
        self.dirty.insert(agent_id.clone());
    }

    /// Remembers when the first filter of an agent ends; there is one such time for each agent.
    pub(super) fn note_expiry(&mut self, id: &AgentId) {
        let first = self.agents.get(id).and_then(Agent::first_end);
        let known = match self.agents.get_mut(id) {
            Some(agent) => std::mem::replace(&mut agent.expiry, first),
            None => None,
        };
        if let Some(old) = known {
            self.expiries.remove(&(old, id.clone()));
        }
        self.expiries.extend(first.map(|at| (at, id.clone())));
    }

    fn change_totals(&mut self, total: &Resources, sign: i64) {
        for (name, milli) in total.scalar_sums() {
            let sum = self.totals.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(milli.saturating_mul(sign)).max(0);
        }
        self.roles.reorder(&self.totals);
        for sorter in self.clients.values_mut() {
            sorter.reorder(&self.totals);
        }
    }
}
