//! What the master knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::forget::Removed;
use super::frameworks::Answer;
use super::io::{ConnId, Effect, Input, LinkId, ReplyId};
use crate::allocator::{self, Allocator, Capabilities};
use crate::api::{ApiError, v1};
use crate::base::chance::Chance;
use crate::base::id::{AgentId, FrameworkId, NodeId, OfferId, Role, TaskId};
use crate::base::time::{Mono, Now, Timestamp};
use crate::config::MESOS_VERSION;
use crate::registry::core::{Change, FORGETS_AGENTS, KNOWS_NODES, Standing, State as Registry};
use crate::resources::Resources;

/// Heartbeats of scheduler streams.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a framework has at least to come back after a fail-over: clients notice a dead link after five
/// heartbeats, and pause up to one more between attempts.
const TIME_TO_RETURN: Duration = Duration::from_secs(90);
/// Completed frameworks that are remembered.
pub(super) const MAX_COMPLETED_FRAMEWORKS: usize = 50;
/// Completed tasks of a framework that are remembered.
pub(super) const MAX_COMPLETED_TASKS: usize = 1_000;

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What others call this master's host.
    pub hostname: String,
    /// Its address.
    pub ip: IpAddr,
    /// Port of its API.
    pub port: u16,
    /// Silence after which an agent counts as lost (Mesos: 75 s).
    pub agent_unreachable_after: Duration,
    /// How long agents have to come back after a fail-over while most of them are absent.
    pub agent_reregister_timeout: Duration,
    /// The allocator's settings.
    pub allocator: allocator::Config,
}

impl Config {
    /// Defaults for a master whose API is at this address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            hostname: address.ip().to_string(),
            ip: address.ip(),
            port: address.port(),
            agent_unreachable_after: Duration::from_secs(10),
            agent_reregister_timeout: Duration::from_secs(600),
            allocator: allocator::Config::default(),
        }
    }
}

/// A task as the API shows it, and what it is charged.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The wire form; `state` is the newest known, `statuses` the history.
    pub(super) wire: v1::Task,
    pub(super) agent_id: AgentId,
    /// With allocations.
    pub(super) resources: Resources,
    /// Whether the resources are still charged.
    pub(super) charged: bool,
    /// The last kill that was asked for.
    pub(super) kill: Option<v1::scheduler::call::Kill>,
}

#[derive(Clone, Debug)]
pub(super) struct Framework {
    pub(super) info: Arc<v1::FrameworkInfo>,
    pub(super) capabilities: Capabilities,
    pub(super) roles: BTreeSet<Role>,
    pub(super) conn: Option<ConnId>,
    pub(super) stream_id: String,
    /// Known from agents or the registry only; no scheduler has come (back) yet.
    pub(super) recovered: bool,
    pub(super) registered: Timestamp,
    pub(super) reregistered: Timestamp,
    pub(super) unregistered: Option<Timestamp>,
    /// When it is removed unless its scheduler comes back.
    pub(super) deadline: Option<Mono>,
    pub(super) heartbeat: Mono,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) completed: VecDeque<v1::Task>,
    pub(super) unreachable: BTreeMap<TaskId, Task>,
    pub(super) offers: BTreeSet<OfferId>,
    pub(super) principal: Option<String>,
    pub(super) constraints: Option<v1::scheduler::OfferConstraints>,
    /// The newest stream whose SUBSCRIBE is on its way through the registry.
    pub(super) coming: Option<ConnId>,
    /// The last that was proposed of its deadline is that it has one.
    pub(super) has_recorded_deadline: bool,
    /// A removal is on its way through the registry.
    pub(super) leaving: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) info: Arc<v1::AgentInfo>,
    pub(super) link: Option<LinkId>,
    pub(super) version: String,
    pub(super) capabilities: Vec<v1::agent_info::Capability>,
    pub(super) total: Resources,
    pub(super) registered: Timestamp,
    pub(super) reregistered: Option<Timestamp>,
    pub(super) heard: Mono,
    pub(super) pinged: Mono,
    /// The first ping since it was heard.
    pub(super) unanswered: Option<Mono>,
    /// It said something since it was given up.
    pub(super) spoke: bool,
    pub(super) offers: BTreeSet<OfferId>,
    pub(super) tasks: BTreeSet<(FrameworkId, TaskId)>,
    /// Tasks here whose ids belong to tasks on other agents, with what is charged for them: they are
    /// being killed.
    pub(super) strays: BTreeMap<(FrameworkId, TaskId), Resources>,
    /// Marking it unreachable is on its way through the registry.
    pub(super) leaving: bool,
    /// It ends its tasks and will leave: nothing of it is offered.
    pub(super) draining: bool,
    /// It takes no more tasks for now.
    pub(super) paused: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) framework_id: FrameworkId,
    pub(super) agent_id: AgentId,
    pub(super) role: Role,
    pub(super) resources: Resources,
}

/// What a committed proposal leads to.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    Subscribe {
        conn: ConnId,
        stream_id: String,
        subscribe: Box<v1::scheduler::call::Subscribe>,
        principal: Option<String>,
    },
    Admit {
        link: LinkId,
        register: Box<super::wire::Registration>,
    },
    Readmit {
        link: LinkId,
        register: Box<super::wire::Registration>,
    },
    UpdateFramework {
        reply: ReplyId,
        framework_id: FrameworkId,
        update: Box<v1::scheduler::call::UpdateFramework>,
    },
    RemoveFramework {
        framework_id: FrameworkId,
        reply: Option<ReplyId>,
    },
    MarkUnreachable {
        agent_id: AgentId,
    },
    MarkGone {
        agent_id: AgentId,
        reply: ReplyId,
    },
    RemoveAgent {
        agent_id: AgentId,
    },
    ForgetAgents {
        agent_ids: Vec<AgentId>,
    },
    /// Nothing waits for it.
    Nothing,
}

/// The master of one term.
#[derive(Debug)]
pub struct Master {
    pub(super) config: Config,
    /// Drawn anew for each election; part of every id that this master gives out.
    pub(super) id: String,
    pub(super) elected: Timestamp,
    pub(super) allocator: Allocator,
    pub(super) frameworks: BTreeMap<FrameworkId, Framework>,
    pub(super) completed: VecDeque<(FrameworkId, Framework)>,
    /// Ids that are refused.
    pub(super) removed: Removed,
    pub(super) agents: BTreeMap<AgentId, Agent>,
    /// Admitted, not here yet.
    pub(super) recovered: BTreeMap<AgentId, Arc<v1::AgentInfo>>,
    pub(super) unreachable: BTreeMap<AgentId, Timestamp>,
    pub(super) gone: BTreeMap<AgentId, Timestamp>,
    /// The nodes that agents belong to, as recorded.
    pub(super) owners: BTreeMap<AgentId, NodeId>,
    pub(super) offers: BTreeMap<OfferId, Offer>,
    pub(super) conns: BTreeMap<ConnId, Option<FrameworkId>>,
    pub(super) links: BTreeMap<LinkId, AgentId>,
    /// The nodes of the certificates with which connections were opened.
    pub(super) link_nodes: BTreeMap<LinkId, NodeId>,
    /// Links of agents whose registration is on its way through the registry.
    pub(super) arriving: BTreeSet<LinkId>,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// When agents that have not come back since the election are marked unreachable.
    pub(super) recovery_deadline: Option<Mono>,
    pub(super) recovery_limit: Mono,
    /// When it is looked for agents to forget.
    pub(super) next_look: Mono,
    /// Every member of the registry understands that agents are forgotten.
    pub(super) forgets_agents: bool,
    /// The same for the nodes that agents belong to.
    pub(super) knows_nodes: bool,
    /// When silence had to be looked at, as of the last look.
    pub(super) watch_due: Option<Mono>,
    pub(super) next_framework: u64,
    pub(super) next_agent: u64,
    pub(super) next_offer: u64,
    pub(super) next_seq: u64,
}

impl Master {
    /// A freshly elected master over what the registry holds.
    #[must_use]
    pub fn new(config: Config, registry: &Registry, seed: u64, now: Now) -> Self {
        let mut chance = Chance::new(seed);
        let id = chance.uuid().to_string();
        let allocator = Allocator::new(config.allocator.clone(), chance.bits());
        let mut master = Self {
            id,
            elected: now.wall,
            allocator,
            frameworks: BTreeMap::new(),
            completed: VecDeque::new(),
            removed: Removed::default(),
            agents: BTreeMap::new(),
            recovered: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            gone: BTreeMap::new(),
            owners: BTreeMap::new(),
            offers: BTreeMap::new(),
            conns: BTreeMap::new(),
            links: BTreeMap::new(),
            link_nodes: BTreeMap::new(),
            arriving: BTreeSet::new(),
            pending: BTreeMap::new(),
            recovery_deadline: None,
            recovery_limit: now.mono.after(config.agent_reregister_timeout),
            next_look: now.mono,
            forgets_agents: false,
            knows_nodes: false,
            watch_due: None,
            next_framework: 0,
            next_agent: 0,
            next_offer: 0,
            next_seq: 0,
            config,
        };
        master.understand(registry.version());
        master.recover(registry, now);
        master
    }

    /// Every member of the registry understands commands of this version.
    pub fn understand(&mut self, version: u32) {
        self.forgets_agents = version >= FORGETS_AGENTS;
        self.knows_nodes = version >= KNOWS_NODES;
    }

    fn recover(&mut self, registry: &Registry, now: Now) {
        for (id, entry) in registry.agents() {
            self.owners.extend(entry.node.map(|node| (id.clone(), node)));
            match entry.standing {
                Standing::Admitted => {
                    self.recovered.insert(id.clone(), Arc::clone(&entry.info));
                }
                Standing::Unreachable => {
                    self.unreachable.insert(id.clone(), entry.since);
                }
                Standing::Gone => {
                    self.gone.insert(id.clone(), entry.since);
                }
            }
        }
        if !self.recovered.is_empty() {
            self.recovery_deadline = Some(now.mono.after(self.config.agent_unreachable_after));
        }
        let mut removed: Vec<_> =
            registry.frameworks().filter_map(|(id, entry)| Some((entry.removed?, id))).collect();
        removed.sort_unstable();
        for (_, id) in removed {
            self.removed.insert(id.clone());
        }
        for (id, entry) in registry.frameworks().filter(|(_, entry)| entry.removed.is_none()) {
            let mut framework = Framework::new(Arc::clone(&entry.info), now, true);
            framework.registered = entry.registered;
            // One that was connected to the last is on no timer (Mesos: nor is one that only agents
            // told of). One that was away has the rest of its time, at least what a return takes.
            framework.deadline =
                entry.deadline.map(|deadline| now.mono.after(deadline.since(now.wall).max(TIME_TO_RETURN)));
            self.allocator.add_framework(id, framework.spec(BTreeSet::new()), false);
            self.frameworks.insert(id.clone(), framework);
        }
    }

    /// This master's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Handles one input.
    pub fn handle(&mut self, input: Input, now: Now, effects: &mut Vec<Effect>) {
        match input {
            Input::Subscribe { conn, stream_id, subscribe, principal } => {
                self.conns.insert(conn, None);
                self.subscribe(conn, stream_id, *subscribe, principal, effects);
            }
            Input::Disconnected { conn } => self.disconnected(conn, now, effects),
            Input::Call { reply, call, stream_id, principal } => {
                let stream_id = stream_id.as_deref();
                let answer = self.call(reply, *call, stream_id, principal.as_deref(), now, effects);
                Self::answer(reply, answer, effects);
            }
            Input::Teardown { reply, framework_id } => {
                let answer = self.operator_teardown(reply, &framework_id, effects);
                Self::answer(reply, answer, effects);
            }
            Input::MarkGone { reply, agent_id } => {
                let answer = self.mark_gone(reply, agent_id, effects);
                Self::answer(reply, answer, effects);
            }
            Input::AgentConnected { link, node } => self.agent_connected(link, node),
            Input::Agent { link, message } => self.agent_message(link, *message, now, effects),
            Input::AgentDisconnected { link } => self.agent_disconnected(link, now, effects),
            Input::Committed { seq, reply } => self.committed(seq, &reply, now, effects),
            Input::Tick => {}
        }
    }

    fn answer(reply: ReplyId, answer: Result<Answer, ApiError>, effects: &mut Vec<Effect>) {
        if answer != Ok(Answer::WhenRecorded) {
            effects.push(Effect::Reply { reply, result: answer.map(drop) });
        }
    }

    /// Follows a group of inputs: what is due by the clock, and offers of what is free.
    pub fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.heartbeats(now, effects);
        self.expire_frameworks(now, effects);
        self.watch_agents(now, effects);
        self.forget_agents(now, effects);
        self.make_offers(now, effects);
    }

    /// When [`Master::settle`] has something to do although nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let frameworks = self.frameworks.values().flat_map(|framework| {
            [framework.conn.map(|_| framework.heartbeat), framework.deadline.filter(|_| !framework.leaving)]
        });
        let may_forget = self.forgets_agents && !(self.unreachable.is_empty() && self.gone.is_empty());
        let next_look = may_forget.then_some(self.next_look);
        let own = [self.watch_deadline(), next_look, self.allocator.next_wakeup()];
        frameworks.chain(own).flatten().min()
    }

    pub(super) fn propose(&mut self, change: Change, pending: Pending, effects: &mut Vec<Effect>) {
        self.next_seq += 1;
        self.pending.insert(self.next_seq, pending);
        effects.push(Effect::Propose { seq: self.next_seq, change: Box::new(change) });
    }

    fn committed(
        &mut self,
        seq: u64,
        reply: &crate::registry::core::Reply,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let refused = match reply {
            crate::registry::core::Reply::Refused(reason) => Some(reason.clone()),
            _ => None,
        };
        match self.pending.remove(&seq) {
            Some(Pending::Subscribe { conn, stream_id, subscribe, principal }) => {
                self.subscribed(conn, stream_id, *subscribe, principal, refused, now, effects);
            }
            Some(Pending::Admit { link, register }) => self.admitted(link, *register, refused, now, effects),
            Some(Pending::Readmit { link, register }) => {
                self.readmitted(link, *register, refused, now, effects)
            }
            Some(Pending::UpdateFramework { reply, framework_id, update }) => {
                self.framework_updated(reply, &framework_id, *update, refused, now, effects);
            }
            Some(Pending::RemoveFramework { framework_id, reply }) => {
                self.framework_removed(&framework_id, now, effects);
                effects.extend(reply.map(|reply| Effect::Reply { reply, result: Ok(()) }));
            }
            // It was marked gone, or removed, before: that stays.
            Some(Pending::MarkUnreachable { .. }) if refused.is_some() => {}
            Some(Pending::MarkUnreachable { agent_id }) => self.marked_unreachable(&agent_id, now, effects),
            Some(Pending::MarkGone { agent_id, reply }) => {
                let result = match refused.filter(|_| !self.gone.contains_key(&agent_id)) {
                    Some(problem) => Err(ApiError::NotFound(problem)),
                    None => {
                        self.marked_gone(&agent_id, now, effects);
                        Ok(())
                    }
                };
                effects.push(Effect::Reply { reply, result });
            }
            Some(Pending::RemoveAgent { agent_id }) => self.agent_removed(&agent_id, now, effects),
            Some(Pending::ForgetAgents { agent_ids }) => self.agents_forgotten(&agent_ids),
            Some(Pending::Nothing) | None => {}
        }
    }

    /// Asserts what must hold between inputs.
    ///
    /// # Panics
    /// It does not hold: a bug.
    pub fn sanity_check(&self) {
        self.allocator.sanity_check();
        for (agent_id, agent) in &self.agents {
            let mut charged: BTreeMap<&FrameworkId, Resources> = BTreeMap::new();
            for offer_id in &agent.offers {
                let offer = &self.offers[offer_id];
                assert_eq!(&offer.agent_id, agent_id, "{offer_id} is listed at another agent");
                charged.entry(&offer.framework_id).or_default().add(&offer.resources);
            }
            for (framework_id, task_id) in &agent.tasks {
                let task = &self.frameworks[framework_id].tasks[task_id];
                assert_eq!(&task.agent_id, agent_id, "{task_id} is listed at another agent");
                if task.charged {
                    charged.entry(framework_id).or_default().add(&task.resources);
                }
            }
            for ((framework_id, _), held) in &agent.strays {
                charged.entry(framework_id).or_default().add(held);
            }
            for (framework_id, sum) in charged {
                assert_eq!(
                    self.allocator.charged(framework_id, agent_id),
                    sum,
                    "books of {framework_id} on {agent_id}"
                );
            }
        }
        for (id, offer) in &self.offers {
            assert!(self.frameworks[&offer.framework_id].offers.contains(id), "{id} is not its framework's");
            assert!(self.agents[&offer.agent_id].offers.contains(id), "{id} is not its agent's");
        }
        for (id, framework) in &self.frameworks {
            assert_eq!(
                framework.offers.iter().filter(|offer| !self.offers.contains_key(*offer)).count(),
                0,
                "offers of {id}"
            );
            for (task_id, task) in &framework.tasks {
                let listed = self
                    .agents
                    .get(&task.agent_id)
                    .is_some_and(|agent| agent.tasks.contains(&(id.clone(), task_id.clone())));
                assert!(listed, "{task_id} of {id} is on no agent");
            }
        }
    }

    /// What is told of this master (`ip` is the address in network byte order).
    #[must_use]
    pub fn info(&self) -> v1::MasterInfo {
        use v1::master_info::capability::Type;

        let (hostname, ip, port) =
            (self.config.hostname.clone(), self.config.ip.to_string(), self.config.port);
        let number = match self.config.ip {
            IpAddr::V4(v4) => u32::from_le_bytes(v4.octets()),
            IpAddr::V6(_) => 0,
        };
        let capability = |kind: Type| v1::master_info::Capability { r#type: Some(kind.into()) };
        v1::MasterInfo {
            id: self.id.clone(),
            ip: number,
            port: u32::from(port),
            pid: Some(format!("master@{ip}:{port}")),
            hostname: Some(hostname.clone()),
            version: Some(MESOS_VERSION.to_owned()),
            address: Some(v1::Address { hostname: Some(hostname), ip: Some(ip), port: i32::from(port) }),
            capabilities: [Type::AgentUpdate, Type::AgentDraining, Type::QuotaV2].map(capability).to_vec(),
            ..Default::default()
        }
    }
}
