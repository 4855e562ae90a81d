//! Agents and schedulers as the random sequences play them, and what must always hold between them
//! and the master.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::support::{State, TestEnv, agent_info, register, reregister, task_message, update};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1;
use crate::api::v1::scheduler::{Event, event};
use crate::base::id::{AgentId, FrameworkId, OfferId, TaskId};
use crate::master::core::wire::is_terminal;
use crate::master::core::{ConnId, Effect, Input, LinkId};
use crate::resources::Resources;

pub(super) type Key = (FrameworkId, TaskId);

/// A task on an agent, with the updates that wait for their acknowledgement.
#[derive(Clone, Debug)]
pub(super) struct FakeTask {
    pub(super) info: v1::TaskInfo,
    pub(super) framework: v1::FrameworkInfo,
    pub(super) state: State,
    pub(super) updates: VecDeque<(State, [u8; 16])>,
}

/// An agent that does as it is told.
#[derive(Debug)]
pub(super) struct FakeAgent {
    pub(super) info: v1::AgentInfo,
    pub(super) link: Option<LinkId>,
    /// It said over this connection that it will leave.
    pub(super) draining: bool,
    pub(super) tasks: BTreeMap<Key, FakeTask>,
}

/// An offer as its scheduler holds it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) agent_id: AgentId,
    pub(super) role: Option<String>,
    pub(super) resources: Resources,
}

/// A scheduler that keeps its offers and what it has to acknowledge.
#[derive(Debug)]
pub(super) struct FakeScheduler {
    pub(super) info: v1::FrameworkInfo,
    pub(super) conn: Option<ConnId>,
    pub(super) stream_id: String,
    pub(super) subscribed: bool,
    pub(super) offers: BTreeMap<OfferId, Held>,
    /// Offers that it once had.
    pub(super) over: Vec<OfferId>,
    pub(super) unacknowledged: Vec<v1::TaskStatus>,
    pub(super) launched: Vec<TaskId>,
}

impl FakeScheduler {
    pub(super) fn id(&self) -> FrameworkId {
        FrameworkId::new(self.info.id.as_ref().map_or("", |id| id.value.as_str()))
    }

    pub(super) fn lose_offers(&mut self) {
        self.over.extend(std::mem::take(&mut self.offers).into_keys());
    }
}

/// The cluster around a master.
pub(super) struct Model {
    pub(super) env: TestEnv,
    pub(super) agents: Vec<FakeAgent>,
    pub(super) schedulers: Vec<FakeScheduler>,
    /// Tasks that the master told agents to run in the step at hand.
    pub(super) run: Vec<TaskId>,
    /// Updates without a uuid that the step at hand led to.
    pub(super) told: Vec<(TaskId, State, Option<i32>)>,
    /// Tasks whose last acknowledgement went through: nothing may follow.
    pub(super) closed: BTreeSet<Key>,
    /// Tasks of which the step at hand makes the master or an agent speak.
    pub(super) asked: BTreeSet<TaskId>,
    pub(super) launches: u64,
    known: BTreeSet<FrameworkId>,
}

impl Model {
    pub(super) fn new(frameworks: Vec<v1::FrameworkInfo>, agents: &[&str]) -> Self {
        let agent = |(number, resources): (usize, &&str)| FakeAgent {
            info: agent_info(&format!("host{number}"), resources),
            link: None,
            draining: false,
            tasks: BTreeMap::new(),
        };
        let scheduler = |info| FakeScheduler {
            info,
            conn: None,
            stream_id: String::new(),
            subscribed: false,
            offers: BTreeMap::new(),
            over: Vec::new(),
            unacknowledged: Vec::new(),
            launched: Vec::new(),
        };
        let mut env = TestEnv::new();
        env.late = true;
        Self {
            env,
            agents: agents.iter().enumerate().map(agent).collect(),
            schedulers: frameworks.into_iter().map(scheduler).collect(),
            run: Vec::new(),
            told: Vec::new(),
            closed: BTreeSet::new(),
            asked: BTreeSet::new(),
            launches: 0,
            known: BTreeSet::new(),
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.env.handle(input);
        self.deliver();
    }

    pub(super) fn say(&mut self, link: LinkId, message: from_agent::Message) {
        self.handle(Input::Agent { link, message: Box::new(message) });
    }

    /// Brings what the master said to whom it concerns.
    pub(super) fn deliver(&mut self) {
        while let Some(effect) = self.env.effects.pop_front() {
            match effect {
                Effect::Tell { link, message } => self.hear_master(link, *message),
                Effect::Unlink { link } => {
                    for agent in self.agents.iter_mut().filter(|agent| agent.link == Some(link)) {
                        agent.link = None;
                    }
                    self.env.handle(Input::AgentDisconnected { link });
                }
                Effect::Send { conn, event } => self.hear_event(conn, *event),
                Effect::Close { conn } => {
                    self.closed_stream(conn);
                    self.env.handle(Input::Disconnected { conn });
                }
                Effect::Reply { .. } | Effect::Propose { .. } => {}
            }
        }
    }

    pub(super) fn closed_stream(&mut self, conn: ConnId) {
        for scheduler in self.schedulers.iter_mut().filter(|scheduler| scheduler.conn == Some(conn)) {
            scheduler.conn = None;
            scheduler.subscribed = false;
            scheduler.lose_offers();
        }
    }

    fn hear_master(&mut self, link: LinkId, message: to_agent::Message) {
        let Some(at) = self.agents.iter().position(|agent| agent.link == Some(link)) else { return };
        let agent = &mut self.agents[at];
        let key = |framework: &v1::FrameworkId, task: &v1::TaskId| {
            (FrameworkId::new(&framework.value), TaskId::new(&task.value))
        };
        match message {
            to_agent::Message::Registered(registered) => {
                agent.info.id = Some(registered.agent_id);
                agent.draining = false;
            }
            to_agent::Message::RunTask(run) => {
                let key = key(run.framework.id.as_ref().expect("an id"), &run.task.task_id);
                self.run.push(key.1.clone());
                self.closed.remove(&key);
                let (state, updates) = (State::TaskStaging, VecDeque::new());
                let task = FakeTask { info: run.task, framework: run.framework, state, updates };
                assert!(agent.tasks.insert(key.clone(), task).is_none(), "{key:?} is run twice");
            }
            to_agent::Message::KillTask(kill) => {
                let key = key(&kill.framework_id, &kill.task_id);
                match agent.tasks.contains_key(&key) {
                    true => self.advance(at, &key, State::TaskKilled),
                    false => self.lost(at, &key),
                }
            }
            to_agent::Message::Acknowledge(acknowledge) => {
                let key = key(&acknowledge.framework_id, &acknowledge.task_id);
                self.acknowledged(at, &key, &acknowledge.uuid);
            }
            to_agent::Message::ShutdownFramework(shutdown) => {
                agent.tasks.retain(|(id, _), _| id.as_str() != shutdown.framework_id.value);
            }
            to_agent::Message::ReconcileTasks(reconcile) => {
                let keys = reconcile.task_ids.iter().map(|task| key(&reconcile.framework_id, task));
                let missing: Vec<Key> = keys.filter(|key| !agent.tasks.contains_key(key)).collect();
                for key in missing {
                    self.lost(at, &key);
                }
            }
            to_agent::Message::Shutdown(_) => {
                agent.info.id = None;
                agent.tasks.clear();
            }
            to_agent::Message::Ping(_) if !self.env.silent.contains(&link) => {
                self.env.say(link, from_agent::Message::Pong(peer::Pong {}));
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, at: usize, key: &Key, uuid: &[u8]) {
        let Some(task) = self.agents[at].tasks.get_mut(key) else { return };
        if task.updates.front().is_none_or(|(_, head)| head.as_slice() != uuid) {
            return;
        }
        let ended = task.updates.pop_front().is_some_and(|(state, _)| is_terminal(state));
        if ended {
            self.agents[at].tasks.remove(key);
            self.closed.insert(key.clone());
        } else {
            self.send_head(at, key);
        }
    }

    /// A task reaches a state; it never goes on after its end.
    pub(super) fn advance(&mut self, at: usize, key: &Key, state: State) {
        let uuid = self.uuid();
        let Some(task) = self.agents[at].tasks.get_mut(key) else { return };
        if is_terminal(task.state) {
            return;
        }
        task.state = state;
        task.updates.push_back((state, uuid));
        if task.updates.len() == 1 {
            self.send_head(at, key);
        }
    }

    pub(super) fn send_head(&mut self, at: usize, key: &Key) {
        let agent = &self.agents[at];
        let Some((id, link)) = registered(agent) else { return };
        let Some(task) = agent.tasks.get(key) else { return };
        let Some((state, uuid)) = task.updates.front() else { return };
        let message = update(&key.0, &id, key.1.as_str(), *state, task.state, uuid);
        self.asked.insert(key.1.clone());
        self.env.say(link, message);
    }

    /// An agent does not know a task.
    fn lost(&mut self, at: usize, key: &Key) {
        let uuid = self.uuid();
        let Some((id, link)) = registered(&self.agents[at]) else { return };
        let state = State::TaskLost;
        self.asked.insert(key.1.clone());
        self.env.say(link, update(&key.0, &id, key.1.as_str(), state, state, &uuid));
    }

    pub(super) fn uuid(&mut self) -> [u8; 16] {
        let mut uuid = [7; 16];
        uuid[..8].copy_from_slice(&self.env.number().to_be_bytes());
        uuid
    }

    /// Registers or re-registers an agent on a new link.
    pub(super) fn connect(&mut self, at: usize) {
        let link = LinkId(self.env.number());
        let old = self.agents[at].link.replace(link);
        let agent = &self.agents[at];
        // The end of an old link may be noticed late.
        let (early, late) = if agent.info.id.is_none() { (old, None) } else { (None, old) };
        let message = if agent.info.id.is_none() {
            register(&agent.info)
        } else {
            let infos = agent.tasks.iter().map(|((id, _), task)| (id.clone(), task.framework.clone()));
            let infos: BTreeMap<FrameworkId, v1::FrameworkInfo> = infos.collect();
            let tasks = agent.tasks.iter().map(|((id, _), task)| reported(id, task));
            let tasks: Vec<v1::Task> = tasks.collect();
            reregister(&agent.info, &infos.into_values().collect::<Vec<_>>(), &tasks)
        };
        if let Some(link) = early {
            self.handle(Input::AgentDisconnected { link });
        }
        self.say(link, message);
        if let Some(link) = late {
            self.handle(Input::AgentDisconnected { link });
        }
    }

    fn hear_event(&mut self, conn: ConnId, event: Event) {
        let position = self.schedulers.iter().position(|scheduler| scheduler.conn == Some(conn));
        let Some(at) = position else { return };
        let scheduler = &mut self.schedulers[at];
        match event.r#type() {
            event::Type::Subscribed => {
                let id = event.subscribed.expect("its member").framework_id;
                self.known.insert(FrameworkId::new(&id.value));
                scheduler.info.id = Some(id);
                scheduler.subscribed = true;
            }
            event::Type::Offers => {
                for offer in event.offers.expect("its member").offers {
                    let id = OfferId::new(&offer.id.value);
                    let of = self.agents.iter().find(|agent| agent.info.id.as_ref() == Some(&offer.agent_id));
                    assert!(!of.is_some_and(|agent| agent.draining), "{id} is of an agent that leaves");
                    assert!(!scheduler.over.contains(&id), "{id} is offered twice");
                    let held = Held {
                        agent_id: AgentId::new(&offer.agent_id.value),
                        role: offer.allocation_info.and_then(|info| info.role),
                        resources: Resources::from_wire(&offer.resources).expect("valid").unallocated(),
                    };
                    assert!(scheduler.offers.insert(id.clone(), held).is_none(), "{id} is offered twice");
                }
            }
            event::Type::Rescind => {
                let id = OfferId::new(event.rescind.expect("its member").offer_id.value);
                assert!(scheduler.offers.remove(&id).is_some(), "{id} was not there to rescind");
                scheduler.over.push(id);
            }
            event::Type::Update => self.hear_update(at, event.update.expect("its member").status),
            _ => {}
        }
    }

    fn hear_update(&mut self, at: usize, status: v1::TaskStatus) {
        let scheduler = &mut self.schedulers[at];
        let key = (scheduler.id(), TaskId::new(&status.task_id.value));
        assert!(
            !self.closed.contains(&key) || self.asked.contains(&key.1),
            "{status:?} follows the last acknowledgement of {key:?}"
        );
        match status.uuid {
            Some(_) => scheduler.unacknowledged.push(status),
            None => self.told.push((key.1, status.state(), status.reason)),
        }
    }

    /// What must hold at every time.
    pub(super) fn check(&self) {
        let master = &self.env.master;
        for (id, agent) in &master.agents {
            let mut sum = Resources::new();
            // The allocator charges nothing that is neither in use nor offered.
            for framework_id in &self.known {
                let mut expected = Resources::new();
                if let Some(framework) = master.frameworks.get(framework_id) {
                    let tasks = framework.tasks.values();
                    for task in tasks.filter(|task| task.charged && &task.agent_id == id) {
                        expected.add(&task.resources);
                    }
                    for offer in framework.offers.iter().map(|offer| &master.offers[offer]) {
                        if &offer.agent_id == id {
                            expected.add(&offer.resources);
                        }
                    }
                }
                let charged = master.allocator.charged(framework_id, id);
                assert_eq!(charged, expected, "charges of {framework_id} on {id}");
                sum.add(&expected.unallocated());
            }
            assert!(agent.total.contains(&sum), "{id} has {} and gave out {sum}", agent.total);
        }
        // A scheduler holds exactly the offers that the master counts.
        let held = self.schedulers.iter().filter(|scheduler| scheduler.subscribed);
        let held: BTreeSet<&OfferId> = held.flat_map(|scheduler| scheduler.offers.keys()).collect();
        let counted: BTreeSet<&OfferId> = master.offers.keys().collect();
        assert_eq!(held, counted, "offers held and counted");
    }
}

pub(super) fn registered(agent: &FakeAgent) -> Option<(AgentId, LinkId)> {
    Some((AgentId::new(&agent.info.id.as_ref()?.value), agent.link?))
}

fn reported(id: &FrameworkId, task: &FakeTask) -> v1::Task {
    let mut message = task_message(id, &task.info, task.state);
    message.status_update_state = task.updates.front().map(|(state, _)| (*state).into());
    message.status_update_uuid = task.updates.front().map(|(_, uuid)| uuid.to_vec());
    message
}
