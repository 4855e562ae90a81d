//! One running member.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, o};
use tokio::sync::{mpsc, oneshot};

use super::drain::ToTracing;
use crate::base::spawn::{Fatal, Shutdown, Tasks};
use crate::consensus::core::{Boot, Config, Consensus, Effect, Input, Refuse, Role, recover};
use crate::storage::{Batch, Persisted, Store, StoreError, Writer};

/// Proposals that may wait; more are refused at once.
const QUEUE: usize = 4_096;
/// Inputs that are handled together: the group commit.
const GROUP: usize = 500;
/// One tick. A sole voter needs it for nothing but raft's own bookkeeping, so it is slow: an idle node should
/// cost nothing.
const TICK: Duration = Duration::from_secs(1);

/// A state machine that applies committed commands in order.
pub trait Machine: Send + 'static {
    /// What applying a command answers.
    type Reply: Send + 'static;

    /// Applies the command at `index`.
    ///
    /// # Errors
    /// The command cannot be applied by this version; the node must stop.
    fn apply(&mut self, index: u64, data: &[u8]) -> Result<Self::Reply, String>;

    /// Everything applied so far, as bytes.
    fn snapshot(&self) -> Vec<u8>;

    /// Called when this member begins or ceases to lead.
    fn role(&mut self, role: Role);

    /// Called after a group of commands was applied, before their proposers are answered.
    fn applied(&mut self, index: u64);
}

/// Why a member did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds cannot be trusted.
    #[error(transparent)]
    Refuse(#[from] Refuse),
    /// A fault of ours.
    #[error("{0}")]
    Fault(String),
}

/// Why a proposal was not committed, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This member does not lead: it was not proposed.
    #[error("this member does not lead")]
    NotLeader,
    /// Too many proposals wait: it was not proposed.
    #[error("too many proposals wait")]
    Busy,
    /// Leadership was lost while it waited: it may or may not be committed.
    #[error("leadership was lost before the command was committed; it may still be")]
    Unknown,
    /// The member has stopped.
    #[error("the member has stopped")]
    Stopped,
}

/// Where the answer to a proposal goes.
type Answer<R> = oneshot::Sender<Result<(u64, R), ProposeError>>;

/// A command on its way.
struct Proposal<R> {
    data: Vec<u8>,
    answer: Answer<R>,
}

/// Hands proposals to a member.
pub struct Handle<R> {
    proposals: mpsc::Sender<Proposal<R>>,
}

impl<R> Clone for Handle<R> {
    fn clone(&self) -> Self {
        Self { proposals: self.proposals.clone() }
    }
}

/// A command that was handed in.
pub struct Proposed<R> {
    answered: oneshot::Receiver<Result<(u64, R), ProposeError>>,
}

impl<R: Send + 'static> Proposed<R> {
    /// Its index and what applying it said, when it is durable and applied.
    ///
    /// # Errors
    /// It was not, as far as is known.
    pub async fn committed(self) -> Result<(u64, R), ProposeError> {
        self.answered.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

impl<R: Send + 'static> Handle<R> {
    /// Hands in a command at once: commands of one caller are committed in the order of these calls,
    /// whenever it waits for the answers.
    ///
    /// # Errors
    /// `Busy` or `Stopped`: it was not proposed.
    pub fn propose(&self, data: Vec<u8>) -> Result<Proposed<R>, ProposeError> {
        let (answer, answered) = oneshot::channel();
        self.proposals.try_send(Proposal { data, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Busy,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })?;
        Ok(Proposed { answered })
    }
}

/// Starts a member on a store. `make` builds the state machine from the last snapshot's data (empty:
/// none).
///
/// # Errors
/// The store cannot be read or trusted.
pub fn start<M: Machine>(
    tasks: &mut Tasks,
    config: &Config,
    store: Arc<dyn Store>,
    make: impl FnOnce(&[u8]) -> Result<M, String>,
) -> Result<Handle<M::Reply>, MemberError> {
    let (snapshot, log) = match recover(&store.scan(b"")?)? {
        Boot::Empty => (Vec::new(), None),
        Boot::Log { snapshot, log } => (snapshot, Some(log)),
    };
    let machine = make(&snapshot).map_err(MemberError::Fault)?;
    let logger = Logger::root(ToTracing, o!());
    let consensus =
        Consensus::new(config, log, &logger).map_err(|fault| MemberError::Fault(fault.to_string()))?;
    let (persisted, reports) = mpsc::unbounded_channel();
    let writer = Writer::start(store, persisted)?;
    let (proposals, queue) = mpsc::channel(QUEUE);
    let member = Member { consensus, machine, writer, waiting: BTreeMap::new(), next_id: 0, leads: false };
    let shutdown = tasks.shutdown();
    tasks.spawn("consensus", member.run(queue, reports, shutdown));
    Ok(Handle { proposals })
}

struct Member<M: Machine> {
    consensus: Consensus,
    machine: M,
    writer: Writer,
    waiting: BTreeMap<u64, Answer<M::Reply>>,
    next_id: u64,
    leads: bool,
}

impl<M: Machine> Member<M> {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Proposal<M::Reply>>,
        mut reports: mpsc::UnboundedReceiver<Persisted>,
        mut shutdown: Shutdown,
    ) -> Result<(), Fatal> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.step(None)?;
        let mut proposals = Vec::with_capacity(GROUP);
        loop {
            let mut inputs = Vec::new();
            tokio::select! {
                // What is durable goes first: it frees proposals that wait.
                biased;
                report = reports.recv() => match report {
                    Some(Ok(seq)) => inputs.push(Input::Persisted { seq }),
                    Some(Err(error)) => return Err(disk_failed(&error)),
                    None => return Err(disk_failed(&StoreError::Failed("the storage thread ended".to_owned()))),
                },
                count = queue.recv_many(&mut proposals, GROUP) => {
                    if count == 0 {
                        return Ok(());
                    }
                    inputs.extend(proposals.drain(..).map(|proposal| self.admit(proposal)));
                }
                _ = ticks.tick() => inputs.push(Input::Tick),
                () = shutdown.requested() => return Ok(()),
            }
            self.step(Some(inputs))?;
        }
    }

    fn admit(&mut self, proposal: Proposal<M::Reply>) -> Input {
        self.next_id += 1;
        self.waiting.insert(self.next_id, proposal.answer);
        Input::Propose { id: self.next_id, data: proposal.data }
    }

    /// Handles inputs (or starts) and performs what follows.
    fn step(&mut self, inputs: Option<Vec<Input>>) -> Result<(), Fatal> {
        let mut effects = Vec::new();
        let consensus = &mut self.consensus;
        let handled = catch_unwind(AssertUnwindSafe(|| match inputs {
            Some(inputs) => consensus.handle(inputs, &mut effects),
            None => consensus.start(&mut effects),
        }));
        match handled {
            Ok(Ok(())) => self.perform(effects),
            Ok(Err(fault)) => Err(broken(&fault.to_string())),
            Err(_) => Err(broken("raft panicked; the log above says where")),
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Result<(), Fatal> {
        let mut answers = Vec::new();
        let mut last = None;
        for effect in effects {
            match effect {
                Effect::Persist { seq, records } => {
                    let mut batch = Batch::default();
                    for (key, value) in records {
                        match value {
                            Some(value) => batch.put(key, value),
                            None => batch.delete(key),
                        }
                    }
                    self.writer.submit(seq, batch);
                }
                Effect::Apply { index, data, proposal } => {
                    let reply = self.machine.apply(index, &data).map_err(|problem| broken(&problem))?;
                    last = Some(index);
                    if let Some(answer) = proposal.and_then(|id| self.waiting.remove(&id)) {
                        answers.push((answer, index, reply));
                    }
                }
                Effect::Dropped { proposal } => {
                    let reason = if self.leads { ProposeError::Unknown } else { ProposeError::NotLeader };
                    self.give_back(proposal, reason);
                }
                Effect::Refused { proposal } => self.give_back(proposal, ProposeError::Busy),
                Effect::Role(role) => {
                    self.leads = matches!(role, Role::Leader { .. });
                    self.machine.role(role);
                }
                Effect::TakeSnapshot { index } => {
                    let data = self.machine.snapshot();
                    self.step(Some(vec![Input::Snapshot { index, data }]))?;
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
        Ok(())
    }

    fn give_back(&mut self, proposal: u64, reason: ProposeError) {
        if let Some(answer) = self.waiting.remove(&proposal) {
            // As above.
            let _ = answer.send(Err(reason));
        }
    }
}

fn disk_failed(error: &StoreError) -> Fatal {
    Fatal {
        what: format!("the registry's disk failed: {error}"),
        remedy: "The node ends so that it acknowledges nothing that may be lost".to_owned(),
    }
}

fn broken(problem: &str) -> Fatal {
    Fatal {
        what: format!("the registry is broken: {problem}"),
        remedy: "Start the node again; if it happens again, upgrade it or restore its data directory from a backup".to_owned(),
    }
}
