//! A framework that keeps to no rule: offers that it does not answer, or answers twice, tasks that cannot
//! be, ids that are not its own. Nobody else may suffer from it.

use super::frameworks::Framework;
use crate::api::v1;
use crate::api::v1::scheduler::{Call, Event, call, event};
use crate::base::chance::Chance;
use crate::base::id::FrameworkId;
use crate::resources::{Format, Resources};

/// How the ids of its tasks begin; it uses some of them again and again.
pub(super) const ROGUE: &str = "rogue";
/// What it asks for, often more than it was offered.
const WANTS: [&str; 6] =
    ["cpus:0.5;mem:64", "cpus:100;mem:64", "cpus:0.5", "mem:64;ports:[1-5]", "", "cpus:0.001"];
/// How long it says that it does not want something, in seconds.
const REFUSALS: [f64; 6] = [0.0, 1.0, -5.0, f64::NAN, 1e300, f64::INFINITY];

impl Framework {
    pub(super) fn misbehave(&mut self, event: Event, chance: &mut Chance) -> Vec<Call> {
        match event.r#type.and_then(|kind| event::Type::try_from(kind).ok()) {
            Some(event::Type::Subscribed) => {
                self.id = event.subscribed.map(|subscribed| FrameworkId::new(subscribed.framework_id.value));
            }
            Some(event::Type::Offers) => {
                self.hoard.extend(event.offers.into_iter().flat_map(|offers| offers.offers));
            }
            // Its id is not wanted any more.
            Some(event::Type::Error) => self.is_over = self.rests,
            _ => {}
        }
        if self.rests {
            return vec![self.call(call::Type::Teardown)];
        }
        (0..chance.below(3)).filter_map(|_| self.nonsense(chance)).collect()
    }

    fn nonsense(&mut self, chance: &mut Chance) -> Option<Call> {
        let offer = match chance.below(3) {
            // The same offer may be answered again.
            0 => self.hoard.last().cloned(),
            _ => self.hoard.pop(),
        }?;
        let seconds = REFUSALS[usize::try_from(chance.below(6)).unwrap_or(0)];
        let filters = Some(v1::Filters { refuse_seconds: Some(seconds) });
        let task_id = v1::TaskId { value: format!("task-{}-{}", chance.below(4), chance.below(40)) };
        let agent_id = offer.agent_id.clone();
        let call = match chance.below(9) {
            0 => Call {
                decline: Some(call::Decline { offer_ids: vec![offer.id.clone(), offer.id], filters }),
                ..self.call(call::Type::Decline)
            },
            1 => Call {
                kill: Some(call::Kill { task_id, agent_id: Some(agent_id), kill_policy: None }),
                ..self.call(call::Type::Kill)
            },
            2 => {
                let uuid = chance.uuid().0.to_vec();
                let acknowledge = Some(call::Acknowledge { agent_id, task_id, uuid });
                Call { acknowledge, ..self.call(call::Type::Acknowledge) }
            }
            3 => self.call(call::Type::Revive),
            4 => self.call(call::Type::Suppress),
            // Without what it needs.
            5 => self.call(call::Type::Accept),
            _ => self.impossible(offer, filters, chance),
        };
        Some(call)
    }

    /// Launches what cannot be, among what can.
    fn impossible(&mut self, offer: v1::Offer, filters: Option<v1::Filters>, chance: &mut Chance) -> Call {
        let tasks = (0..chance.below(4)).map(|_| {
            self.next += 1;
            let wants = WANTS[usize::try_from(chance.below(6)).unwrap_or(0)];
            let id = match chance.below(4) {
                0 => String::new(),
                1 => ROGUE.to_owned(),
                _ => format!("{ROGUE}-{}-{}", self.number, self.next),
            };
            v1::TaskInfo {
                name: id.clone(),
                task_id: v1::TaskId { value: id },
                agent_id: offer.agent_id.clone(),
                command: Some(v1::CommandInfo { value: Some("short 500".to_owned()), ..Default::default() }),
                resources: Resources::parse(wants).unwrap_or_default().to_wire(Format::PostRefinement),
                ..Default::default()
            }
        });
        let launch = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos: tasks.collect() }),
            ..Default::default()
        };
        let mut offer_ids = vec![offer.id];
        offer_ids.extend(
            self.hoard.iter().take(usize::try_from(chance.below(2)).unwrap_or(0)).map(|one| one.id.clone()),
        );
        let accept = call::Accept { offer_ids, operations: vec![launch], filters };
        Call { accept: Some(accept), ..self.call(call::Type::Accept) }
    }
}
