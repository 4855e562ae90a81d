//! Starting and stopping a node.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::agents::{Agents, Environment, Master};
use super::data::Data;
use super::journal::What;
use super::leading::Leading;
use super::levers::{Lever, Levers};
use super::listen::{Addresses, Given};
use super::master::{self, MasterRole, Neighbours};
use super::wires::{Part, Wires};
use crate::api::v1::master as api;
use crate::base::spawn::{Fatal, Tasks};
use crate::client::{AgentApi, AgentPeer, MarathonApi, OperatorApi, SchedulerApi};
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
    /// Only what was ended can be started again.
    #[error("there is no {0} that was ended")]
    NotEnded(Part),
    /// Docker tasks were asked for of a build without them.
    #[error("this build runs no docker tasks: build it with the feature docker")]
    NoDocker,
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

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The node must end.
    Node(Fatal),
    /// One part of it must.
    Part(Part, Fatal),
}

/// A running node.
pub struct Node {
    tasks: Tasks,
    failures: mpsc::UnboundedReceiver<Fatal>,
    /// Failures that came while a part was ended.
    failed_before: VecDeque<Fatal>,
    environment: master::Environment,
    /// None: it was ended.
    masters: Vec<Option<MasterRole>>,
    leading: Leading,
    agents: Agents,
    wires: Wires,
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
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        Self::start_on(config, Given::default()).await
    }

    /// As [`Node::start`], on listeners that somebody else has bound; where there is none, on its own.
    ///
    /// # Errors
    /// As there.
    pub async fn start_on(mut config: NodeConfig, given: Given) -> Result<Self, StartError> {
        config.hostnames.extend(config.advertise.as_ref().map(|advertise| advertise.host.clone()));
        let (mut tasks, failures) = Tasks::new();
        let faults = super::faults::read(config.fault.as_deref())?;
        let data = Data::open(&config.data_dir, config.run_id.as_deref(), faults)?;
        if config.masters > 0 || config.peers.is_none() {
            data.expect_masters(config.masters)?;
        }

        let outlives = config.tasks_outlive && !data.is_ephemeral();
        let leading = Leading::default();
        let given = Arc::new(Mutex::new(given));
        let (shared, reports) = (data.share(), tasks.fatal());
        let environment =
            master::Environment::new(config.clone(), shared, &leading, Arc::clone(&given), reports);
        let wires = Wires::new(environment.neighbours.as_ref().map(Neighbours::hub));
        let masters = start_masters(&environment).await?;
        // Whoever has the stores has the directory: before, it may be another's.
        if !masters.is_empty() {
            data.own(outlives)?;
        }
        let bound: Vec<_> = masters.iter().flatten().filter_map(|master| master.addresses).collect();
        let master_addresses: Vec<_> = bound.iter().map(|(master, _)| *master).collect();
        let (master_address, marathon) =
            (master_addresses.first().copied(), bound.first().map(|(_, marathon)| *marathon));

        let peer = masters.iter().flatten().find_map(|master| master.peer);
        let master = match masters.iter().flatten().next() {
            Some(_) if config.can_fail => {
                Master::Wired(leading.clone(), wires.clone(), environment.journal.clone())
            }
            Some(master) => Master::Direct(Arc::clone(&master.agents)),
            None => Master::Direct(masters_elsewhere(&mut tasks, &config, &data).await?),
        };
        let (shared, failures_to) = (data.share(), tasks.fatal());
        let for_agents =
            Environment { config, data: shared, master, master_address, failures: failures_to, given };
        let agents = Agents::start(for_agents).await?;
        if masters.is_empty() {
            data.own(outlives)?;
        }

        let stop_deadline = environment.config.stop_deadline;
        let addresses = Addresses { masters: master_addresses, agents: agents.addresses(), marathon, peer };
        Ok(Self {
            tasks,
            failures,
            failed_before: VecDeque::new(),
            environment,
            masters,
            leading,
            agents,
            wires,
            data,
            addresses,
            stop_deadline,
            is_removed: false,
        })
    }

    /// The number of the master that leads, counted from 0, as far as its own view says. One that stands still
    /// does not.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let (id, _) = self.leading.leader().ok()?;
        self.masters.iter().position(|role| role.as_ref().is_some_and(|role| role.registry.id() == id))
    }

    /// Waits until a leading master of this node knows every agent of this node.
    ///
    /// # Errors
    /// The deadline passed: how many agents were known then.
    pub async fn wait_for_agents(&self, deadline: Duration) -> Result<(), usize> {
        let (operator, wanted) = (self.operator(), self.agents.count());
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

    /// Lets the agents of this node leave the cluster: nothing of them is offered any more, their tasks end
    /// with the grace that they have, and each unregisters. Started again, an agent is back under its id.
    ///
    /// Answers what did not go as it should, in words; whether the node fails meanwhile only
    /// [`Node::failed`] says.
    pub fn drain(&self) -> impl Future<Output = Vec<String>> + use<> {
        self.agents.drain()
    }

    /// Ends a part as a crash would. False: it was ended before, or did not end in time.
    pub async fn kill(&mut self, part: Part) -> bool {
        let has_ended = match part {
            Part::Agent(number) => self.agents.kill(number).await,
            Part::Master(number) => match self.masters.get_mut(number).and_then(Option::take) {
                Some(role) => {
                    let (id, led) = (role.registry.id(), role.registry.term().is_some());
                    self.leading.remove(id);
                    self.leading.pause(id, false);
                    let has_ended = role.crash(self.stop_deadline).await;
                    if led {
                        self.environment.journal.record(What::Deposed(number));
                    }
                    has_ended
                }
                None => false,
            },
        };
        // What it said of its own end is not said of what is started in its place.
        let name = self.store_of(part);
        while let Ok(fatal) = self.failures.try_recv() {
            if fatal.part.as_ref() != Some(&name) {
                self.failed_before.push_back(fatal);
            }
        }
        has_ended
    }

    /// Starts a part again that was ended, on the state that it had and with a disk that is whole.
    ///
    /// # Errors
    /// There is none that was ended, or it does not start.
    pub async fn restart(&mut self, part: Part) -> Result<(), StartError> {
        if self.running(part).is_some() {
            return Err(StartError::NotEnded(part));
        }
        self.data.faults().heal_store(&self.store_of(part));
        match part {
            Part::Agent(number) => self.agents.restart(number).await,
            Part::Master(number) => match self.masters.get_mut(number) {
                Some(place @ None) => {
                    *place = Some(MasterRole::start(&self.environment, number).await?);
                    Ok(())
                }
                _ => Err(StartError::NotEnded(part)),
            },
        }
    }

    /// Lets a part stand still, as a process that is stopped. False: it does not run.
    pub fn pause(&self, part: Part) -> bool {
        let Some(tasks) = self.running(part) else { return false };
        // Nobody asks it any more from now on.
        self.note_pause(part, true);
        tasks.pause();
        true
    }

    /// Lets a part go on that stands still. False: it does not run.
    pub fn resume(&self, part: Part) -> bool {
        let Some(tasks) = self.running(part) else { return false };
        tasks.resume();
        self.note_pause(part, false);
        true
    }

    fn note_pause(&self, part: Part, is_paused: bool) {
        if let Part::Master(number) = part
            && let Some(Some(role)) = self.masters.get(number)
        {
            self.leading.pause(role.registry.id(), is_paused);
        }
    }

    /// What breaks the parts of this node, on request.
    #[must_use]
    pub fn levers(&self) -> Levers {
        let masters = self.environment.clocks.iter().enumerate();
        let masters = masters.map(|(number, clock)| (Part::Master(number), Arc::clone(clock)));
        let parts = masters.chain(self.agents.clocks().map(|(number, clock)| (Part::Agent(number), clock)));
        Levers {
            wires: self.wires.clone(),
            faults: self.data.faults().clone(),
            parts: parts.map(|(part, clock)| (part, Lever { store: self.store_of(part), clock })).collect(),
            fakes: self.agents.fakes().map(|(number, fake)| (number, Arc::clone(fake))).collect(),
            journal: self.environment.journal.clone(),
        }
    }

    /// The name of a part's store, and of the part where it fails.
    fn store_of(&self, part: Part) -> String {
        match part {
            Part::Master(number) => self.environment.data_of(number).registry_name(),
            Part::Agent(number) => super::agents::store_name(number),
        }
    }

    fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let masters = (0..self.masters.len()).map(Part::Master);
        masters.chain((0..self.agents.count()).map(Part::Agent))
    }

    /// The tasks of a part that runs.
    fn running(&self, part: Part) -> Option<&Tasks> {
        match part {
            Part::Agent(number) => self.agents.running(number),
            Part::Master(number) => Some(&self.masters.get(number)?.as_ref()?.tasks),
        }
    }

    /// The APIs of the agents of this node that run, without a socket.
    pub fn agents(&self) -> impl Iterator<Item = Arc<dyn AgentApi>> {
        self.agents.apis()
    }

    /// Leaves the files of a temporary data directory where they are when the node stops.
    pub fn keep(&mut self) {
        self.data.keep();
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
        loop {
            match self.broken().await {
                Broken::Node(fatal) => return fatal,
                Broken::Part(part, fatal) => self.end(part, &fatal).await,
            }
        }
    }

    /// The same for a node whose parts can fail one by one: one whose disk has a fault on request ends alone, by
    /// [`Node::end`]. Nothing is lost when this is dropped before it answers.
    pub async fn broken(&mut self) -> Broken {
        let fatal = match self.failed_before.pop_front() {
            Some(fatal) => fatal,
            None => match self.failures.recv().await {
                Some(fatal) => fatal,
                // Every sender lives in `self.tasks`.
                None => std::future::pending().await,
            },
        };
        self.is_removed |= fatal.is_removal;
        let may_end = |name: &&str| self.environment.config.can_fail && self.data.faults().has_hit(name);
        let name = fatal.part.as_deref().filter(may_end);
        match self.parts().find(|part| name == Some(&self.store_of(*part))) {
            Some(part) => Broken::Part(part, fatal),
            None => Broken::Node(fatal),
        }
    }

    /// Ends a part that failed as was asked for.
    pub async fn end(&mut self, part: Part, fatal: &Fatal) {
        tracing::warn!("the {part} ends, as was asked for: {fatal}");
        // It may have been ended meanwhile.
        self.kill(part).await;
        self.environment.journal.record(What::Fault(format!("the {part} ends: {fatal}")));
    }

    /// Stops every task of the cluster and every role, in the reverse order of starting. Returns
    /// what could not be ended in time. Tasks have the configured grace to end by themselves, unless
    /// `hurry` ends first.
    ///
    /// # Errors
    /// Something still runs or a directory could not be removed.
    pub async fn stop(mut self, hurry: impl Future<Output = ()>) -> Result<(), Vec<String>> {
        // While there is somebody to be asked: what a removed node ran is started elsewhere.
        let mut left = if self.is_removed { self.agents.end_tasks().await } else { Vec::new() };
        // Together: a master that goes on would start again what its agents end.
        let masters = self.masters.into_iter().flatten();
        let masters = masters.map(|master| master.tasks.stop(self.stop_deadline, std::future::pending()));
        let masters = futures_util::future::join_all(masters);
        let (hurry_up, hurried) = watch::channel(false);
        let agents = self.agents.stop(&hurried);
        let others = self.tasks.stop(self.stop_deadline, hurry_of(hurried));
        let mut stopping = Box::pin(async { tokio::join!(masters, agents, others) });
        let (masters, agents, others) = tokio::select! {
            ended = &mut stopping => ended,
            () = hurry => {
                hurry_up.send_replace(true);
                stopping.await
            }
        };
        if !agents || !others || masters.contains(&false) {
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
) -> Result<Arc<dyn AgentPeer>, StartError> {
    #[cfg(feature = "tls")]
    if let Some(peers) = &config.peers {
        let clock = Arc::new(crate::base::clock::SystemClock::new());
        let visitor = super::visitor::Visitor::start(tasks, peers, data, &clock).await?;
        return Ok(visitor);
    }
    let _ = (tasks, config, data);
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

/// Ends when there is no more time; never, if nobody can say so.
pub(super) async fn hurry_of(mut hurried: watch::Receiver<bool>) {
    if hurried.wait_for(|is_hurried| *is_hurried).await.is_err() {
        std::future::pending::<()>().await;
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
        served.map_err(|error| {
            Fatal::new(
                format!("the {name} stopped: {error}"),
                "Start the node again; if it happens again, look at the limits of open files",
            )
        })
    });
}
