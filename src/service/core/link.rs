//! The subscription: made, lost, made again; and what the master is asked once it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::io::Effect;
use super::state::{Link, Services};
use crate::api::v1;
use crate::api::v1::scheduler::call;
#[cfg(planted)]
use crate::base::planted::{self, Bug};
use crate::base::time::Now;
use crate::service::model::{Command, Instance};

/// Pauses between attempts to subscribe: the first, and the longest.
pub(super) const RESUBSCRIBE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Tasks of which the master has not said anything yet are asked about again.
const CONFIRM_RETRY: Duration = Duration::from_secs(2);
/// All tasks, known or not, are compared with the master's so often (Marathon's interval).
const SWEEP: Duration = Duration::from_secs(600);
/// The second time after a subscription comes sooner: by then agents have come back to a new leader, with
/// tasks that were given up under the one before.
const SECOND_SWEEP: Duration = Duration::from_secs(60);
/// Tasks of one RECONCILE, so that no call grows with the cluster; more calls follow.
const MAX_RECONCILED: usize = 1_000;
/// The framework's tasks may run without their scheduler for a week.
const FAILOVER_SECONDS: f64 = 604_800.0;
/// How a master says that it refuses a framework's id for ever.
const REMOVED: &str = "Framework has been removed";

impl Services {
    /// Subscribes when there is something to run and the pause after the last attempt is over.
    pub(super) fn subscribe(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.link == Link::Off && self.is_needed() && self.retry_at <= now.mono {
            self.link = Link::Subscribing;
            effects.push(Effect::Subscribe(Box::new(self.framework_info())));
        }
    }

    /// An empty cluster shows no framework.
    pub(super) fn is_needed(&self) -> bool {
        !(self.state.apps().is_empty() && self.state.instances().is_empty())
    }

    pub(super) fn on_subscribed(&mut self, id: v1::FrameworkId, now: Now, effects: &mut Vec<Effect>) {
        self.link = Link::On;
        self.backoff.reset();
        if self.state.framework_id() != Some(id.value.as_str()) {
            self.propose(Command::Framework { id: id.value.clone() }, effects);
        }
        self.framework_id = Some(id);
        self.suppressed = false;
        self.declined = false;
        self.confirm = Some(now.mono);
        self.sweep = Some(now.mono);
        self.has_swept = false;
        for fact in self.facts.values_mut().flat_map(BTreeMap::values_mut) {
            fact.confirmed = false;
        }
        let apps: Vec<String> = self.apps.keys().chain(self.facts.keys()).cloned().collect();
        for app_id in apps {
            self.mark(&app_id);
        }
        #[cfg(planted)]
        if planted::has(Bug::LaunchAgain) {
            let instances: Vec<Arc<Instance>> = self.state.instances().values().cloned().collect();
            instances.iter().for_each(|instance| self.forget(instance, effects));
        }
    }

    /// The stream ended, or could not be opened. A stream that ends after its ERROR says nothing new.
    pub(super) fn on_disconnected(&mut self, now: Now) {
        if self.link == Link::Off {
            return;
        }
        self.link = Link::Off;
        self.retry_at = now.mono.after(self.backoff.next_delay());
        self.confirm = None;
        self.sweep = None;
        for launch in self.launches.values_mut() {
            launch.void = true;
        }
        for fact in self.facts.values_mut().flat_map(BTreeMap::values_mut) {
            fact.kill_sent = None;
        }
    }

    /// The master ends the subscription. If it has removed the framework, its tasks are gone and it
    /// begins anew.
    pub(super) fn on_error(&mut self, message: &str, now: Now, effects: &mut Vec<Effect>) {
        self.on_disconnected(now);
        if !message.contains(REMOVED) {
            return;
        }
        self.framework_id = None;
        let instances: Vec<Arc<Instance>> = self.state.instances().values().cloned().collect();
        for instance in instances {
            self.forget(&instance, effects);
        }
    }

    /// After a subscription the master is asked about every task, until it has answered for each.
    pub(super) fn confirm_tasks(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.confirm.is_none_or(|at| at > now.mono) {
            return;
        }
        let asked = self.reconcile(false, effects);
        self.confirm = asked.then(|| now.mono.after(CONFIRM_RETRY));
    }

    /// Now and then the master is asked for every task of ours (those that nobody knows are killed),
    /// and about every task that should be there.
    pub(super) fn sweep(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.sweep.is_none_or(|at| at > now.mono) {
            return;
        }
        self.sweep = Some(now.mono.after(if self.has_swept { SWEEP } else { SECOND_SWEEP }));
        self.has_swept = true;
        self.reconcile(true, effects);
        self.call(call::Type::Reconcile, |call| call.reconcile = Some(call::Reconcile::default()), effects);
    }

    /// Asks about tasks: those that the master has spoken of, or the others. True if there are any.
    fn reconcile(&self, confirmed: bool, effects: &mut Vec<Effect>) -> bool {
        // The master does not know a task before its ACCEPT, and would call it gone.
        let launching: BTreeSet<&str> = self
            .launches
            .values()
            .flat_map(|launch| &launch.tasks)
            .map(|(instance, _)| instance.task_id.as_str())
            .collect();
        let asked = self.facts.values().flat_map(BTreeMap::values).filter(|fact| {
            fact.confirmed == confirmed && !fact.over && !launching.contains(fact.instance.task_id.as_str())
        });
        let tasks: Vec<call::reconcile::Task> = asked
            .map(|fact| &fact.instance)
            .map(|instance| call::reconcile::Task {
                task_id: v1::TaskId { value: instance.task_id.clone() },
                agent_id: Some(v1::AgentId { value: instance.agent_id.clone() }),
            })
            .collect();
        for part in tasks.chunks(MAX_RECONCILED) {
            let reconcile = call::Reconcile { tasks: part.to_vec() };
            self.call(call::Type::Reconcile, |call| call.reconcile = Some(reconcile), effects);
        }
        !tasks.is_empty()
    }

    fn framework_info(&self) -> v1::FrameworkInfo {
        use v1::framework_info::capability::Type;

        let capability = |kind: Type| v1::framework_info::Capability { r#type: Some(kind.into()) };
        v1::FrameworkInfo {
            user: String::new(),
            name: "marathon".to_owned(),
            id: self.framework_id.clone(),
            failover_timeout: Some(FAILOVER_SECONDS),
            checkpoint: Some(true),
            roles: vec!["*".to_owned()],
            capabilities: [Type::MultiRole, Type::PartitionAware, Type::TaskKillingState]
                .map(capability)
                .to_vec(),
            ..Default::default()
        }
    }
}
