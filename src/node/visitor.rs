//! A node without a master: its agent finds the leader among the masters that it knows.
//!
//! It listens for no other node. Where the masters are it learns when it joins and from every master that
//! it asks; the data directory keeps that for the next start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::data::Data;
use super::identity::{self, Beginning, peer};
use super::renewing::Renewing;
use super::start::StartError;
use super::wire::{AGENT_MESSAGES, carry};
use crate::base::clock::SystemClock;
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::base::spawn::{Fatal, Tasks};
use crate::client::{AgentLink, AgentPeer, ApiError};
use crate::config::PeerConfig;
use crate::peer::wire::{CallError, Dialler, Leader, Refusal, Role};
use crate::registry::core::MasterEntry;

/// A leader pings its agents several times in this time; longer silence is looked into.
const SILENCE: Duration = Duration::from_secs(4);
/// How often it is looked whether the leader is silent.
const LOOK: Duration = Duration::from_secs(1);
/// File with the masters' addresses: an id and an address a line.
const MASTERS: &str = "masters";

/// The masters, as a node without one sees them.
pub(super) struct Visitor {
    dialler: Dialler,
    directory: PathBuf,
    known: Arc<Mutex<Known>>,
    failures: mpsc::UnboundedSender<Fatal>,
}

#[derive(Debug, Default)]
struct Known {
    masters: BTreeMap<NodeId, String>,
    leader: Option<String>,
}

impl Visitor {
    /// Joins, or comes back with the identity that it has, and keeps its certificate young.
    pub(super) async fn start(
        tasks: &mut Tasks,
        config: &PeerConfig,
        data: &Data,
        clock: &Arc<SystemClock>,
    ) -> Result<Arc<Self>, StartError> {
        let entry = MasterEntry { version: env!("CARGO_PKG_VERSION").to_owned(), ..MasterEntry::default() };
        let Beginning { credentials, named, directory, .. } =
            identity::begin(data, &config.begin, Role::Agent, &entry, clock).await?;
        let dialler = Dialler::new(credentials.clone());
        let known = Arc::new(Mutex::new(Known { masters: read(&directory)?, leader: None }));
        let failures = tasks.fatal();
        let visitor = Arc::new(Self { dialler: dialler.clone(), directory, known, failures });
        visitor.note(named).map_err(peer)?;
        if visitor.known().masters.is_empty() {
            return Err(StartError::Peer(format!(
                "{} does not say where the masters are: start this node with --join ADDR, the peer address of one of them",
                visitor.directory.join(MASTERS).display()
            )));
        }
        let of_leader = Arc::clone(&visitor);
        let renewing = Renewing {
            leader: move || of_leader.known().leader.clone(),
            dialler,
            credentials,
            directory: visitor.directory.clone(),
            clock: Arc::clone(clock),
        };
        let mut shutdown = tasks.shutdown();
        tasks.spawn("certificates", async move {
            tokio::select! {
                outcome = renewing.run() => outcome,
                () = shutdown.requested() => Ok(()),
            }
        });
        Ok(visitor)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a master said of the others.
    fn note(&self, masters: BTreeMap<NodeId, String>) -> Result<(), String> {
        if masters.is_empty() || self.known().masters == masters {
            return Ok(());
        }
        let lines: String = masters.iter().map(|(id, address)| format!("{id} {address}\n")).collect();
        self.known().masters = masters;
        let written = crate::os::files::write_private(&self.directory, MASTERS, lines.as_bytes());
        written.map_err(|error| format!("{}: {error}", self.directory.join(MASTERS).display()))
    }

    /// Asks the masters one after another who leads, the last leader first.
    async fn find_leader(&self) -> Result<String, CallError> {
        let addresses: Vec<String> = {
            let known = self.known();
            known.leader.iter().chain(known.masters.values()).cloned().collect()
        };
        let mut problem = CallError::Refused(Refusal::NotLeader { leader: None });
        for address in addresses {
            match self.dialler.leader(&address).await {
                Ok(Leader { peer_address, masters, .. }) => {
                    if let Err(problem) = self.note(masters) {
                        tracing::warn!(%problem, "where the masters are is not kept for the next start");
                    }
                    if let Some(leader) = peer_address {
                        self.known().leader = Some(leader.clone());
                        return Ok(leader);
                    }
                }
                Err(CallError::Refused(Refusal::Removed)) => return Err(Refusal::Removed.into()),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    async fn dial(&self) -> Result<AgentLink, CallError> {
        let leader = self.find_leader().await?;
        let call = self.dialler.agent(&leader).await.inspect_err(|_| self.known().leader = None)?;
        let (to_master, outgoing) = mpsc::channel(AGENT_MESSAGES);
        let (incoming, from_master) = mpsc::channel(AGENT_MESSAGES);
        let (heard, last) = watch::channel(Instant::now());
        let leads = still_leads(self.dialler.clone(), Arc::clone(&self.known), leader, last);
        let heard = move || {
            heard.send_replace(Instant::now());
        };
        tokio::spawn(carry(call, outgoing, incoming, leads, heard));
        Ok(AgentLink { to_master, from_master })
    }
}

/// Ends when the leader says nothing, and another master says that somebody else leads.
async fn still_leads(
    dialler: Dialler,
    known: Arc<Mutex<Known>>,
    leader: String,
    heard: watch::Receiver<Instant>,
) {
    loop {
        tokio::time::sleep(LOOK).await;
        if heard.borrow().elapsed() < SILENCE {
            continue;
        }
        let others: Vec<String> = {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.masters.values().filter(|address| **address != leader).cloned().collect()
        };
        for address in others {
            let asked = dialler.leader(&address).await;
            if let Ok(Leader { peer_address: Some(now), .. }) = asked
                && now != leader
            {
                known.lock().unwrap_or_else(PoisonError::into_inner).leader = Some(now);
                return;
            }
        }
        // Nobody knows of another.
        tokio::time::sleep(SILENCE).await;
    }
}

impl AgentPeer for Visitor {
    fn connect(&self, _node: Option<NodeId>) -> BoxFuture<'_, Result<AgentLink, ApiError>> {
        Box::pin(async move {
            self.dial().await.map_err(|error| {
                if error == CallError::Refused(Refusal::Removed) {
                    // The node is ending already if nobody hears it.
                    let _ = self.failures.send(super::wire::removed());
                }
                ApiError::Unavailable(error.to_string())
            })
        })
    }
}

fn read(directory: &std::path::Path) -> Result<BTreeMap<NodeId, String>, StartError> {
    let path = directory.join(MASTERS);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(StartError::DataDir { path, source }),
    };
    let pair = |line: &str| {
        let (id, address) = line.split_once(' ')?;
        Some((NodeId::parse(id)?, address.to_owned()))
    };
    // A line that says nothing names no master; the others do.
    Ok(text.lines().filter_map(pair).collect())
}
