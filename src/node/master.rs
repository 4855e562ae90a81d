//! One master: its part of the registry, the master, the service framework, and their servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::admin::Admin;
use super::damage::{Copies, explain, explain_store};
use super::data::Data;
use super::journal::{Journal, What};
use super::leading::{Leading, Offered};
use super::listen::{self, Given};
use super::snapshots::Schedule;
use super::start::{StartError, serve};
use super::wires::id_of;
use crate::base::chance::Chance;
use crate::base::clock::SystemClock;
use crate::base::id::NodeId;
use crate::base::spawn::{Fatal, Tasks};
use crate::client::{AgentPeer, MarathonApi, OperatorApi, SchedulerApi};
use crate::config::{Advertise, Listen, NodeConfig};
use crate::peer::Network;
use crate::peer::memory::Hub;
use crate::registry::core::{MasterEntry, VERSION};
use crate::registry::run::{Leadership, Link, Others, Registry, RegistryConfig};
use crate::{master, server, service};

/// What several masters of one process share.
pub(super) struct Neighbours {
    ids: BTreeSet<NodeId>,
    hub: Hub,
    told: watch::Sender<BTreeMap<NodeId, MasterEntry>>,
}

impl Neighbours {
    /// Where they meet.
    pub(super) fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// None for a master that is alone.
    pub(super) fn of(masters: usize) -> Option<Self> {
        let ids = (0..masters).filter_map(id_of).collect();
        let (told, _) = watch::channel(BTreeMap::new());
        (masters > 1).then(|| Self { ids, hub: Hub::default(), told })
    }
}

/// What masters are made from.
pub(super) struct Environment {
    pub(super) config: NodeConfig,
    pub(super) data: Data,
    pub(super) cluster_id: String,
    pub(super) neighbours: Option<Neighbours>,
    pub(super) leading: Leading,
    /// One per master.
    pub(super) clocks: Vec<Arc<SystemClock>>,
    pub(super) failures: mpsc::UnboundedSender<Fatal>,
    /// Listeners that somebody else has bound.
    pub(super) given: Arc<Mutex<Given>>,
    /// Where masters answered: one that starts again answers there again.
    pub(super) bound: Mutex<BTreeMap<usize, (SocketAddr, SocketAddr)>>,
    pub(super) journal: Journal,
}

impl Environment {
    pub(super) fn new(
        config: NodeConfig,
        data: Data,
        leading: &Leading,
        given: Arc<Mutex<Given>>,
        failures: mpsc::UnboundedSender<Fatal>,
    ) -> Self {
        Self {
            data,
            cluster_id: Chance::new(rand::random()).uuid().to_string(),
            neighbours: Neighbours::of(config.masters),
            leading: leading.clone(),
            clocks: (0..config.masters).map(|_| Arc::new(SystemClock::new())).collect(),
            failures,
            given,
            bound: Mutex::default(),
            journal: Journal::new(),
            config,
        }
    }

    fn listens(&self, number: usize) -> (Listen, Listen) {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
        match bound {
            Some((master, marathon)) => {
                (Listen { address: master, required: true }, Listen { address: marathon, required: true })
            }
            None => (of_number(self.config.master, number), of_number(self.config.marathon, number)),
        }
    }

    /// The listeners of one master; none without sockets.
    async fn bind(&self, number: usize) -> Result<Option<(TcpListener, TcpListener)>, StartError> {
        if !self.config.sockets {
            return Ok(None);
        }
        let (master, marathon) = {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            (given.masters.remove(&number), given.marathons.remove(&number))
        };
        let (master_listen, marathon_listen) = self.listens(number);
        let master = match master {
            Some(listener) => listen::adopt(listener, "master")?,
            None => listen::bind(master_listen, "master").await?,
        };
        let marathon = match marathon {
            Some(listener) => listen::adopt(listener, "marathon")?,
            None => listen::bind(marathon_listen, "marathon").await?,
        };
        Ok(Some((master, marathon)))
    }

    /// The data of one master.
    pub(super) fn data_of(&self, number: usize) -> Data {
        match self.neighbours {
            Some(_) => self.data.of_master(number),
            None => self.data.share(),
        }
    }

    fn copies(&self) -> Copies {
        if self.config.peers.is_some() { Copies::Nodes } else { Copies::None }
    }
}

/// A running master.
pub(super) struct MasterRole {
    pub(super) tasks: Tasks,
    pub(super) registry: Registry,
    /// The leading master, as the agents of this node see it.
    pub(super) agents: Arc<dyn AgentPeer>,
    /// Where it answers the Mesos API, and Marathon's.
    pub(super) addresses: Option<(SocketAddr, SocketAddr)>,
    /// Where other nodes connect.
    pub(super) peer: Option<SocketAddr>,
}

impl MasterRole {
    /// Ends it without a word to anybody, as a crash would: what is not on disk is lost.
    pub(super) async fn crash(self, deadline: std::time::Duration) -> bool {
        drop(self.registry);
        self.tasks.crash(deadline).await
    }

    /// Starts the master of this number. Returns when its listeners answer; of several, none may lead yet.
    pub(super) async fn start(environment: &Environment, number: usize) -> Result<Self, StartError> {
        let config = &environment.config;
        let data = environment.data_of(number);
        let mut tasks = Tasks::of_part(environment.failures.clone(), data.registry_name());
        let listeners = environment.bind(number).await?;
        let bound = match &listeners {
            Some((master, marathon)) => {
                Some((listen::address_of(master, "master")?, listen::address_of(marathon, "marathon")?))
            }
            None => None,
        };
        if let Some(addresses) = bound {
            environment.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(number, addresses);
        }
        let addresses = bound.unwrap_or((listen::NOWHERE, listen::NOWHERE));
        let Placed { registry_config, others, remote } = place(environment, number, addresses).await?;
        let (id, peer) = (registry_config.id, remote.address());
        let (root, copies) = (data.root().to_owned(), environment.copies());
        let store = data.registry_store().map_err(|error| explain_store(error, &root, copies))?;
        let clock = &environment.clocks[number];
        let registry = Registry::start(&mut tasks, store, registry_config, others, Arc::clone(clock)).await;
        let registry = registry.map_err(|error| explain(error, &root, copies))?;

        if let Some(settings) = config.snapshots.filter(|_| !environment.data.is_ephemeral()) {
            let directory = environment.data.root().join("snapshots");
            let clock = Arc::clone(clock);
            let schedule = Schedule { registry: registry.clone(), directory, settings, clock };
            let shutdown = tasks.shutdown();
            tasks.spawn("snapshots", schedule.run(shutdown));
        }

        let master_config = master_config(config, addresses.0);
        let master =
            master::run::Handle::start(&mut tasks, master_config, registry.clone(), Arc::clone(clock));
        let scheduler: Arc<dyn SchedulerApi> = Arc::clone(&master) as _;
        let service = service::run::Handle::start(
            &mut tasks,
            registry.clone(),
            Arc::clone(&scheduler),
            Arc::clone(clock),
            addresses.1,
        );
        let offered = Offered {
            registry: registry.clone(),
            scheduler: Arc::clone(&scheduler),
            operator: Arc::clone(&master) as _,
            agents: Arc::clone(&master) as _,
            marathon: service,
            cluster: Arc::new(Admin { registry: registry.clone(), master, clock: Arc::clone(clock) }),
        };
        environment.leading.put(id, offered);

        // Schedulers are sent to the leader; everything else is asked of it for them.
        let operator: Arc<dyn OperatorApi> = Arc::new(environment.leading.clone());
        let marathon: Arc<dyn MarathonApi> = Arc::new(environment.leading.clone());
        let router = server::router(scheduler, operator, marathon, Arc::new(environment.leading.clone()));
        let (router, agents) = remote.open(&mut tasks, &registry, environment, router).await?;
        if config.can_fail {
            tasks.spawn("journal", watch_role(registry.leadership(), number, environment.journal.clone()));
        }
        if let Some((master_listener, marathon_listener)) = listeners {
            serve(&mut tasks, "master server", master_listener, router.clone(), &config.hostnames);
            serve(&mut tasks, "marathon server", marathon_listener, router, &config.hostnames);
        }
        Ok(Self { tasks, registry, agents, addresses: bound, peer })
    }
}

/// What the master is told of where it answers.
fn master_config(config: &NodeConfig, address: SocketAddr) -> master::core::Config {
    let mut master_config = master::core::Config::new(address);
    master_config.hostname = listen::advertised(config.advertise.as_ref(), address);
    if let Some(Advertise { host, port: Some(port) }) = &config.advertise {
        master_config.port = *port;
        // The address goes with the port where it is one; of a name only whoever asks knows it.
        master_config.ip = host.parse().unwrap_or(master_config.ip);
    }
    master_config.agent_unreachable_after = config.agent_unreachable_after;
    master_config.agent_reregister_timeout = config.agent_reregister_timeout;
    master_config
}

/// Writes down when a master leads and when not.
async fn watch_role(
    mut role: watch::Receiver<Leadership>,
    number: usize,
    journal: Journal,
) -> Result<(), Fatal> {
    let mut led = false;
    loop {
        let leads = matches!(*role.borrow_and_update(), Leadership::Leader { .. });
        if leads != led {
            journal.record(if leads { What::Leader(number) } else { What::Deposed(number) });
            led = leads;
        }
        // Without a sender the master is gone.
        if role.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// A master's place in the cluster.
struct Placed {
    registry_config: RegistryConfig,
    others: Option<Others>,
    remote: Remote,
}

/// What is needed for masters that are processes of their own.
enum Remote {
    /// There are none.
    Nowhere,
    #[cfg(feature = "tls")]
    Wire(Box<super::wire::Seat>),
}

impl Remote {
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Nowhere => None,
            #[cfg(feature = "tls")]
            Self::Wire(seat) => Some(seat.address),
        }
    }

    /// Begins to serve other nodes. Gives the router that asks the leader, and the leader as agents see it.
    async fn open(
        self,
        tasks: &mut Tasks,
        registry: &Registry,
        environment: &Environment,
        router: axum::Router,
    ) -> Result<(axum::Router, Arc<dyn AgentPeer>), StartError> {
        let own: Arc<dyn AgentPeer> = Arc::new(environment.leading.clone());
        match self {
            Self::Nowhere => {
                // Both are for masters elsewhere.
                let _ = (tasks, registry);
                Ok((router, own))
            }
            #[cfg(feature = "tls")]
            Self::Wire(seat) => {
                let served = seat.serve(tasks, registry, own, router.clone(), &environment.clocks[0])?;
                let (leader, recorded) = served;
                super::wire::settle(registry, recorded).await;
                Ok((server::forwarding(router, Arc::clone(&leader) as _), leader))
            }
        }
    }
}

/// Who a master is, and its way to the others.
async fn place(
    environment: &Environment,
    number: usize,
    addresses: (SocketAddr, SocketAddr),
) -> Result<Placed, StartError> {
    #[cfg(feature = "tls")]
    if let Some(peers) = &environment.config.peers {
        let entry = entry(environment, addresses);
        let taken =
            super::wire::take_seat(peers, &environment.data, &environment.clocks[number], entry).await?;
        let (seat, config, others) = taken;
        let registry_config =
            RegistryConfig { election_timeout: environment.config.election_timeout, ..config };
        return Ok(Placed { registry_config, others: Some(others), remote: Remote::Wire(Box::new(seat)) });
    }
    let (registry_config, others) = seat(environment, number, addresses);
    Ok(Placed { registry_config, others, remote: Remote::Nowhere })
}

/// What a master tells of itself; where other nodes connect is not known here.
fn entry(environment: &Environment, addresses: (SocketAddr, SocketAddr)) -> MasterEntry {
    let advertised = |address| listen::advertised_api(environment.config.advertise.as_ref(), address);
    MasterEntry {
        peer_address: String::new(),
        master_address: advertised(addresses.0),
        marathon_address: advertised(addresses.1),
        max_command_version: VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The listener of a later master: on the next port that is free.
fn of_number(listen: Listen, number: usize) -> Listen {
    Listen { required: listen.required && number == 0, ..listen }
}

/// The same among masters of one process.
fn seat(
    environment: &Environment,
    number: usize,
    addresses: (SocketAddr, SocketAddr),
) -> (RegistryConfig, Option<Others>) {
    let alone = RegistryConfig::alone(environment.cluster_id.clone());
    let (Some(neighbours), Some(id)) = (&environment.neighbours, id_of(number)) else {
        return (alone, None);
    };
    let entry = entry(environment, addresses);
    neighbours.told.send_modify(|told| drop(told.insert(id, entry)));
    let (network, events) = neighbours.hub.connect(id);
    let link = Link { network: network as Arc<dyn Network>, events };
    let config = RegistryConfig {
        id,
        first_masters: neighbours.ids.clone(),
        election_timeout: environment.config.election_timeout,
        ..alone
    };
    (config, Some(Others { link, told: neighbours.told.subscribe() }))
}
