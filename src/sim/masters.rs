//! A master's process: consensus, registry, and while it leads the master and the service framework.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use slog::{Discard, Logger, o};

use super::clients;
use super::disk::Disk;
use crate::api::peer::{from_agent, to_agent};
use crate::api::v1::scheduler::{self, call};
use crate::base::chance::Chance;
use crate::base::id::{AgentId, NodeId};
use crate::base::time::{Mono, Now};
use crate::consensus::core as consensus;
use crate::master::core::{self as master, ConnId, LinkId, Master, ReplyId};
use crate::registry::core::{Change, Command, MasterEntry, Reply, State, VERSION};
use crate::service::core::{self as service, Services};
use crate::service::model;

/// Ticks without a leader before an election, at the soonest.
const ELECTION_TICKS: usize = 10;
/// Pause before a proposal that was not taken is made again.
const AGAIN: Duration = Duration::from_millis(20);
/// Entries between snapshots: so few that some are taken in every run, and sent.
const SNAPSHOT_EVERY: u64 = 64;

/// What leaves the process.
pub(super) enum Out {
    /// Something was written: it will be durable.
    Written,
    Raft {
        to: u64,
        message: Vec<u8>,
        snapshot: Option<Vec<u8>>,
    },
    Alarm {
        alarm: u64,
        at: Mono,
    },
    Agent {
        link: LinkId,
        term: u64,
        message: Box<to_agent::Message>,
    },
    Unlink {
        link: LinkId,
    },
    Scheduler {
        conn: ConnId,
        event: Box<scheduler::Event>,
    },
    Close {
        conn: ConnId,
    },
    /// A command was applied: its index and its bytes.
    Applied {
        index: u64,
        data: Vec<u8>,
    },
    /// The state was replaced by a snapshot.
    Restored {
        index: u64,
    },
    /// A client may read the state as it is now.
    Readable {
        client: u64,
    },
    /// A client's change is recorded, at this index.
    Recorded {
        client: u64,
        index: u64,
    },
    Leads {
        term: u64,
    },
    /// Whoever was connected is not any more.
    Deposed,
}

/// Who waits for a proposal.
enum Origin {
    Master(u64),
    Services(u64),
    Client(u64),
    Nobody,
}

/// What the process has yet to handle.
enum Work {
    Consensus(consensus::Input),
    Master(Box<master::Input>),
    Services(Box<service::Input>),
}

/// One term of leadership.
struct Term {
    number: u64,
    master: Master,
    services: Services,
    /// The service framework's stream.
    stream: Option<(ConnId, String)>,
}

/// A process.
pub(super) struct Process {
    consensus: consensus::Consensus,
    pub(super) state: State,
    pub(super) applied: u64,
    /// The commands that were in the state with which it began.
    pub(super) booted_at: u64,
    term: Option<Term>,
    proposals: BTreeMap<u64, (Origin, Vec<u8>)>,
    /// Proposals that were not taken: they are made again, and hold up those behind them.
    held: VecDeque<(Origin, Vec<u8>)>,
    again_at: Option<Mono>,
    members: BTreeSet<u64>,
    /// Changes of clients that wait for their turn: each is planned on what the one before it made.
    asked: VecDeque<(u64, Vec<(String, u32)>)>,
    is_changing: bool,
    next: u64,
    work: VecDeque<Work>,
    chance: Chance,
}

impl Process {
    /// Starts on what a disk has. `first`: the members with whom the cluster began, this one among them.
    pub(super) fn boot(
        id: u64,
        first: Vec<u64>,
        disk: &mut Disk,
        seed: u64,
        now: Now,
        out: &mut Vec<Out>,
    ) -> Self {
        let mut chance = Chance::new(seed);
        let config = consensus::Config {
            id,
            election_ticks: ELECTION_TICKS,
            first_voters: first,
            seed: chance.bits(),
            snapshot_every: SNAPSHOT_EVERY,
        };
        let (log, state) = match consensus::recover(&disk.pairs()).expect("a disk that only forgot is whole")
        {
            consensus::Boot::Empty => (None, State::default()),
            consensus::Boot::Log { snapshot, log } if snapshot.is_empty() => (Some(log), State::default()),
            consensus::Boot::Log { snapshot, log } => {
                (Some(log), State::restore(&snapshot).expect("our own snapshot"))
            }
        };
        let logger = Logger::root(Discard, o!());
        let consensus = consensus::Consensus::new(&config, log, &logger).expect("valid settings");
        let applied = consensus.status().applied;
        let mut process = Self {
            consensus,
            state,
            applied,
            booted_at: applied,
            term: None,
            proposals: BTreeMap::new(),
            held: VecDeque::new(),
            again_at: None,
            members: BTreeSet::new(),
            asked: VecDeque::new(),
            is_changing: false,
            next: 0,
            work: VecDeque::new(),
            chance,
        };
        let mut effects = Vec::new();
        process.consensus.start(&mut effects).expect("a fresh member");
        process.perform(effects, disk, now, out);
        process.settle(disk, now, out);
        process
    }

    pub(super) fn leads(&self) -> Option<u64> {
        self.term.as_ref().map(|term| term.number)
    }

    /// Active agents, as this master says while it leads.
    pub(super) fn active_agents(&self) -> usize {
        let Some(term) = &self.term else { return 0 };
        let call = crate::api::v1::master::Call {
            r#type: Some(crate::api::v1::master::call::Type::GetAgents.into()),
            ..Default::default()
        };
        let agents = term.master.query(&call).ok().and_then(|answer| answer.get_agents);
        agents.map_or(0, |agents| agents.agents.iter().filter(|agent| agent.active).count())
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let term = self.term.as_ref()?;
        let cores = term.master.next_deadline().into_iter().chain(term.services.next_deadline());
        cores.chain(self.again_at).min()
    }

    pub(super) fn consensus(&mut self, input: consensus::Input) {
        self.work.push_back(Work::Consensus(input));
    }

    /// To the master, if it leads.
    pub(super) fn master(&mut self, input: master::Input) {
        if self.term.is_some() {
            self.work.push_back(Work::Master(Box::new(input)));
        }
    }

    pub(super) fn agent_says(&mut self, link: LinkId, message: from_agent::Message) {
        self.master(master::Input::Agent { link, message: Box::new(message) });
    }

    /// A scheduler's call; SUBSCRIBE opens the stream `conn`.
    pub(super) fn scheduler_says(&mut self, conn: ConnId, stream_id: &str, call: scheduler::Call) {
        let input = match call.subscribe.clone() {
            Some(subscribe) => master::Input::Subscribe {
                conn,
                stream_id: stream_id.to_owned(),
                subscribe: Box::new(subscribe),
                principal: None,
            },
            None => {
                self.next += 1;
                master::Input::Call {
                    reply: ReplyId(self.next),
                    call: Box::new(call),
                    stream_id: Some(stream_id.to_owned()),
                    principal: None,
                }
            }
        };
        self.master(input);
    }

    /// Time has come for something.
    pub(super) fn wake(&mut self, now: Now) {
        if self.again_at.is_some_and(|at| at <= now.mono) {
            self.again_at = None;
            for (origin, data) in std::mem::take(&mut self.held) {
                self.hand_in(origin, data);
            }
        }
        let Some(term) = &self.term else { return };
        if term.master.next_deadline().is_some_and(|at| at <= now.mono) {
            self.work.push_back(Work::Master(Box::new(master::Input::Tick)));
        }
        if term.services.next_deadline().is_some_and(|at| at <= now.mono) {
            self.work.push_back(Work::Services(Box::new(service::Input::Tick)));
        }
    }

    /// A client wants so many instances of apps, one after another.
    pub(super) fn change(&mut self, client: u64, changes: Vec<(String, u32)>) {
        if self.term.is_some() {
            self.asked.push_back((client, changes));
        }
    }

    fn next_change(&mut self, now: Now) {
        if self.is_changing || self.term.is_none() {
            return;
        }
        let Some((client, changes)) = self.asked.pop_front() else { return };
        self.is_changing = true;
        let deployment = self.chance.uuid().to_string();
        let plan = clients::plan(self.state.service(), deployment, &changes, now);
        let change = Change::Service(model::Command::Put(Box::new(plan)));
        self.propose(Origin::Client(client), change, now);
    }

    /// A client wants to read.
    pub(super) fn read(&mut self, client: u64) {
        self.work.push_back(Work::Consensus(consensus::Input::Read { id: client }));
    }

    /// What nobody waits for.
    pub(super) fn record(&mut self, change: Change, now: Now) {
        self.propose(Origin::Nobody, change, now);
    }

    /// An operator says that an agent is gone.
    pub(super) fn mark_gone(&mut self, agent_id: AgentId) {
        self.next += 1;
        let reply = ReplyId(self.next);
        self.master(master::Input::MarkGone { reply, agent_id });
    }

    /// Why a service is not as it should be, as this member would explain it.
    pub(super) fn reasons(&self, app: &str, now: Mono) -> Vec<String> {
        self.term.as_ref().map_or_else(Vec::new, |term| term.services.reasons(app, now))
    }

    /// Who has a vote, or learns, as this member sees it.
    pub(super) fn members(&self) -> Vec<(u64, bool)> {
        self.consensus.status().members.iter().map(|member| (member.id, member.is_voter)).collect()
    }

    fn propose(&mut self, origin: Origin, change: Change, now: Now) {
        let data = Command { time: now.wall, change }.encode();
        if self.held.is_empty() {
            self.hand_in(origin, data);
        } else {
            self.held.push_back((origin, data));
        }
    }

    fn hand_in(&mut self, origin: Origin, data: Vec<u8>) {
        self.next += 1;
        self.proposals.insert(self.next, (origin, data.clone()));
        self.work.push_back(Work::Consensus(consensus::Input::Propose { id: self.next, data }));
    }

    /// Handles everything that has come, and what follows from it.
    pub(super) fn settle(&mut self, disk: &mut Disk, now: Now, out: &mut Vec<Out>) {
        loop {
            while let Some(work) = self.work.pop_front() {
                self.handle(work, disk, now, out);
            }
            self.next_change(now);
            let Some(term) = &mut self.term else { break };
            let (mut from_master, mut from_services) = (Vec::new(), Vec::new());
            term.master.settle(now, &mut from_master);
            term.services.settle(now, &mut from_services);
            term.master.sanity_check();
            term.services.sanity_check();
            self.perform_master(from_master, now, out);
            self.perform_services(from_services, now);
            if self.work.is_empty() {
                break;
            }
        }
        self.consensus.sanity_check();
    }

    fn handle(&mut self, work: Work, disk: &mut Disk, now: Now, out: &mut Vec<Out>) {
        match work {
            Work::Consensus(input) => {
                let mut effects = Vec::new();
                self.consensus.handle([input], &mut effects).expect("consensus does not break");
                self.perform(effects, disk, now, out);
            }
            Work::Master(input) => {
                let Some(term) = &mut self.term else { return };
                let mut effects = Vec::new();
                term.master.understand(self.state.version());
                term.master.handle(*input, now, &mut effects);
                self.perform_master(effects, now, out);
            }
            Work::Services(input) => {
                let Some(term) = &mut self.term else { return };
                let mut effects = Vec::new();
                term.services.handle(*input, now, &mut effects);
                self.perform_services(effects, now);
            }
        }
    }

    fn perform(&mut self, effects: Vec<consensus::Effect>, disk: &mut Disk, now: Now, out: &mut Vec<Out>) {
        use consensus::Effect;
        let (mut answers, before) = (Vec::new(), self.applied);
        for effect in effects {
            match effect {
                Effect::Persist { seq, records } => {
                    disk.write(seq, records);
                    out.push(Out::Written);
                }
                Effect::Apply { index, data, proposal } => {
                    let command = Command::decode(&data).expect("our own command");
                    let reply = self.state.apply(command);
                    self.applied = index;
                    out.push(Out::Applied { index, data });
                    if let Some((origin, _)) = proposal.and_then(|id| self.proposals.remove(&id)) {
                        answers.push((origin, index, reply));
                    }
                }
                Effect::Restore { index, data } => {
                    self.state = State::restore(&data).expect("our own snapshot");
                    self.applied = index;
                    out.push(Out::Restored { index });
                }
                Effect::Refused { proposal, reason: consensus::Refusal::Busy } => {
                    self.held.extend(self.proposals.remove(&proposal));
                    self.again_at = Some(now.mono.after(AGAIN));
                }
                Effect::Dropped { proposal } | Effect::Refused { proposal, .. } => {
                    self.lost(proposal, now, out)
                }
                Effect::Role(consensus::Role::Leader { term }) => self.lead(term, now, out),
                Effect::Role(consensus::Role::Follower { .. }) => self.step_down(out),
                Effect::TakeSnapshot { index } => {
                    let data = self.state.snapshot();
                    self.work.push_front(Work::Consensus(consensus::Input::Snapshot { index, data }));
                }
                Effect::Send { to, message } => out.push(Out::Raft { to, message, snapshot: None }),
                Effect::SendSnapshot { to, header, data } => {
                    out.push(Out::Raft { to, message: header, snapshot: Some(data.to_vec()) });
                    let sent = consensus::Input::SnapshotSent { to, arrived: true };
                    self.work.push_back(Work::Consensus(sent));
                }
                Effect::Wake { alarm, after } => out.push(Out::Alarm { alarm, at: now.mono.after(after) }),
                Effect::Readable { read } => out.push(Out::Readable { client: read }),
                Effect::NotReadable { .. } | Effect::Ignored { .. } => {}
            }
        }
        if self.term.is_some() && self.applied != before {
            let state = Arc::clone(self.state.service());
            self.work.push_back(Work::Services(Box::new(service::Input::State(state))));
        }
        self.answer(answers, out);
        let members: BTreeSet<u64> = self.state.masters().map(|(id, _)| id.get()).collect();
        if members != self.members {
            self.members.clone_from(&members);
            self.work.push_back(Work::Consensus(consensus::Input::Members(members)));
        }
    }

    fn answer(&mut self, answers: Vec<(Origin, u64, Reply)>, out: &mut Vec<Out>) {
        for (origin, index, reply) in answers {
            match origin {
                Origin::Master(seq) => self.master(master::Input::Committed { seq, reply }),
                Origin::Services(seq) => {
                    let reply = match reply {
                        Reply::Service(reply) => reply,
                        Reply::Done | Reply::Refused(_) => model::Reply::Done,
                    };
                    let input = service::Input::Committed { seq, reply };
                    self.work.push_back(Work::Services(Box::new(input)));
                }
                Origin::Client(client) => {
                    self.is_changing = false;
                    if matches!(reply, Reply::Service(model::Reply::Done)) {
                        out.push(Out::Recorded { client, index });
                    }
                }
                Origin::Nobody => {}
            }
        }
    }

    /// What becomes of a proposal is not known: the loops of this term end, and begin anew if it still leads.
    fn lost(&mut self, proposal: u64, now: Now, out: &mut Vec<Out>) {
        let origin = self.proposals.remove(&proposal).map(|(origin, _)| origin);
        self.is_changing &= !matches!(origin, Some(Origin::Client(_)));
        if let (Some(Origin::Master(_) | Origin::Services(_)), Some(number)) = (origin, self.leads()) {
            self.step_down(out);
            self.lead(number, now, out);
        }
    }

    fn lead(&mut self, number: u64, now: Now, out: &mut Vec<Out>) {
        let mut config = master::Config::new(SocketAddr::from(([127, 0, 0, 1], 5050)));
        config.agent_reregister_timeout = Duration::from_secs(60);
        let master = Master::new(config, &self.state, self.chance.bits(), now);
        let services = Services::new(Arc::clone(self.state.service()), self.chance.bits());
        self.term = Some(Term { number, master, services, stream: None });
        out.push(Out::Leads { term: number });
        if self.state.cluster_id().is_empty() {
            let change = Change::CreateCluster { cluster_id: "sim".to_owned(), version: VERSION };
            self.propose(Origin::Nobody, change, now);
        }
        if self.state.masters().next().is_none() {
            let first = self.members().into_iter().filter_map(|(id, _)| NodeId::new(id));
            let masters = first.map(|id| (id, MasterEntry::default())).collect();
            self.propose(Origin::Nobody, Change::PutMasters { masters }, now);
        }
    }

    fn step_down(&mut self, out: &mut Vec<Out>) {
        if self.term.take().is_some() {
            self.asked.clear();
            (self.is_changing, self.again_at) = (false, None);
            self.held.clear();
            self.work.retain(|work| matches!(work, Work::Consensus(_)));
            out.push(Out::Deposed);
        }
    }

    fn perform_master(&mut self, effects: Vec<master::Effect>, now: Now, out: &mut Vec<Out>) {
        use master::Effect;
        for effect in effects {
            let Some(term) = &mut self.term else { return };
            let own = term.stream.as_ref().map(|(conn, _)| *conn);
            match effect {
                Effect::Reply { .. } => {}
                Effect::Send { conn, event } if Some(conn) == own => {
                    self.work.push_back(Work::Services(Box::new(service::Input::Event(event))));
                }
                Effect::Send { conn, event } => out.push(Out::Scheduler { conn, event }),
                Effect::Close { conn } if Some(conn) == own => {
                    term.stream = None;
                    self.work.push_back(Work::Services(Box::new(service::Input::Disconnected)));
                }
                Effect::Close { conn } => out.push(Out::Close { conn }),
                Effect::Tell { link, message } => {
                    out.push(Out::Agent { link, term: term.number, message });
                }
                Effect::Unlink { link } => out.push(Out::Unlink { link }),
                Effect::Propose { seq, change } => self.propose(Origin::Master(seq), *change, now),
            }
        }
    }

    fn perform_services(&mut self, effects: Vec<service::Effect>, now: Now) {
        use service::Effect;
        for effect in effects {
            let Some(term) = &mut self.term else { return };
            match effect {
                Effect::Subscribe(info) => {
                    self.next += 1;
                    // Numbers of schedulers outside are the world's, and far away.
                    let (conn, stream_id) = (ConnId(u64::MAX - self.next), self.chance.uuid().to_string());
                    term.stream = Some((conn, stream_id.clone()));
                    let subscribe = Box::new(call::Subscribe { framework_info: *info, ..Default::default() });
                    let input = master::Input::Subscribe { conn, stream_id, subscribe, principal: None };
                    self.work.push_back(Work::Master(Box::new(input)));
                }
                Effect::Call(call) => {
                    self.next += 1;
                    let stream_id = term.stream.as_ref().map(|(_, stream_id)| stream_id.clone());
                    let reply = ReplyId(self.next);
                    let input = master::Input::Call { reply, call, stream_id, principal: None };
                    self.work.push_back(Work::Master(Box::new(input)));
                }
                Effect::Propose { seq, command } => {
                    self.propose(Origin::Services(seq), Change::Service(*command), now);
                }
                Effect::Probe { task_id, index, .. } => {
                    let input = service::Input::Probed { task_id, index, result: Ok(()) };
                    self.work.push_back(Work::Services(Box::new(input)));
                }
            }
        }
    }
}
