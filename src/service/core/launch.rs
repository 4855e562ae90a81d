//! From an offer to an ACCEPT, and what is wanted of offers.

use super::io::Effect;
use super::matcher;
use super::state::{Launch, Services};
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
                waiting.insert(self.propose(Command::Intent(Box::new(instance.clone())), effects));
            }
            self.next_launch += 1;
            self.launches.insert(self.next_launch, Launch { offer, tasks, waiting });
        }
    }

    /// The instances that an offer can run.
    fn match_offer(&mut self, offer: &v1::Offer, now: Now) -> Vec<(Instance, v1::TaskInfo)> {
        let Ok(offered) = Resources::from_wire(&offer.resources) else { return Vec::new() };
        let mut left = offered.unallocated().unreserved();
        let mut tasks: Vec<(Instance, v1::TaskInfo)> = Vec::new();
        let apps: Vec<String> = self.apps.keys().cloned().collect();
        for id in apps {
            let Some((version, app)) = self.apps.get(&id).cloned() else { continue };
            let mut wanted = self.missing(&id, now);
            while wanted > 0 && tasks.len() < MAX_PER_OFFER {
                let state = std::sync::Arc::clone(&self.state);
                let placed =
                    state.instances().values().map(AsRef::as_ref).filter(|instance| instance.app_id == id);
                let launching = self
                    .launches
                    .values()
                    .flat_map(|launch| &launch.tasks)
                    .chain(&tasks)
                    .map(|(instance, _)| instance);
                let others: Vec<&Instance> =
                    placed.chain(launching.filter(|instance| instance.app_id == id)).collect();
                match matcher::matches(&app, offer, &left, &others, &mut self.chance) {
                    Ok(found) if left.subtract(&found.resources).is_ok() => {
                        let instance = self.instance(&app, version, offer, found.ports, now);
                        let task = task_info(&app, &instance, &found.resources);
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
        }
    }

    /// Every intent of an offer is committed: launch.
    pub(super) fn accept(&self, launch: Launch, effects: &mut Vec<Effect>) {
        // Between intent and commit an app may have changed: what is not wanted any more stays away.
        let wanted = launch.tasks.into_iter().filter(|(instance, _)| self.is_wanted(instance));
        let task_infos: Vec<v1::TaskInfo> = wanted.map(|(_, task)| task).collect();
        let offer_ids = vec![launch.offer.id];
        let launch = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos }),
            ..Default::default()
        };
        let accept = call::Accept { offer_ids, operations: vec![launch], filters: None };
        self.call(call::Type::Accept, |call| call.accept = Some(accept), effects);
    }

    /// Whether an instance is recorded with this task, and neither killed nor over.
    fn is_wanted(&self, instance: &Instance) -> bool {
        let fact = self.facts.get(&instance.instance_id).filter(|fact| fact.task_id == instance.task_id);
        fact.is_some_and(|fact| fact.killed.is_none() && !fact.over)
    }

    /// Offers are asked for when something is missing, and not wanted when nothing is.
    pub(super) fn ask_for_offers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let wanted: u64 = self.apps.keys().map(|id| u64::from(self.missing(id, now))).sum();
        if wanted == 0 {
            if !self.suppressed {
                self.suppressed = true;
                self.call(
                    call::Type::Suppress,
                    |call| call.suppress = Some(call::Suppress::default()),
                    effects,
                );
            }
        } else if self.suppressed || (self.declined && wanted > self.asked_for) {
            self.suppressed = false;
            self.declined = false;
            self.call(call::Type::Revive, |call| call.revive = Some(call::Revive::default()), effects);
        }
        self.asked_for = wanted;
    }
}
