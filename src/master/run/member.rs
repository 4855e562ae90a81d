//! The loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::outbox::{MAX_WAITING, Outbox};
use crate::api::ApiError;
use crate::api::peer;
use crate::api::v1::{master, scheduler};
use crate::base::chance::Chance;
use crate::base::clock::{SystemClock, sleep_until};
use crate::base::id::{AgentId, FrameworkId, NodeId};
use crate::base::spawn::{Fatal, Shutdown};
use crate::base::time::Clock;
use crate::master::core::{Config, ConnId, Effect, Input, LinkId, Master, ReplyId};
use crate::registry::core::{Command, Reply};
use crate::registry::run::{Leadership, Outcome, Registry, propose_in_order};

/// Requests and messages that are handled together before offers are made.
const GROUP: usize = 512;

/// What is asked of the loop.
pub(super) enum Request {
    Subscribe {
        subscribe: Box<scheduler::call::Subscribe>,
        principal: Option<String>,
        events: mpsc::Sender<scheduler::Event>,
        /// Ends when nobody reads the events any more.
        dropped: oneshot::Receiver<()>,
        answer: oneshot::Sender<Result<String, ApiError>>,
    },
    Call {
        call: Box<scheduler::Call>,
        stream_id: Option<String>,
        principal: Option<String>,
        answer: oneshot::Sender<Result<(), ApiError>>,
    },
    Query {
        call: Box<master::Call>,
        answer: oneshot::Sender<Result<Box<master::Response>, ApiError>>,
    },
    LegacyState {
        answer: oneshot::Sender<Result<String, ApiError>>,
    },
    Teardown {
        framework_id: FrameworkId,
        answer: oneshot::Sender<Result<(), ApiError>>,
    },
    MarkGone {
        agent_id: AgentId,
        answer: oneshot::Sender<Result<(), ApiError>>,
    },
    Connect {
        node: Option<NodeId>,
        from_agent: mpsc::Receiver<peer::FromAgent>,
        to_agent: mpsc::Sender<peer::ToAgent>,
        answer: oneshot::Sender<Result<(), ApiError>>,
    },
}

/// Everything that reaches the loop beside requests.
pub(super) enum Event {
    Agent(LinkId, Box<peer::FromAgent>),
    AgentGone(LinkId),
    SchedulerGone(ConnId),
    Committed(u64, Reply),
    /// The registry did not take a proposal: leadership is lost or the node is ending.
    ProposalLost,
}

/// One term of leadership.
struct Term {
    term: u64,
    core: Master,
    schedulers: BTreeMap<ConnId, Outbox<scheduler::Event>>,
    agents: BTreeMap<LinkId, Outbox<peer::ToAgent>>,
    answers: BTreeMap<ReplyId, oneshot::Sender<Result<(), ApiError>>>,
    events: mpsc::UnboundedSender<Event>,
    proposals: mpsc::UnboundedSender<(u64, Command)>,
}

pub(super) struct Member {
    config: Config,
    registry: Registry,
    clock: Arc<SystemClock>,
    chance: Chance,
    next: u64,
}

impl Member {
    pub(super) fn new(config: Config, registry: Registry, clock: Arc<SystemClock>) -> Self {
        Self { config, registry, clock, chance: Chance::new(rand::random()), next: 0 }
    }

    pub(super) async fn run(
        mut self,
        mut queue: mpsc::Receiver<Request>,
        mut shutdown: Shutdown,
    ) -> Result<(), Fatal> {
        let mut leadership = self.registry.leadership();
        loop {
            let role = *leadership.borrow_and_update();
            match role {
                Leadership::Leader { term } => {
                    let ended = self.lead(term, &mut queue, &mut shutdown, &mut leadership).await;
                    if ended {
                        return Ok(());
                    }
                }
                Leadership::Follower { .. } => tokio::select! {
                    changed = leadership.changed() => if changed.is_err() { return Ok(()) },
                    request = queue.recv() => match request {
                        Some(request) => refuse(request, &ApiError::NotLeader { leader: None }),
                        None => return Ok(()),
                    },
                    () = shutdown.requested() => return Ok(()),
                },
            }
        }
    }

    /// Leads for one term. True when the node stops.
    async fn lead(
        &mut self,
        number: u64,
        queue: &mut mpsc::Receiver<Request>,
        shutdown: &mut Shutdown,
        leadership: &mut tokio::sync::watch::Receiver<Leadership>,
    ) -> bool {
        // Unbounded because every sender is bounded by what it stands for: one message each of an
        // agent's bounded queue, one per stream, one per proposal.
        let (sender, mut events) = mpsc::unbounded_channel();
        // Unbounded as well: each waits for something that is itself bounded, a stream or an agent.
        let (proposals, proposed) = mpsc::unbounded_channel();
        let registry = self.registry.clone();
        let hand_in = move |command: &Command| registry.hand_in(command);
        let told = sender.clone();
        let tell = move |outcome: Outcome| {
            let event = outcome.map_or(Event::ProposalLost, |(seq, reply)| Event::Committed(seq, reply));
            told.send(event).is_ok()
        };
        tokio::spawn(propose_in_order(hand_in, proposed, tell));
        let seed = self.chance.bits();
        let core = Master::new(self.config.clone(), &self.registry.view(), seed, self.clock.now());
        let mut term = Term {
            term: number,
            core,
            schedulers: BTreeMap::new(),
            agents: BTreeMap::new(),
            answers: BTreeMap::new(),
            events: sender,
            proposals,
        };
        let mut requests = Vec::new();
        loop {
            let deadline = term.core.next_deadline().map(|deadline| self.clock.instant(deadline));
            let mut effects = Vec::new();
            tokio::select! {
                event = events.recv() => {
                    let mut next = event;
                    let mut taken = 0;
                    while let Some(event) = next {
                        if matches!(event, Event::ProposalLost) {
                            return false;
                        }
                        self.on_event(&mut term, event, &mut effects);
                        taken += 1;
                        next = if taken < GROUP { events.try_recv().ok() } else { None };
                    }
                }
                count = queue.recv_many(&mut requests, GROUP) => {
                    if count == 0 {
                        return true;
                    }
                    for request in requests.drain(..) {
                        self.on_request(&mut term, request, &mut effects);
                    }
                }
                () = sleep_until(deadline) => {}
                changed = leadership.changed() => {
                    let leads = *leadership.borrow() == Leadership::Leader { term: number };
                    if changed.is_err() || !leads {
                        return false;
                    }
                }
                () = shutdown.requested() => return true,
            }
            term.core.settle(self.clock.now(), &mut effects);
            self.perform(&mut term, effects);
        }
    }

    fn on_event(&mut self, term: &mut Term, event: Event, effects: &mut Vec<Effect>) {
        // It rises within a term: that of a new cluster with its first command.
        term.core.understand(self.registry.view().version());
        let input = match event {
            Event::Agent(link, message) => match message.message {
                Some(message) => Input::Agent { link, message: Box::new(message) },
                // A message of a later version.
                None => return,
            },
            Event::AgentGone(link) => {
                term.agents.remove(&link);
                Input::AgentDisconnected { link }
            }
            Event::SchedulerGone(conn) => {
                term.schedulers.remove(&conn);
                Input::Disconnected { conn }
            }
            Event::Committed(seq, reply) => Input::Committed { seq, reply },
            Event::ProposalLost => return,
        };
        term.core.handle(input, self.clock.now(), effects);
    }

    fn on_request(&mut self, term: &mut Term, request: Request, effects: &mut Vec<Effect>) {
        self.next += 1;
        let number = self.next;
        let input = match request {
            Request::Subscribe { subscribe, principal, events, dropped, answer } => {
                let (conn, stream_id) = (ConnId(number), self.chance.uuid().to_string());
                if answer.send(Ok(stream_id.clone())).is_err() {
                    return;
                }
                watch_scheduler(conn, dropped, term.events.clone());
                term.schedulers.insert(conn, Outbox::start(events, MAX_WAITING));
                Input::Subscribe { conn, stream_id, subscribe, principal }
            }
            Request::Call { call, stream_id, principal, answer } => {
                term.answers.insert(ReplyId(number), answer);
                Input::Call { reply: ReplyId(number), call, stream_id, principal }
            }
            Request::Teardown { framework_id, answer } => {
                term.answers.insert(ReplyId(number), answer);
                Input::Teardown { reply: ReplyId(number), framework_id }
            }
            Request::MarkGone { agent_id, answer } => {
                term.answers.insert(ReplyId(number), answer);
                Input::MarkGone { reply: ReplyId(number), agent_id }
            }
            Request::Connect { node, from_agent, to_agent, answer } => {
                let link = LinkId(number);
                if answer.send(Ok(())).is_err() {
                    return;
                }
                forward_agent(link, from_agent, term.events.clone());
                term.agents.insert(link, Outbox::start(to_agent, MAX_WAITING));
                Input::AgentConnected { link, node }
            }
            Request::Query { call, answer } => {
                // A caller that went away does not want the answer.
                let _ = answer.send(term.core.query(&call).map(Box::new));
                return;
            }
            Request::LegacyState { answer } => {
                // As above.
                let _ = answer.send(Ok(term.core.legacy_state()));
                return;
            }
        };
        term.core.handle(input, self.clock.now(), effects);
    }

    fn perform(&self, term: &mut Term, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { reply, result } => {
                    if let Some(answer) = term.answers.remove(&reply) {
                        // A caller that went away does not want the answer.
                        let _ = answer.send(result);
                    }
                }
                Effect::Send { conn, event } => {
                    let sent = term.schedulers.get(&conn).map(|events| events.send(*event));
                    if let Some(Err(why)) = sent {
                        tracing::warn!(%why, stream = conn.0, "a scheduler's stream is closed");
                        term.schedulers.remove(&conn);
                        // The loop holds the receiver.
                        let _ = term.events.send(Event::SchedulerGone(conn));
                    }
                }
                Effect::Close { conn } => {
                    term.schedulers.remove(&conn);
                }
                Effect::Tell { link, message } => {
                    let message = peer::ToAgent { term: term.term, message: Some(*message) };
                    if let Some(Err(why)) = term.agents.get(&link).map(|agent| agent.send(message)) {
                        tracing::warn!(%why, link = link.0, "an agent's connection is closed");
                        term.agents.remove(&link);
                        // As above.
                        let _ = term.events.send(Event::AgentGone(link));
                    }
                }
                Effect::Unlink { link } => {
                    term.agents.remove(&link);
                }
                Effect::Propose { seq, change } => {
                    let command = Command { time: self.clock.now().wall, change: *change };
                    // The task lives as long as the term; if leadership is lost it says so.
                    let _ = term.proposals.send((seq, command));
                }
            }
        }
    }
}

/// Tells the loop when a scheduler has stopped reading.
fn watch_scheduler(conn: ConnId, dropped: oneshot::Receiver<()>, events: mpsc::UnboundedSender<Event>) {
    tokio::spawn(async move {
        // Nothing is ever sent: the error is the news.
        let _ = dropped.await;
        // The term may be over.
        let _ = events.send(Event::SchedulerGone(conn));
    });
}

/// Brings what an agent says to the loop, and its end.
fn forward_agent(
    link: LinkId,
    mut from_agent: mpsc::Receiver<peer::FromAgent>,
    events: mpsc::UnboundedSender<Event>,
) {
    tokio::spawn(async move {
        while let Some(message) = from_agent.recv().await {
            if events.send(Event::Agent(link, Box::new(message))).is_err() {
                return;
            }
        }
        // The term may be over.
        let _ = events.send(Event::AgentGone(link));
    });
}

fn refuse(request: Request, error: &ApiError) {
    // Callers that went away do not want the answer.
    match request {
        Request::Subscribe { answer, .. } => drop(answer.send(Err(error.clone()))),
        Request::Call { answer, .. }
        | Request::Teardown { answer, .. }
        | Request::MarkGone { answer, .. }
        | Request::Connect { answer, .. } => {
            drop(answer.send(Err(error.clone())));
        }
        Request::Query { answer, .. } => drop(answer.send(Err(error.clone()))),
        Request::LegacyState { answer } => drop(answer.send(Err(error.clone()))),
    }
}
