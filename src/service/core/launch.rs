//! From an offer to an ACCEPT, and what is wanted of offers.

use super::io::Effect;
use super::matcher;
use super::state::{Launch, Services, Want};
use super::task::task_info;
use crate::api::marathon::App;
use crate::api::v1;
use crate::api::v1::scheduler::call;
use crate::base::time::Now;
use crate::resources::Resources;
use crate::service::model::{Command, Instance, ids};
use std::collections::BTreeSet;

/// Instances that are launched from one offer at the most.
const MAX_PER_OFFER: usize = 5;
/// How long an offer that does not serve is declined, in seconds.
const DECLINE_SECONDS: f64 = 120.0;

impl Services {
    pub(super) fn on_offers(&mut self, offers: Vec<v1::Offer>, now: Now, effects: &mut Vec<Effect>) {
        for offer in offers {
            let tasks = self.match_offer(&offer, now);
            if tasks.is_empty() {
                self.declined = true;
                let filters = Some(v1::Filters { refuse_seconds: Some(DECLINE_SECONDS) });
                let decline = call::Decline { offer_ids: vec![offer.id], filters };
                self.call(call::Type::Decline, |call| call.decline = Some(decline), effects);
                continue;
            }
            let mut waiting = BTreeSet::new();
            for (instance, _) in &tasks {
                self.mark(&instance.app_id);
                waiting.insert(self.propose(Command::Intent(Box::new(instance.clone())), effects));
            }
            self.next_launch += 1;
            self.launches.insert(self.next_launch, Launch { offer, tasks, waiting, void: false });
        }
    }

    /// The instances that an offer can run.
    fn match_offer(&mut self, offer: &v1::Offer, now: Now) -> Vec<(Instance, v1::TaskInfo)> {
        let Ok(offered) = Resources::from_wire(&offer.resources) else { return Vec::new() };
        let mut left = offered.unallocated().unreserved();
        let mut tasks: Vec<(Instance, v1::TaskInfo)> = Vec::new();
        let apps: Vec<String> = self.wants.keys().cloned().collect();
        for id in apps {
            let Some(turn) = self.turn(&id) else { continue };
            let app = turn.app;
            // Every launch makes one less, also of those that this offer begins.
            let mut wanted = self.missing(&id, now);
            let mut others: Vec<Instance> = Vec::new();
            if wanted > 0 && !app.constraints.is_empty() {
                others = self.others(&id);
            }
            while wanted > 0 && tasks.len() < MAX_PER_OFFER {
                match matcher::matches(&app, offer, &left, &others, &mut self.chance) {
                    Ok(found) if left.subtract(&found.resources).is_ok() => {
                        let instance = self.instance(&app, turn.version_ns, offer, found.ports, now);
                        let task = task_info(&app, &instance, &found.resources);
                        others.push(instance.clone());
                        tasks.push((instance, task));
                        wanted -= 1;
                    }
                    Ok(_) => break,
                    Err(reason) => {
                        self.rejects.entry(id.clone()).or_default().insert(offer.hostname.clone(), reason);
                        break;
                    }
                }
            }
            if wanted == 0 {
                self.rejects.remove(&id);
            }
        }
        tasks
    }

    /// Where an app's instances are, or will be.
    fn others(&self, id: &str) -> Vec<Instance> {
        let placed = self.instances_of(id).map(|(instance, _)| instance.as_ref());
        let launching = self.launches.values().flat_map(|launch| &launch.tasks).map(|(instance, _)| instance);
        placed.chain(launching.filter(|instance| instance.app_id == id)).cloned().collect()
    }

    fn instance(
        &mut self,
        app: &App,
        version_ns: i64,
        offer: &v1::Offer,
        ports: Vec<u32>,
        now: Now,
    ) -> Instance {
        let vacant = self.vacant.get_mut(&app.id).and_then(Vec::pop);
        let (instance_id, incarnation) = match vacant {
            Some((id, launches)) => (id, launches + 1),
            None => (format!("{}.instance-{}", ids::safe(&app.id), self.chance.uuid()), 1),
        };
        Instance {
            task_id: format!("{instance_id}._app.{incarnation}"),
            instance_id,
            app_id: app.id.clone(),
            version_ns,
            agent_id: offer.agent_id.value.clone(),
            host: offer.hostname.clone(),
            ports,
            staged_ns: now.wall.nanos(),
            incarnation,
            started_ns: None,
            attributes: matcher::constrained(app, offer),
        }
    }

    /// Every intent of an offer is committed: launch.
    pub(super) fn accept(&mut self, mut launch: Launch, now: Now, effects: &mut Vec<Effect>) {
        // Between intent and commit an app may have changed: what is not wanted any more stays away.
        launch.tasks.retain(|(instance, _)| self.is_wanted(instance));
        for (instance, _) in &launch.tasks {
            self.progress(&instance.app_id, now.mono);
        }
        let task_infos: Vec<v1::TaskInfo> = launch.tasks.into_iter().map(|(_, task)| task).collect();
        let offer_ids = vec![launch.offer.id];
        if task_infos.is_empty() {
            // Nothing of it is wanted any more.
            self.declined = true;
            let decline = call::Decline { offer_ids, filters: None };
            self.call(call::Type::Decline, |call| call.decline = Some(decline), effects);
            return;
        }
        let launch = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos }),
            ..Default::default()
        };
        // What is left is welcome if more is missing: a REVIVE follows.
        let filters = Some(v1::Filters { refuse_seconds: Some(0.0) });
        self.accepted = true;
        let accept = call::Accept { offer_ids, operations: vec![launch], filters };
        self.call(call::Type::Accept, |call| call.accept = Some(accept), effects);
    }

    /// Whether an instance is recorded with this task, and neither killed nor over.
    fn is_wanted(&self, instance: &Instance) -> bool {
        let fact = self.fact(instance).filter(|fact| fact.instance.task_id == instance.task_id);
        fact.is_some_and(|fact| !fact.killing && !fact.over)
    }

    /// The offer went with its subscription: what was recorded for it was never launched.
    pub(super) fn take_back(&mut self, launch: Launch, effects: &mut Vec<Effect>) {
        for (instance, _) in launch.tasks {
            if self.instance_of(&instance.task_id).is_some() {
                self.forget(&instance, effects);
            }
        }
    }

    /// Offers are asked for when something is missing, and not wanted when nothing is.
    pub(super) fn ask_for_offers(&mut self, effects: &mut Vec<Effect>) {
        let is_more = |(id, want): (&String, &Want)| {
            self.asked_for
                .get(id)
                .is_none_or(|asked| asked.version_ns != want.version_ns || asked.missing < want.missing)
        };
        let again = self.accepted || (self.declined && self.wants.iter().any(is_more));
        if self.wants.is_empty() {
            if !self.suppressed {
                self.suppressed = true;
                self.call(
                    call::Type::Suppress,
                    |call| call.suppress = Some(call::Suppress::default()),
                    effects,
                );
            }
        } else if self.suppressed || again {
            self.suppressed = false;
            self.declined = false;
            self.call(call::Type::Revive, |call| call.revive = Some(call::Revive::default()), effects);
        }
        self.accepted = false;
        if self.asked_for != self.wants {
            self.asked_for.clone_from(&self.wants);
        }
    }
}
