//! Offers: made from the allocator's grants, declined, taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::io::Effect;
use super::state::{Framework, Master, Offer};
use super::wire;
use crate::allocator::Grant;
use crate::api::v1;
use crate::api::v1::scheduler::{Event, call, event};
use crate::base::id::{FrameworkId, OfferId, Role};
use crate::base::time::{Now, seconds_capped};
use crate::resources::Format;

/// Longest refusal: 365 days.
const MAX_REFUSAL: Duration = Duration::from_secs(31_536_000);
/// Refusal when none is given, or a negative one.
const DEFAULT_REFUSAL: Duration = Duration::from_secs(5);

/// How long a framework does not want what it declined (Mesos: absent or negative is 5 s, at most a
/// year).
pub(super) fn refusal(filters: Option<&v1::Filters>) -> Duration {
    match filters.and_then(|filters| filters.refuse_seconds) {
        Some(seconds) if seconds >= 0.0 => seconds_capped(seconds, MAX_REFUSAL),
        _ => DEFAULT_REFUSAL,
    }
}

impl Master {
    /// Turns what the allocator grants into offers, one event for each framework.
    pub(super) fn make_offers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut events: BTreeMap<FrameworkId, Vec<v1::Offer>> = BTreeMap::new();
        for grant in self.allocator.allocate(now.mono) {
            let framework_id = grant.framework_id.clone();
            match self.make_offer(&grant) {
                Some(offer) => events.entry(framework_id).or_default().push(offer),
                // Nobody to offer to after all.
                None => self.allocator.release(
                    &grant.framework_id,
                    &grant.agent_id,
                    &grant.resources,
                    None,
                    now.mono,
                ),
            }
        }
        for (framework_id, offers) in events {
            let Some(conn) = self.frameworks.get(&framework_id).and_then(|framework| framework.conn) else {
                continue;
            };
            let offers = Some(event::Offers { offers });
            let event = Box::new(Event { offers, ..wire::event(event::Type::Offers) });
            effects.push(Effect::Send { conn, event });
        }
    }

    fn make_offer(&mut self, grant: &Grant) -> Option<v1::Offer> {
        let framework =
            self.frameworks.get_mut(&grant.framework_id).filter(|framework| framework.conn.is_some())?;
        let agent = self.agents.get_mut(&grant.agent_id)?;
        let id = OfferId::from(format!("{}-O{}", self.id, self.next_offer));
        self.next_offer += 1;
        framework.offers.insert(id.clone());
        agent.offers.insert(id.clone());
        let offer = Offer {
            framework_id: grant.framework_id.clone(),
            agent_id: grant.agent_id.clone(),
            role: grant.role.clone(),
            resources: grant.resources.clone(),
        };
        let message = offer_message(&id, &offer, &agent.info, Some(framework));
        self.offers.insert(id, offer);
        Some(message)
    }

    pub(super) fn decline(&mut self, id: &FrameworkId, decline: call::Decline, now: Now) {
        let refuse = refusal(decline.filters.as_ref());
        for offer_id in decline.offer_ids {
            let offer_id = OfferId::new(&offer_id.value);
            if self.offers.get(&offer_id).is_some_and(|offer| &offer.framework_id == id) {
                self.take_back(&offer_id, Some(refuse), now);
            }
        }
    }

    /// Ends an offer; what was in it is free again.
    pub(super) fn take_back(&mut self, id: &OfferId, refuse: Option<Duration>, now: Now) {
        if let Some(offer) = self.end_offer(id) {
            self.allocator.release(&offer.framework_id, &offer.agent_id, &offer.resources, refuse, now.mono);
        }
    }

    /// Ends an offer; what was in it stays charged to the framework.
    pub(super) fn end_offer(&mut self, id: &OfferId) -> Option<Offer> {
        let offer = self.offers.remove(id)?;
        if let Some(framework) = self.frameworks.get_mut(&offer.framework_id) {
            framework.offers.remove(id);
        }
        if let Some(agent) = self.agents.get_mut(&offer.agent_id) {
            agent.offers.remove(id);
        }
        Some(offer)
    }

    /// Takes an offer back and tells its framework.
    pub(super) fn rescind(&mut self, id: &OfferId, now: Now, effects: &mut Vec<Effect>) {
        let Some(offer) = self.offers.get(id) else { return };
        let conn = self.frameworks.get(&offer.framework_id).and_then(|framework| framework.conn);
        self.take_back(id, None, now);
        if let Some(conn) = conn {
            let rescind = Some(event::Rescind { offer_id: wire::offer_id(id) });
            let event = Box::new(Event { rescind, ..wire::event(event::Type::Rescind) });
            effects.push(Effect::Send { conn, event });
        }
    }

    /// Rescinds a framework's offers of roles that it is not in any more.
    pub(super) fn rescind_other_roles(
        &mut self,
        id: &FrameworkId,
        roles: &BTreeSet<Role>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let other = framework
            .offers
            .iter()
            .filter(|offer_id| self.offers.get(*offer_id).is_some_and(|offer| !roles.contains(&offer.role)));
        let other: Vec<OfferId> = other.cloned().collect();
        for offer_id in other {
            self.rescind(&offer_id, now, effects);
        }
    }
}

/// An offer as it is sent. Without a framework (operator API): everything shows.
pub(super) fn offer_message(
    id: &OfferId,
    offer: &Offer,
    info: &v1::AgentInfo,
    framework: Option<&Framework>,
) -> v1::Offer {
    let refined = framework.is_none_or(|framework| framework.capabilities.reservation_refinement);
    let allocation = framework.is_none_or(|framework| framework.capabilities.multi_role);
    let format = if refined { Format::PostRefinement } else { Format::PreRefinement };
    let resources = if allocation { offer.resources.clone() } else { offer.resources.unallocated() };
    let role = Some(offer.role.to_string());
    let port = info.port.unwrap_or(crate::config::DEFAULT_AGENT_PORT);
    let address =
        v1::Address { hostname: Some(info.hostname.clone()), ip: Some(info.hostname.clone()), port };
    v1::Offer {
        id: wire::offer_id(id),
        framework_id: wire::framework_id(&offer.framework_id),
        agent_id: wire::agent_id(&offer.agent_id),
        hostname: info.hostname.clone(),
        url: Some(v1::Url {
            scheme: "http".to_owned(),
            address,
            path: Some("/slave(1)".to_owned()),
            ..Default::default()
        }),
        domain: info.domain.clone(),
        resources: resources.to_wire(format),
        attributes: info.attributes.clone(),
        allocation_info: allocation.then_some(v1::resource::AllocationInfo { role }),
        ..Default::default()
    }
}
