//! Frameworks: their roles, what they can take, what they do not want.

use std::collections::{BTreeMap, BTreeSet};

use super::state::Allocator;
use crate::api::v1::framework_info::Capability;
use crate::api::v1::framework_info::capability::Type;
use crate::base::id::{FrameworkId, Role};
use crate::resources::Resources;

/// What a framework can deal with (Mesos framework capabilities).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
pub struct Capabilities {
    /// Revocable resources.
    pub revocable: bool,
    /// Agents with gpus.
    pub gpu: bool,
    /// Shared volumes.
    pub shared: bool,
    /// Several roles.
    pub multi_role: bool,
    /// Reservations that refine others.
    pub reservation_refinement: bool,
    /// Agents of other regions.
    pub region_aware: bool,
    /// The states that came with partition awareness.
    pub partition_aware: bool,
    /// TASK_KILLING.
    pub task_killing: bool,
}

impl From<&[Capability]> for Capabilities {
    fn from(list: &[Capability]) -> Self {
        let has = |wanted: Type| list.iter().any(|one| one.r#type == Some(wanted.into()));
        Self {
            revocable: has(Type::RevocableResources),
            gpu: has(Type::GpuResources),
            shared: has(Type::SharedResources),
            multi_role: has(Type::MultiRole),
            reservation_refinement: has(Type::ReservationRefinement),
            region_aware: has(Type::RegionAware),
            partition_aware: has(Type::PartitionAware),
            task_killing: has(Type::TaskKillingState),
        }
    }
}

/// What the allocator must know of a framework.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameworkSpec {
    /// Roles that it is subscribed to.
    pub roles: BTreeSet<Role>,
    /// Roles for which it wants no offers now.
    pub suppressed: BTreeSet<Role>,
    /// What it can deal with.
    pub capabilities: Capabilities,
    /// By role: what an offer must contain one of, instead of the allocator's own minimum.
    pub min_allocatable: BTreeMap<Role, Vec<Resources>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Framework {
    pub(super) spec: FrameworkSpec,
    pub(super) active: bool,
}

impl Allocator {
    /// Adds a framework.
    pub fn add_framework(&mut self, id: &FrameworkId, spec: FrameworkSpec, active: bool) {
        self.remove_framework(id);
        for role in &spec.roles {
            self.add_client(id, role);
        }
        self.frameworks.insert(id.clone(), Framework { spec, active });
        self.all_dirty();
    }

    /// A framework told something new. Filters of roles that it left or that leave suppression go.
    pub fn update_framework(&mut self, id: &FrameworkId, spec: FrameworkSpec) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let old = std::mem::replace(&mut framework.spec, spec.clone());
        for role in spec.roles.difference(&old.roles) {
            self.add_client(id, role);
        }
        for role in old.roles.difference(&spec.roles) {
            self.remove_client(id, role);
        }
        let revived: BTreeSet<Role> = old.suppressed.difference(&spec.suppressed).cloned().collect();
        let left = old.roles.difference(&spec.roles).cloned();
        self.drop_filters(id, &revived.iter().cloned().chain(left).collect());
        self.all_dirty();
    }

    /// The framework is connected: it gets offers.
    pub fn activate_framework(&mut self, id: &FrameworkId) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.active = true;
            self.all_dirty();
        }
    }

    /// The framework is not connected: no offers, and its filters are forgotten (suppression stays).
    pub fn deactivate_framework(&mut self, id: &FrameworkId) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.active = false;
            let roles = framework.spec.roles.clone();
            self.drop_filters(id, &roles);
        }
    }

    /// Removes a framework; what was charged to it is free.
    pub fn remove_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.remove(id) else { return };
        let agents: Vec<_> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.charged.contains_key(id))
            .map(|(id, _)| id.clone())
            .collect();
        for agent_id in agents {
            let charged = self.charged(id, &agent_id);
            self.release(id, &agent_id, &charged, None, crate::base::time::Mono::default());
        }
        self.drop_filters_if(|other, _| other == id);
        for role in &framework.spec.roles {
            self.remove_client(id, role);
        }
    }

    /// No more offers for these roles (empty: all).
    pub fn suppress(&mut self, id: &FrameworkId, roles: &BTreeSet<Role>) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            let all = framework.spec.roles.clone();
            framework.spec.suppressed.extend(if roles.is_empty() { all } else { roles.clone() });
        }
    }

    /// Offers again for these roles (empty: all), and every filter of them is forgotten.
    pub fn revive(&mut self, id: &FrameworkId, roles: &BTreeSet<Role>) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let roles = if roles.is_empty() { framework.spec.roles.clone() } else { roles.clone() };
        framework.spec.suppressed.retain(|role| !roles.contains(role));
        self.drop_filters(id, &roles);
        self.all_dirty();
    }

    /// Roles for which a framework wants no offers.
    #[must_use]
    pub fn suppressed(&self, id: &FrameworkId) -> BTreeSet<Role> {
        self.frameworks.get(id).map(|framework| framework.spec.suppressed.clone()).unwrap_or_default()
    }

    fn drop_filters(&mut self, id: &FrameworkId, roles: &BTreeSet<Role>) {
        self.drop_filters_if(|framework, role| framework == id && roles.contains(role));
    }

    fn drop_filters_if(&mut self, goes: impl Fn(&FrameworkId, &Role) -> bool) {
        let mut changed = Vec::new();
        for (agent_id, agent) in &mut self.agents {
            let before = agent.filters.len();
            agent.filters.retain(|(framework, role), _| !goes(framework, role));
            if agent.filters.len() < before {
                changed.push(agent_id.clone());
            }
        }
        for agent_id in changed {
            self.note_expiry(&agent_id);
            self.dirty.insert(agent_id);
        }
    }

    fn add_client(&mut self, id: &FrameworkId, role: &Role) {
        let is_new_role = !self.clients.contains_key(role);
        if is_new_role {
            self.roles.add(role, &self.totals);
            self.count_in_tree(role, 1);
        }
        self.clients.entry(role.clone()).or_default().add(id.as_str(), &self.totals);
        // It may already use something in this role (known from agents before it came).
        let known: Vec<Resources> =
            self.agents.values().filter_map(|agent| agent.charged.get(id)).cloned().collect();
        for charged in known {
            let Some(part) = charged.by_allocation_role().remove(role) else { continue };
            if let Some(sorter) = self.clients.get_mut(role) {
                sorter.charge(id.as_str(), &part.scalar_sums(), 1, &self.totals);
            }
        }
    }

    fn remove_client(&mut self, id: &FrameworkId, role: &Role) {
        let Some(sorter) = self.clients.get_mut(role) else { return };
        sorter.remove(id.as_str());
        if sorter.is_empty() {
            self.clients.remove(role);
            self.count_in_tree(role, -1);
            self.roles.remove(role);
        }
    }

    /// Everything that is charged in a role, whoever has it, begins or ceases to count.
    fn count_in_tree(&mut self, role: &Role, sign: i64) {
        for charged in self.agents.values().flat_map(|agent| agent.charged.values()) {
            if let Some(part) = charged.by_allocation_role().remove(role) {
                self.roles.charge(role, &part.scalar_sums(), sign, &self.totals);
            }
        }
    }

    fn all_dirty(&mut self) {
        self.dirty.extend(self.agents.keys().cloned());
    }
}
