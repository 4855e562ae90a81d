//! Health checks that the framework runs itself (Marathon HTTP and TCP).

use super::io::{Effect, Target};
use super::state::Services;
use crate::api::marathon::HealthCheck;
use crate::base::time::{Now, seconds_capped};
use crate::service::model::Instance;
use std::sync::Arc;
use std::time::Duration;

/// Longest interval or timeout: absurd values count as this.
const MAX: Duration = Duration::from_secs(24 * 3_600);

impl Services {
    pub(super) fn probe(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for instance in self.state.instances().values() {
            let fact = self.facts.get_mut(&instance.instance_id);
            let Some(fact) = fact.filter(|fact| fact.is_probed()) else { continue };
            let app = self.apps.get(&instance.app_id).map(|(_, app)| app);
            for (index, found) in fact.checks.iter_mut().enumerate() {
                if found.next.is_none_or(|at| at > now.mono) {
                    continue;
                }
                found.next = None;
                // A check that the app does not have any more does not run again.
                let Some(check) = app.and_then(|app| app.health_checks.get(index)) else { continue };
                if let Some(target) = target(check, instance) {
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
        let Some(instance) =
            self.state.instances().values().find(|instance| instance.task_id == task_id).cloned()
        else {
            return;
        };
        let Some((_, app)) = self.apps.get(&instance.app_id).cloned() else { return };
        let Some(check) = app.health_checks.get(index) else { return };
        let Some(fact) = self.facts.get_mut(&instance.instance_id) else { return };
        let age = fact.running_since.map_or(Duration::ZERO, |since| now.mono.since(since));
        let Some(found) = fact.checks.get_mut(index) else { return };
        found.next = Some(now.mono.after(seconds_capped(check.interval_seconds, MAX)));
        let Err(cause) = result else {
            found.alive = Some(true);
            found.failures = 0;
            found.cause = None;
            found.first_success.get_or_insert(now.wall);
            found.last_success = Some(now.wall);
            return;
        };
        let in_grace = found.first_success.is_none() && age < seconds_capped(check.grace_period_seconds, MAX);
        if in_grace {
            return;
        }
        // The failure that comes when the limit is reached already kills (Marathon's rule).
        let limit = check.max_consecutive_failures;
        let kill = limit > 0 && found.failures >= limit;
        found.alive = Some(false);
        found.failures = found.failures.saturating_add(1);
        found.last_failure = Some(now.wall);
        found.cause = Some(cause);
        if kill {
            self.kill(&instance, now, effects);
        }
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
