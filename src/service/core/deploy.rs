//! What should run against what does: launches and kills that are due, steps of deployments.

use super::fact::{Fact, Health};
use super::io::Effect;
use super::state::{Services, Want};
use crate::api::marathon::App;
use crate::api::v1::TaskState as State;
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Now;
use crate::service::model::{Command, Instance};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The instances of one app, sorted out.
#[derive(Default)]
struct Census<'a> {
    /// Of the current configuration, not over and not being killed.
    new: Vec<(&'a Arc<Instance>, &'a Fact)>,
    /// Of an earlier one.
    old: Vec<(&'a Arc<Instance>, &'a Fact)>,
    /// Being killed, or ended and not forgotten yet: they hold their places, so that nothing is
    /// launched in one of them twice.
    going: usize,
    /// Of those that have not ended, how many are of an earlier configuration: while there is one, the
    /// upgrade goes on.
    going_old: usize,
    /// And of those, how many were not well.
    going_unwell: usize,
    /// On their way into the replicated state.
    launching: usize,
    /// Of one of them the master has not been heard: nobody knows what can be spared.
    unsure: bool,
}

/// What should run of an app now.
pub(super) struct Turn {
    pub(super) version_ns: i64,
    pub(super) app: Arc<App>,
    /// Instances of versions before this one are of another configuration.
    config_ns: i64,
    /// A deployment has not come to the app: what runs stays, in whatever version.
    waits: bool,
}

impl Services {
    /// What should run of an app now: none of one that is removed, or waits to run at all.
    pub(super) fn turn(&self, id: &str) -> Option<Turn> {
        let known = self.apps.get(id)?;
        let waits = self.waits_for_dependency(id);
        let version = if waits { known.before.as_ref()? } else { &known.current };
        let config_ns = if waits { i64::MIN } else { known.config_ns };
        Some(Turn { version_ns: version.version_ns, app: Arc::clone(&version.app), config_ns, waits })
    }

    fn census(&self, id: &str, config_ns: i64) -> Census<'_> {
        let mut census = Census::default();
        for (instance, fact) in self.instances_of(id) {
            if !fact.over && fact.away.is_some_and(|away| away.inactive) {
                continue;
            }
            let is_old = instance.version_ns < config_ns;
            census.unsure |= !fact.confirmed && !fact.over;
            if fact.killing || fact.over {
                census.going += 1;
                census.going_old += usize::from(is_old && !fact.over);
                census.going_unwell += usize::from(is_old && !fact.was_well);
            } else if is_old {
                census.old.push((instance, fact));
            } else {
                census.new.push((instance, fact));
            }
        }
        let launching = self.launches.values().flat_map(|launch| &launch.tasks);
        let unrecorded = launching.filter(|(instance, _)| {
            let recorded = self.state.instances().get(&instance.instance_id);
            instance.app_id == id && recorded.is_none_or(|recorded| recorded.task_id != instance.task_id)
        });
        census.launching = unrecorded.count();
        census
    }

    /// Looks at one app: kills what should not run, probes what does, says what is missing.
    pub(super) fn settle_app(&mut self, id: &str, now: Now, effects: &mut Vec<Effect>) {
        self.watch(id, now, effects);
        self.kill_surplus(id, now, effects);
        self.probe(id, now, effects);
        let missing = self.missing_ignoring_delay(id);
        let delayed = self.delayed_until(id, now.mono).filter(|_| missing > 0);
        match self.turn(id) {
            Some(turn) if missing > 0 && delayed.is_none() => {
                self.wants.insert(id.to_owned(), Want { version_ns: turn.version_ns, missing });
            }
            _ => {
                self.wants.remove(id);
            }
        }
        if missing == 0 {
            self.rejects.remove(id);
        }
        let mut launching = self.launches.values().flat_map(|launch| &launch.tasks);
        let is_quiet = missing == 0
            && !launching.any(|(instance, _)| instance.app_id == id)
            && !self.instances_of(id).any(|(_, fact)| fact.is_coming());
        let forgotten = self.forget_failures(id, is_quiet, now.mono);
        let facts = self.instances_of(id).filter_map(|(_, fact)| fact.deadline());
        let next = facts.chain(delayed).chain(forgotten).min();
        self.alarms.set(id, next, now.mono);
    }

    /// Kills what does not come up in time, gives up what is out of reach for too long.
    fn watch(&mut self, id: &str, now: Now, effects: &mut Vec<Effect>) {
        let (mut overdue, mut expunged) = (Vec::new(), Vec::new());
        for fact in self.facts.get_mut(id).into_iter().flat_map(BTreeMap::values_mut) {
            if fact.is_coming() {
                fact.pending_since.get_or_insert(now.mono);
            }
            if fact.overdue_at().is_some_and(|at| at <= now.mono) {
                overdue.push(Arc::clone(&fact.instance));
            }
            if fact.is_given_up(now.mono) {
                expunged.push(Arc::clone(&fact.instance));
            }
        }
        for instance in overdue {
            self.kill(&instance, now, effects);
        }
        for instance in expunged {
            self.forget(&instance, effects);
        }
    }

    /// Instances of an app that may be launched now.
    pub(super) fn missing(&self, id: &str, now: Now) -> u32 {
        if self.delayed_until(id, now.mono).is_some() { 0 } else { self.missing_ignoring_delay(id) }
    }

    pub(super) fn missing_ignoring_delay(&self, id: &str) -> u32 {
        let Some(turn) = self.turn(id) else { return 0 };
        let census = self.census(id, turn.config_ns);
        let new = census.new.len() + census.launching;
        // Only an upgrade may go beyond the instances asked for; what was killed without one is
        // replaced when it has ended, under the same instance id.
        let upgrade = !census.old.is_empty() || census.going_old > 0;
        let limit = if upgrade { most(&turn.app) } else { wanted(&turn.app) };
        let room = limit.saturating_sub(census.old.len() + census.going + new);
        u32::try_from(wanted(&turn.app).saturating_sub(new).min(room)).unwrap_or(u32::MAX)
    }

    /// Whether a deployment has not come to an app's step yet.
    pub(super) fn waits_for_dependency(&self, id: &str) -> bool {
        self.state.deployments().values().any(|deployment| {
            let later = deployment.steps.iter().skip(deployment.current + 1).flatten();
            let reached = deployment.steps.iter().take(deployment.current + 1).flatten();
            later.into_iter().any(|action| action.app_id == id)
                && !reached.into_iter().any(|action| action.app_id == id)
        })
    }

    /// Kills what should not run: tasks of removed apps, surplus, and old instances as far as an upgrade
    /// allows.
    fn kill_surplus(&mut self, id: &str, now: Now, effects: &mut Vec<Effect>) {
        let removed = !self.apps.contains_key(id);
        let alive = self.instances_of(id).filter(|(_, fact)| !fact.over);
        let mut victims: Vec<Arc<Instance>> = alive
            .filter(|(_, fact)| fact.killing || removed)
            .map(|(instance, _)| Arc::clone(instance))
            .collect();
        if let Some(turn) = self.turn(id).filter(|turn| !turn.waits) {
            victims.extend(surplus(&turn.app, self.census(id, turn.config_ns)));
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
            #[cfg(planted)]
            let done = done || (planted::has(Bug::SkipStep) && deployment.current == 0);
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
        let Some(known) = self.apps.get(id) else { return !self.facts.contains_key(id) };
        let census = self.census(id, known.config_ns);
        let wanted = wanted(&known.current.app);
        census.old.is_empty()
            && census.going == 0
            && census.launching == 0
            && census.new.len() == wanted
            && census.new.iter().all(|(_, fact)| fact.is_healthy())
    }
}

fn wanted(app: &App) -> usize {
    usize::try_from(app.instances).unwrap_or(usize::MAX)
}

/// Instances that may run during an upgrade, at least one more than must stay healthy: otherwise
/// nothing could ever move.
fn most(app: &App) -> usize {
    let over = part(app, 1.0 + app.upgrade_strategy.maximum_over_capacity, f64::floor);
    let least = least_healthy(app);
    if over == least { over.saturating_add(1) } else { over }
}

fn least_healthy(app: &App) -> usize {
    part(app, app.upgrade_strategy.minimum_health_capacity, f64::ceil)
}

/// A part of the instances, rounded.
fn part(app: &App, factor: f64, round: fn(f64) -> f64) -> usize {
    let value = round(f64::from(app.instances) * factor).clamp(0.0, f64::from(u32::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped just before")]
    let whole = value as u32;
    usize::try_from(whole).unwrap_or(usize::MAX)
}

/// The instances of an app that should be killed now.
fn surplus(app: &App, census: Census<'_>) -> Vec<Arc<Instance>> {
    if census.unsure {
        return Vec::new();
    }
    let wanted = wanted(app);
    let (mut new, mut old) = (census.new, census.old);
    let too_many = new.len().saturating_sub(wanted);
    if too_many > 0 {
        order(app, &mut new);
    }
    let mut victims: Vec<Arc<Instance>> =
        new.drain(..too_many).map(|(instance, _)| Arc::clone(instance)).collect();
    if old.is_empty() {
        return victims;
    }
    order(app, &mut old);
    old.sort_by_key(|(_, fact)| fact.health());
    // What must stay healthy stays; more than there may be goes all the same (Marathon's rolling
    // restart).
    let healthy = new.iter().chain(&old).filter(|(_, fact)| fact.is_healthy()).count();
    let above = (new.len() + old.len()).saturating_sub(most(app)).max(old.len().saturating_sub(wanted));
    // One that is not well takes a place of the spare until it has ended, too.
    let spare = healthy.saturating_sub(least_healthy(app)).saturating_sub(census.going_unwell);
    let mut spare = spare.max(above);
    let full = new.len() + old.len() + census.going + census.launching >= most(app);
    if spare == 0 && full && census.going == 0 {
        // Nothing could move: those that are not well make room, which costs no healthy one.
        let unwell = old.iter().filter(|(_, fact)| fact.health() < Health::Unknown).count();
        spare = unwell.min(wanted.saturating_sub(new.len() + census.launching));
    }
    victims.extend(old.iter().take(spare).map(|(instance, _)| Arc::clone(instance)));
    victims
}

/// First to go first: the least advanced, then by the app's choice of age.
fn order(app: &App, list: &mut [(&Arc<Instance>, &Fact)]) {
    let weight = |fact: &Fact| match fact.state {
        State::TaskUnreachable => 0,
        State::TaskStaging => 1,
        State::TaskStarting => 2,
        _ if !fact.is_healthy() => 3,
        _ => 4,
    };
    let oldest_first = app.kill_selection == "OLDEST_FIRST";
    list.sort_by_key(|(instance, fact)| {
        let age = if oldest_first { instance.staged_ns } else { i64::MAX - instance.staged_ns.max(0) };
        (weight(fact), age)
    });
}
