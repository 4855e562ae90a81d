//! A member of the registry, and the handle that everybody shares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::arc_cell::ArcCell;
use super::in_order::HandedIn;
use super::keeper::{Keeper, opening};
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::base::spawn::Tasks;
use crate::base::time::Clock;
use crate::base::time::Timestamp;
use crate::consensus::core::{Config, Role, SNAPSHOT_EVERY, Status};
use crate::consensus::run::{
    self as consensus, Handle, Link, Machine, MemberConfig, MemberError, ProposeError,
};
use crate::registry::core::{Change, Command, DecodeError, MasterEntry, Reply, State};
use crate::storage::{Shortage, Store, StoreRoom};

/// Ticks without a leader before an election.
const ELECTION_TICKS: u32 = 10;

/// The id of a master that is alone for ever.
const SOLE_MASTER: NodeId = NodeId::new(1).expect("not zero");

/// Settings of a member of the registry.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// This member.
    pub id: NodeId,
    /// The masters of a new cluster; nobody: it waits for the leader of one that exists.
    pub first_masters: BTreeSet<NodeId>,
    /// Name of a new cluster; one that exists keeps its own.
    pub cluster_id: String,
    /// Silence of the leader after which another is elected, at the soonest.
    pub election_timeout: Duration,
}

/// The way to the other masters.
pub struct Others {
    /// Carries consensus.
    pub link: Link,
    /// What every master tells of itself, this one too, as far as it was heard here.
    pub told: watch::Receiver<BTreeMap<NodeId, MasterEntry>>,
}

impl RegistryConfig {
    /// A master that is alone for ever: its id need not differ from anybody's.
    #[must_use]
    pub fn alone(cluster_id: String) -> Self {
        let first_masters = BTreeSet::from([SOLE_MASTER]);
        Self { id: SOLE_MASTER, first_masters, cluster_id, election_timeout: Duration::from_secs(1) }
    }
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
    Follower {
        /// Who does, as far as it is known.
        leader: Option<NodeId>,
    },
}

/// A committed command.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Its index in the log.
    pub index: u64,
    /// What applying it answered.
    pub reply: Reply,
}

/// Why a change was not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It does not fit what is recorded.
    #[error("{0}")]
    Refused(String),
    /// It was not taken, or nobody knows what became of it.
    #[error(transparent)]
    Lost(#[from] ProposeError),
}

/// A member of the registry; clones share it.
#[derive(Clone)]
pub struct Registry {
    id: NodeId,
    has_others: bool,
    handle: Handle<Reply>,
    state: Arc<ArcCell<State>>,
    applied: watch::Receiver<u64>,
    leadership: watch::Receiver<Leadership>,
    room: Option<StoreRoom>,
}

impl Registry {
    /// Starts a member on a store. One that is alone leads when this returns, and its cluster has a name;
    /// with a link to others it may take an election until somebody leads.
    ///
    /// # Errors
    /// The store cannot be read or trusted.
    pub async fn start(
        tasks: &mut Tasks,
        store: Arc<dyn Store>,
        config: RegistryConfig,
        others: Option<Others>,
        clock: Arc<SystemClock>,
    ) -> Result<Self, RegistryError> {
        let state = Arc::new(ArcCell::new(State::default()));
        let (applied_sender, applied) = watch::channel(0);
        let (role_sender, mut leadership) = watch::channel(Leadership::Follower { leader: None });
        let shared = Arc::clone(&state);
        let core = Config {
            id: config.id.get(),
            election_ticks: usize::try_from(ELECTION_TICKS).unwrap_or(usize::MAX),
            first_voters: config.first_masters.iter().map(|id| id.get()).collect(),
            seed: rand::random(),
            snapshot_every: SNAPSHOT_EVERY,
        };
        let member = MemberConfig { core, tick: config.election_timeout / ELECTION_TICKS };
        let (link, told) = others.map_or((None, None), |others| (Some(others.link), Some(others.told)));
        let room = store.room();
        let handle = consensus::start(tasks, &member, store, link, move |snapshot| {
            let state = State::restore(snapshot).map_err(|error| error.to_string())?;
            shared.set(Arc::new(state.clone()));
            Ok(Replica { state, shared, applied: applied_sender, role: role_sender })
        })?;
        let registry = Self {
            id: config.id,
            has_others: told.is_some(),
            handle,
            state,
            applied,
            leadership: leadership.clone(),
            room,
        };
        if let Some(told) = told {
            let keeper = Keeper {
                registry: registry.clone(),
                cluster_id: config.cluster_id,
                first: config.first_masters,
                told,
                clock,
            };
            let shutdown = tasks.shutdown();
            tasks.spawn("masters", keeper.run(shutdown));
            return Ok(registry);
        }
        let led = leadership.wait_for(|role| matches!(role, Leadership::Leader { .. })).await.is_ok();
        if !led {
            return Err(ProposeError::Stopped.into());
        }
        if let Some(change) = opening(&registry.view(), &config.cluster_id, true) {
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
    pub fn hand_in(&self, command: &Command) -> HandedIn {
        let proposed = self.handle.propose(command.encode())?;
        Ok(Box::pin(async move {
            let (index, reply) = proposed.committed().await?;
            Ok(Committed { index, reply })
        }))
    }

    /// Proposes a change of the cluster itself.
    ///
    /// # Errors
    /// It does not fit what is recorded, or nobody knows whether it was.
    pub async fn record(&self, change: Change, time: Timestamp) -> Result<(), RecordError> {
        match self.propose(Command { time, change }).await?.reply {
            Reply::Refused(reason) => Err(RecordError::Refused(reason)),
            Reply::Done | Reply::Service(_) => Ok(()),
        }
    }

    /// Waits until [`Registry::view`] has everything that was committed before this call, and it is certain
    /// that this master still leads: what it knows beside the registry is not out of date either. A master
    /// that is alone for ever need not ask anybody.
    ///
    /// # Errors
    /// This member does not lead, or leadership was lost meanwhile.
    pub async fn read(&self) -> Result<(), ProposeError> {
        if self.has_others { self.handle.read().await } else { Ok(()) }
    }

    /// How far the log and its members are.
    ///
    /// # Errors
    /// Too much waits, or the member has stopped.
    pub async fn status(&self) -> Result<Status, ProposeError> {
        self.handle.status().await
    }

    /// Lets this master campaign at once, unless somebody leads.
    ///
    /// # Errors
    /// Too much waits, or the member has stopped.
    pub fn campaign(&self) -> Result<(), ProposeError> {
        self.handle.campaign()
    }

    /// Why this master takes on nothing that makes the registry larger: little room is left on its disk.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        self.room.as_ref()?.shortage()
    }

    /// The term in which this master leads, as far as it knows; none: it does not.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        match *self.leadership.borrow() {
            Leadership::Leader { term, .. } => Some(term),
            Leadership::Follower { .. } => None,
        }
    }

    /// Whether this master leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.term().is_some()
    }

    /// Who leads, as far as it is known here.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match *self.leadership.borrow() {
            Leadership::Leader { .. } => Some(self.id),
            Leadership::Follower { leader } => leader,
        }
    }

    /// What the leading master told of itself, if one leads and it is known here.
    #[must_use]
    pub fn leading(&self) -> Option<MasterEntry> {
        self.leader().and_then(|id| self.view().master(id).cloned())
    }

    /// Lets another master lead, if this one does and another can.
    ///
    /// # Errors
    /// Too much waits, or the member has stopped.
    pub fn hand_over(&self) -> Result<(), ProposeError> {
        self.handle.hand_over()
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
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

/// The state machine.
struct Replica {
    state: State,
    shared: Arc<ArcCell<State>>,
    applied: watch::Sender<u64>,
    role: watch::Sender<Leadership>,
}

impl Drop for Replica {
    /// A master that has ended leads nobody.
    fn drop(&mut self) {
        self.role.send_replace(Leadership::Follower { leader: None });
    }
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

    fn restore(&mut self, _index: u64, data: &[u8]) -> Result<(), String> {
        self.state = State::restore(data).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn members(&self) -> BTreeSet<u64> {
        self.state.masters().map(|(id, _)| id.get()).collect()
    }

    fn role(&mut self, role: Role) {
        self.shared.set(Arc::new(self.state.clone()));
        self.role.send_replace(match role {
            Role::Leader { term } => Leadership::Leader { term },
            Role::Follower { leader } => Leadership::Follower { leader: leader.and_then(NodeId::new) },
        });
    }

    fn applied(&mut self, index: u64) {
        self.shared.set(Arc::new(self.state.clone()));
        self.applied.send_replace(index);
    }
}
