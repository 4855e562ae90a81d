//! The loop.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use slog::{Logger, o};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::drain::ToTracing;
use super::handle::{
    Answer, Ask, GROUP, Handle, Link, Machine, MemberConfig, MemberError, ProposeError, QUEUE, TICK_ALONE,
};
use crate::base::clock::sleep_until;
use crate::base::id::NodeId;
use crate::base::spawn::{Fatal, Shutdown, Tasks};
use crate::consensus::core::{Boot, Consensus, Effect, Input, Refusal, Role, SNAPSHOT, recover};
use crate::peer::{Event, Frame, Network};
use crate::storage::{Batch, Persisted, Store, StoreError, Writer};

/// Starts a member on a store. `make` builds the state machine from the last snapshot's data (empty:
/// none). Without a link it can only be alone.
///
/// # Errors
/// The store cannot be read or trusted.
pub fn start<M: Machine>(
    tasks: &mut Tasks,
    config: &MemberConfig,
    store: Arc<dyn Store>,
    link: Option<Link>,
    make: impl FnOnce(&[u8]) -> Result<M, String>,
) -> Result<Handle<M::Reply>, MemberError> {
    let (snapshot, log) = match recover(&store.scan(b"")?)? {
        Boot::Empty => (Vec::new(), None),
        Boot::Log { snapshot, log } => (snapshot, Some(log)),
    };
    let machine = make(&snapshot).map_err(MemberError::Fault)?;
    let logger = Logger::root(ToTracing, o!());
    let consensus =
        Consensus::new(&config.core, log, &logger).map_err(|fault| MemberError::Fault(fault.to_string()))?;
    let (persisted, reports) = mpsc::unbounded_channel();
    let writer = Writer::start(store, persisted)?;
    let (asks, queue) = mpsc::channel(QUEUE);
    let (network, events) = link.map_or((None, None), |link| (Some(link.network), Some(link.events)));
    let member = Member {
        consensus,
        machine,
        writer,
        network,
        tick: config.tick,
        proposals: BTreeMap::new(),
        reads: BTreeMap::new(),
        next_id: 0,
        members: BTreeSet::new(),
        later: Vec::new(),
        alarm: None,
        ignored: BTreeSet::new(),
    };
    let shutdown = tasks.shutdown();
    tasks.spawn("consensus", member.run(queue, reports, events, shutdown));
    Ok(Handle { asks })
}

struct Member<M: Machine> {
    consensus: Consensus,
    machine: M,
    writer: Writer,
    network: Option<Arc<dyn Network>>,
    tick: std::time::Duration,
    proposals: BTreeMap<u64, Answer<M::Reply>>,
    reads: BTreeMap<u64, oneshot::Sender<Result<(), ProposeError>>>,
    next_id: u64,
    /// What the consensus was last told of who should vote.
    members: BTreeSet<u64>,
    /// Inputs that came up while effects were performed.
    later: Vec<Input>,
    alarm: Option<(Instant, u64)>,
    /// What was said in the log already of messages that were ignored.
    ignored: BTreeSet<(u64, &'static str)>,
}

impl<M: Machine> Member<M> {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Ask<M::Reply>>,
        mut reports: mpsc::UnboundedReceiver<Persisted>,
        mut events: Option<mpsc::Receiver<Event>>,
        mut shutdown: Shutdown,
    ) -> Result<(), Fatal> {
        self.step(None)?;
        let mut next_tick = Instant::now() + self.pace();
        let mut asks = Vec::with_capacity(GROUP);
        let mut arrived = Vec::with_capacity(GROUP);
        loop {
            let mut inputs = std::mem::take(&mut self.later);
            tokio::select! {
                // What is durable goes first: it frees proposals that wait. Ticks are next, so that
                // no crowd of requests stops the heartbeats.
                biased;
                report = reports.recv() => match report {
                    Some(Ok(seq)) => inputs.push(Input::Persisted { seq }),
                    Some(Err(error)) => return Err(disk_failed(&error)),
                    None => return Err(disk_failed(&StoreError::Failed("the storage thread ended".to_owned()))),
                },
                () = sleep_until(Some(next_tick)) => {
                    inputs.push(Input::Tick);
                    next_tick = Instant::now() + self.pace();
                }
                () = sleep_until(self.alarm.map(|(at, _)| at)) => {
                    inputs.extend(self.alarm.take().map(|(_, alarm)| Input::Alarm { alarm }));
                }
                count = receive(&mut events, &mut arrived) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for event in arrived.drain(..) {
                        inputs.extend(event_input(event)?);
                    }
                }
                count = queue.recv_many(&mut asks, GROUP) => {
                    if count == 0 {
                        return Ok(());
                    }
                    inputs.extend(asks.drain(..).filter_map(|ask| self.admit(ask)));
                }
                () = shutdown.requested() => return Ok(()),
            }
            let was_alone = self.consensus.is_alone();
            self.step(Some(inputs))?;
            if was_alone && !self.consensus.is_alone() {
                next_tick = Instant::now() + self.pace();
            }
        }
    }

    /// The time to the next tick.
    fn pace(&self) -> std::time::Duration {
        if self.consensus.is_alone() && self.network.is_none() { TICK_ALONE } else { self.tick }
    }

    fn admit(&mut self, ask: Ask<M::Reply>) -> Option<Input> {
        self.next_id += 1;
        let id = self.next_id;
        match ask {
            Ask::Propose { data, answer } => {
                self.proposals.insert(id, answer);
                Some(Input::Propose { id, data })
            }
            Ask::Read { answer } => {
                self.reads.insert(id, answer);
                Some(Input::Read { id })
            }
            Ask::Status { answer } => {
                // Whoever asked may have gone away.
                let _ = answer.send(self.consensus.status());
                None
            }
            Ask::HandOver => Some(Input::HandOver),
            Ask::Campaign => Some(Input::Campaign),
        }
    }

    /// Handles inputs (or starts) and performs what follows.
    fn step(&mut self, inputs: Option<Vec<Input>>) -> Result<(), Fatal> {
        let (mut effects, is_start) = (Vec::new(), inputs.is_none());
        let consensus = &mut self.consensus;
        let handled = catch_unwind(AssertUnwindSafe(|| match inputs {
            Some(inputs) => consensus.handle(inputs, &mut effects),
            None => consensus.start(&mut effects),
        }));
        let has_changed = match handled {
            Ok(Ok(())) => self.perform(effects)?,
            Ok(Err(fault)) => return Err(broken(&fault.to_string())),
            Err(_) => return Err(broken("raft panicked; the log above says where")),
        };
        if !has_changed && !is_start {
            return Ok(());
        }
        let members = self.machine.members();
        if members != self.members {
            self.members.clone_from(&members);
            return self.step(Some(vec![Input::Members(members)]));
        }
        Ok(())
    }

    /// True if something was applied.
    fn perform(&mut self, effects: Vec<Effect>) -> Result<bool, Fatal> {
        let (mut answers, mut readable) = (Vec::new(), Vec::new());
        let mut last = None;
        for effect in effects {
            match effect {
                Effect::Persist { seq, records } => self.persist(seq, records),
                Effect::Apply { index, data, proposal } => {
                    let reply = self.machine.apply(index, &data).map_err(|problem| broken(&problem))?;
                    last = Some(index);
                    if let Some(answer) = proposal.and_then(|id| self.proposals.remove(&id)) {
                        answers.push((answer, index, reply));
                    }
                }
                Effect::Restore { index, data } => {
                    self.machine.restore(index, &data).map_err(|problem| broken(&problem))?;
                    last = Some(index);
                }
                Effect::Dropped { proposal } => self.give_back(proposal, ProposeError::Unknown),
                Effect::Refused { proposal, reason: Refusal::NotLeader } => {
                    self.give_back(proposal, ProposeError::NotLeader);
                }
                Effect::Refused { proposal, reason: Refusal::Busy } => {
                    self.give_back(proposal, ProposeError::Busy);
                }
                Effect::Readable { read } => readable.push((read, Ok(()))),
                Effect::NotReadable { read } => readable.push((read, Err(ProposeError::NotLeader))),
                Effect::Role(role) => self.note_role(role),
                Effect::TakeSnapshot { index } => {
                    let data = self.machine.snapshot();
                    self.step(Some(vec![Input::Snapshot { index, data }]))?;
                }
                Effect::Send { to, message } => self.send(to, Frame::Message(message)),
                Effect::SendSnapshot { to, header, data } => {
                    self.send(to, Frame::Snapshot { header, data: data.to_vec() });
                }
                Effect::Wake { alarm, after } => self.alarm = Some((Instant::now() + after, alarm)),
                Effect::Ignored { from, reason } => {
                    if self.ignored.insert((from, reason)) {
                        tracing::warn!(from = format!("{from:016x}"), "a message was ignored: {reason}");
                    }
                }
            }
        }
        if let Some(index) = last {
            self.machine.applied(index);
        }
        for (answer, index, reply) in answers {
            // A proposer that went away does not want to know.
            let _ = answer.send(Ok((index, reply)));
        }
        for (read, outcome) in readable {
            if let Some(answer) = self.reads.remove(&read) {
                // As above.
                let _ = answer.send(outcome);
            }
        }
        Ok(last.is_some())
    }

    fn persist(&mut self, seq: u64, records: crate::consensus::core::Records) {
        let mut batch = Batch::default();
        for (key, value) in records {
            match value {
                Some(value) if key == SNAPSHOT => batch.put_file(key, value),
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.writer.submit(seq, batch);
    }

    fn note_role(&mut self, role: Role) {
        match role {
            Role::Leader { term } => tracing::info!(term, "this master leads"),
            Role::Follower { leader: Some(leader) } => {
                tracing::info!(leader = format!("{leader:016x}"), "this master follows");
            }
            Role::Follower { leader: None } => tracing::info!("no master leads"),
        }
        self.machine.role(role);
    }

    fn send(&mut self, to: u64, frame: Frame) {
        let is_snapshot = matches!(frame, Frame::Snapshot { .. });
        let peer = NodeId::new(to);
        let sent = match (&self.network, peer) {
            (Some(network), Some(peer)) => network.send(peer, frame).is_ok(),
            _ => false,
        };
        if sent {
            return;
        }
        self.later.push(Input::Unreachable { to });
        if is_snapshot {
            self.later.push(Input::SnapshotSent { to, arrived: false });
        }
    }

    fn give_back(&mut self, proposal: u64, reason: ProposeError) {
        if let Some(answer) = self.proposals.remove(&proposal) {
            // As above.
            let _ = answer.send(Err(reason));
        }
    }
}

/// What came together; never, if there is no link.
async fn receive(events: &mut Option<mpsc::Receiver<Event>>, arrived: &mut Vec<Event>) -> usize {
    match events {
        Some(events) => events.recv_many(arrived, GROUP).await,
        None => std::future::pending().await,
    }
}

fn event_input(event: Event) -> Result<Option<Input>, Fatal> {
    Ok(Some(match event {
        Event::Received { from, frame: Frame::Message(message) } => {
            Input::Message { from: from.get(), message, snapshot: None }
        }
        Event::Received { from, frame: Frame::Snapshot { header, data } } => {
            Input::Message { from: from.get(), message: header, snapshot: Some(data) }
        }
        Event::SnapshotSent { to, arrived } => Input::SnapshotSent { to: to.get(), arrived },
        Event::Unreachable { to } => Input::Unreachable { to: to.get() },
        Event::Broken { peer, round_trip } => Input::Broken { peer: peer.get(), round_trip },
        Event::Removed { by } => return Err(removed(by)),
    }))
}

fn removed(by: NodeId) -> Fatal {
    Fatal::removed(format!("the master {by} says that this node was removed from the cluster"))
}

fn disk_failed(error: &StoreError) -> Fatal {
    Fatal::new(
        format!("the registry's disk failed: {error}"),
        "The node ends so that it acknowledges nothing that may be lost",
    )
}

fn broken(problem: &str) -> Fatal {
    Fatal::new(
        format!("the registry is broken: {problem}"),
        "Start the node again; if it happens again, upgrade it or restore its data directory from a backup",
    )
}
