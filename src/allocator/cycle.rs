//! One allocation.

use super::agents::{Agent, Filter};
use super::frameworks::Framework;
use super::state::{Allocator, Grant};
use crate::base::id::{AgentId, FrameworkId, Role};
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Mono;
use crate::resources::Resources;

/// Why a framework is offered nothing of an agent in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    AgentInactive,
    FrameworkInactive,
    NotSubscribed,
    Suppressed,
    GpuAgent,
    NothingFree,
    BelowMinimum,
    Filtered,
}

impl Allocator {
    /// Gives out what is free on the agents on which something changed. What is granted is charged.
    pub fn allocate(&mut self, now: Mono) -> Vec<Grant> {
        self.expire(now);
        let mut agents: Vec<AgentId> = std::mem::take(&mut self.dirty).into_iter().collect();
        self.chance.shuffle(&mut agents);
        let mut grants = Vec::new();
        for agent_id in agents {
            self.allocate_agent(&agent_id, &mut grants);
        }
        grants
    }

    fn expire(&mut self, now: Mono) {
        while let Some(first) = self.expiries.first().filter(|(at, _)| *at <= now).cloned() {
            self.expiries.remove(&first);
            let (_, agent_id) = first;
            if let Some(agent) = self.agents.get_mut(&agent_id) {
                agent.expiry = None;
                for filters in agent.filters.values_mut() {
                    filters.retain(|filter| filter.until > now);
                }
                agent.filters.retain(|_, filters| !filters.is_empty());
            }
            self.note_expiry(&agent_id);
            self.dirty.insert(agent_id);
        }
    }

    fn allocate_agent(&mut self, agent_id: &AgentId, grants: &mut Vec<Grant>) {
        if self.agents.get(agent_id).is_none_or(|agent| !agent.active || agent.free.is_empty()) {
            return;
        }
        for role in self.roles.in_order() {
            let names = self
                .clients
                .get(&role)
                .map(|sorter| sorter.names().map(FrameworkId::new).collect::<Vec<_>>());
            for framework_id in names.unwrap_or_default() {
                let Ok(resources) = self.offerable(agent_id, &framework_id, &role) else { continue };
                let allocated = resources.allocated_to(&role);
                self.give(&framework_id, agent_id, &allocated);
                #[cfg(planted)]
                if let Some(agent) = self.agents.get_mut(agent_id).filter(|_| planted::has(Bug::OfferTwice)) {
                    agent.free.add(&resources);
                }
                grants.push(Grant {
                    framework_id,
                    role: role.clone(),
                    agent_id: agent_id.clone(),
                    resources: allocated,
                });
            }
        }
    }

    /// What a framework can be offered of an agent in a role, or why nothing.
    pub(super) fn offerable(
        &self,
        agent_id: &AgentId,
        framework_id: &FrameworkId,
        role: &Role,
    ) -> Result<Resources, Refusal> {
        let (Some(agent), Some(framework)) = (self.agents.get(agent_id), self.frameworks.get(framework_id))
        else {
            return Err(Refusal::NothingFree);
        };
        if !agent.active {
            return Err(Refusal::AgentInactive);
        }
        if !framework.active {
            return Err(Refusal::FrameworkInactive);
        }
        if !framework.spec.roles.contains(role) {
            return Err(Refusal::NotSubscribed);
        }
        if framework.spec.suppressed.contains(role) {
            return Err(Refusal::Suppressed);
        }
        if agent.has_gpus && !framework.spec.capabilities.gpu {
            return Err(Refusal::GpuAgent);
        }
        let resources = takeable(agent, framework, role);
        if resources.is_empty() {
            return Err(Refusal::NothingFree);
        }
        let minimum = framework.spec.min_allocatable.get(role).unwrap_or(&self.config.min_allocatable);
        if !minimum.is_empty() && !minimum.iter().any(|minimum| reaches(&resources, minimum)) {
            return Err(Refusal::BelowMinimum);
        }
        let filters = agent.filters.get(&(framework_id.clone(), role.clone()));
        #[cfg(planted)]
        let filters = filters.filter(|_| !planted::has(Bug::ForgetFilter));
        if filters
            .is_some_and(|filters| filters.iter().any(|Filter { refused, .. }| refused.contains(&resources)))
        {
            return Err(Refusal::Filtered);
        }
        Ok(resources)
    }
}

/// The free resources of an agent that a framework can deal with in a role.
fn takeable(agent: &Agent, framework: &Framework, role: &Role) -> Resources {
    let capabilities = framework.spec.capabilities;
    let mut resources = agent.free.allocatable_to(role);
    if !capabilities.revocable {
        resources = resources.nonrevocable();
    }
    if !capabilities.shared {
        resources = resources.nonshared();
    }
    if !capabilities.reservation_refinement {
        resources = resources.without_refinement();
    }
    resources
}

/// Whether there is at least as much of every scalar as in `minimum`, whatever its reservations.
fn reaches(resources: &Resources, minimum: &Resources) -> bool {
    let has = resources.scalar_sums();
    minimum.scalar_sums().iter().all(|(name, milli)| has.get(name).is_some_and(|own| own >= milli))
}
