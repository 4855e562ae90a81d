//! Starting and stopping a node.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::agents::{Agents, Environment};
use super::data::Data;
use super::leading::Leading;
use super::listen::Addresses;
use super::master::{self, MasterRole, Neighbours};
use crate::api::v1::master as api;
use crate::base::chance::Chance;
use crate::base::clock::SystemClock;
use crate::base::spawn::{Fatal, Tasks};
use crate::client::{AgentPeer, MarathonApi, OperatorApi, SchedulerApi};
use crate::config::NodeConfig;
use crate::containerizer::ContainerizerError;
use crate::registry::run::{Leadership, RegistryError};
use crate::server;
use crate::storage::StoreError;

/// Pause between two looks at the agents that have registered.
const AGENTS_POLL: Duration = Duration::from_millis(2);
/// How long a master that stops waits for another to lead.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error(
        "cannot listen on {address} for the {what} API: {source}. Stop what uses the port, or choose another with --{what}-addr HOST:PORT (port 0: any free one)"
    )]
    Listen {
        /// `master`, `agent` or `marathon`.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(
        "cannot use {path} for data: {source}. Make it writable for this user, or choose another with --data-dir"
    )]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file with faults cannot be used.
    #[error("the file of faults {path}: {problem}")]
    Faults {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// What a store holds cannot be trusted.
    #[error("{what}. {remedy}")]
    Damaged {
        /// What is damaged.
        what: String,
        /// How to go on.
        remedy: String,
    },
    /// A store refused to open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry refused to start.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A containerizer could not start.
    #[error(transparent)]
    Containerizer(#[from] ContainerizerError),
    /// Process tasks were asked for without the program that runs them.
    #[error(
        "process tasks need the mesita program as their launcher: name it with Cluster::builder().launcher(PATH)"
    )]
    NoLauncher,
    /// This node has no place among others.
    #[error("{0}")]
    Peer(String),
    /// Only a master that was ended can be started again.
    #[error("there is no master {0} that was ended")]
    NotEnded(usize),
    /// There must be a master.
    #[error("a cluster needs at least one master")]
    NoMasters,
    /// The data directory belongs to another number of masters.
    #[error(
        "{path} holds the state of {holds} master(s), not of {wanted}. Start it with --masters {holds}, or choose another --data-dir"
    )]
    OtherMasters {
        /// The directory.
        path: PathBuf,
        /// Masters whose state is there.
        holds: usize,
        /// Masters that were asked for.
        wanted: usize,
    },
    /// Every block of host ports is claimed.
    #[error(
        "no block of 100 free host ports is left for an agent. End other clusters on this machine, or name ports with --agent-resources 'cpus:1;mem:1024;ports:[40000-40099]'"
    )]
    NoPorts,
}

/// A running node.
pub struct Node {
    tasks: Tasks,
    failures: mpsc::UnboundedReceiver<Fatal>,
    environment: master::Environment,
    /// None: it was ended.
    masters: Vec<Option<MasterRole>>,
    leading: Leading,
    agents: Agents,
    data: Data,
    addresses: Addresses,
    stop_deadline: Duration,
    /// The cluster does not want it any more: its tasks end with it.
    is_removed: bool,
}

impl Node {
    /// Starts every role of `config`. Returns when the listeners answer; agents may still be
    /// registering, and several masters electing.
    ///
    /// # Errors
    /// A port, the data directory or a containerizer cannot be had; nothing is left running.
    pub async fn start(mut config: NodeConfig) -> Result<Self, StartError> {
        config.hostnames.extend(config.advertise.clone());
        let clock = Arc::new(SystemClock::new());
        let (mut tasks, failures) = Tasks::new();
        let faults = super::faults::read(config.fault.as_deref())?;
        let data = Data::open(&config.data_dir, config.run_id.as_deref(), faults)?;
        if config.masters > 0 || config.peers.is_none() {
            data.expect_masters(config.masters)?;
        }

        let leading = Leading::default();
        let environment = master::Environment {
            config: config.clone(),
            data: data.share(),
            cluster_id: Chance::new(rand::random()).uuid().to_string(),
            neighbours: Neighbours::of(config.masters),
            leading: leading.clone(),
            clock: Arc::clone(&clock),
            failures: tasks.fatal(),
            memory: Mutex::default(),
            bound: Mutex::default(),
        };
        let masters = start_masters(&environment).await?;
        let addresses =
            |of: fn(&MasterRole) -> SocketAddr| masters.iter().flatten().map(of).collect::<Vec<_>>();
        let (master_addresses, marathons) = (addresses(|it| it.addresses.0), addresses(|it| it.addresses.1));
        let (master_address, marathon) = (master_addresses.first().copied(), marathons.first().copied());

        let peer = masters.iter().flatten().find_map(|master| master.peer);
        let for_agents = Environment {
            config: &config,
            data: &data,
            master: match masters.iter().flatten().next() {
                Some(master) => Arc::clone(&master.agents),
                None => masters_elsewhere(&mut tasks, &config, &data, &clock).await?,
            },
            master_address,
            clock: Arc::clone(&clock),
        };
        let agents = Agents::start(&mut tasks, for_agents).await?;

        let agent_addresses = agents.addresses().to_vec();
        let addresses = Addresses { masters: master_addresses, agents: agent_addresses, marathon, peer };
        let stop_deadline = config.stop_deadline;
        Ok(Self {
            tasks,
            failures,
            environment,
            masters,
            leading,
            agents,
            data,
            addresses,
            stop_deadline,
            is_removed: false,
        })
    }

    /// The number of the master that leads, counted from 0, as far as its own view says.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let leads = |role: &MasterRole| role.registry.leads();
        self.masters.iter().position(|master| master.as_ref().is_some_and(leads))
    }

    /// Waits until a leading master of this node knows every agent of this node.
    ///
    /// # Errors
    /// The deadline passed: how many agents were known then.
    pub async fn wait_for_agents(&self, deadline: Duration) -> Result<(), usize> {
        let (operator, wanted) = (self.operator(), self.addresses.agents.len());
        let mut registered = 0;
        let looking = async {
            loop {
                let kind = Some(api::call::Type::GetAgents.into());
                let call = api::Call { r#type: kind, ..Default::default() };
                if let Ok(Some(response)) = operator.call(call, None).await {
                    registered = response.get_agents.map_or(0, |agents| agents.agents.len());
                    if registered >= wanted {
                        return;
                    }
                }
                tokio::time::sleep(AGENTS_POLL).await;
            }
        };
        let waited = tokio::time::timeout(deadline, looking).await;
        waited.map_err(|_| registered)
    }

    /// Lets another master lead, if one of this node does and another can; waits a moment for that.
    pub async fn hand_over(&self) {
        for role in self.masters.iter().flatten().filter(|role| role.registry.leads()) {
            let mut leadership = role.registry.leadership();
            if let Err(error) = role.registry.hand_over() {
                tracing::debug!(%error, "the leadership is not handed over");
                continue;
            }
            let ended = leadership.wait_for(|role| !matches!(role, Leadership::Leader { .. }));
            // An only master has nobody to hand over to.
            if tokio::time::timeout(HAND_OVER, ended).await.is_err() {
                tracing::debug!("nobody took the leadership over");
            }
        }
    }

    /// Ends one of several masters as a crash would. False: it was ended before, or did not end in time.
    pub async fn kill_master(&mut self, number: usize) -> bool {
        match self.masters.get_mut(number).and_then(Option::take) {
            Some(role) => role.crash(self.stop_deadline).await,
            None => false,
        }
    }

    /// Starts a master again that was ended, on the state that it had.
    ///
    /// # Errors
    /// There is no such master that was ended, or it does not start.
    pub async fn restart_master(&mut self, number: usize) -> Result<(), StartError> {
        match self.masters.get_mut(number) {
            Some(place @ None) => {
                *place = Some(MasterRole::start(&self.environment, number).await?);
                Ok(())
            }
            _ => Err(StartError::NotEnded(number)),
        }
    }

    /// Where the node answers.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The directory that holds state and sandboxes.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data.root()
    }

    /// Marathon's API, without a socket.
    #[must_use]
    pub fn marathon(&self) -> Arc<dyn MarathonApi> {
        Arc::new(self.leading.clone())
    }

    /// The scheduler API of the leading master, without a socket.
    #[must_use]
    pub fn scheduler(&self) -> Arc<dyn SchedulerApi> {
        Arc::new(self.leading.clone())
    }

    /// The operator API of the leading master, without a socket.
    #[must_use]
    pub fn operator(&self) -> Arc<dyn OperatorApi> {
        Arc::new(self.leading.clone())
    }

    /// Waits until something in the node fails; pending while all is well.
    pub async fn failed(&mut self) -> Fatal {
        match self.failures.recv().await {
            Some(fatal) => {
                self.is_removed |= fatal.is_removal;
                fatal
            }
            // Every sender lives in `self.tasks`.
            None => std::future::pending().await,
        }
    }

    /// Stops every task of the cluster and every role, in the reverse order of starting. Returns
    /// what could not be ended in time. Tasks have the configured grace to end by themselves, unless
    /// `hurry` ends first.
    ///
    /// # Errors
    /// Something still runs or a directory could not be removed.
    pub async fn stop(self, hurry: impl Future<Output = ()>) -> Result<(), Vec<String>> {
        // While there is somebody to be asked: what a removed node ran is started elsewhere.
        let mut left = if self.is_removed { self.agents.end_tasks().await } else { Vec::new() };
        // Together: a master that goes on would start again what its agents end.
        let masters = self.masters.into_iter().flatten();
        let masters = masters.map(|master| master.tasks.stop(self.stop_deadline, std::future::pending()));
        let masters = futures_util::future::join_all(masters);
        let agents = self.tasks.stop(self.stop_deadline, hurry);
        let (masters, agents) = tokio::join!(masters, agents);
        if !agents || masters.contains(&false) {
            left.push(format!("a part of the node did not stop within {} s", self.stop_deadline.as_secs()));
        }
        left.extend(self.agents.close().await);
        self.leading.clear();
        let root = self.data.root().to_owned();
        if let Err(error) = self.data.close() {
            left.push(format!("{} could not be removed: {error}", root.display()));
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    }
}

/// The masters, for the agents of a node that has none.
async fn masters_elsewhere(
    tasks: &mut Tasks,
    config: &NodeConfig,
    data: &Data,
    clock: &Arc<SystemClock>,
) -> Result<Arc<dyn AgentPeer>, StartError> {
    #[cfg(feature = "tls")]
    if let Some(peers) = &config.peers {
        let visitor = super::visitor::Visitor::start(tasks, peers, data, clock).await?;
        return Ok(visitor);
    }
    let _ = (tasks, config, data, clock);
    Err(StartError::NoMasters)
}

/// Starts the masters. Of several new ones, the first campaigns at once: all know that nobody leads.
async fn start_masters(environment: &master::Environment) -> Result<Vec<Option<MasterRole>>, StartError> {
    let mut masters = Vec::new();
    for number in 0..environment.config.masters {
        masters.push(Some(MasterRole::start(environment, number).await?));
    }
    if let [Some(first), _, ..] = masters.as_slice() {
        let asked = first.registry.campaign();
        asked.map_err(|error| StartError::Registry(error.into()))?;
    }
    Ok(masters)
}

/// Serves one listener as a named task.
pub(super) fn serve(
    tasks: &mut Tasks,
    name: &'static str,
    listener: TcpListener,
    router: axum::Router,
    hostnames: &[String],
) {
    let (shutdown, hostnames) = (tasks.shutdown(), hostnames.to_vec());
    tasks.spawn(name, async move {
        let served = server::serve(listener, router, server::Limits::default(), &hostnames, shutdown).await;
        served.map_err(|error| {
            Fatal::new(
                format!("the {name} stopped: {error}"),
                "Start the node again; if it happens again, look at the limits of open files",
            )
        })
    });
}
