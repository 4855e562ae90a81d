//! What others hold of a member, and what a member is made of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::consensus::core::{Config, Refuse, Role, Status};
use crate::peer::{Event, Network};
use crate::storage::StoreError;

/// Proposals and reads that may wait; more are refused at once.
pub(super) const QUEUE: usize = 4_096;
/// Inputs that are handled together: the group commit.
pub(super) const GROUP: usize = 500;
/// One tick of a member that is alone. It needs ticks for nothing but raft's own bookkeeping, so they are
/// slow: an idle node should cost nothing.
pub(super) const TICK_ALONE: Duration = Duration::from_secs(1);

/// Settings of a running member.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Of the member itself.
    pub core: Config,
    /// One tick: heartbeats are one apart, elections begin after `core.election_ticks` to twice as many.
    pub tick: Duration,
}

/// The way to the other members.
pub struct Link {
    /// Takes what goes out.
    pub network: Arc<dyn Network>,
    /// What comes in.
    pub events: mpsc::Receiver<Event>,
}

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

    /// Replaces everything by what [`Machine::snapshot`] of another member gave, which stands for `index`.
    ///
    /// # Errors
    /// This version cannot read it; the node must stop.
    fn restore(&mut self, index: u64, data: &[u8]) -> Result<(), String>;

    /// Raft ids of those that should vote; nobody: it is not known, and the members stay as they are.
    fn members(&self) -> BTreeSet<u64>;

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
pub(super) type Answer<R> = oneshot::Sender<Result<(u64, R), ProposeError>>;

/// What is asked of a member.
pub(super) enum Ask<R> {
    Propose { data: Vec<u8>, answer: Answer<R> },
    Read { answer: oneshot::Sender<Result<(), ProposeError>> },
    Status { answer: oneshot::Sender<Status> },
    HandOver,
    Campaign,
}

/// Talks to a member.
pub struct Handle<R> {
    pub(super) asks: mpsc::Sender<Ask<R>>,
}

impl<R> Clone for Handle<R> {
    fn clone(&self) -> Self {
        Self { asks: self.asks.clone() }
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
        self.ask(Ask::Propose { data, answer })?;
        Ok(Proposed { answered })
    }

    /// Waits until what is applied has everything that was committed before this call.
    ///
    /// # Errors
    /// This member does not lead, or leadership was lost meanwhile.
    pub async fn read(&self) -> Result<(), ProposeError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Read { answer })?;
        answered.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// How far the log and its members are.
    ///
    /// # Errors
    /// `Busy` or `Stopped`.
    pub async fn status(&self) -> Result<Status, ProposeError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Status { answer })?;
        answered.await.map_err(|_| ProposeError::Stopped)
    }

    /// Lets another member lead, if this one does and another can.
    ///
    /// # Errors
    /// `Busy` or `Stopped`.
    pub fn hand_over(&self) -> Result<(), ProposeError> {
        self.ask(Ask::HandOver)
    }

    /// Lets this member campaign at once, unless somebody leads.
    ///
    /// # Errors
    /// `Busy` or `Stopped`.
    pub fn campaign(&self) -> Result<(), ProposeError> {
        self.ask(Ask::Campaign)
    }

    fn ask(&self, ask: Ask<R>) -> Result<(), ProposeError> {
        self.asks.try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Busy,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })
    }
}
