//! A member of the registry, and the handle that everybody shares.

use std::sync::Arc;

use tokio::sync::watch;

use super::arc_cell::ArcCell;
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::spawn::Tasks;
use crate::base::time::Clock;
use crate::consensus::core::{Config, Role};
use crate::consensus::run::{self as consensus, Handle, Machine, MemberError, ProposeError};
use crate::registry::core::{Change, Command, DecodeError, Reply, State, VERSION};
use crate::storage::Store;

/// Ticks without a leader before an election.
const ELECTION_TICKS: usize = 10;

/// Settings of a member of the registry.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Raft id of this member.
    pub id: u64,
    /// Name of a new cluster; one that exists keeps its own.
    pub cluster_id: String,
}

/// Why the registry did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Its log cannot be read or trusted.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The cluster could not be named.
    #[error("the registry did not start: {0}")]
    Propose(#[from] ProposeError),
}

/// Whether this member leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It leads in this term, and has applied everything that was committed before.
    Leader {
        /// The term.
        term: u64,
    },
    /// It does not.
    Follower,
}

/// A committed command.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Its index in the log.
    pub index: u64,
    /// What applying it answered.
    pub reply: Reply,
}

/// A member of the registry; clones share it.
#[derive(Clone)]
pub struct Registry {
    handle: Handle<Reply>,
    state: Arc<ArcCell<State>>,
    applied: watch::Receiver<u64>,
    leadership: watch::Receiver<Leadership>,
}

impl Registry {
    /// Starts a member on a store. Returns when it leads and the cluster has a name.
    ///
    /// # Errors
    /// The store cannot be read or trusted.
    pub async fn start(
        tasks: &mut Tasks,
        store: Arc<dyn Store>,
        config: RegistryConfig,
        clock: Arc<SystemClock>,
    ) -> Result<Self, RegistryError> {
        let state = Arc::new(ArcCell::new(State::default()));
        let (applied_sender, applied) = watch::channel(0);
        let (role_sender, mut leadership) = watch::channel(Leadership::Follower);
        let shared = Arc::clone(&state);
        let member = Config { id: config.id, election_ticks: ELECTION_TICKS };
        let handle = consensus::start(tasks, &member, store, move |snapshot| {
            let state = State::restore(snapshot).map_err(|error| error.to_string())?;
            shared.set(Arc::new(state.clone()));
            Ok(Replica { state, shared, applied: applied_sender, role: role_sender })
        })?;
        let led = leadership.wait_for(|role| matches!(role, Leadership::Leader { .. })).await.is_ok();
        if !led {
            return Err(ProposeError::Stopped.into());
        }
        let registry = Self { handle, state, applied, leadership };
        let first = opening(&registry.view(), config.cluster_id);
        if let Some(change) = first {
            registry.propose(Command { time: clock.now().wall, change }).await?;
        }
        Ok(registry)
    }

    /// Proposes a command, at once: commands of one caller are committed in the order of these calls.
    /// The answer comes when it is durable and applied here.
    #[must_use = "the answer tells whether it was committed"]
    pub fn propose(&self, command: Command) -> BoxFuture<'static, Result<Committed, ProposeError>> {
        match self.hand_in(&command) {
            Ok(committed) => committed,
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    /// As [`Registry::propose`], but tells at once when the command was not taken.
    ///
    /// # Errors
    /// `Busy` or `Stopped`: it was not proposed.
    pub fn hand_in(
        &self,
        command: &Command,
    ) -> Result<BoxFuture<'static, Result<Committed, ProposeError>>, ProposeError> {
        let proposed = self.handle.propose(command.encode())?;
        Ok(Box::pin(async move {
            let (index, reply) = proposed.committed().await?;
            Ok(Committed { index, reply })
        }))
    }

    /// The state as of the last applied command.
    #[must_use]
    pub fn view(&self) -> Arc<State> {
        self.state.get()
    }

    /// The index of the last applied command; [`Registry::view`] is at least as new.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// Whether this member leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }
}

/// What a member that leads alone says first: the name of a new cluster, or, since it knows what every
/// member knows, the newest version.
pub(super) fn opening(state: &State, cluster_id: String) -> Option<Change> {
    if state.cluster_id().is_empty() {
        return Some(Change::CreateCluster { cluster_id });
    }
    (state.version() < VERSION).then_some(Change::RaiseVersion(VERSION))
}

/// The state machine.
struct Replica {
    state: State,
    shared: Arc<ArcCell<State>>,
    applied: watch::Sender<u64>,
    role: watch::Sender<Leadership>,
}

impl Machine for Replica {
    type Reply = Reply;

    fn apply(&mut self, _index: u64, data: &[u8]) -> Result<Reply, String> {
        let command = Command::decode(data).map_err(|error: DecodeError| error.to_string())?;
        Ok(self.state.apply(command))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.state.snapshot()
    }

    fn role(&mut self, role: Role) {
        self.shared.set(Arc::new(self.state.clone()));
        self.role.send_replace(match role {
            Role::Leader { term } => Leadership::Leader { term },
            Role::Follower => Leadership::Follower,
        });
    }

    fn applied(&mut self, index: u64) {
        self.shared.set(Arc::new(self.state.clone()));
        self.applied.send_replace(index);
    }
}
