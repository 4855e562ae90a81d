//! What should run against what does: launches and kills that are due, steps of deployments.

use super::io::Effect;
use super::state::{Fact, Services};
use crate::api::marathon::App;
use crate::api::v1::TaskState as State;
use crate::base::time::Now;
use crate::service::model::{Command, Instance};
use std::sync::Arc;

/// The instances of one app, sorted out.
struct Census<'a> {
    /// Of the current configuration, not over and not being killed.
    new: Vec<(&'a Arc<Instance>, &'a Fact)>,
    /// Of an earlier one.
    old: Vec<(&'a Arc<Instance>, &'a Fact)>,
    /// Being killed.
    going: usize,
    /// Of those, how many are of an earlier configuration.
    going_old: usize,
    /// On their way through the replicated state.
    launching: u32,
}

impl Services {
    fn census(&self, id: &str) -> Census<'_> {
        let config = self.state.apps().get(id).map_or(i64::MAX, |entry| entry.current.last_config_change_ns);
        let mut census = Census { new: Vec::new(), old: Vec::new(), going: 0, going_old: 0, launching: 0 };
        for instance in self.state.instances().values().filter(|instance| instance.app_id == id) {
            let Some(fact) = self.facts.get(&instance.instance_id).filter(|fact| !fact.over) else {
                continue;
            };
            if fact.killed.is_some() {
                census.going += 1;
                census.going_old += usize::from(instance.version_ns < config);
            } else if instance.version_ns >= config {
                census.new.push((instance, fact));
            } else {
                census.old.push((instance, fact));
            }
        }
        let launching = self.launches.values().flat_map(|launch| &launch.tasks);
        let unrecorded = launching.filter(|(instance, _)| {
            // Under the same instance id the end of an earlier task may still be recorded.
            let recorded = self.state.instances().get(&instance.instance_id);
            instance.app_id == id && recorded.is_none_or(|known| known.task_id != instance.task_id)
        });
        census.launching = u32::try_from(unrecorded.count()).unwrap_or(u32::MAX);
        census
    }

    /// Instances of an app that may be launched now.
    pub(super) fn missing(&self, id: &str, now: Now) -> u32 {
        let delayed = self.delays.get(id).is_some_and(|delay| delay.until > now.mono);
        if delayed { 0 } else { self.missing_ignoring_delay(id) }
    }

    pub(super) fn missing_ignoring_delay(&self, id: &str) -> u32 {
        let Some((_, app)) = self.apps.get(id) else { return 0 };
        if self.waits_for_dependency(id) {
            return 0;
        }
        let census = self.census(id);
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let new = count(census.new.len()).saturating_add(census.launching);
        // Only an upgrade may go beyond the instances asked for; what was killed without one is
        // replaced when it has ended, under the same instance id.
        let upgrade = !census.old.is_empty() || census.going_old > 0;
        let limit = if upgrade { most(app) } else { app.instances };
        let room = limit.saturating_sub(count(census.old.len() + census.going)).saturating_sub(new);
        app.instances.saturating_sub(new).min(room)
    }

    /// Whether a deployment has not come to an app's step yet.
    fn waits_for_dependency(&self, id: &str) -> bool {
        self.state.deployments().values().any(|deployment| {
            let later = deployment.steps.iter().skip(deployment.current + 1).flatten();
            let reached = deployment.steps.iter().take(deployment.current + 1).flatten();
            later.into_iter().any(|action| action.app_id == id)
                && !reached.into_iter().any(|action| action.app_id == id)
        })
    }

    /// Kills what should not run: tasks of removed apps, surplus, and old instances as far as an upgrade
    /// allows.
    pub(super) fn kill_surplus(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut victims: Vec<Arc<Instance>> = Vec::new();
        for instance in self.state.instances().values() {
            let fact = self.facts.get(&instance.instance_id);
            let again = fact.is_some_and(|fact| fact.killed.is_some() && !fact.over);
            if again || !self.apps.contains_key(&instance.app_id) {
                victims.push(Arc::clone(instance));
            }
        }
        for (id, (_, app)) in &self.apps {
            victims.extend(surplus(app, self.census(id)));
        }
        for instance in victims {
            self.kill(&instance, now, effects);
        }
    }

    /// Ends the steps of deployments that are done.
    pub(super) fn advance_deployments(&mut self, effects: &mut Vec<Effect>) {
        let deployments: Vec<_> = self.state.deployments().values().cloned().collect();
        for deployment in deployments {
            let done = deployment
                .steps
                .get(deployment.current)
                .is_none_or(|actions| actions.iter().all(|action| self.is_done(&action.app_id)));
            if !done || !self.stepping.insert((deployment.id.clone(), deployment.current)) {
                continue;
            }
            let next = deployment.current + 1;
            let deployment_id = deployment.id.clone();
            let command = match u32::try_from(next) {
                Ok(step) if next < deployment.steps.len() => Command::Step { deployment_id, step },
                _ => Command::Finish { deployment_id },
            };
            self.propose(command, effects);
        }
    }

    /// Whether an app is as it should be: removed and gone, or all instances new and well.
    fn is_done(&self, id: &str) -> bool {
        let census = self.census(id);
        let Some((_, app)) = self.apps.get(id) else {
            return census.new.is_empty()
                && census.old.is_empty()
                && census.going == 0
                && census.launching == 0;
        };
        let healthy = census.new.iter().filter(|(_, fact)| fact.is_healthy(app)).count();
        let wanted = usize::try_from(app.instances).unwrap_or(usize::MAX);
        census.old.is_empty()
            && census.going == 0
            && census.launching == 0
            && census.new.len() == wanted
            && healthy == wanted
    }
}

/// Instances that may run during an upgrade, at least one more than must stay healthy: otherwise
/// nothing could ever move.
fn most(app: &App) -> u32 {
    let over = part(app, 1.0 + app.upgrade_strategy.maximum_over_capacity, f64::floor);
    let least = least_healthy(app);
    if over == least { over.saturating_add(1) } else { over }
}

fn least_healthy(app: &App) -> u32 {
    part(app, app.upgrade_strategy.minimum_health_capacity, f64::ceil)
}

/// A part of the instances, rounded.
fn part(app: &App, factor: f64, round: fn(f64) -> f64) -> u32 {
    let value = round(f64::from(app.instances) * factor).clamp(0.0, f64::from(u32::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped just before")]
    let whole = value as u32;
    whole
}

/// The instances of an app that should be killed now.
fn surplus(app: &App, census: Census<'_>) -> Vec<Arc<Instance>> {
    let wanted = usize::try_from(app.instances).unwrap_or(usize::MAX);
    let mut victims: Vec<Arc<Instance>> = Vec::new();
    let (mut new, mut old) = (census.new, census.old);
    order(app, &mut new);
    order(app, &mut old);
    let too_many = new.len().saturating_sub(wanted);
    victims.extend(new.drain(..too_many).map(|(instance, _)| Arc::clone(instance)));
    if old.is_empty() {
        return victims;
    }
    let healthy =
        |list: &[(&Arc<Instance>, &Fact)]| list.iter().filter(|(_, fact)| fact.is_healthy(app)).count();
    let least = usize::try_from(least_healthy(app)).unwrap_or(usize::MAX);
    let mut spare = (healthy(&new) + healthy(&old)).saturating_sub(least);
    // A place must become free if the upgrade has none: scale-downs happen at once.
    let total = new.len() + old.len() + census.going;
    spare = spare.max(total.saturating_sub(usize::try_from(most(app)).unwrap_or(usize::MAX)));
    for (instance, fact) in old {
        if !fact.is_healthy(app) {
            victims.push(Arc::clone(instance));
        } else if spare > 0 {
            spare -= 1;
            victims.push(Arc::clone(instance));
        }
    }
    victims
}

/// First to go first: the least advanced, then by the app's choice of age.
fn order(app: &App, list: &mut [(&Arc<Instance>, &Fact)]) {
    let weight = |fact: &Fact| match fact.state {
        State::TaskStaging => 0,
        State::TaskStarting => 1,
        _ if !fact.is_healthy(app) => 2,
        _ => 3,
    };
    let oldest_first = app.kill_selection == "OLDEST_FIRST";
    list.sort_by_key(|(instance, fact)| {
        let age = if oldest_first { instance.staged_ns } else { i64::MAX - instance.staged_ns.max(0) };
        (weight(fact), age)
    });
}
