//! A member of the registry, and the handle that everybody shares.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::arc_cell::ArcCell;
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::base::spawn::Tasks;
use crate::base::time::Clock;
use crate::consensus::core::{Config, Role, Status};
use crate::consensus::run::{
    self as consensus, Handle, Link, Machine, MemberConfig, MemberError, ProposeError,
};
use crate::registry::core::{Change, Command, DecodeError, Reply, State, VERSION};
use crate::storage::Store;

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

/// A member of the registry; clones share it.
#[derive(Clone)]
pub struct Registry {
    handle: Handle<Reply>,
    state: Arc<ArcCell<State>>,
    applied: watch::Receiver<u64>,
    leadership: watch::Receiver<Leadership>,
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
        link: Option<Link>,
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
        };
        let member = MemberConfig { core, tick: config.election_timeout / ELECTION_TICKS };
        let is_alone = link.is_none();
        let handle = consensus::start(tasks, &member, store, link, move |snapshot| {
            let state = State::restore(snapshot).map_err(|error| error.to_string())?;
            shared.set(Arc::new(state.clone()));
            Ok(Replica { state, shared, applied: applied_sender, role: role_sender })
        })?;
        let registry = Self { handle, state, applied, leadership: leadership.clone() };
        if is_alone {
            let led = leadership.wait_for(|role| matches!(role, Leadership::Leader { .. })).await.is_ok();
            if !led {
                return Err(ProposeError::Stopped.into());
            }
            if let Some(change) = opening(&registry.view(), config.cluster_id) {
                registry.propose(Command { time: clock.now().wall, change }).await?;
            }
        } else {
            let (opened, mut shutdown) = (registry.clone(), tasks.shutdown());
            tasks.spawn("opening", async move {
                tokio::select! {
                    () = open_when_leading(opened, config.cluster_id, clock) => {}
                    () = shutdown.requested() => {}
                }
                Ok(())
            });
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

    /// Waits until [`Registry::view`] has everything that was committed before this call.
    ///
    /// # Errors
    /// This member does not lead, or leadership was lost meanwhile.
    pub async fn read(&self) -> Result<(), ProposeError> {
        self.handle.read().await
    }

    /// How far the log and its members are.
    ///
    /// # Errors
    /// Too much waits, or the member has stopped.
    pub async fn status(&self) -> Result<Status, ProposeError> {
        self.handle.status().await
    }

    /// Lets another master lead, if this one does and another can.
    ///
    /// # Errors
    /// Too much waits, or the member has stopped.
    pub fn hand_over(&self) -> Result<(), ProposeError> {
        self.handle.hand_over()
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

/// Each time this member begins to lead, says what is to be said first. All members are of one version: they
/// were started together.
async fn open_when_leading(registry: Registry, cluster_id: String, clock: Arc<SystemClock>) {
    let mut leadership = registry.leadership();
    loop {
        if leadership.wait_for(|role| matches!(role, Leadership::Leader { .. })).await.is_err() {
            return;
        }
        if let Some(change) = opening(&registry.view(), cluster_id.clone()) {
            let proposed = registry.propose(Command { time: clock.now().wall, change }).await;
            if let Err(error) = proposed {
                // The next leader says it, or this one when it leads again.
                tracing::debug!(%error, "the cluster was not opened");
            }
        }
        if leadership.changed().await.is_err() {
            return;
        }
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
