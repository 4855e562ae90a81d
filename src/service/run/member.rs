//! The loop.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::changes::Changes;
use super::hold::Hold;
use super::prober::Prober;
use super::requests::{self, Answer, Proposal, World};
use crate::api::ApiError;
use crate::api::marathon::{Refusal, Request, Response};
use crate::api::v1::scheduler;
use crate::base::clock::{SystemClock, sleep_until};
use crate::base::spawn::{Fatal, Shutdown};
use crate::base::time::Clock;
use crate::client::{SchedulerApi, SubscriptionStream};
use crate::registry::core::{Change, Command, Reply};
use crate::registry::run::{Leadership, Outcome, ProposeError, Registry, propose_in_order};
use crate::service::core::{Effect, Input, Services};
use crate::service::model;

/// Events of one kind that are taken in before things are settled: enough for a crowd, few enough that
/// deadlines and requests do not wait.
const MAX_GROUP: usize = 256;

/// A request, and where its answer goes.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<Response, Refusal>>,
}

enum Event {
    Subscribed(SubscriptionStream<scheduler::Event>),
    NotSubscribed,
    Committed(u64, Reply),
    Planned(Box<Proposal>, Result<model::Reply, Refusal>, oneshot::Sender<Result<Response, Refusal>>),
    Probed {
        task_id: String,
        index: usize,
        result: Result<(), String>,
    },
    /// The registry did not take a proposal.
    Lost,
}

pub(super) struct Member {
    registry: Registry,
    scheduler: Arc<dyn SchedulerApi>,
    clock: Arc<SystemClock>,
    prober: Prober,
    /// `host:port` at which this member answers `/v2`.
    address: String,
}

/// One term of leadership.
struct Term {
    core: Services,
    stream: Option<SubscriptionStream<scheduler::Event>>,
    events: mpsc::UnboundedSender<Event>,
    /// Calls in order: one after another, as a scheduler must.
    calls: mpsc::UnboundedSender<(scheduler::Call, String)>,
    /// Proposals in order. Unbounded because the core proposes a few commands for each instance and
    /// deployment, and waits for them.
    proposals: mpsc::UnboundedSender<(u64, Command)>,
    changes: Changes,
    hold: Hold,
}

impl Member {
    pub(super) fn new(
        registry: Registry,
        scheduler: Arc<dyn SchedulerApi>,
        clock: Arc<SystemClock>,
        address: String,
    ) -> Self {
        Self { registry, scheduler, clock, prober: Prober::new(), address }
    }

    pub(super) async fn run(
        self,
        mut queue: mpsc::Receiver<Asked>,
        mut shutdown: Shutdown,
    ) -> Result<(), Fatal> {
        let mut leadership = self.registry.leadership();
        loop {
            let role = *leadership.borrow_and_update();
            match role {
                Leadership::Leader { .. } => {
                    if self.lead(role, &mut queue, &mut shutdown, &mut leadership).await {
                        return Ok(());
                    }
                }
                Leadership::Follower { .. } => tokio::select! {
                    changed = leadership.changed() => if changed.is_err() { return Ok(()) },
                    asked = queue.recv() => match asked {
                        // A caller that went away does not want the answer.
                        Some(asked) => drop(asked.answer.send(Err(Refusal::Unavailable("no master leads".to_owned())))),
                        None => return Ok(()),
                    },
                    () = shutdown.requested() => return Ok(()),
                },
            }
        }
    }

    /// Works for one term. True when the node stops.
    async fn lead(
        &self,
        role: Leadership,
        queue: &mut mpsc::Receiver<Asked>,
        shutdown: &mut Shutdown,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> bool {
        // Unbounded because every sender says one thing.
        let (events, mut inbox) = mpsc::unbounded_channel();
        let (calls, queue_of_calls) = mpsc::unbounded_channel();
        tokio::spawn(send_calls(Arc::clone(&self.scheduler), queue_of_calls));
        let proposals = self.proposer(events.clone());
        let mut applied = self.registry.watch();
        let view = self.registry.view();
        let core = Services::new(Arc::clone(view.service()), rand::random());
        let (changes, hold) = (Changes::default(), Hold::new(view.service(), self.clock.now()));
        let mut term = Term { core, stream: None, events, calls, proposals, changes, hold };
        self.settle(&mut term);
        loop {
            let deadline = term.core.next_deadline().into_iter().chain(term.hold.deadline()).min();
            let deadline = deadline.map(|deadline| self.clock.instant(deadline));
            let mut effects = Vec::new();
            tokio::select! {
                Some(event) = inbox.recv() => {
                    if matches!(event, Event::Lost) {
                        return false;
                    }
                    self.on_event(&mut term, event, &mut effects);
                }
                event = next_event(&mut term.stream) => self.on_master(&mut term, event, &mut effects),
                asked = queue.recv() => match asked {
                    Some(asked) => self.on_request(&mut term, asked, &mut effects),
                    None => return true,
                },
                changed = applied.changed() => {
                    if changed.is_err() {
                        return true;
                    }
                    applied.borrow_and_update();
                    self.refresh(&mut term, &mut effects);
                }
                () = sleep_until(deadline) => term.core.handle(Input::Tick, self.clock.now(), &mut effects),
                changed = leadership.changed() => {
                    if changed.is_err() || *leadership.borrow() != role {
                        return false;
                    }
                }
                () = shutdown.requested() => return true,
            }
            if !self.follow(&mut term, &mut inbox, &mut effects) {
                return false;
            }
            for asked in term.hold.released(self.clock.now()) {
                self.on_request(&mut term, asked, &mut effects);
            }
            self.perform(&mut term, effects);
            self.settle(&mut term);
        }
    }

    /// Takes in what else has come, so that a crowd of updates or commits is settled once. False if the
    /// term is lost.
    fn follow(
        &self,
        term: &mut Term,
        inbox: &mut mpsc::UnboundedReceiver<Event>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        for _ in 0..MAX_GROUP {
            let Ok(event) = inbox.try_recv() else { break };
            if matches!(event, Event::Lost) {
                return false;
            }
            self.on_event(term, event, effects);
        }
        for _ in 0..MAX_GROUP {
            // An end of the stream is for the loop to see.
            let Some(Ok(event)) = term.stream.as_mut().map(|stream| stream.events.try_recv()) else { break };
            self.on_master(term, Some(event), effects);
        }
        true
    }

    /// What the master says, or the end of its stream.
    fn on_master(&self, term: &mut Term, event: Option<scheduler::Event>, effects: &mut Vec<Effect>) {
        let input = match event {
            Some(event) => {
                term.hold.heard(&event);
                Input::Event(Box::new(event))
            }
            None => {
                term.stream = None;
                Input::Disconnected
            }
        };
        term.core.handle(input, self.clock.now(), effects);
    }

    fn refresh(&self, term: &mut Term, effects: &mut Vec<Effect>) {
        let state = Arc::clone(self.registry.view().service());
        let tasks = term.changes.recorded(&state);
        term.hold.refresh(&state);
        term.core.handle(Input::State(state), self.clock.now(), effects);
        if !tasks.is_empty() {
            term.core.handle(Input::Kill { tasks }, self.clock.now(), effects);
        }
    }

    fn settle(&self, term: &mut Term) {
        let mut effects = Vec::new();
        term.core.settle(self.clock.now(), &mut effects);
        self.perform(term, effects);
    }

    fn on_event(&self, term: &mut Term, event: Event, effects: &mut Vec<Effect>) {
        let input = match event {
            Event::Subscribed(stream) => {
                term.stream = Some(stream);
                return;
            }
            Event::NotSubscribed => Input::Disconnected,
            Event::Committed(seq, reply) => {
                self.refresh(term, effects);
                let reply = match reply {
                    Reply::Service(reply) => reply,
                    Reply::Done | Reply::Refused(_) => model::Reply::Done,
                };
                Input::Committed { seq, reply }
            }
            Event::Planned(proposal, outcome, answer) => {
                self.refresh(term, effects);
                let tasks = term.changes.end();
                if outcome == Ok(model::Reply::Done) && !tasks.is_empty() {
                    term.core.handle(Input::Kill { tasks }, self.clock.now(), effects);
                }
                // A caller that went away does not want the answer.
                let _ = answer.send(outcome.and_then(|reply| requests::planned(*proposal, reply)));
                while let Some(asked) = term.changes.next() {
                    self.on_request(term, asked, effects);
                }
                return;
            }
            Event::Probed { task_id, index, result } => Input::Probed { task_id, index, result },
            Event::Lost => return,
        };
        term.core.handle(input, self.clock.now(), effects);
    }

    fn on_request(&self, term: &mut Term, asked: Asked, effects: &mut Vec<Effect>) {
        let now = self.clock.now();
        let admitted = term.hold.admit(asked, now).and_then(|asked| term.changes.admit(asked));
        let Some(Asked { request, answer }) = admitted else { return };
        let view = self.registry.view();
        let world = World { state: view.service(), core: &term.core, now, address: &self.address };
        match requests::answer(request, world) {
            Answer::Now(result) => {
                // A caller that went away does not want the answer.
                let _ = answer.send(result);
            }
            Answer::Input(input, result) => {
                term.core.handle(input, now, effects);
                // As above.
                let _ = answer.send(result);
            }
            Answer::Propose(proposal) => {
                term.changes.begin(&proposal);
                let change = Change::Service(proposal.command.clone());
                let committed = self.registry.propose(Command { time: now.wall, change });
                let events = term.events.clone();
                tokio::spawn(async move {
                    let outcome = match committed.await.map(|committed| committed.reply) {
                        Ok(Reply::Service(reply)) => Ok(reply),
                        Ok(Reply::Done | Reply::Refused(_)) => Ok(model::Reply::Done),
                        Err(error) => {
                            Err(Refusal::Unavailable(format!("the change was not recorded: {error}")))
                        }
                    };
                    // The term may be over; then its callers are told that nobody leads.
                    let _ = events.send(Event::Planned(proposal, outcome, answer));
                });
            }
        }
    }

    fn perform(&self, term: &mut Term, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Subscribe(info) => self.subscribe(term, *info),
                Effect::Call(call) => {
                    let stream_id =
                        term.stream.as_ref().map(|stream| stream.stream_id.clone()).unwrap_or_default();
                    // The sending task lives as long as the term.
                    let _ = term.calls.send((*call, stream_id));
                }
                Effect::Propose { seq, command } => {
                    let change = Change::Service(*command);
                    // As above.
                    let _ = term.proposals.send((seq, Command { time: self.clock.now().wall, change }));
                }
                Effect::Probe { task_id, index, target, timeout } => {
                    let (prober, events) = (self.prober.clone(), term.events.clone());
                    tokio::spawn(async move {
                        let result = prober.run(&target, timeout).await;
                        // The term may be over.
                        let _ = events.send(Event::Probed { task_id, index, result });
                    });
                }
            }
        }
    }

    /// Starts what proposes for one term.
    fn proposer(&self, events: mpsc::UnboundedSender<Event>) -> mpsc::UnboundedSender<(u64, Command)> {
        let (proposals, queue) = mpsc::unbounded_channel();
        let registry = self.registry.clone();
        let term = events.clone();
        let hand_in = move |command: &Command| {
            // What an ended term still has in its queue is not proposed in a later one.
            if term.is_closed() { Err(ProposeError::Stopped) } else { registry.hand_in(command) }
        };
        let tell = move |outcome: Outcome| {
            let event = outcome.map_or(Event::Lost, |(seq, reply)| Event::Committed(seq, reply));
            events.send(event).is_ok()
        };
        tokio::spawn(propose_in_order(hand_in, queue, tell));
        proposals
    }

    fn subscribe(&self, term: &mut Term, info: crate::api::v1::FrameworkInfo) {
        let (scheduler, events) = (Arc::clone(&self.scheduler), term.events.clone());
        // What is left of an earlier stream says nothing about the new one.
        term.stream = None;
        let call = scheduler::Call {
            framework_id: info.id.clone(),
            r#type: Some(scheduler::call::Type::Subscribe.into()),
            subscribe: Some(scheduler::call::Subscribe { framework_info: info, ..Default::default() }),
            ..Default::default()
        };
        tokio::spawn(async move {
            let event = match scheduler.subscribe(call, None).await {
                Ok(stream) => Event::Subscribed(stream),
                // A master that stops or does not lead (any more) is no news: it is tried again.
                Err(error @ (ApiError::Unavailable(_) | ApiError::NotLeader { .. })) => {
                    tracing::debug!(%error, "the service framework is not subscribed");
                    Event::NotSubscribed
                }
                Err(error) => {
                    tracing::warn!(%error, "the service framework is not subscribed");
                    Event::NotSubscribed
                }
            };
            // The term may be over.
            let _ = events.send(event);
        });
    }
}

/// Sends calls one after another.
async fn send_calls(
    scheduler: Arc<dyn SchedulerApi>,
    mut queue: mpsc::UnboundedReceiver<(scheduler::Call, String)>,
) {
    while let Some((call, stream_id)) = queue.recv().await {
        if let Err(error) = scheduler.call(call, Some(stream_id), None).await {
            // What matters is repeated: kills, reconciliation, launches by what is missing.
            tracing::warn!(%error, "a call of the service framework was refused");
        }
    }
}

async fn next_event(stream: &mut Option<SubscriptionStream<scheduler::Event>>) -> Option<scheduler::Event> {
    match stream {
        Some(stream) => stream.events.recv().await,
        None => std::future::pending().await,
    }
}
