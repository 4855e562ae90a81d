//! A master with a registry and a clock, and the words to talk with it.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::api::ApiError;
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::api::v1::scheduler::{Call, Event, call, event};
use crate::base::id::{AgentId, FrameworkId};
use crate::base::time::{Mono, Now, Timestamp};
use crate::master::core::{Config, ConnId, Effect, Input, LinkId, Master, ReplyId};
use crate::registry::core::{Change, Command, State as Registry};
use crate::resources::{Format, Resources};

pub(super) use crate::api::v1::TaskState as State;
pub(super) use crate::api::v1::framework_info::capability::Type as Capability;
pub(super) use crate::api::v1::task_status::Reason;
pub(super) use call::Type as CallType;

/// A subscribed scheduler.
#[derive(Clone, Debug)]
pub(super) struct Scheduler {
    pub(super) conn: ConnId,
    pub(super) stream_id: String,
    pub(super) id: FrameworkId,
}

/// A registered agent.
#[derive(Clone, Debug)]
pub(super) struct TestAgent {
    pub(super) link: LinkId,
    pub(super) id: AgentId,
    pub(super) info: v1::AgentInfo,
}

/// A master, its registry and its clock. What the master does is kept until a test asserts it.
pub(super) struct TestEnv {
    pub(super) master: Master,
    pub(super) registry: Registry,
    pub(super) now: Now,
    pub(super) effects: VecDeque<Effect>,
    pub(super) proposals: VecDeque<(u64, Change)>,
    /// Proposals wait until [`TestEnv::commit`].
    pub(super) late: bool,
    /// Links that do not answer pings.
    pub(super) silent: BTreeSet<LinkId>,
    next: u64,
}

fn config() -> Config {
    Config::new(SocketAddr::from(([127, 0, 0, 1], 5050)))
}

impl TestEnv {
    pub(super) fn new() -> Self {
        Self::over(Registry::default())
    }

    /// A freshly elected master over what the registry holds.
    pub(super) fn over(registry: Registry) -> Self {
        let now = Now {
            mono: Mono::from_start(Duration::from_secs(100)),
            wall: Timestamp::from_nanos(1_700_000_000_000_000_000),
        };
        Self {
            master: Master::new(config(), &registry, 1, now),
            registry,
            now,
            effects: VecDeque::new(),
            proposals: VecDeque::new(),
            late: false,
            silent: BTreeSet::new(),
            next: 0,
        }
    }

    /// Another master is elected: every connection is gone, the registry stays.
    pub(super) fn fail_over(&mut self) {
        self.next += 1;
        self.proposals.clear();
        self.effects.clear();
        self.master = Master::new(config(), &self.registry, self.next, self.now);
        self.master.sanity_check();
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// One input, everything that follows from it, and the checks that hold at every time.
    pub(super) fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.master.handle(input, self.now, &mut effects);
        self.master.sanity_check();
        self.master.settle(self.now, &mut effects);
        self.master.sanity_check();
        let next = self.master.next_deadline();
        assert!(next.is_none_or(|at| at > self.now.mono), "settled, and still something is due at {next:?}");
        for effect in effects {
            match effect {
                Effect::Propose { seq, change } => self.proposals.push_back((seq, *change)),
                other => self.effects.push_back(other),
            }
        }
        while !self.late && self.commit() {}
    }

    /// Commits the oldest proposal; false when there is none.
    pub(super) fn commit(&mut self) -> bool {
        let Some((seq, change)) = self.proposals.pop_front() else { return false };
        let reply = self.registry.apply(Command { time: self.now.wall, change });
        self.handle(Input::Committed { seq, reply });
        true
    }

    /// Time passes; agents answer pings, heartbeats are not kept.
    pub(super) fn wait(&mut self, duration: Duration) {
        let until = self.now.mono.after(duration);
        loop {
            let next = self.master.next_deadline().unwrap_or(until).min(until);
            let step = next.since(self.now.mono);
            self.now = Now { mono: next, wall: self.now.wall.after(step) };
            self.handle(Input::Tick);
            self.answer_pings();
            if next == until {
                return;
            }
        }
    }

    pub(super) fn answer_pings(&mut self) {
        let mut pinged = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Tell { link, message } if matches!(**message, to_agent::Message::Ping(_)) => {
                pinged.push(*link);
                false
            }
            Effect::Send { event, .. } => event.r#type != Some(event::Type::Heartbeat.into()),
            _ => true,
        });
        for link in pinged {
            if !self.silent.contains(&link) {
                self.say(link, from_agent::Message::Pong(peer::Pong {}));
            }
        }
    }

    // Words of schedulers.

    /// Opens a stream with SUBSCRIBE.
    pub(super) fn open(&mut self, info: &v1::FrameworkInfo) -> (ConnId, String) {
        let number = self.number();
        let (conn, stream_id) = (ConnId(number), format!("stream-{number}"));
        let subscribe = call::Subscribe { framework_info: info.clone(), ..Default::default() };
        self.handle(Input::Subscribe {
            conn,
            stream_id: stream_id.clone(),
            subscribe: Box::new(subscribe),
            principal: None,
        });
        (conn, stream_id)
    }

    /// Subscribes and hears so.
    pub(super) fn subscribe(&mut self, info: &v1::FrameworkInfo) -> Scheduler {
        let (conn, stream_id) = self.open(info);
        let id = self.subscribed(conn);
        Scheduler { conn, stream_id, id }
    }

    pub(super) fn subscribed(&mut self, conn: ConnId) -> FrameworkId {
        let subscribed = self.event(conn, event::Type::Subscribed).subscribed.expect("its member");
        self.event(conn, event::Type::Heartbeat);
        FrameworkId::new(subscribed.framework_id.value)
    }

    /// A call of a scheduler; answers what it is answered.
    pub(super) fn call(
        &mut self,
        scheduler: &Scheduler,
        kind: CallType,
        fill: impl FnOnce(&mut Call),
    ) -> Result<(), ApiError> {
        let reply = ReplyId(self.number());
        let framework_id = Some(v1::FrameworkId { value: scheduler.id.to_string() });
        let mut call = Call { framework_id, r#type: Some(kind.into()), ..Default::default() };
        fill(&mut call);
        let stream_id = Some(scheduler.stream_id.clone());
        self.handle(Input::Call { reply, call: Box::new(call), stream_id, principal: None });
        self.reply(reply)
    }

    fn reply(&mut self, wanted: ReplyId) -> Result<(), ApiError> {
        let at = self
            .effects
            .iter()
            .position(|effect| matches!(effect, Effect::Reply { reply, .. } if *reply == wanted));
        match self.effects.remove(at.expect("each call is answered at once")) {
            Some(Effect::Reply { result, .. }) => result,
            other => panic!("{other:?} is no reply"),
        }
    }

    pub(super) fn accept(&mut self, scheduler: &Scheduler, offers: &[v1::OfferId], tasks: &[v1::TaskInfo]) {
        let launch = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos: tasks.to_vec() }),
            ..Default::default()
        };
        let accept = call::Accept { offer_ids: offers.to_vec(), operations: vec![launch], filters: None };
        self.call(scheduler, CallType::Accept, |call| call.accept = Some(accept)).expect("accepted");
    }

    pub(super) fn decline(&mut self, scheduler: &Scheduler, offers: &[v1::OfferId], seconds: Option<f64>) {
        let filters = seconds.map(|seconds| v1::Filters { refuse_seconds: Some(seconds) });
        let decline = call::Decline { offer_ids: offers.to_vec(), filters };
        self.call(scheduler, CallType::Decline, |call| call.decline = Some(decline)).expect("accepted");
    }

    pub(super) fn acknowledge(&mut self, scheduler: &Scheduler, status: &v1::TaskStatus) {
        let acknowledge = call::Acknowledge {
            agent_id: status.agent_id.clone().expect("an agent"),
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().expect("to be acknowledged"),
        };
        self.call(scheduler, CallType::Acknowledge, |call| call.acknowledge = Some(acknowledge))
            .expect("accepted");
    }

    pub(super) fn kill(&mut self, scheduler: &Scheduler, task: &str, agent: Option<&AgentId>) {
        let kill = call::Kill {
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: agent.map(|agent| v1::AgentId { value: agent.to_string() }),
            kill_policy: None,
        };
        self.call(scheduler, CallType::Kill, |call| call.kill = Some(kill)).expect("accepted");
    }

    pub(super) fn reconcile(&mut self, scheduler: &Scheduler, tasks: &[(&str, Option<&AgentId>)]) {
        let tasks = tasks.iter().map(|(task, agent)| call::reconcile::Task {
            task_id: v1::TaskId { value: (*task).to_owned() },
            agent_id: agent.map(|agent| v1::AgentId { value: agent.to_string() }),
        });
        let reconcile = call::Reconcile { tasks: tasks.collect() };
        self.call(scheduler, CallType::Reconcile, |call| call.reconcile = Some(reconcile)).expect("accepted");
    }

    // Words of agents.

    pub(super) fn say(&mut self, link: LinkId, message: from_agent::Message) {
        self.handle(Input::Agent { link, message: Box::new(message) });
    }

    /// Registers an agent and hears its id.
    pub(super) fn agent(&mut self, host: &str, resources: &str) -> TestAgent {
        let link = LinkId(self.number());
        let mut info = agent_info(host, resources);
        self.say(link, register(&info));
        let id = self.registered(link);
        info.id = Some(v1::AgentId { value: id.to_string() });
        TestAgent { link, id, info }
    }

    pub(super) fn registered(&mut self, link: LinkId) -> AgentId {
        match self.tell(link) {
            to_agent::Message::Registered(registered) => AgentId::new(registered.agent_id.value),
            other => panic!("{other:?} is not Registered"),
        }
    }

    /// An agent comes back on a new link with its tasks.
    pub(super) fn come_back(
        &mut self,
        agent: &mut TestAgent,
        frameworks: &[v1::FrameworkInfo],
        tasks: &[v1::Task],
    ) {
        agent.link = LinkId(self.number());
        self.say(agent.link, reregister(&agent.info, frameworks, tasks));
    }

    pub(super) fn status(&mut self, agent: &TestAgent, framework: &FrameworkId, task: &str, state: State) {
        let uuid = self.number().to_be_bytes().repeat(2);
        let update = update(framework, &agent.id, task, state, state, &uuid);
        self.say(agent.link, update);
    }

    // What is heard: each word is asserted.

    /// The next effect is this event.
    pub(super) fn event(&mut self, wanted: ConnId, kind: event::Type) -> Event {
        match self.effects.pop_front() {
            Some(Effect::Send { conn, event }) if conn == wanted && event.r#type == Some(kind.into()) => {
                *event
            }
            other => panic!("{other:?} is not {kind:?} for {wanted:?}"),
        }
    }

    pub(super) fn offers(&mut self, conn: ConnId) -> Vec<v1::Offer> {
        self.event(conn, event::Type::Offers).offers.expect("its member").offers
    }

    /// The next effect is one offer.
    pub(super) fn offer(&mut self, conn: ConnId) -> v1::Offer {
        let mut offers = self.offers(conn);
        assert_eq!(offers.len(), 1, "{offers:?}");
        offers.remove(0)
    }

    pub(super) fn update(&mut self, conn: ConnId, task: &str, state: State) -> v1::TaskStatus {
        let status = self.event(conn, event::Type::Update).update.expect("its member").status;
        assert_eq!((status.task_id.value.as_str(), status.state()), (task, state), "{status:?}");
        status
    }

    /// An update that the master itself makes: it is not to be acknowledged.
    pub(super) fn master_update(
        &mut self,
        conn: ConnId,
        task: &str,
        state: State,
        reason: Reason,
    ) -> v1::TaskStatus {
        let status = self.update(conn, task, state);
        assert_eq!(status.reason, Some(reason.into()), "{status:?}");
        assert_eq!(status.source, Some(v1::task_status::Source::Master.into()), "{status:?}");
        assert!(status.uuid.is_none() && status.message.is_some(), "{status:?}");
        status
    }

    pub(super) fn tell(&mut self, wanted: LinkId) -> to_agent::Message {
        match self.effects.pop_front() {
            Some(Effect::Tell { link, message }) if link == wanted => *message,
            other => panic!("{other:?} is not for {wanted:?}"),
        }
    }

    pub(super) fn run_task(&mut self, link: LinkId, task: &str) {
        match self.tell(link) {
            to_agent::Message::RunTask(run) => assert_eq!(run.task.task_id.value, task),
            other => panic!("{other:?} does not run {task}"),
        }
    }

    pub(super) fn silence(&mut self) {
        assert!(self.effects.is_empty(), "{:?}", self.effects);
    }

    // Whole scenes.

    /// One agent, one scheduler, and what it is offered.
    pub(super) fn one_offer(
        &mut self,
        info: &v1::FrameworkInfo,
        resources: &str,
    ) -> (Scheduler, TestAgent, v1::Offer) {
        let agent = self.agent("one", resources);
        let scheduler = self.subscribe(info);
        let offer = self.offer(scheduler.conn);
        self.silence();
        (scheduler, agent, offer)
    }

    /// One agent, one scheduler, and a task that takes all and runs.
    pub(super) fn running(&mut self, info: &v1::FrameworkInfo, task: &str) -> (Scheduler, TestAgent) {
        let (scheduler, agent, offer) = self.one_offer(info, "cpus:1;mem:64");
        self.accept(&scheduler, &[offer.id], &[task_info(task, &agent.id, "cpus:1;mem:64")]);
        self.run_task(agent.link, task);
        self.status(&agent, &scheduler.id, task, State::TaskRunning);
        let status = self.update(scheduler.conn, task, State::TaskRunning);
        self.acknowledge(&scheduler, &status);
        assert!(matches!(self.tell(agent.link), to_agent::Message::Acknowledge(_)));
        self.silence();
        (scheduler, agent)
    }
}

// Messages.

pub(super) fn framework_info(capabilities: &[Capability]) -> v1::FrameworkInfo {
    let capability = |kind: &Capability| v1::framework_info::Capability { r#type: Some((*kind).into()) };
    v1::FrameworkInfo {
        user: "nobody".to_owned(),
        name: "test".to_owned(),
        failover_timeout: Some(3_600.0),
        capabilities: capabilities.iter().map(capability).collect(),
        ..Default::default()
    }
}

pub(super) fn with_id(info: &v1::FrameworkInfo, id: &FrameworkId) -> v1::FrameworkInfo {
    v1::FrameworkInfo { id: Some(v1::FrameworkId { value: id.to_string() }), ..info.clone() }
}

pub(super) fn agent_info(host: &str, resources: &str) -> v1::AgentInfo {
    let resources = Resources::parse(resources).expect("valid resources").to_wire(Format::PostRefinement);
    v1::AgentInfo { hostname: host.to_owned(), resources, ..Default::default() }
}

pub(super) fn register(info: &v1::AgentInfo) -> from_agent::Message {
    let version = "1.11.0".to_owned();
    let agent_info = info.clone();
    from_agent::Message::Register(peer::Register { version, agent_info, capabilities: Vec::new() })
}

pub(super) fn reregister(
    info: &v1::AgentInfo,
    frameworks: &[v1::FrameworkInfo],
    tasks: &[v1::Task],
) -> from_agent::Message {
    from_agent::Message::Reregister(peer::Reregister {
        version: "1.11.0".to_owned(),
        agent_info: info.clone(),
        capabilities: Vec::new(),
        frameworks: frameworks.to_vec(),
        tasks: tasks.to_vec(),
        executors: Vec::new(),
    })
}

pub(super) fn task_info(id: &str, agent: &AgentId, resources: &str) -> v1::TaskInfo {
    let resources = Resources::parse(resources).expect("valid resources").to_wire(Format::PostRefinement);
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId { value: id.to_owned() },
        agent_id: v1::AgentId { value: agent.to_string() },
        resources,
        command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..Default::default()
    }
}

/// A task as an agent reports it.
pub(super) fn task_message(framework: &FrameworkId, info: &v1::TaskInfo, state: State) -> v1::Task {
    let mut task = super::super::accept::task_message(framework, info);
    let role = Some("*".to_owned());
    for resource in &mut task.resources {
        resource.allocation_info.get_or_insert_with(|| v1::resource::AllocationInfo { role: role.clone() });
    }
    task.state = state.into();
    task
}

pub(super) fn update(
    framework: &FrameworkId,
    agent: &AgentId,
    task: &str,
    state: State,
    latest: State,
    uuid: &[u8],
) -> from_agent::Message {
    let status = v1::TaskStatus {
        task_id: v1::TaskId { value: task.to_owned() },
        state: state.into(),
        agent_id: Some(v1::AgentId { value: agent.to_string() }),
        uuid: Some(uuid.to_vec()),
        ..Default::default()
    };
    from_agent::Message::Update(peer::StatusUpdate {
        framework_id: v1::FrameworkId { value: framework.to_string() },
        status,
        latest_state: latest.into(),
    })
}
