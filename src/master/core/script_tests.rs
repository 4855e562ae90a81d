//! A master that follows a script: its registry commits at once, or when told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::io::{ConnId, Effect, Input, LinkId, ReplyId};
use super::state::{Config, Master};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1::scheduler::{self, call, event};
use crate::api::{ApiError, v1};
use crate::base::id::FrameworkId;
use crate::base::time::{Mono, Now, Timestamp};
use crate::registry::core::{Change, Command, State};
use crate::resources::{Format, Resources};

pub(super) struct Script {
    pub(super) master: Master,
    pub(super) registry: State,
    pub(super) now: Now,
    /// Proposals wait for [`Script::commit`].
    pub(super) hold: bool,
    pub(super) waiting: VecDeque<(u64, Change)>,
    next_reply: u64,
}

impl Script {
    pub(super) fn new() -> Self {
        Self::on(State::default(), 0)
    }

    /// A master elected `seconds` after the start, over this registry.
    pub(super) fn on(registry: State, seconds: u64) -> Self {
        let now = instant(seconds);
        let config = Config::new(SocketAddr::from(([127, 0, 0, 1], 5050)));
        let master = Master::new(config, &registry, seconds + 1, now);
        Self { master, registry, now, hold: false, waiting: VecDeque::new(), next_reply: 0 }
    }

    /// A later master over the same registry.
    pub(super) fn fail_over(self, seconds: u64) -> Self {
        Self::on(self.registry, seconds)
    }

    /// One input, what settles after it, and the commits that follow.
    pub(super) fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.master.handle(input, self.now, &mut effects);
        self.finish(effects)
    }

    fn finish(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        self.master.settle(self.now, &mut effects);
        self.master.sanity_check();
        let mut all = Vec::new();
        for effect in effects {
            match effect {
                Effect::Propose { seq, change } => self.waiting.push_back((seq, *change)),
                other => all.push(other),
            }
        }
        if !self.hold {
            all.extend(self.commit());
        }
        all
    }

    /// Commits what was proposed, in order.
    pub(super) fn commit(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        while let Some((seq, change)) = self.waiting.pop_front() {
            let reply = self.registry.apply(Command { time: self.now.wall, change });
            let mut effects = Vec::new();
            self.master.handle(Input::Committed { seq, reply }, self.now, &mut effects);
            all.extend(self.finish(effects));
        }
        all
    }

    /// Lets time pass second by second; nobody says anything.
    pub(super) fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.jump(1);
            all.extend(self.feed(Input::Tick));
        }
        all
    }

    /// The clock moves on at once: the master was paused.
    pub(super) fn jump(&mut self, seconds: u64) {
        let at = self.now.mono.since_start().as_secs() + seconds;
        self.now = instant(at);
    }

    pub(super) fn say(&mut self, link: u64, message: from_agent::Message) -> Vec<Effect> {
        self.feed(Input::Agent { link: LinkId(link), message: Box::new(message) })
    }

    pub(super) fn register(&mut self, link: u64, hostname: &str) -> Vec<Effect> {
        let (agent_info, version) = (agent_info(hostname), "1.11.0".to_owned());
        let register = peer::Register { version, agent_info, capabilities: Vec::new() };
        self.say(link, from_agent::Message::Register(register))
    }

    pub(super) fn reregister(
        &mut self,
        link: u64,
        hostname: &str,
        id: &str,
        tasks: Vec<v1::Task>,
    ) -> Vec<Effect> {
        let id = Some(v1::AgentId { value: id.to_owned() });
        let reregister = peer::Reregister {
            version: "1.11.0".to_owned(),
            agent_info: v1::AgentInfo { id, ..agent_info(hostname) },
            tasks,
            ..Default::default()
        };
        self.say(link, from_agent::Message::Reregister(reregister))
    }

    /// An agent that is registered; its id.
    pub(super) fn agent(&mut self, link: u64, hostname: &str) -> String {
        let effects = self.register(link, hostname);
        registered(&effects, link).expect("registered")
    }

    pub(super) fn unlink(&mut self, link: u64) -> Vec<Effect> {
        self.feed(Input::AgentDisconnected { link: LinkId(link) })
    }

    pub(super) fn subscribe(&mut self, conn: u64, info: v1::FrameworkInfo) -> Vec<Effect> {
        self.subscribe_as(conn, info, None)
    }

    pub(super) fn subscribe_as(
        &mut self,
        conn: u64,
        info: v1::FrameworkInfo,
        principal: Option<&str>,
    ) -> Vec<Effect> {
        let subscribe = Box::new(call::Subscribe { framework_info: info, ..Default::default() });
        self.feed(Input::Subscribe {
            conn: ConnId(conn),
            stream_id: conn.to_string(),
            subscribe,
            principal: principal.map(str::to_owned),
        })
    }

    /// A framework that is subscribed; its id.
    pub(super) fn framework(&mut self, conn: u64, info: v1::FrameworkInfo) -> FrameworkId {
        let effects = self.subscribe(conn, info);
        let first = events(&effects, conn).into_iter().find_map(|event| event.subscribed);
        FrameworkId::new(&first.expect("subscribed").framework_id.value)
    }

    pub(super) fn hang_up(&mut self, conn: u64) -> Vec<Effect> {
        self.feed(Input::Disconnected { conn: ConnId(conn) })
    }

    pub(super) fn call(&mut self, conn: u64, id: &FrameworkId, call: scheduler::Call) -> Vec<Effect> {
        self.next_reply += 1;
        let framework_id = Some(v1::FrameworkId { value: id.to_string() });
        self.feed(Input::Call {
            reply: ReplyId(self.next_reply),
            call: Box::new(scheduler::Call { framework_id, ..call }),
            stream_id: Some(conn.to_string()),
            principal: None,
        })
    }

    pub(super) fn update_framework(
        &mut self,
        conn: u64,
        id: &FrameworkId,
        info: v1::FrameworkInfo,
    ) -> Vec<Effect> {
        let id_of_info = Some(v1::FrameworkId { value: id.to_string() });
        let framework_info = v1::FrameworkInfo { id: id_of_info, ..info };
        let update_framework = Some(call::UpdateFramework { framework_info, ..Default::default() });
        let kind = call::Type::UpdateFramework;
        self.call(
            conn,
            id,
            scheduler::Call { update_framework, r#type: Some(kind.into()), ..Default::default() },
        )
    }

    /// Launches a task of `cpus:1;mem:64` with the offer in these effects.
    pub(super) fn launch(
        &mut self,
        conn: u64,
        id: &FrameworkId,
        offer: &v1::Offer,
        task_id: &str,
    ) -> Vec<Effect> {
        let task = v1::TaskInfo {
            name: task_id.to_owned(),
            task_id: v1::TaskId { value: task_id.to_owned() },
            agent_id: offer.agent_id.clone(),
            resources: wire("cpus:1;mem:64"),
            command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
            ..Default::default()
        };
        self.launch_task(conn, id, offer, task)
    }

    pub(super) fn launch_task(
        &mut self,
        conn: u64,
        id: &FrameworkId,
        offer: &v1::Offer,
        task: v1::TaskInfo,
    ) -> Vec<Effect> {
        let operation = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos: vec![task] }),
            ..Default::default()
        };
        let accept = Some(call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![operation],
            ..Default::default()
        });
        let kind = call::Type::Accept;
        self.call(conn, id, scheduler::Call { accept, r#type: Some(kind.into()), ..Default::default() })
    }

    pub(super) fn kill(
        &mut self,
        conn: u64,
        id: &FrameworkId,
        task_id: &str,
        grace: Option<i64>,
    ) -> Vec<Effect> {
        let grace_period = grace.map(|nanoseconds| v1::DurationInfo { nanoseconds });
        let kill = Some(call::Kill {
            task_id: v1::TaskId { value: task_id.to_owned() },
            agent_id: None,
            kill_policy: grace.map(|_| v1::KillPolicy { grace_period }),
        });
        let kind = call::Type::Kill;
        self.call(conn, id, scheduler::Call { kill, r#type: Some(kind.into()), ..Default::default() })
    }

    pub(super) fn update(
        &mut self,
        link: u64,
        id: &FrameworkId,
        task_id: &str,
        state: v1::TaskState,
    ) -> Vec<Effect> {
        let update = peer::StatusUpdate {
            framework_id: v1::FrameworkId { value: id.to_string() },
            status: v1::TaskStatus {
                task_id: v1::TaskId { value: task_id.to_owned() },
                state: state.into(),
                uuid: Some(vec![7; 16]),
                ..Default::default()
            },
            latest_state: state.into(),
        };
        self.say(link, from_agent::Message::Update(update))
    }
}

pub(super) fn instant(seconds: u64) -> Now {
    let nanos = i64::try_from(seconds).expect("a short script") * 1_000_000_000;
    Now { mono: Mono::from_start(Duration::from_secs(seconds)), wall: Timestamp::from_nanos(nanos) }
}

pub(super) fn wire(text: &str) -> Vec<v1::Resource> {
    Resources::parse(text).expect("valid resources").to_wire(Format::PostRefinement)
}

/// An agent with 4 cpus at its own address.
pub(super) fn agent_info(hostname: &str) -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: hostname.to_owned(),
        port: Some(5051),
        resources: wire("cpus:4;mem:1024"),
        ..Default::default()
    }
}

pub(super) fn framework_info(timeout: f64) -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        user: "u".to_owned(),
        name: "f".to_owned(),
        failover_timeout: Some(timeout),
        ..Default::default()
    }
}

/// A framework with the capability MULTI_ROLE.
pub(super) fn in_roles(roles: &[&str]) -> v1::FrameworkInfo {
    let kind = v1::framework_info::capability::Type::MultiRole;
    v1::FrameworkInfo {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        capabilities: vec![v1::framework_info::Capability { r#type: Some(kind.into()) }],
        ..framework_info(60.0)
    }
}

/// The same framework with an id.
pub(super) fn again(info: v1::FrameworkInfo, id: &FrameworkId) -> v1::FrameworkInfo {
    v1::FrameworkInfo { id: Some(v1::FrameworkId { value: id.to_string() }), ..info }
}

/// A running task as an agent brings it.
pub(super) fn task(id: &FrameworkId, task_id: &str, agent_id: &str) -> v1::Task {
    let mut resources = wire("cpus:1;mem:64");
    for resource in &mut resources {
        resource.allocation_info = Some(v1::resource::AllocationInfo { role: Some("*".to_owned()) });
    }
    v1::Task {
        name: task_id.to_owned(),
        task_id: v1::TaskId { value: task_id.to_owned() },
        framework_id: v1::FrameworkId { value: id.to_string() },
        agent_id: v1::AgentId { value: agent_id.to_owned() },
        state: v1::TaskState::TaskRunning.into(),
        resources,
        ..Default::default()
    }
}

/// Events that were sent to a scheduler.
pub(super) fn events(effects: &[Effect], conn: u64) -> Vec<scheduler::Event> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { conn: to, event } if *to == ConnId(conn) => Some((**event).clone()),
        _ => None,
    });
    sent.collect()
}

pub(super) fn offers(effects: &[Effect], conn: u64) -> Vec<v1::Offer> {
    events(effects, conn).into_iter().filter_map(|event| event.offers).flat_map(|list| list.offers).collect()
}

/// Statuses that a scheduler was told: task and state.
pub(super) fn states(effects: &[Effect], conn: u64) -> Vec<(String, v1::TaskState)> {
    let updates = events(effects, conn).into_iter().filter_map(|event| event.update);
    updates.map(|update| (update.status.task_id.value.clone(), update.status.state())).collect()
}

/// What an ERROR event says.
pub(super) fn error(effects: &[Effect], conn: u64) -> Option<String> {
    let events = events(effects, conn);
    let failed = events.into_iter().find(|event| event.r#type == Some(event::Type::Error.into()));
    failed.and_then(|event| event.error).map(|error| error.message)
}

/// Messages that were sent to an agent.
pub(super) fn told(effects: &[Effect], link: u64) -> Vec<to_agent::Message> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Tell { link: to, message } if *to == LinkId(link) => Some((**message).clone()),
        _ => None,
    });
    sent.collect()
}

/// The kills among them.
pub(super) fn kills(effects: &[Effect], link: u64) -> Vec<peer::KillTask> {
    let messages = told(effects, link).into_iter();
    messages
        .filter_map(|message| match message {
            to_agent::Message::KillTask(kill) => Some(kill),
            _ => None,
        })
        .collect()
}

/// The id that a registration gave.
pub(super) fn registered(effects: &[Effect], link: u64) -> Option<String> {
    told(effects, link).into_iter().find_map(|message| match message {
        to_agent::Message::Registered(registered) => Some(registered.agent_id.value),
        _ => None,
    })
}

/// Answers to calls.
pub(super) fn replies(effects: &[Effect]) -> Vec<Result<(), ApiError>> {
    let answers = effects.iter().filter_map(|effect| match effect {
        Effect::Reply { result, .. } => Some(result.clone()),
        _ => None,
    });
    answers.collect()
}
