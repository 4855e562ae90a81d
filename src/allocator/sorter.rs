//! Clients in order of their dominant share. One change costs the logarithm of the number of
//! clients; only a change of the cluster's total reorders all.

use std::collections::{BTreeMap, BTreeSet};

/// Amounts by name, in thousandths.
pub(super) type Sums = BTreeMap<String, i64>;

/// Place in the order: share over weight (as bits of a float that is never negative), number of
/// allocations, name.
type Place = (u64, u64, String);

#[derive(Clone, Debug, Default)]
struct Client {
    allocated: Sums,
    allocations: u64,
    weight: Option<f64>,
    place: Option<Place>,
}

/// Clients ordered by share.
#[derive(Clone, Debug, Default)]
pub(super) struct Sorter {
    clients: BTreeMap<String, Client>,
    order: BTreeSet<Place>,
}

impl Sorter {
    /// Adds a client, if it is new.
    pub(super) fn add(&mut self, name: &str, totals: &Sums) {
        if !self.clients.contains_key(name) {
            self.clients.insert(name.to_owned(), Client::default());
            self.place(name, totals);
        }
    }

    /// Removes a client.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(place) = self.clients.remove(name).and_then(|client| client.place) {
            self.order.remove(&place);
        }
    }

    /// Whether there is no client.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Adds `sums` (or takes them away) to what a client has. Whoever is no client (any more) has nothing
    /// here.
    pub(super) fn charge(&mut self, name: &str, sums: &BTreeMap<&str, i64>, sign: i64, totals: &Sums) {
        let Some(client) = self.clients.get_mut(name) else { return };
        for (resource, milli) in sums {
            let own = client.allocated.entry((*resource).to_owned()).or_default();
            *own = own.saturating_add(milli.saturating_mul(sign)).max(0);
        }
        client.allocations = client.allocations.saturating_add_signed(sign);
        self.place(name, totals);
    }

    /// Sets a client's weight; one is the default.
    pub(super) fn set_weight(&mut self, name: &str, weight: f64, totals: &Sums) {
        self.clients.entry(name.to_owned()).or_default().weight = Some(weight);
        self.place(name, totals);
    }

    /// Orders all clients anew.
    pub(super) fn reorder(&mut self, totals: &Sums) {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for name in names {
            self.place(&name, totals);
        }
    }

    /// Names, smallest share first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(|(_, _, name)| name.as_str())
    }

    fn place(&mut self, name: &str, totals: &Sums) {
        let Some(client) = self.clients.get_mut(name) else { return };
        if let Some(old) = client.place.take() {
            self.order.remove(&old);
        }
        let place = (share(client, totals).to_bits(), client.allocations, name.to_owned());
        client.place = Some(place.clone());
        self.order.insert(place);
    }
}

/// The largest part of any resource that a client has, over its weight.
#[expect(clippy::cast_precision_loss, reason = "a share is an approximation")]
fn share(client: &Client, totals: &Sums) -> f64 {
    let parts = client.allocated.iter().filter_map(|(resource, own)| {
        let total = totals.get(resource).copied().filter(|total| *total > 0)?;
        Some(*own as f64 / total as f64)
    });
    parts.fold(0.0, f64::max) / client.weight.unwrap_or(1.0)
}
