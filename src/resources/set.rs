//! The algebra.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::identity::Identity;
use super::{NotContained, Ranges, Value, roles};
use crate::base::id::Role;

/// An amount, and how many copies of it there are (more than one only for shared resources).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Amount {
    pub(super) value: Value,
    pub(super) copies: u32,
}

/// Resources, one entry for each identity. Entries that never merge (volumes, whole disks) are
/// told apart by their amount as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resources {
    pub(super) entries: BTreeMap<Identity, Vec<Amount>>,
}

impl Resources {
    /// No resources.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds one amount.
    pub(super) fn add_amount(&mut self, identity: &Identity, amount: &Amount) {
        if amount.value.is_empty() || amount.copies == 0 {
            return;
        }
        let merges = !identity.never_merges();
        let own = self.entries.entry(identity.clone()).or_default();
        let twin = own.iter_mut().find(|own| {
            if identity.shared || !merges {
                own.value == amount.value
            } else {
                own.value.same_kind(&amount.value)
            }
        });
        match twin {
            Some(own) if identity.shared => own.copies = own.copies.saturating_add(amount.copies),
            Some(own) if merges => own.value.add(&amount.value),
            _ => {
                own.push(amount.clone());
                own.sort();
            }
        }
    }

    /// The sum of amounts, and the name of one that repeats a port or an item of another. Ranges of one
    /// identity are merged all at once: one after another would take the square of their number.
    pub(super) fn sum_of(amounts: impl IntoIterator<Item = (Identity, Amount)>) -> (Self, Option<String>) {
        let mut sum = Self::default();
        let mut repeated = None;
        let mut ranges: BTreeMap<Identity, Vec<Ranges>> = BTreeMap::new();
        for (identity, amount) in amounts {
            let merges = !identity.shared && !identity.never_merges();
            match amount.value {
                Value::Ranges(one) if merges => ranges.entry(identity).or_default().push(one),
                value => {
                    let mut own = sum.entries.get(&identity).into_iter().flatten();
                    if own.any(|own| own.value.overlaps(&value)) {
                        repeated = Some(identity.name.clone());
                    }
                    sum.add_amount(&identity, &Amount { value, copies: amount.copies });
                }
            }
        }
        for (identity, all) in ranges {
            let (value, overlap) = Ranges::union_of(&all);
            if overlap {
                repeated = Some(identity.name.clone());
            }
            sum.add_amount(&identity, &Amount { value: Value::Ranges(value), copies: 1 });
        }
        (sum, repeated)
    }

    /// Takes one amount away; false, and no change, when it is not contained.
    fn subtract_amount(&mut self, identity: &Identity, amount: &Amount) -> bool {
        let Some(own) = self.entries.get_mut(identity) else { return false };
        let whole = identity.shared || identity.never_merges();
        let found = own.iter().position(|own| {
            if whole {
                own.value == amount.value && own.copies >= amount.copies
            } else {
                own.value.contains(&amount.value)
            }
        });
        let Some(at) = found else { return false };
        if identity.shared {
            own[at].copies -= amount.copies;
        } else if whole {
            own[at].copies = 0;
        } else {
            own[at].value.subtract(&amount.value);
        }
        own.retain(|amount| amount.copies > 0 && !amount.value.is_empty());
        if own.is_empty() {
            self.entries.remove(identity);
        }
        true
    }

    fn amounts(&self) -> impl Iterator<Item = (&Identity, &Amount)> {
        self.entries
            .iter()
            .flat_map(|(identity, amounts)| amounts.iter().map(move |amount| (identity, amount)))
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        for (identity, amount) in other.amounts() {
            self.add_amount(identity, amount);
        }
    }

    /// Takes all of `other` away, or nothing.
    ///
    /// # Errors
    /// `other` is not contained.
    pub fn subtract(&mut self, other: &Self) -> Result<(), NotContained> {
        let mut left = self.clone();
        for (identity, amount) in other.amounts() {
            if !left.subtract_amount(identity, amount) {
                return Err(NotContained { missing: other.to_string(), available: self.to_string() });
            }
        }
        *self = left;
        Ok(())
    }

    /// What is left of these when `other`, which need not be contained, is in use.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = self.clone();
        for (identity, amount) in other.amounts() {
            if left.subtract_amount(identity, amount) || identity.shared || identity.never_merges() {
                continue;
            }
            let Some(own) = left.entries.get_mut(identity) else { continue };
            own.iter_mut().for_each(|own| own.value.subtract_at_most(&amount.value));
            own.retain(|amount| amount.copies > 0 && !amount.value.is_empty());
            if own.is_empty() {
                left.entries.remove(identity);
            }
        }
        left
    }

    /// Whether all of `other` is contained.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        if other.entries.len() == 1
            && !other.entries.keys().any(|identity| identity.shared || identity.never_merges())
        {
            return other.amounts().all(|(identity, wanted)| {
                self.entries
                    .get(identity)
                    .is_some_and(|own| own.iter().any(|own| own.value.contains(&wanted.value)))
            });
        }
        self.clone().subtract(other).is_ok()
    }

    /// A copy whose identities are changed by `change`.
    fn mapped(&self, change: impl Fn(&mut Identity)) -> Self {
        let mut mapped = Self::default();
        for (identity, amount) in self.amounts() {
            let mut changed = identity.clone();
            change(&mut changed);
            mapped.add_amount(&changed, amount);
        }
        mapped
    }

    /// A copy of the entries that `keep` likes.
    fn filtered(&self, keep: impl Fn(&Identity, &Value) -> bool) -> Self {
        let mut kept = Self::default();
        for (identity, amount) in self.amounts().filter(|(identity, amount)| keep(identity, &amount.value)) {
            kept.add_amount(identity, amount);
        }
        kept
    }

    /// The same resources, all allocated to `role`.
    #[must_use]
    pub fn allocated_to(&self, role: &Role) -> Self {
        self.mapped(|identity| identity.allocation = Some(role.clone()))
    }

    /// The same resources without an allocation.
    #[must_use]
    pub fn unallocated(&self) -> Self {
        self.mapped(|identity| identity.allocation = None)
    }

    /// The roles that these resources are allocated to.
    #[must_use]
    pub fn allocation_roles(&self) -> BTreeSet<Role> {
        self.entries.keys().filter_map(|identity| identity.allocation.clone()).collect()
    }

    /// Whether some entry has no allocation.
    #[must_use]
    pub fn has_unallocated(&self) -> bool {
        self.entries.keys().any(|identity| identity.allocation.is_none())
    }

    /// The entries by the role that they are allocated to; entries without one are left out.
    #[must_use]
    pub fn by_allocation_role(&self) -> BTreeMap<Role, Self> {
        let roles = self.allocation_roles();
        roles
            .into_iter()
            .map(|role| {
                (role.clone(), self.filtered(|identity, _| identity.allocation.as_ref() == Some(&role)))
            })
            .collect()
    }

    /// What may be allocated to `role`: unreserved, or reserved for it or an ancestor.
    #[must_use]
    pub fn allocatable_to(&self, role: &Role) -> Self {
        self.filtered(|identity, _| {
            identity.reserved_for().is_none_or(|reserved| roles::serves(reserved, role))
        })
    }

    /// The unreserved part.
    #[must_use]
    pub fn unreserved(&self) -> Self {
        self.filtered(|identity, _| identity.reservations.is_empty())
    }

    /// The reserved part by the role that it is reserved for.
    #[must_use]
    pub fn reserved(&self) -> BTreeMap<Role, Self> {
        let roles: BTreeSet<Role> =
            self.entries.keys().filter_map(|identity| identity.reserved_for().cloned()).collect();
        roles
            .into_iter()
            .map(|role| (role.clone(), self.filtered(|identity, _| identity.reserved_for() == Some(&role))))
            .collect()
    }

    /// The part that is not revocable.
    #[must_use]
    pub fn nonrevocable(&self) -> Self {
        self.filtered(|identity, _| !identity.revocable)
    }

    /// The revocable part.
    #[must_use]
    pub fn revocable(&self) -> Self {
        self.filtered(|identity, _| identity.revocable)
    }

    /// The part that is not shared.
    #[must_use]
    pub fn nonshared(&self) -> Self {
        self.filtered(|identity, _| !identity.shared)
    }

    /// The part without reservations that refine another one.
    #[must_use]
    pub fn without_refinement(&self) -> Self {
        self.filtered(|identity, _| identity.reservations.len() <= 1)
    }

    /// Only the entries of one name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        self.filtered(|identity, _| identity.name == name)
    }

    /// Names of the entries.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.entries.keys().map(|identity| identity.name.as_str()).collect()
    }

    /// Sum of the scalars of one name, in thousandths, saturating.
    #[must_use]
    pub fn milli(&self, name: &str) -> i64 {
        self.amounts().filter(|(identity, _)| identity.name == name).fold(0, |sum: i64, (_, amount)| {
            match &amount.value {
                Value::Scalar(scalar) => sum.saturating_add(scalar.milli()),
                Value::Ranges(_) | Value::Set(_) => sum,
            }
        })
    }

    /// Sums of all scalars by name, in thousandths; copies of shared resources count once.
    #[must_use]
    pub fn scalar_sums(&self) -> BTreeMap<&str, i64> {
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for (identity, amount) in self.amounts() {
            if let Value::Scalar(scalar) = &amount.value {
                let sum = sums.entry(&identity.name).or_default();
                *sum = sum.saturating_add(scalar.milli());
            }
        }
        sums
    }

    /// The numbers of all ranges of one name, coalesced, inclusive.
    #[must_use]
    pub fn ranges(&self, name: &str) -> Vec<(u64, u64)> {
        let mut all = Ranges::default();
        for (_, amount) in self.amounts().filter(|(identity, _)| identity.name == name) {
            if let Value::Ranges(ranges) = &amount.value {
                all = all.union(ranges);
            }
        }
        all.pairs().to_vec()
    }

    /// Whether adding `other` would name a port or item twice: amounts that only look disjoint
    /// because they are merged as sets.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        other.amounts().any(|(identity, amount)| {
            self.entries
                .get(identity)
                .is_some_and(|own| own.iter().any(|own| own.value.overlaps(&amount.value)))
        })
    }
}

impl fmt::Display for Resources {
    /// The text form: `cpus:4;mem(eng):1024`. Allocations do not show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (identity, amount)) in self.amounts().enumerate() {
            let semicolon = if index == 0 { "" } else { ";" };
            write!(f, "{semicolon}{}", identity.name)?;
            if let Some(role) = identity.reserved_for() {
                write!(f, "({role})")?;
            }
            write!(f, ":{}", amount.value)?;
        }
        Ok(())
    }
}
