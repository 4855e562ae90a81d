//! What the scripts of this room share: a core with a registry that commits when the script says so,
//! and a master that says what the script says.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Effect, Input, Services, Target};
use crate::api::marathon::App;
use crate::api::v1::scheduler::{self, Call, Event, call, event};
use crate::api::v1::{self, TaskState};
use crate::base::id::Role;
use crate::base::time::{Mono, Now, Timestamp};
use crate::resources::{Format, Resources};
use crate::service::model::{Action, AppVersion, Command, Instance, Plan, State};

/// When every script begins; the two clocks have nothing in common.
const START: (u64, i64) = (1_000, 1_700_000_000);

/// A core, and the world around it.
pub(super) struct Script {
    pub(super) core: Services,
    pub(super) state: State,
    pub(super) now: Now,
    /// Proposals that are not committed yet.
    pub(super) proposed: Vec<(u64, Command)>,
    /// What the core did since the script last looked.
    pub(super) effects: Vec<Effect>,
    offers: u32,
}

/// An app of small tasks; `more` is laid over it.
pub(super) fn app(id: &str, instances: u32, more: Value) -> Value {
    let mut app = json!({ "id": id, "cmd": "sleep 1000", "cpus": 0.1, "mem": 16, "instances": instances });
    if let (Some(app), Value::Object(more)) = (app.as_object_mut(), more) {
        app.extend(more);
    }
    app
}

/// A Marathon-level check with short times.
pub(super) fn check(more: Value) -> Value {
    let mut check = json!({
        "protocol": "HTTP", "path": "/", "port": 8080, "gracePeriodSeconds": 0, "intervalSeconds": 10,
        "maxConsecutiveFailures": 3
    });
    if let (Some(check), Value::Object(more)) = (check.as_object_mut(), more) {
        check.extend(more);
    }
    check
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Script {
    pub(super) fn new() -> Self {
        let now = Now {
            mono: Mono::from_start(seconds(START.0)),
            wall: Timestamp::from_nanos(START.1 * 1_000_000_000),
        };
        let core = Services::new(Arc::new(State::default()), 7);
        Self { core, state: State::default(), now, proposed: Vec::new(), effects: Vec::new(), offers: 0 }
    }

    /// A cluster in which an app's instances run; returns their tasks.
    pub(super) fn running(apps: &[Value]) -> (Self, Vec<String>) {
        let mut script = Self::new();
        script.put(apps);
        script.subscribe();
        script.launch_all();
        let tasks = script.tasks();
        for task in &tasks {
            script.update(task, TaskState::TaskRunning);
        }
        script.commit();
        script.effects.clear();
        (script, tasks)
    }

    /// Offers and commits until nothing more is launched.
    pub(super) fn launch_all(&mut self) {
        loop {
            self.offer("big");
            let launched = self.proposed.iter().any(|(_, command)| matches!(command, Command::Intent(_)));
            self.commit();
            if !launched {
                return;
            }
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.core.handle(input, self.now, &mut self.effects);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        self.core.settle(self.now, &mut self.effects);
        self.core.sanity_check();
        for effect in &self.effects {
            if let Effect::Propose { seq, command } = effect
                && self.proposed.iter().all(|(known, _)| known != seq)
            {
                self.proposed.push((*seq, (**command).clone()));
            }
        }
        self.effects.retain(|effect| !matches!(effect, Effect::Propose { .. }));
    }

    /// Time passes, the loop wakes once.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now.mono = self.now.mono.after(time);
        self.now.wall = self.now.wall.after(time);
        self.handle(Input::Tick);
    }

    /// Time passes, and the loop wakes whenever the core asks for it.
    pub(super) fn live(&mut self, time: Duration) {
        let end = self.now.mono.after(time);
        let mut turns = 0;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.wait(at.since(self.now.mono));
            self.commit();
            turns += 1;
            assert!(turns < 10_000, "the core wakes without end");
        }
        self.wait(end.since(self.now.mono));
    }

    /// The core has nothing to do at this moment.
    pub(super) fn assert_rests(&self) {
        let deadline = self.core.next_deadline();
        assert!(deadline.is_none_or(|at| at > self.now.mono), "it wakes at once, for ever: {deadline:?}");
    }

    /// A deployment of apps, all in one step, with a version of its own.
    pub(super) fn put(&mut self, apps: &[Value]) {
        let ids: Vec<&str> = apps.iter().map(|app| app["id"].as_str().expect("an id")).collect();
        self.put_in_steps(apps, &[&ids], true);
    }

    /// A change of the number of instances only.
    pub(super) fn scale(&mut self, app: &Value) {
        self.put_in_steps(std::slice::from_ref(app), &[&[app["id"].as_str().expect("an id")]], false);
    }

    pub(super) fn put_in_steps(&mut self, apps: &[Value], steps: &[&[&str]], config: bool) {
        let newest = self.state.apps().values().map(|entry| entry.current.version_ns).max().unwrap_or(0);
        let version = self.now.wall.nanos().max(newest + 1_000_000);
        let apps = apps.iter().map(|app| {
            let app: App = serde_json::from_value(app.clone()).expect("an app");
            let before = self.state.apps().get(&app.id).map(|entry| entry.current.last_config_change_ns);
            AppVersion {
                id: app.id.clone(),
                version_ns: version,
                last_scaling_ns: version,
                last_config_change_ns: before.filter(|_| !config).unwrap_or(version),
                definition: serde_json::to_vec(&app).expect("JSON"),
            }
        });
        let action = |id: &&str| Action { kind: "RestartApplication".to_owned(), app_id: (*id).to_owned() };
        let plan = Plan {
            deployment_id: format!("deployment-{version}"),
            version: Timestamp::from_nanos(version),
            apps: apps.collect(),
            removed: Vec::new(),
            steps: steps.iter().map(|step| step.iter().map(action).collect()).collect(),
            force: true,
            create: false,
        };
        self.apply(Command::Put(Box::new(plan)));
    }

    pub(super) fn remove(&mut self, id: &str) {
        let action = Action { kind: "StopApplication".to_owned(), app_id: id.to_owned() };
        let plan = Plan {
            deployment_id: format!("removal-of-{id}"),
            version: self.now.wall,
            apps: Vec::new(),
            removed: vec![id.to_owned()],
            steps: vec![vec![action]],
            force: true,
            create: false,
        };
        self.apply(Command::Put(Box::new(plan)));
    }

    /// Something is committed that the core did not propose.
    pub(super) fn apply(&mut self, command: Command) {
        self.state.apply(command, self.now.wall);
        self.handle(Input::State(Arc::new(self.state.clone())));
    }

    /// What was proposed is committed, one after another, until nothing more comes.
    pub(super) fn commit(&mut self) {
        while !self.proposed.is_empty() {
            self.commit_one();
        }
    }

    /// The oldest proposal is committed.
    pub(super) fn commit_one(&mut self) {
        let (seq, command) = self.proposed.remove(0);
        let reply = self.state.apply(command, self.now.wall);
        self.core.handle(Input::State(Arc::new(self.state.clone())), self.now, &mut self.effects);
        self.handle(Input::Committed { seq, reply });
    }

    /// Another node leads, or this one has started again: only what is replicated is known.
    pub(super) fn new_term(&mut self) {
        let bytes = self.state.encode();
        self.state = State::decode(&bytes).expect("our own bytes");
        self.core = Services::new(Arc::new(self.state.clone()), 8);
        self.proposed.clear();
        self.effects.clear();
        self.settle();
    }

    pub(super) fn subscribe(&mut self) {
        self.subscribe_as("framework");
    }

    pub(super) fn subscribe_as(&mut self, id: &str) {
        let framework_id = v1::FrameworkId { value: id.to_owned() };
        let subscribed = event::Subscribed { framework_id, ..Default::default() };
        let kind = Some(event::Type::Subscribed.into());
        self.event(Event { r#type: kind, subscribed: Some(subscribed), ..Default::default() });
        self.commit();
    }

    pub(super) fn event(&mut self, event: Event) {
        self.handle(Input::Event(Box::new(event)));
    }

    pub(super) fn error(&mut self, message: &str) {
        let error = Some(event::Error { message: message.to_owned() });
        self.event(Event { r#type: Some(event::Type::Error.into()), error, ..Default::default() });
    }

    /// An offer of a host with more than enough.
    pub(super) fn offer(&mut self, host: &str) {
        self.offer_of(host, "cpus:64;mem:65536;ports:[31000-31999]", &[]);
    }

    pub(super) fn offer_of(&mut self, host: &str, resources: &str, attributes: &[(&str, &str)]) {
        self.offers += 1;
        let resources = Resources::parse(resources).expect("resources");
        let attributes = attributes.iter().map(|(name, value)| v1::Attribute {
            name: (*name).to_owned(),
            r#type: v1::value::Type::Text.into(),
            text: Some(v1::value::Text { value: (*value).to_owned() }),
            ..Default::default()
        });
        let offer = v1::Offer {
            id: v1::OfferId { value: format!("offer-{}", self.offers) },
            framework_id: v1::FrameworkId { value: "framework".to_owned() },
            agent_id: v1::AgentId { value: format!("agent-{host}") },
            hostname: host.to_owned(),
            resources: resources.allocated_to(&Role::new("*")).to_wire(Format::PostRefinement),
            attributes: attributes.collect(),
            ..Default::default()
        };
        let offers = Some(event::Offers { offers: vec![offer] });
        self.event(Event { r#type: Some(event::Type::Offers.into()), offers, ..Default::default() });
    }

    pub(super) fn update(&mut self, task: &str, state: TaskState) {
        self.update_with(task, state, |_| {});
    }

    pub(super) fn update_with(
        &mut self,
        task: &str,
        state: TaskState,
        fill: impl FnOnce(&mut v1::TaskStatus),
    ) {
        let instance = self.state.instances().values().find(|instance| instance.task_id == task);
        let agent = instance.map_or("agent-big", |instance| &instance.agent_id).to_owned();
        let mut status = v1::TaskStatus {
            task_id: v1::TaskId { value: task.to_owned() },
            state: state.into(),
            agent_id: Some(v1::AgentId { value: agent }),
            ..Default::default()
        };
        fill(&mut status);
        let update = Some(event::Update { status });
        self.event(Event { r#type: Some(event::Type::Update.into()), update, ..Default::default() });
    }

    /// The answer to every probe that was asked for.
    pub(super) fn answer_probes(&mut self, result: &Result<(), String>) {
        for (task_id, index, _) in self.take_probes() {
            self.handle(Input::Probed { task_id, index, result: result.clone() });
        }
    }

    /// Tasks of the recorded instances.
    pub(super) fn tasks(&self) -> Vec<String> {
        self.state.instances().values().map(|instance| instance.task_id.clone()).collect()
    }

    pub(super) fn tasks_of(&self, app: &str) -> Vec<String> {
        let own = self.state.instances().values().filter(|instance| instance.app_id == app);
        own.map(|instance| instance.task_id.clone()).collect()
    }

    pub(super) fn instance(&self, task: &str) -> Option<&Instance> {
        self.state.instances().values().find(|instance| instance.task_id == task).map(AsRef::as_ref)
    }

    /// Takes the calls of a kind out of what the core did.
    pub(super) fn take_calls(&mut self, kind: call::Type) -> Vec<Call> {
        let wanted = |effect: &Effect| matches!(effect, Effect::Call(call) if call.r#type == Some(scheduler::call::Type::into(kind)));
        let (taken, rest) = std::mem::take(&mut self.effects).into_iter().partition(wanted);
        self.effects = rest;
        let calls = taken.into_iter().filter_map(|effect| match effect {
            Effect::Call(call) => Some(*call),
            _ => None,
        });
        calls.collect()
    }

    /// Tasks that were killed since the script last looked.
    pub(super) fn take_kills(&mut self) -> Vec<String> {
        let calls = self.take_calls(call::Type::Kill);
        calls.into_iter().filter_map(|call| call.kill.map(|kill| kill.task_id.value)).collect()
    }

    /// Tasks that were launched since the script last looked.
    pub(super) fn take_launches(&mut self) -> Vec<String> {
        let calls = self.take_calls(call::Type::Accept);
        let operations =
            calls.into_iter().filter_map(|call| call.accept).flat_map(|accept| accept.operations);
        let tasks = operations.filter_map(|one| one.launch).flat_map(|launch| launch.task_infos);
        tasks.map(|task| task.task_id.value).collect()
    }

    pub(super) fn take_subscriptions(&mut self) -> Vec<v1::FrameworkInfo> {
        let (taken, rest) = std::mem::take(&mut self.effects)
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Subscribe(_)));
        self.effects = rest;
        let infos = taken.into_iter().filter_map(|effect: Effect| match effect {
            Effect::Subscribe(info) => Some(*info),
            _ => None,
        });
        infos.collect()
    }

    pub(super) fn take_probes(&mut self) -> Vec<(String, usize, Target)> {
        let (taken, rest) = std::mem::take(&mut self.effects)
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Probe { .. }));
        self.effects = rest;
        let probes = taken.into_iter().filter_map(|effect: Effect| match effect {
            Effect::Probe { task_id, index, target, .. } => Some((task_id, index, target)),
            _ => None,
        });
        probes.collect()
    }
}
