//! Health checks that the framework runs itself (Marathon HTTP and TCP).

use super::fact::CheckFact;
use super::io::{Effect, Target};
use super::state::Services;
use crate::api::marathon::HealthCheck;
use crate::base::time::{Now, seconds_capped};
use crate::service::model::Instance;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest interval or timeout: absurd values count as this.
const MAX: Duration = Duration::from_secs(24 * 3_600);

/// Shortest pause between two probes of one check: an interval of zero is no reason to do nothing else.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

impl Services {
    /// Runs an app's checks that are due.
    pub(super) fn probe(&mut self, app_id: &str, now: Now, effects: &mut Vec<Effect>) {
        for fact in self.facts.get_mut(app_id).into_iter().flat_map(BTreeMap::values_mut) {
            let instance = Arc::clone(&fact.instance);
            if !fact.is_probed() {
                continue;
            }
            let app = fact.app.clone();
            let checks = app.iter().flat_map(|app| &app.health_checks).zip(&mut fact.checks);
            for (index, (check, found)) in checks.enumerate() {
                if found.next.is_none_or(|at| at > now.mono) {
                    continue;
                }
                // The answer sets the next time; without a target there is never one.
                found.next = None;
                if let Some(target) = target(check, &instance) {
                    let timeout = seconds_capped(check.timeout_seconds, MAX);
                    effects.push(Effect::Probe { task_id: instance.task_id.clone(), index, target, timeout });
                }
            }
        }
    }

    pub(super) fn on_probed(
        &mut self,
        task_id: &str,
        index: usize,
        result: Result<(), String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(instance) = self.instance_of(task_id) else { return };
        let Some(fact) = self.fact_mut(&instance).filter(|fact| fact.is_probed()) else {
            return;
        };
        let Some(check) = fact.health_checks().get(index).cloned() else { return };
        let age = fact.running_since.map_or(Duration::ZERO, |since| now.mono.since(since));
        let Some(found) = fact.checks.get_mut(index) else { return };
        let interval = seconds_capped(check.interval_seconds, MAX).max(MIN_INTERVAL);
        found.next = Some(now.mono.after(interval));
        let kill = found.learn(&check, result, age, now);
        self.mark(&instance.app_id);
        if kill {
            self.kill(&instance, now, effects);
        }
    }
}

impl CheckFact {
    /// Takes in what a probe found; true if the task must be killed.
    fn learn(&mut self, check: &HealthCheck, result: Result<(), String>, age: Duration, now: Now) -> bool {
        let Err(cause) = result else {
            self.alive = Some(true);
            self.failures = 0;
            self.cause = None;
            self.first_success.get_or_insert(now.wall);
            self.last_success = Some(now.wall);
            return false;
        };
        let in_grace = self.first_success.is_none() && age < seconds_capped(check.grace_period_seconds, MAX);
        if in_grace {
            return false;
        }
        // The failure that comes when the limit is reached already kills (Marathon's rule).
        let limit = check.max_consecutive_failures;
        let kill = limit > 0 && self.failures >= limit;
        self.alive = Some(false);
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(now.wall);
        self.cause = Some(cause);
        kill
    }
}

/// Where a check goes: the agent's host and the task's host port.
fn target(check: &HealthCheck, instance: &Arc<Instance>) -> Option<Target> {
    let port = match check.port {
        Some(port) => port,
        None => *instance.ports.get(check.port_index.unwrap_or(0))?,
    };
    let address = format!("{}:{port}", instance.host);
    Some(match check.protocol.as_str() {
        "TCP" => Target::Tcp { address },
        _ => Target::Http { address, path: check.path.clone().unwrap_or_else(|| "/".to_owned()) },
    })
}
