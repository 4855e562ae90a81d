//! The tree of roles. At each node the children compete; a role that has both frameworks and
//! sub-roles competes with them as the child `.`.

use std::collections::BTreeMap;

use super::sorter::{Sorter, Sums};
use crate::base::id::Role;

/// Name of a node's own frameworks among its children: no role can be called so.
const OWN: &str = ".";

/// Roles in order of their shares. What is charged in a role counts while the role has frameworks.
#[derive(Clone, Debug, Default)]
pub(super) struct RoleTree {
    /// Path of a node (empty: the root) → its children.
    nodes: BTreeMap<String, Sorter>,
}

/// Each node on the way to a role, with the child that leads on.
fn way(role: &str) -> impl Iterator<Item = (&str, &str)> {
    let cuts = role.match_indices('/').map(|(at, _)| at).chain([role.len()]);
    let mut from = 0;
    let steps = cuts.map(move |to| {
        let step = (&role[..from.max(1) - 1], &role[from..to]);
        from = to + 1;
        step
    });
    steps.chain([(role, OWN)])
}

impl RoleTree {
    pub(super) fn add(&mut self, role: &Role, totals: &Sums) {
        for (node, child) in way(role.as_str()) {
            self.nodes.entry(node.to_owned()).or_default().add(child, totals);
        }
    }

    /// Removes a role that has no frameworks any more, and the nodes that only led to it.
    pub(super) fn remove(&mut self, role: &Role) {
        let steps: Vec<(&str, &str)> = way(role.as_str()).collect();
        for (node, child) in steps.into_iter().rev() {
            let Some(sorter) = self.nodes.get_mut(node) else { return };
            sorter.remove(child);
            if !sorter.is_empty() {
                return;
            }
            self.nodes.remove(node);
        }
    }

    pub(super) fn charge(&mut self, role: &Role, sums: &BTreeMap<&str, i64>, sign: i64, totals: &Sums) {
        for (node, child) in way(role.as_str()) {
            if let Some(sorter) = self.nodes.get_mut(node) {
                sorter.charge(child, sums, sign, totals);
            }
        }
    }

    pub(super) fn set_weight(&mut self, role: &Role, weight: f64, totals: &Sums) {
        let steps: Vec<(&str, &str)> = way(role.as_str()).collect();
        // The weight counts among the siblings: at the last step before the role's own frameworks.
        if let Some((node, child)) = steps.len().checked_sub(2).and_then(|at| steps.get(at)) {
            self.nodes.entry((*node).to_owned()).or_default().set_weight(child, weight, totals);
        }
    }

    pub(super) fn reorder(&mut self, totals: &Sums) {
        self.nodes.values_mut().for_each(|sorter| sorter.reorder(totals));
    }

    /// Roles with frameworks, smallest share first, parents before or among their children.
    pub(super) fn in_order(&self) -> Vec<Role> {
        let mut roles = Vec::new();
        let mut stack: Vec<(String, String)> = Vec::new();
        let push = |stack: &mut Vec<(String, String)>, node: &str| {
            if let Some(sorter) = self.nodes.get(node) {
                let children: Vec<&str> = sorter.names().collect();
                stack.extend(children.into_iter().rev().map(|child| (node.to_owned(), child.to_owned())));
            }
        };
        push(&mut stack, "");
        while let Some((node, child)) = stack.pop() {
            if child == OWN {
                roles.push(Role::new(&node));
                continue;
            }
            let path = if node.is_empty() { child } else { format!("{node}/{child}") };
            push(&mut stack, &path);
        }
        roles
    }
}
