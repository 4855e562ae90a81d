//! What `/v2` shows of instances.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fact::{CheckFact, Fact};
use super::state::{Link, Services};
use crate::api::marathon::App;
use crate::api::v1::TaskState as State;
use crate::base::time::{Mono, Timestamp};
use crate::service::model::Instance;

/// Counts of an app's tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// On their way.
    pub staged: u64,
    /// Running.
    pub running: u64,
    /// Running, with every check well.
    pub healthy: u64,
    /// Running, with a check that fails.
    pub unhealthy: u64,
}

impl Services {
    /// Whether the master has spoken of every task since this framework subscribed: until then, what
    /// is shown is what was known before.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        let heard = self.facts.values().flat_map(BTreeMap::values).all(|fact| fact.confirmed || fact.over);
        heard && (self.link == Link::On || !self.is_needed())
    }

    /// Counts of an app's tasks.
    #[must_use]
    pub fn counts(&self, id: &str) -> Counts {
        let mut counts = Counts::default();
        if !self.apps.contains_key(id) {
            return counts;
        }
        for (_, fact) in self.of_app(id) {
            match fact.state {
                State::TaskRunning => counts.running += 1,
                State::TaskStaging | State::TaskStarting => counts.staged += 1,
                _ => {}
            }
            if !fact.health_checks().is_empty() && fact.state == State::TaskRunning {
                counts.healthy += u64::from(fact.is_healthy());
                counts.unhealthy += u64::from(fact.is_unhealthy());
            }
        }
        counts
    }

    fn of_app<'a>(&'a self, id: &'a str) -> impl Iterator<Item = (&'a Instance, &'a Fact)> {
        let alive = self.instances_of(id).filter(|(_, fact)| !fact.over);
        alive.map(|(instance, fact)| (instance.as_ref(), fact))
    }

    /// The tasks of an app, or of all.
    #[must_use]
    pub fn tasks(&self, id: Option<&str>) -> Vec<Value> {
        let ids: Vec<&str> =
            self.apps.keys().map(String::as_str).filter(|own| id.is_none_or(|id| id == *own)).collect();
        let mut tasks = Vec::new();
        for id in ids {
            let Some(app) = self.app(id) else { continue };
            tasks.extend(self.of_app(id).map(|(instance, fact)| task(app, instance, fact)));
        }
        tasks
    }

    /// What waits to be launched: app, count, seconds of delay left, why offers did not serve.
    #[must_use]
    pub fn queue(&self, now: Mono) -> Vec<(String, u32, u128, Vec<String>)> {
        let waiting = self.apps.keys().filter_map(|id| {
            let count = self.missing_ignoring_delay(id);
            let left =
                self.delays.get(id).map_or(0, |delay| delay.until.since(now).as_millis().div_ceil(1_000));
            (count > 0).then(|| (id.clone(), count, left, self.rejected(id)))
        });
        waiting.collect()
    }

    /// Why an app is not as it should be.
    #[must_use]
    pub fn reasons(&self, id: &str, now: Mono) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.waits_for_dependency(id) {
            reasons.push("its deployment is at an earlier step: until its turn it stays as it is".to_owned());
        }
        let unknown = self.of_app(id).filter(|(_, fact)| !fact.confirmed).count();
        if unknown > 0 {
            reasons.push(format!(
                "the master has not spoken of {unknown} of its tasks since it was subscribed to: none is killed as surplus before"
            ));
        }
        for (instance, _) in self.of_app(id).filter(|(_, fact)| fact.away.is_some()) {
            reasons.push(format!("{} is out of reach on {}", instance.task_id, instance.host));
        }
        for (_, count, left, rejects) in self.queue(now).into_iter().filter(|(own, ..)| own == id) {
            if left > 0 {
                reasons.push(format!(
                    "{count} to launch, after a delay of {left} s because the last ones failed"
                ));
            } else if rejects.is_empty() {
                reasons.push(format!("{count} to launch, waiting for offers"));
            } else {
                reasons.push(format!("{count} to launch, and no offer serves:"));
            }
            reasons.extend(rejects);
        }
        if let Some(failure) = self.state.apps().get(id).and_then(|entry| entry.last_failure.as_ref()) {
            let when = Timestamp::from_nanos(failure.time_ns);
            reasons.push(format!(
                "the last failure: {} on {} at {when}: {}",
                failure.state, failure.host, failure.message
            ));
        }
        for (instance, fact) in self.of_app(id) {
            for cause in fact.checks.iter().filter_map(|check| check.cause.as_ref()) {
                reasons.push(format!("{} is unhealthy: {cause}", instance.task_id));
            }
        }
        reasons
    }

    fn rejected(&self, id: &str) -> Vec<String> {
        let rejects = self.rejects.get(id);
        rejects.into_iter().flatten().map(|(host, reason)| format!("{host}: {reason}")).collect()
    }

    /// An app's parsed definition.
    #[must_use]
    pub fn app(&self, id: &str) -> Option<&App> {
        self.apps.get(id).map(|known| known.current.app.as_ref())
    }
}

impl Fact {
    fn is_unhealthy(&self) -> bool {
        self.agent_health == Some(false) || self.checks.iter().any(|check| check.alive == Some(false))
    }
}

fn task(app: &App, instance: &Instance, fact: &Fact) -> Value {
    let stamp = |nanos: i64| Timestamp::from_nanos(nanos).rfc3339_millis();
    let host_ports: Vec<u32> = instance.ports.iter().copied().filter(|port| *port > 0).collect();
    let addresses: Vec<Value> = fact
        .addresses
        .iter()
        .map(|address| json!({ "ipAddress": address, "protocol": if address.contains(':') { "IPv6" } else { "IPv4" } }))
        .collect();
    let results: Vec<Value> = fact.checks.iter().filter_map(|check| result(check, instance)).collect();
    let agent = fact
        .agent_health
        .map(|alive| json!({ "alive": alive, "consecutiveFailures": 0, "instanceId": instance.instance_id }));
    let mut task = json!({
        "id": instance.task_id,
        "appId": instance.app_id,
        "host": instance.host,
        "slaveId": instance.agent_id,
        "state": fact.state.as_str_name(),
        "ports": host_ports,
        "servicePorts": app.service_ports(),
        "ipAddresses": addresses,
        "stagedAt": stamp(instance.staged_ns),
        "version": stamp(instance.version_ns),
        "healthCheckResults": results.into_iter().chain(agent).collect::<Vec<_>>(),
        "localVolumes": [],
        "role": app.role,
    });
    if let (Some(started), Some(object)) = (fact.started, task.as_object_mut()) {
        object.insert("startedAt".to_owned(), json!(started.rfc3339_millis()));
    }
    task
}

fn result(check: &CheckFact, instance: &Instance) -> Option<Value> {
    let alive = check.alive?;
    let mut result =
        json!({ "alive": alive, "consecutiveFailures": check.failures, "instanceId": instance.instance_id });
    if let Some(object) = result.as_object_mut() {
        for (key, time) in [
            ("firstSuccess", check.first_success),
            ("lastSuccess", check.last_success),
            ("lastFailure", check.last_failure),
        ] {
            if let Some(time) = time {
                object.insert(key.to_owned(), json!(time.rfc3339_millis()));
            }
        }
        if let Some(cause) = &check.cause {
            object.insert("lastFailureCause".to_owned(), json!(cause));
        }
    }
    Some(result)
}
