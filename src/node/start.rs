//! Starting and stopping a node.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::agents::{Agents, Environment};
use super::data::Data;
use super::listen::{self, Addresses};
use crate::base::chance::Chance;
use crate::base::clock::SystemClock;
use crate::base::spawn::{Fatal, Tasks};
use crate::client::{MarathonApi, OperatorApi, SchedulerApi};
use crate::config::NodeConfig;
use crate::containerizer::ContainerizerError;
use crate::registry::run::{Registry, RegistryConfig, RegistryError};
use crate::storage::StoreError;
use crate::{master, server, service};

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
    agents: Agents,
    data: Data,
    addresses: Addresses,
    stop_deadline: std::time::Duration,
    marathon: Arc<dyn MarathonApi>,
    scheduler: Arc<dyn SchedulerApi>,
    operator: Arc<dyn OperatorApi>,
}

impl Node {
    /// Starts every role of `config`. Returns when the listeners answer; agents may still be
    /// registering.
    ///
    /// # Errors
    /// A port, the data directory or a containerizer cannot be had; nothing is left running.
    pub async fn start(mut config: NodeConfig) -> Result<Self, StartError> {
        config.hostnames.extend(config.advertise.clone());
        let clock = Arc::new(SystemClock::new());
        let (mut tasks, failures) = Tasks::new();
        let data = Data::open(&config.data_dir, config.run_id.as_deref())?;

        let master_listener = listen::bind(config.master, "master").await?;
        let marathon_listener = listen::bind(config.marathon, "marathon").await?;
        let master_address = listen::address_of(&master_listener, "master")?;
        let marathon_address = listen::address_of(&marathon_listener, "marathon")?;

        let cluster_id = Chance::new(rand::random()).uuid().to_string();
        let registry_config = RegistryConfig::alone(cluster_id);
        let registry =
            Registry::start(&mut tasks, data.registry_store()?, registry_config, None, Arc::clone(&clock))
                .await?;

        let mut master_config = master::core::Config::new(master_address);
        master_config.hostname = listen::advertised(config.advertise.as_deref(), master_address);
        master_config.agent_unreachable_after = config.agent_unreachable_after;
        let master =
            master::run::Handle::start(&mut tasks, master_config, registry.clone(), Arc::clone(&clock));

        let environment = Environment {
            config: &config,
            data: &data,
            master: Arc::clone(&master) as _,
            master_address,
            clock: Arc::clone(&clock),
        };
        let agents = Agents::start(&mut tasks, environment).await?;

        let scheduler: Arc<dyn SchedulerApi> = Arc::clone(&master) as _;
        let operator: Arc<dyn OperatorApi> = Arc::clone(&master) as _;
        let service = service::run::Handle::start(
            &mut tasks,
            registry,
            Arc::clone(&scheduler),
            clock,
            marathon_address,
        );
        let marathon: Arc<dyn MarathonApi> = service;

        let router = server::router(Arc::clone(&scheduler), Arc::clone(&operator), Arc::clone(&marathon));
        serve(&mut tasks, "master server", master_listener, router.clone(), &config.hostnames);
        serve(&mut tasks, "marathon server", marathon_listener, router, &config.hostnames);

        let addresses = Addresses {
            master: master_address,
            agents: agents.addresses().to_vec(),
            marathon: marathon_address,
        };
        Ok(Self {
            tasks,
            failures,
            agents,
            data,
            addresses,
            stop_deadline: config.stop_deadline,
            marathon,
            scheduler,
            operator,
        })
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
        Arc::clone(&self.marathon)
    }

    /// The scheduler API, without a socket.
    #[must_use]
    pub fn scheduler(&self) -> Arc<dyn SchedulerApi> {
        Arc::clone(&self.scheduler)
    }

    /// The master's operator API, without a socket.
    #[must_use]
    pub fn operator(&self) -> Arc<dyn OperatorApi> {
        Arc::clone(&self.operator)
    }

    /// Waits until something in the node fails; pending while all is well.
    pub async fn failed(&mut self) -> Fatal {
        match self.failures.recv().await {
            Some(fatal) => fatal,
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
        let mut left = Vec::new();
        if !self.tasks.stop(self.stop_deadline, hurry).await {
            left.push(format!("a part of the node did not stop within {} s", self.stop_deadline.as_secs()));
        }
        left.extend(self.agents.close().await);
        drop((self.marathon, self.scheduler, self.operator));
        let root = self.data.root().to_owned();
        if let Err(error) = self.data.close() {
            left.push(format!("{} could not be removed: {error}", root.display()));
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    }
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
        served.map_err(|error| Fatal {
            what: format!("the {name} stopped: {error}"),
            remedy: "Start the node again; if it happens again, look at the limits of open files".to_owned(),
        })
    });
}
