//! What the service framework knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::alarms::Alarms;
use super::delay::Delay;
use super::fact::Fact;
use super::io::{Effect, Input};
use super::known::Known;
use super::link::RESUBSCRIBE;
use crate::api::v1;
use crate::api::v1::scheduler::{self, call};
use crate::base::backoff::Backoff;
use crate::base::chance::Chance;
use crate::base::time::{Mono, Now};
use crate::service::model::{Command, Instance, Reply, State};

/// Launches of one offer on their way.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) offer: v1::Offer,
    pub(super) tasks: Vec<(Instance, v1::TaskInfo)>,
    /// Intents that are not committed yet.
    pub(super) waiting: BTreeSet<u64>,
    /// The subscription ended: the offer is not valid any more.
    pub(super) void: bool,
}

/// Instances of an app that offers are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) version_ns: i64,
    pub(super) missing: u32,
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
    pub(super) apps: BTreeMap<String, Known>,
    /// Instance ids by task.
    pub(super) by_task: BTreeMap<String, String>,
    /// Apps that are looked at when things settle.
    pub(super) dirty: BTreeSet<String>,
    pub(super) alarms: Alarms,
    pub(super) link: Link,
    /// Pauses between attempts to subscribe.
    pub(super) backoff: Backoff,
    /// No attempt before.
    pub(super) retry_at: Mono,
    pub(super) framework_id: Option<v1::FrameworkId>,
    /// What is known of the recorded instances, by app and instance.
    pub(super) facts: BTreeMap<String, BTreeMap<String, Fact>>,
    pub(super) launches: BTreeMap<u64, Launch>,
    /// Instance ids whose tasks ended, to be used again: id and launches so far.
    pub(super) vacant: BTreeMap<String, Vec<(String, u32)>>,
    pub(super) delays: BTreeMap<String, Delay>,
    /// What offers are wanted for.
    pub(super) wants: BTreeMap<String, Want>,
    /// Why the last offers did not serve an app, by host.
    pub(super) rejects: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) suppressed: bool,
    /// Offers were declined since the last REVIVE.
    pub(super) declined: bool,
    /// An ACCEPT was sent since the last REVIVE: what it left is wanted at once.
    pub(super) accepted: bool,
    /// What was wanted when offers were last asked for.
    pub(super) asked_for: BTreeMap<String, Want>,
    /// When the tasks that the master has not spoken of are asked about.
    pub(super) confirm: Option<Mono>,
    /// When all are.
    pub(super) sweep: Option<Mono>,
    /// There was one since the last subscription.
    pub(super) has_swept: bool,
    /// A step of a deployment may have come to its end.
    pub(super) check_steps: bool,
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
            by_task: BTreeMap::new(),
            dirty: BTreeSet::new(),
            alarms: Alarms::default(),
            link: Link::Off,
            backoff: Backoff::new(RESUBSCRIBE.0, 2.0, RESUBSCRIBE.1),
            retry_at: Mono::default(),
            framework_id: None,
            facts: BTreeMap::new(),
            launches: BTreeMap::new(),
            vacant: BTreeMap::new(),
            delays: BTreeMap::new(),
            wants: BTreeMap::new(),
            rejects: BTreeMap::new(),
            suppressed: false,
            declined: false,
            accepted: false,
            asked_for: BTreeMap::new(),
            confirm: None,
            sweep: None,
            has_swept: false,
            check_steps: false,
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
            Input::Disconnected => self.on_disconnected(now),
            Input::Committed { seq, reply } => self.on_committed(seq, &reply, now, effects),
            Input::Probed { task_id, index, result } => self.on_probed(&task_id, index, result, now, effects),
            Input::Kill { tasks } => self.kill_tasks(&tasks, now, effects),
            Input::ResetDelay { app_id } => {
                self.reset_delay(&app_id);
                self.mark(&app_id);
            }
            Input::Tick => {}
        }
    }

    /// Follows a group of inputs.
    pub fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.subscribe(now, effects);
        if self.link == Link::On {
            self.confirm_tasks(now, effects);
            self.sweep(now, effects);
            for app_id in self.alarms.due(now.mono) {
                self.mark(&app_id);
            }
            // A kill makes its app dirty again: what may go depends on what goes.
            while let Some(app_id) = self.dirty.pop_first() {
                self.settle_app(&app_id, now, effects);
            }
            self.ask_for_offers(effects);
        }
        if std::mem::take(&mut self.check_steps) {
            self.advance_deployments(effects);
        }
    }

    /// When [`Services::settle`] has something to do although nothing happens: always later than the
    /// time of its last call.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        match self.link {
            Link::Off => self.is_needed().then_some(self.retry_at),
            Link::Subscribing => None,
            Link::On => self.alarms.first().into_iter().chain(self.confirm).chain(self.sweep).min(),
        }
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

    fn on_committed(&mut self, seq: u64, reply: &Reply, now: Now, effects: &mut Vec<Effect>) {
        let Some((number, launch)) =
            self.launches.iter_mut().find(|(_, launch)| launch.waiting.contains(&seq))
        else {
            return;
        };
        let number = *number;
        launch.waiting.remove(&seq);
        let apps: BTreeSet<String> =
            launch.tasks.iter().map(|(instance, _)| instance.app_id.clone()).collect();
        if let Reply::Missing(app_id) = reply {
            // The app went away while its launch was recorded.
            launch.tasks.retain(|(instance, _)| &instance.app_id != app_id);
        }
        if launch.waiting.is_empty()
            && let Some(launch) = self.launches.remove(&number)
        {
            if launch.void {
                self.take_back(launch, effects);
            } else {
                self.accept(launch, now, effects);
            }
        }
        for app_id in apps {
            self.mark(&app_id);
        }
    }

    /// Asserts what must hold between inputs.
    ///
    /// # Panics
    /// It does not hold: a bug.
    pub fn sanity_check(&self) {
        let facts: Vec<&Fact> = self.facts.values().flat_map(BTreeMap::values).collect();
        assert_eq!(facts.len(), self.state.instances().len(), "a fact for each instance");
        assert_eq!(self.by_task.len(), facts.len(), "the index of tasks");
        let recorded =
            |fact: &Fact| self.state.instances().get(&fact.instance.instance_id) == Some(&fact.instance);
        assert!(facts.into_iter().all(recorded), "facts of what is recorded");
        let mut tasks = BTreeSet::new();
        for instance in self.state.instances().values() {
            assert!(tasks.insert(&instance.task_id), "two instances have the task {}", instance.task_id);
        }
    }
}
