//! What every scheduler has been offered and has declined, as its stream tells.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agents::RESOURCES;
use crate::api::v1::scheduler::{Call, Event, call, event};
use crate::base::time::Mono;
use crate::master::core::ConnId;
use crate::resources::Resources;

/// An offer that is out.
#[derive(Clone, Debug)]
struct Offer {
    agent: String,
    resources: Resources,
}

/// Something that a scheduler does not want for a while.
#[derive(Clone, Debug)]
struct Filter {
    offer: Offer,
    until: Mono,
}

/// One stream.
#[derive(Debug, Default)]
struct Book {
    node: u64,
    offers: BTreeMap<String, Offer>,
    filters: Vec<Filter>,
}

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Books(BTreeMap<ConnId, Book>);

impl Books {
    /// A master tells a scheduler something. What it should not have told is answered.
    pub(super) fn told(&mut self, node: u64, conn: ConnId, event: &Event, now: Mono) -> Vec<String> {
        let book = self.0.entry(conn).or_default();
        book.node = node;
        let mut problems = Vec::new();
        match event.r#type.and_then(|kind| event::Type::try_from(kind).ok()) {
            Some(event::Type::Offers) => {
                for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                    let resources = Resources::from_wire(&offer.resources).unwrap_or_default().unallocated();
                    let new = Offer { agent: offer.agent_id.value.clone(), resources };
                    book.filters.retain(|filter| filter.until > now);
                    let refused = book.filters.iter().find(|filter| {
                        filter.offer.agent == new.agent && filter.offer.resources.contains(&new.resources)
                    });
                    if let Some(filter) = refused {
                        problems.push(format!(
                            "{} of {} is offered again, which was declined until {:?}",
                            new.resources,
                            new.agent,
                            filter.until.since_start()
                        ));
                    }
                    book.offers.insert(offer.id.value.clone(), new);
                }
                problems.extend(self.too_much(node));
            }
            Some(event::Type::Rescind) => {
                if let Some(rescind) = &event.rescind {
                    book.offers.remove(&rescind.offer_id.value);
                }
            }
            _ => {}
        }
        problems
    }

    /// What one master has offered of an agent, and is more than the agent has.
    fn too_much(&self, node: u64) -> Option<String> {
        let total = Resources::parse(RESOURCES).unwrap_or_default();
        let mut sums: BTreeMap<&str, Resources> = BTreeMap::new();
        for offer in self.0.values().filter(|book| book.node == node).flat_map(|book| book.offers.values()) {
            sums.entry(&offer.agent).or_default().add(&offer.resources);
        }
        let (agent, sum) = sums.into_iter().find(|(_, sum)| !total.contains(sum))?;
        Some(format!("{sum} of {agent} is on offer, which has {total}"))
    }

    /// A master hears a call.
    pub(super) fn called(&mut self, conn: ConnId, call: &Call, now: Mono) {
        let Some(book) = self.0.get_mut(&conn) else { return };
        match call.r#type.and_then(|kind| call::Type::try_from(kind).ok()) {
            Some(call::Type::Decline) => {
                let Some(decline) = &call.decline else { return };
                let seconds = decline.filters.as_ref().and_then(|filters| filters.refuse_seconds);
                for id in &decline.offer_ids {
                    let Some(offer) = book.offers.remove(&id.value) else { continue };
                    if let Some(seconds) = seconds.filter(|seconds| (0.0..=3_600.0).contains(seconds)) {
                        book.filters
                            .push(Filter { offer, until: now.after(Duration::from_secs_f64(seconds)) });
                    }
                }
            }
            Some(call::Type::Accept) => {
                for id in call.accept.iter().flat_map(|accept| &accept.offer_ids) {
                    book.offers.remove(&id.value);
                }
            }
            Some(call::Type::Revive) => book.filters.clear(),
            Some(call::Type::Teardown) => drop(self.0.remove(&conn)),
            _ => {}
        }
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        self.0.remove(&conn);
    }

    pub(super) fn close_all(&mut self, node: u64) {
        self.0.retain(|_, book| book.node != node);
    }

    pub(super) fn forget_filters(&mut self) {
        self.0.values_mut().for_each(|book| book.filters.clear());
    }
}
