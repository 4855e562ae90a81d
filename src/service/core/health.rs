//! Health checks that the framework runs itself (Marathon HTTP and TCP).

use super::fact::{CheckFact, Fact};
use super::io::{Effect, Target};
use super::state::Services;
use crate::api::marathon::HealthCheck;
use crate::base::address::host_port;
use crate::base::time::{Now, seconds_capped};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest interval or timeout: absurd values count as this.
const MAX: Duration = Duration::from_secs(24 * 3_600);

/// Shortest pause between two probes of one check: an interval of zero is no reason to do nothing else.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// First probe of a task after it runs, at the latest (Marathon's rule).
const FIRST_PROBE: Duration = Duration::from_secs(5);
/// Pause between probes of a task that comes up: until it is well for the first time, or its grace is over,
/// failures do not count, and whoever waits for it need not wait for a whole interval.
const EAGER: Duration = Duration::from_millis(250);
/// Longest time in which probes come so often.
const EAGER_FOR: Duration = Duration::from_secs(30);

impl Services {
    /// Runs an app's checks that are due.
    pub(super) fn probe(&mut self, app_id: &str, now: Now, effects: &mut Vec<Effect>) {
        for fact in self.facts.get_mut(app_id).into_iter().flat_map(BTreeMap::values_mut) {
            if !fact.is_probed() {
                continue;
            }
            let app = fact.app.clone();
            for (index, check) in app.iter().flat_map(|app| &app.health_checks).enumerate() {
                if fact.checks.get(index).and_then(|found| found.next).is_none_or(|at| at > now.mono) {
                    continue;
                }
                // The answer sets the next time; without a target there is never one.
                fact.checks[index].next = None;
                if let Some(target) = target(check, fact) {
                    let timeout = seconds_capped(check.timeout_seconds, MAX);
                    let task_id = fact.instance.task_id.clone();
                    effects.push(Effect::Probe { task_id, index, target, timeout });
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
        let kill = found.learn(&check, result, age, now);
        let interval = seconds_capped(check.interval_seconds, MAX).max(MIN_INTERVAL);
        let comes_up = found.first_success.is_none() && age < grace(&check).min(EAGER_FOR);
        found.next = Some(now.mono.after(if comes_up { EAGER.min(interval) } else { interval }));
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
        let in_grace = self.first_success.is_none() && age < grace(check);
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

/// Time in which a task that was never well may fail.
fn grace(check: &HealthCheck) -> Duration {
    seconds_capped(check.grace_period_seconds, MAX)
}

/// When a check of a task that has just begun to run is made first.
pub(super) fn first_probe(check: &HealthCheck) -> Duration {
    let first = seconds_capped(check.interval_seconds, FIRST_PROBE);
    if grace(check).is_zero() { first } else { first.min(EAGER) }
}

/// Where a check goes: the agent's host and the task's host port, or the task's own address where it has a
/// port of its own only.
fn target(check: &HealthCheck, fact: &Fact) -> Option<Target> {
    let index = check.port_index.unwrap_or(0);
    let address = match check.port.or_else(|| fact.instance.ports.get(index).copied())? {
        0 => {
            let mapping = fact.app.as_ref()?.mappings().get(index)?;
            let own = fact.addresses.first()?;
            host_port(own, mapping.container_port)
        }
        port => host_port(&fact.instance.host, port),
    };
    Some(match check.protocol.as_str() {
        "TCP" => Target::Tcp { address },
        _ => Target::Http { address, path: check.path.clone().unwrap_or_else(|| "/".to_owned()) },
    })
}
