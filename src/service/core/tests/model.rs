//! The replicated state and the master as the tests play them, and what must always hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::marathon::App;
use crate::api::v1;
use crate::api::v1::TaskState;
use crate::api::v1::scheduler::{Call, Event, call, event};
use crate::base::time::{Mono, Now, Timestamp};
use crate::resources::{Format, Resources};
use crate::service::core::{Effect, Input, Services, plan};
use crate::service::model::{AppVersion, Command, Instance, Keys, Plan, State, check, read};

/// What somebody wants, decided upon when it is committed.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Put(Box<App>),
    Remove(String),
}

#[derive(Clone, Debug)]
enum Queued {
    Own(u64, Command),
    Wish(Wish, bool),
}

/// A task as the master and its agent know it.
#[derive(Clone, Debug)]
pub(super) struct FakeTask {
    pub(super) agent: usize,
    pub(super) resources: Resources,
    pub(super) state: TaskState,
    pub(super) killed: bool,
    /// The newest update until it is acknowledged.
    unacknowledged: Option<v1::TaskStatus>,
}

pub(super) struct FakeAgent {
    total: Resources,
    /// Nothing is offered of it before.
    filtered: Mono,
}

/// The framework, the replicated state and the master.
pub(super) struct Model {
    pub(super) services: Services,
    pub(super) state: State,
    pub(super) now: Now,
    queue: VecDeque<Queued>,
    pub(super) events: VecDeque<Event>,
    pub(super) agents: Vec<FakeAgent>,
    pub(super) offers: BTreeMap<String, (usize, Resources)>,
    pub(super) tasks: BTreeMap<String, FakeTask>,
    /// Every call that was made, by kind.
    pub(super) calls: Vec<call::Type>,
    pub(super) probes: Vec<(String, usize)>,
    pub(super) subscribing: bool,
    pub(super) subscribed: bool,
    pub(super) suppressed: bool,
    number: u64,
}

/// A small app.
pub(super) fn app(id: &str, instances: u32, more: &Value) -> Box<App> {
    let mut value = json!({ "id": id, "cmd": "true", "cpus": 0.5, "mem": 32, "instances": instances });
    value.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let app = read(&value, Keys::Refuse).expect("an app");
    check(&app).expect("a valid app");
    Box::new(app)
}

pub(super) fn is_over(state: TaskState) -> bool {
    super::super::updates::is_over(state)
}

impl Model {
    pub(super) fn new(agents: usize) -> Self {
        let total = Resources::parse("cpus:10;mem:1024;ports:[1000-1099]").expect("valid");
        let agent = |_| FakeAgent { total: total.clone(), filtered: Mono::default() };
        Self {
            services: Services::new(Arc::new(State::default()), 1),
            state: State::default(),
            now: Now {
                mono: Mono::from_start(Duration::from_secs(100)),
                wall: Timestamp::from_nanos(1_700_000_000_000_000_000),
            },
            queue: VecDeque::new(),
            events: VecDeque::new(),
            agents: (0..agents).map(agent).collect(),
            offers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            calls: Vec::new(),
            probes: Vec::new(),
            subscribing: false,
            subscribed: false,
            suppressed: false,
            number: 0,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// One input and everything that follows, as the loop does it.
    pub(super) fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.services.handle(input, self.now, &mut effects);
        self.services.sanity_check();
        self.perform(effects);
        let mut effects = Vec::new();
        self.services.settle(self.now, &mut effects);
        self.services.sanity_check();
        self.perform(effects);
        let next = self.services.next_deadline();
        assert!(next.is_none_or(|at| at > self.now.mono), "settled, and still something is due at {next:?}");
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Subscribe(_) => {
                    assert!(!self.subscribed, "subscribed twice");
                    self.subscribing = true;
                }
                Effect::Call(call) => self.call(*call),
                Effect::Propose { seq, command } => {
                    if let Command::Intent(instance) = &*command {
                        self.check_intent(instance);
                    }
                    self.queue.push_back(Queued::Own(seq, *command));
                }
                Effect::Probe { task_id, index, .. } => self.probes.push((task_id, index)),
            }
        }
    }

    /// An instance more is never one too many: counted are those that are recorded and not over,
    /// and those that are about to be recorded.
    fn check_intent(&self, new: &Instance) {
        let own = |queued: &Queued| match queued {
            Queued::Own(_, command) => Some(command.clone()),
            Queued::Wish(..) => None,
        };
        let mut living: BTreeMap<String, Instance> = BTreeMap::new();
        for instance in self.state.instances().values().filter(|one| one.app_id == new.app_id) {
            living.insert(instance.instance_id.clone(), (**instance).clone());
        }
        for command in self.queue.iter().filter_map(own) {
            match command {
                Command::Forget { instance_id } => drop(living.remove(&instance_id)),
                Command::Intent(instance) if instance.app_id == new.app_id => {
                    living.insert(instance.instance_id.clone(), *instance);
                }
                _ => {}
            }
        }
        if let Some(known) = living.get(&new.instance_id) {
            // The same launch once more tells something new of it, it launches nothing.
            assert_eq!(known.task_id, new.task_id, "{new:?} is one of {living:?}");
            return;
        }
        let entry = &self.state.apps()[&new.app_id];
        let app = self.services.app(&new.app_id).expect("a known app");
        let upgrade = living.values().any(|one| one.version_ns < entry.current.last_config_change_ns);
        let most = if upgrade { app.instances * 2 } else { app.instances };
        let count = u32::try_from(living.len()).expect("few") + 1;
        assert!(count <= most, "{count} instances of {}, {most} allowed: {living:?}", new.app_id);
    }

    fn call(&mut self, call: Call) {
        let kind = call.r#type();
        self.calls.push(kind);
        if !self.subscribed {
            return;
        }
        match kind {
            call::Type::Accept => self.accept(call.accept.expect("its member")),
            call::Type::Decline => {
                let decline = call.decline.expect("its member");
                let refuse = decline.filters.and_then(|filters| filters.refuse_seconds).unwrap_or(5.0);
                for offer_id in decline.offer_ids {
                    if let Some((agent, _)) = self.offers.remove(&offer_id.value) {
                        self.agents[agent].filtered = self.now.mono.after(Duration::from_secs_f64(refuse));
                    }
                }
            }
            call::Type::Suppress => self.suppressed = true,
            call::Type::Revive => {
                self.suppressed = false;
                for agent in &mut self.agents {
                    agent.filtered = Mono::default();
                }
            }
            call::Type::Kill => {
                let kill = call.kill.expect("its member");
                match self.tasks.get_mut(&kill.task_id.value) {
                    Some(task) if !is_over(task.state) => task.killed = true,
                    _ => self.told(kill.task_id, kill.agent_id, TaskState::TaskGone),
                }
            }
            call::Type::Reconcile => {
                let asked = call.reconcile.expect("its member").tasks;
                if asked.is_empty() {
                    let own = |(id, task): (&String, &FakeTask)| (id.clone(), task.agent, task.state);
                    for (value, agent, state) in self.tasks.iter().map(own).collect::<Vec<_>>() {
                        let agent_id = v1::AgentId { value: format!("S{agent}") };
                        self.told(v1::TaskId { value }, Some(agent_id), state);
                    }
                }
                for one in asked {
                    let known = self.tasks.get(&one.task_id.value).map(|task| task.state);
                    self.told(one.task_id, one.agent_id, known.unwrap_or(TaskState::TaskGone));
                }
            }
            call::Type::Acknowledge => {
                let acknowledge = call.acknowledge.expect("its member");
                if let Some(task) = self.tasks.get_mut(&acknowledge.task_id.value) {
                    let own = |status: &v1::TaskStatus| status.uuid.as_ref() == Some(&acknowledge.uuid);
                    if task.unacknowledged.as_ref().is_some_and(own) {
                        task.unacknowledged = None;
                        if is_over(task.state) {
                            self.tasks.remove(&acknowledge.task_id.value);
                        }
                    }
                }
            }
            other => panic!("{other:?} is never called"),
        }
    }

    fn accept(&mut self, accept: call::Accept) {
        let infos: Vec<v1::TaskInfo> =
            accept.operations.into_iter().flat_map(|one| one.launch.expect("a launch").task_infos).collect();
        for info in &infos {
            let recorded = self.state.instances().values().find(|one| one.task_id == info.task_id.value);
            let recorded = recorded.unwrap_or_else(|| panic!("{} is not recorded", info.task_id.value));
            assert_eq!(recorded.agent_id, info.agent_id.value);
        }
        let [offer_id] = accept.offer_ids.as_slice() else { panic!("{:?}", accept.offer_ids) };
        let Some((agent, mut left)) = self.offers.remove(&offer_id.value) else {
            for info in infos {
                let status = self.status(info.task_id, Some(info.agent_id), TaskState::TaskDropped);
                let reason = Some(v1::task_status::Reason::InvalidOffers.into());
                self.update(v1::TaskStatus { reason, ..status });
            }
            return;
        };
        self.agents[agent].filtered = self.now.mono.after(Duration::from_secs(5));
        for info in infos {
            let resources = Resources::from_wire(&info.resources).expect("valid").unallocated();
            left.subtract(&resources).expect("no more than was offered");
            let task = FakeTask {
                agent,
                resources,
                state: TaskState::TaskStaging,
                killed: false,
                unacknowledged: None,
            };
            let twin = self.tasks.insert(info.task_id.value.clone(), task);
            assert!(twin.is_none(), "two tasks are called {}", info.task_id.value);
        }
    }

    fn status(&self, task_id: v1::TaskId, agent_id: Option<v1::AgentId>, state: TaskState) -> v1::TaskStatus {
        v1::TaskStatus { task_id, agent_id, state: state.into(), ..Default::default() }
    }

    /// What the master says by itself.
    fn told(&mut self, task_id: v1::TaskId, agent_id: Option<v1::AgentId>, state: TaskState) {
        let status = self.status(task_id, agent_id, state);
        self.update(status);
    }

    fn update(&mut self, status: v1::TaskStatus) {
        self.events.push_back(Event {
            r#type: Some(event::Type::Update.into()),
            update: Some(event::Update { status }),
            ..Default::default()
        });
    }

    /// A task reaches a state; its agent tells so until it is acknowledged.
    pub(super) fn advance(&mut self, task: &str, state: TaskState) {
        let uuid = self.number().to_be_bytes().repeat(2);
        let Some(known) = self.tasks.get_mut(task).filter(|known| !is_over(known.state)) else { return };
        known.state = state;
        let status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: Some(v1::AgentId { value: format!("S{}", known.agent) }),
            state: state.into(),
            uuid: Some(uuid),
            ..Default::default()
        };
        known.unacknowledged = Some(status.clone());
        if self.subscribed {
            self.update(status);
        }
    }

    /// Offers what is free on an agent.
    pub(super) fn offer(&mut self, agent: usize) {
        let held = self.offers.values().any(|(other, _)| *other == agent);
        if !self.subscribed || self.suppressed || held || self.agents[agent].filtered > self.now.mono {
            return;
        }
        let mut free = self.agents[agent].total.clone();
        for task in self.tasks.values().filter(|task| task.agent == agent && !is_over(task.state)) {
            free.subtract(&task.resources).expect("never more than there is");
        }
        let id = format!("O{}", self.number());
        self.offers.insert(id.clone(), (agent, free.clone()));
        let offer = v1::Offer {
            id: v1::OfferId { value: id },
            framework_id: v1::FrameworkId { value: "F".to_owned() },
            agent_id: v1::AgentId { value: format!("S{agent}") },
            hostname: format!("host{agent}"),
            resources: free.to_wire(Format::PostRefinement),
            ..Default::default()
        };
        self.events.push_back(Event {
            r#type: Some(event::Type::Offers.into()),
            offers: Some(event::Offers { offers: vec![offer] }),
            ..Default::default()
        });
    }

    pub(super) fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let Some(event) = self.events.pop_front() else { return };
            let uuid = event.update.as_ref().and_then(|update| update.status.uuid.clone());
            let before = self.calls.len();
            self.handle(Input::Event(Box::new(event)));
            let acknowledged = self.calls[before..].contains(&call::Type::Acknowledge);
            assert_eq!(uuid.is_some(), acknowledged, "each update with a uuid is acknowledged, no other is");
        }
    }

    pub(super) fn subscribe(&mut self) {
        if !self.subscribing {
            return;
        }
        self.subscribing = false;
        self.subscribed = true;
        self.suppressed = false;
        self.events.push_back(Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(event::Subscribed {
                framework_id: v1::FrameworkId { value: "F".to_owned() },
                ..Default::default()
            }),
            ..Default::default()
        });
        // Agents tell again what was not acknowledged.
        let again: Vec<_> = self.tasks.values().filter_map(|task| task.unacknowledged.clone()).collect();
        for status in again {
            self.update(status);
        }
    }

    pub(super) fn disconnect(&mut self) {
        if self.subscribed {
            self.subscribed = false;
            self.events.clear();
            self.offers.clear();
            self.handle(Input::Disconnected);
        }
    }

    /// Offers are taken back.
    pub(super) fn rescind(&mut self) {
        self.offers.clear();
    }

    pub(super) fn wish(&mut self, wish: Wish, force: bool) {
        self.queue.push_back(Queued::Wish(wish, force));
    }

    /// Commits the oldest proposal: the new state comes first, then the answer.
    pub(super) fn commit(&mut self) -> bool {
        let Some(queued) = self.queue.pop_front() else { return false };
        let time = self.now.wall;
        match queued {
            Queued::Own(seq, command) => {
                let reply = self.state.apply(command, time);
                self.handle(Input::State(Arc::new(self.state.clone())));
                self.handle(Input::Committed { seq, reply });
            }
            Queued::Wish(wish, force) => {
                if let Some(plan) = self.plan(wish, force) {
                    self.state.apply(Command::Put(Box::new(plan)), time);
                    self.handle(Input::State(Arc::new(self.state.clone())));
                }
            }
        }
        true
    }

    fn plan(&mut self, wish: Wish, force: bool) -> Option<Plan> {
        let definition = |bytes: &[u8]| serde_json::from_slice::<App>(bytes).expect("an app");
        let current = self.state.apps().iter();
        let mut all: BTreeMap<String, App> =
            current.map(|(id, entry)| (id.clone(), definition(&entry.current.definition))).collect();
        let version = time_of(self.number());
        let (mut apps, mut removed, mut changed) = (Vec::new(), Vec::new(), BTreeMap::new());
        match wish {
            Wish::Put(app) => {
                let stored = all.get(&app.id);
                let scaled = stored.map(|stored| App { instances: app.instances, ..stored.clone() });
                let config = match self.state.apps().get(&app.id).filter(|_| scaled.as_ref() == Some(&*app)) {
                    Some(entry) => entry.current.last_config_change_ns,
                    None => version,
                };
                let kind = if config == version { "RestartApplication" } else { "ScaleApplication" };
                changed.insert(app.id.clone(), kind);
                apps.push(AppVersion {
                    id: app.id.clone(),
                    version_ns: version,
                    last_scaling_ns: version,
                    last_config_change_ns: config,
                    definition: serde_json::to_vec(&app).expect("JSON"),
                });
                all.insert(app.id.clone(), *app);
            }
            Wish::Remove(id) => {
                all.remove(&id)?;
                removed.push(id);
            }
        }
        let steps = plan(&all, &changed, &removed);
        let deployment_id = format!("deployment{version}");
        let version = Timestamp::from_nanos(version);
        Some(Plan { deployment_id, version, apps, removed, steps, force, create: false })
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        let until = self.now.mono.after(duration);
        loop {
            let next = self.services.next_deadline().unwrap_or(until).clamp(self.now.mono, until);
            let step = next.since(self.now.mono);
            self.now = Now { mono: next, wall: self.now.wall.after(step) };
            self.handle(Input::Tick);
            if next == until {
                return;
            }
        }
    }

    pub(super) fn probed(&mut self, well: bool) {
        let Some((task_id, index)) = self.probes.pop() else { return };
        let result = if well { Ok(()) } else { Err("refused".to_owned()) };
        self.handle(Input::Probed { task_id, index, result });
    }

    /// Everything is committed and delivered, offers come, tasks run, time passes.
    pub(super) fn come_to_rest(&mut self) {
        for _ in 0..40 {
            while self.commit() {}
            self.subscribe();
            self.deliver(usize::MAX);
            while self.commit() {}
            for task in self.tasks.keys().cloned().collect::<Vec<_>>() {
                let next = match (&self.tasks[&task].state, self.tasks[&task].killed) {
                    (_, true) => TaskState::TaskKilled,
                    (TaskState::TaskStaging, _) => TaskState::TaskStarting,
                    (TaskState::TaskStarting, _) => TaskState::TaskRunning,
                    _ => continue,
                };
                self.advance(&task, next);
            }
            self.deliver(usize::MAX);
            while !self.probes.is_empty() {
                self.probed(true);
            }
            self.wait(Duration::from_secs(20));
            (0..self.agents.len()).for_each(|agent| self.offer(agent));
        }
    }

    /// At rest each app has exactly its instances, all of the newest configuration and running.
    pub(super) fn check_rest(&self) {
        assert!(self.state.deployments().is_empty(), "{:?}", self.state.deployments());
        let recorded: BTreeSet<&str> =
            self.state.instances().values().map(|one| one.task_id.as_str()).collect();
        let living = self.tasks.iter().filter(|(_, task)| task.state == TaskState::TaskRunning);
        let living: BTreeSet<&str> = living.map(|(id, _)| id.as_str()).collect();
        assert_eq!(recorded, living, "recorded and running");
        for (id, entry) in self.state.apps() {
            let own = self.state.instances().values().filter(|one| &one.app_id == id);
            let (new, old): (Vec<_>, Vec<_>) =
                own.partition(|one| one.version_ns >= entry.current.last_config_change_ns);
            let wanted = usize::try_from(self.services.app(id).expect("known").instances).expect("few");
            assert_eq!((new.len(), old.len()), (wanted, 0), "instances of {id}");
            assert_eq!(self.services.counts(id).running, wanted as u64);
        }
        assert!(self.state.instances().values().all(|one| self.state.apps().contains_key(&one.app_id)));
    }
}

fn time_of(number: u64) -> i64 {
    1_600_000_000_000_000_000 + i64::try_from(number).expect("small") * 1_000_000
}
