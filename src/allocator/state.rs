//! What the allocator knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::agents::Agent;
use super::frameworks::Framework;
use super::roles::RoleTree;
use super::sorter::{Sorter, Sums};
use crate::base::chance::Chance;
use crate::base::id::{AgentId, FrameworkId, Role};
use crate::base::time::Mono;
use crate::resources::Resources;

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The shortest time until declined resources are offered to the same framework again.
    pub allocation_interval: Duration,
    /// An offer must contain one of these.
    pub min_allocatable: Vec<Resources>,
}

impl Default for Config {
    /// Mesos' defaults: one second; 0.01 cpus or 32 MB.
    fn default() -> Self {
        let alternatives = ["cpus:0.01", "mem:32"];
        Self {
            allocation_interval: Duration::from_secs(1),
            min_allocatable: alternatives.iter().filter_map(|text| Resources::parse(text).ok()).collect(),
        }
    }
}

/// Resources that go to a framework as one offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Who gets them.
    pub framework_id: FrameworkId,
    /// In which role.
    pub role: Role,
    /// Where they are.
    pub agent_id: AgentId,
    /// Allocated to the role.
    pub resources: Resources,
}

/// The allocator.
#[derive(Clone, Debug)]
pub struct Allocator {
    pub(super) config: Config,
    pub(super) chance: Chance,
    pub(super) agents: BTreeMap<AgentId, Agent>,
    pub(super) frameworks: BTreeMap<FrameworkId, Framework>,
    /// Sums of the scalars of all agents.
    pub(super) totals: Sums,
    pub(super) roles: RoleTree,
    /// Frameworks of each role.
    pub(super) clients: BTreeMap<Role, Sorter>,
    /// Agents on which something may be offered that was not before.
    pub(super) dirty: BTreeSet<AgentId>,
    /// When decline filters end: for each agent the first that does.
    pub(super) expiries: BTreeSet<(Mono, AgentId)>,
}

impl Allocator {
    /// An allocator without agents and frameworks.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            chance: Chance::new(seed),
            agents: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            totals: Sums::new(),
            roles: RoleTree::default(),
            clients: BTreeMap::new(),
            dirty: BTreeSet::new(),
            expiries: BTreeSet::new(),
        }
    }

    /// Sets a role's weight among its siblings; one is the default. Must be above zero.
    pub fn set_weight(&mut self, role: &Role, weight: f64) {
        if weight > 0.0 && weight.is_finite() {
            self.roles.set_weight(role, weight, &self.totals);
        }
    }

    /// When [`Allocator::allocate`] may have something new although nothing else happens.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Mono> {
        if self.dirty.is_empty() { self.expiries.first().map(|(at, _)| *at) } else { Some(Mono::default()) }
    }

    /// What a framework has on an agent, offered or in use.
    #[must_use]
    pub fn charged(&self, framework_id: &FrameworkId, agent_id: &AgentId) -> Resources {
        let agent = self.agents.get(agent_id);
        agent.and_then(|agent| agent.charged.get(framework_id)).cloned().unwrap_or_default()
    }

    /// Books resources in every place that counts them; `sign` is 1 or −1. Roles without frameworks are
    /// not counted: nobody competes there.
    pub(super) fn book(&mut self, framework_id: &FrameworkId, resources: &Resources, sign: i64) {
        for (role, part) in resources.by_allocation_role() {
            let sums = part.scalar_sums();
            if let Some(sorter) = self.clients.get_mut(&role) {
                self.roles.charge(&role, &sums, sign, &self.totals);
                sorter.charge(framework_id.as_str(), &sums, sign, &self.totals);
            }
        }
    }

    /// Asserts that no agent has given out more than it has, and that the books agree.
    ///
    /// # Panics
    /// They do not: a bug.
    pub fn sanity_check(&self) {
        for (id, agent) in &self.agents {
            let mut sum = Resources::new();
            for charged in agent.charged.values() {
                assert!(!charged.is_empty(), "an empty charge on {id}");
                assert!(!charged.has_unallocated(), "a charge without a role on {id}");
                sum.add(&charged.unallocated());
            }
            assert_eq!(sum, agent.used, "the books of {id} disagree");
            assert!(
                agent.shrunk || agent.total.contains(&sum),
                "{id} has {} and gave out {sum}",
                agent.total
            );
            assert_eq!(agent.free_now(), agent.free, "free resources of {id}");
            assert!(
                agent.expiry.is_none_or(|at| self.expiries.contains(&(at, id.clone()))),
                "the end of a filter on {id} is not listed"
            );
        }
        let ends = self.agents.values().filter(|agent| agent.expiry.is_some()).count();
        assert_eq!(ends, self.expiries.len(), "ends of filters that no agent has");
    }
}
