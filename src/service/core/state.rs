//! What the service framework knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::io::{Effect, Input};
use crate::api::marathon::App;
use crate::api::v1;
use crate::api::v1::scheduler::{self, call};
use crate::base::backoff::Backoff;
use crate::base::chance::Chance;
use crate::base::time::{Mono, Now, Timestamp};
use crate::service::model::{Command, Instance, State};

/// A kill is repeated until the task has ended.
pub(super) const KILL_RETRY: Duration = Duration::from_secs(30);
/// Tasks of which the master has not said anything yet are asked about again.
const CONFIRM_RETRY: Duration = Duration::from_secs(2);
/// The framework's tasks may run without their scheduler for a week.
const FAILOVER_SECONDS: f64 = 604_800.0;

/// What one check of an instance found.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckFact {
    pub(super) alive: Option<bool>,
    pub(super) failures: u32,
    pub(super) first_success: Option<Timestamp>,
    pub(super) last_success: Option<Timestamp>,
    pub(super) last_failure: Option<Timestamp>,
    pub(super) cause: Option<String>,
    /// When it runs next; none while it runs.
    pub(super) next: Option<Mono>,
}

/// What is known of an instance's task.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) task_id: String,
    pub(super) state: v1::TaskState,
    /// The master said so since this framework subscribed.
    pub(super) confirmed: bool,
    pub(super) started: Option<Timestamp>,
    pub(super) running_since: Option<Mono>,
    pub(super) killed: Option<Mono>,
    pub(super) checks: Vec<CheckFact>,
    /// Health as the agent's checks found it.
    pub(super) agent_health: Option<bool>,
    pub(super) addresses: Vec<String>,
    /// Its end is on its way into the replicated state.
    pub(super) over: bool,
}

/// Launches of one offer on their way.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) offer: v1::Offer,
    pub(super) tasks: Vec<(Instance, v1::TaskInfo)>,
    /// Intents that are not committed yet.
    pub(super) waiting: BTreeSet<u64>,
}

/// Delay of launches after failures.
#[derive(Clone, Debug)]
pub(super) struct Delay {
    pub(super) backoff: Backoff,
    pub(super) until: Mono,
    /// Of which configuration.
    pub(super) version: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// No service, no subscription.
    Off,
    Subscribing,
    On,
}

/// The service framework.
#[derive(Debug)]
pub struct Services {
    pub(super) chance: Chance,
    pub(super) state: Arc<State>,
    pub(super) apps: BTreeMap<String, (i64, Arc<App>)>,
    pub(super) link: Link,
    pub(super) framework_id: Option<v1::FrameworkId>,
    pub(super) facts: BTreeMap<String, Fact>,
    pub(super) launches: BTreeMap<u64, Launch>,
    /// Instance ids whose tasks ended, to be used again: id and launches so far.
    pub(super) vacant: BTreeMap<String, Vec<(String, u32)>>,
    pub(super) delays: BTreeMap<String, Delay>,
    /// Why the last offers did not serve an app, by host.
    pub(super) rejects: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) suppressed: bool,
    /// Offers were declined since the last REVIVE.
    pub(super) declined: bool,
    /// What was wanted when offers were last asked for.
    pub(super) asked_for: u64,
    pub(super) confirm: Option<Mono>,
    /// Deployments and the step whose end is on its way into the replicated state.
    pub(super) stepping: BTreeSet<(String, usize)>,
    pub(super) next_seq: u64,
    pub(super) next_launch: u64,
}

impl Services {
    /// A framework over what is replicated.
    #[must_use]
    pub fn new(state: Arc<State>, seed: u64) -> Self {
        let mut services = Self {
            chance: Chance::new(seed),
            state: Arc::new(State::default()),
            apps: BTreeMap::new(),
            link: Link::Off,
            framework_id: None,
            facts: BTreeMap::new(),
            launches: BTreeMap::new(),
            vacant: BTreeMap::new(),
            delays: BTreeMap::new(),
            rejects: BTreeMap::new(),
            suppressed: false,
            declined: false,
            asked_for: 0,
            confirm: None,
            stepping: BTreeSet::new(),
            next_seq: 0,
            next_launch: 0,
        };
        services.framework_id = state.framework_id().map(|id| v1::FrameworkId { value: id.to_owned() });
        services.on_state(state);
        services
    }

    /// Handles one input.
    pub fn handle(&mut self, input: Input, now: Now, effects: &mut Vec<Effect>) {
        match input {
            Input::State(state) => self.on_state(state),
            Input::Event(event) => self.on_event(*event, now, effects),
            Input::Disconnected => self.on_disconnected(),
            Input::Committed { seq, .. } => self.on_committed(seq, effects),
            Input::Probed { task_id, index, result } => self.on_probed(&task_id, index, result, now, effects),
            Input::Kill { tasks } => self.kill_tasks(&tasks, now, effects),
            Input::ResetDelay { app_id } => {
                self.delays.remove(&app_id);
            }
            Input::Tick => {}
        }
    }

    /// Follows a group of inputs.
    pub fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // A delay that is over is no deadline any more; how long the next one is stays known.
        for delay in self.delays.values_mut().filter(|delay| delay.until <= now.mono) {
            delay.until = Mono::default();
        }
        if self.link == Link::Off && !(self.state.apps().is_empty() && self.state.instances().is_empty()) {
            self.link = Link::Subscribing;
            effects.push(Effect::Subscribe(Box::new(self.framework_info())));
        }
        if self.link == Link::On {
            self.confirm_tasks(now, effects);
            self.kill_surplus(now, effects);
            self.probe(now, effects);
            self.ask_for_offers(now, effects);
        }
        self.advance_deployments(effects);
    }

    /// When [`Services::settle`] has something to do although nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.link != Link::On {
            return None;
        }
        let kills = self
            .facts
            .values()
            .filter(|fact| !fact.over)
            .filter_map(|fact| fact.killed.map(|at| at.after(KILL_RETRY)));
        let probes = self
            .facts
            .values()
            .filter(|fact| fact.is_probed())
            .flat_map(|fact| fact.checks.iter().filter_map(|check| check.next));
        let delays =
            self.delays.iter().filter(|(id, delay)| self.is_delayed(id, delay)).map(|(_, delay)| delay.until);
        kills.chain(probes).chain(delays).chain(self.confirm).min()
    }

    fn is_delayed(&self, id: &str, delay: &Delay) -> bool {
        delay.until > Mono::default()
            && self.state.apps().contains_key(id)
            && self.missing_ignoring_delay(id) > 0
    }

    fn on_state(&mut self, state: Arc<State>) {
        for (id, entry) in state.apps() {
            let version = entry.current.version_ns;
            if self.apps.get(id).is_some_and(|(known, _)| *known == version) {
                continue;
            }
            // What is stored was checked before it was proposed.
            if let Ok(app) = serde_json::from_slice::<App>(&entry.current.definition) {
                self.apps.insert(id.clone(), (version, Arc::new(app)));
                // What was declined for the old version may serve the new one.
                self.asked_for = 0;
            }
            let config = entry.current.last_config_change_ns;
            if self.delays.get(id).is_some_and(|delay| delay.version != config) {
                self.delays.remove(id);
            }
        }
        self.apps.retain(|id, _| state.apps().contains_key(id));
        self.vacant.retain(|id, _| state.apps().contains_key(id));
        self.delays.retain(|id, _| state.apps().contains_key(id));
        self.rejects.retain(|id, _| state.apps().contains_key(id));
        self.stepping
            .retain(|(id, step)| state.deployments().get(id).is_some_and(|one| one.current == *step));
        self.facts.retain(|id, _| state.instances().contains_key(id));
        for (id, instance) in state.instances() {
            // An instance that was launched again has another task: nothing of the old one holds.
            if self.facts.get(id).is_none_or(|fact| fact.task_id != instance.task_id) {
                let checks = self.apps.get(&instance.app_id).map_or(0, |(_, app)| app.health_checks.len());
                self.facts.insert(id.clone(), Fact::new(&instance.task_id, checks));
            }
        }
        self.state = state;
    }

    pub(super) fn propose(&mut self, command: Command, effects: &mut Vec<Effect>) -> u64 {
        self.next_seq += 1;
        effects.push(Effect::Propose { seq: self.next_seq, command: Box::new(command) });
        self.next_seq
    }

    pub(super) fn call(
        &self,
        kind: call::Type,
        fill: impl FnOnce(&mut scheduler::Call),
        effects: &mut Vec<Effect>,
    ) {
        let mut call = scheduler::Call {
            framework_id: self.framework_id.clone(),
            r#type: Some(kind.into()),
            ..Default::default()
        };
        fill(&mut call);
        effects.push(Effect::Call(Box::new(call)));
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

    /// After a subscription the master is asked about every task, until it has answered for each.
    fn confirm_tasks(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.confirm.is_none_or(|at| at > now.mono) {
            return;
        }
        let instances = self.state.instances().values().filter(|instance| {
            // The master cannot know what is still to be launched.
            let known = !self.is_launching(&instance.task_id);
            let fact = self.facts.get(&instance.instance_id);
            known && fact.is_some_and(|fact| !fact.confirmed && !fact.over)
        });
        let tasks: Vec<call::reconcile::Task> = instances
            .map(|instance| call::reconcile::Task {
                task_id: v1::TaskId { value: instance.task_id.clone() },
                agent_id: Some(v1::AgentId { value: instance.agent_id.clone() }),
            })
            .collect();
        if tasks.is_empty() {
            self.confirm = None;
            return;
        }
        self.confirm = Some(now.mono.after(CONFIRM_RETRY));
        self.call(call::Type::Reconcile, |call| call.reconcile = Some(call::Reconcile { tasks }), effects);
    }

    /// Whether a task waits for intents beside its own.
    pub(super) fn is_launching(&self, task_id: &str) -> bool {
        self.launches.values().flat_map(|launch| &launch.tasks).any(|(one, _)| one.task_id == task_id)
    }

    fn on_committed(&mut self, seq: u64, effects: &mut Vec<Effect>) {
        let Some((number, launch)) =
            self.launches.iter_mut().find(|(_, launch)| launch.waiting.contains(&seq))
        else {
            return;
        };
        let number = *number;
        launch.waiting.remove(&seq);
        if launch.waiting.is_empty()
            && let Some(launch) = self.launches.remove(&number)
        {
            self.accept(launch, effects);
        }
    }

    /// Asserts what must hold between inputs.
    ///
    /// # Panics
    /// It does not hold: a bug.
    pub fn sanity_check(&self) {
        assert!(
            self.facts.keys().all(|id| self.state.instances().contains_key(id)),
            "facts without an instance"
        );
        let mut tasks = BTreeSet::new();
        for instance in self.state.instances().values() {
            assert!(tasks.insert(&instance.task_id), "two instances have the task {}", instance.task_id);
        }
    }
}

impl Fact {
    pub(super) fn new(task_id: &str, checks: usize) -> Self {
        Self {
            task_id: task_id.to_owned(),
            state: v1::TaskState::TaskStaging,
            confirmed: false,
            started: None,
            running_since: None,
            killed: None,
            checks: vec![CheckFact::default(); checks],
            agent_health: None,
            addresses: Vec::new(),
            over: false,
        }
    }

    /// Whether its checks run.
    pub(super) fn is_probed(&self) -> bool {
        self.state == v1::TaskState::TaskRunning && self.killed.is_none() && !self.over
    }
}
