//! What a node is told: what its roles are, where they listen, what its agents have.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::v1;
use crate::resources::Resources;

/// Mesos version that the APIs report.
pub const MESOS_VERSION: &str = "1.11.0";
/// Marathon version that `/v2/info` reports.
pub const MARATHON_VERSION: &str = "1.11.24";
/// Default port of the master's API.
pub const MASTER_PORT: u16 = 5050;
/// Default port of the agent's API.
pub const AGENT_PORT: u16 = 5051;
/// [`AGENT_PORT`] as the wire has it.
pub const DEFAULT_AGENT_PORT: i32 = 5051;
/// Default port of Marathon's API.
pub const MARATHON_PORT: u16 = 8080;
/// Default port of what other nodes connect to.
pub const PEER_PORT: u16 = 5052;

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address; port 0 for any free one.
    pub address: SocketAddr,
    /// A taken port is an error (it was asked for); otherwise the next free one is used.
    pub required: bool,
}

/// Where state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// In memory, with sandboxes in a temporary directory that is removed at the end.
    Ephemeral,
    /// In this directory, which is created if absent.
    At(PathBuf),
}

/// What runs tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// Processes, and containers where a Docker engine answers.
    Process,
    /// Containers of a Docker engine, and nothing else.
    Docker,
    /// Nothing: tasks stay running until they are killed or told to end. For tests.
    Fake,
}

/// One node with a master, agents and the service framework.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// Mesos master API.
    pub master: Listen,
    /// API of the first agent; further agents take free ports of the same address.
    pub agent: Listen,
    /// Marathon API.
    pub marathon: Listen,
    /// Full names under which the APIs are asked on loopback (behind a proxy, say), beside addresses,
    /// `localhost` and names without a dot.
    pub hostnames: Vec<String>,
    /// What others are told of this host; by default the address that is listened on, or the host's own
    /// name where that is every address.
    pub advertise: Option<Advertise>,
    /// How this node meets others; none: it is a cluster by itself.
    pub peers: Option<PeerConfig>,
    /// Where state lives.
    pub data_dir: DataDir,
    /// Number of masters in this process.
    pub masters: usize,
    /// Number of agents.
    pub agents: usize,
    /// What each agent has; detected and divided among the agents when absent.
    pub agent_resources: Option<Resources>,
    /// Attributes of every agent.
    pub agent_attributes: Vec<v1::Attribute>,
    /// What runs tasks.
    pub executor: Executor,
    /// The program that has the subcommand `launcher`; the process executor needs it.
    pub launcher_path: Option<PathBuf>,
    /// Marks everything that this node makes, so that a test run can count what is left.
    pub run_id: Option<String>,
    /// Silence of the leading master after which the others elect one, at the soonest.
    pub election_timeout: Duration,
    /// Silence after which an agent counts as lost.
    pub agent_unreachable_after: Duration,
    /// How long agents have to come back after a fail-over while most of them are absent.
    pub agent_reregister_timeout: Duration,
    /// How long tasks have to end by themselves when the node stops; zero: they are killed at once.
    pub stop_grace: Duration,
    /// Tasks go on when the node stops, and it finds them again when it starts; only with a data directory.
    pub tasks_outlive: bool,
    /// File with faults that are wanted, for tests of mesita itself.
    pub fault: Option<PathBuf>,
    /// Snapshots that a master writes into its data directory; none: it writes none.
    pub snapshots: Option<Snapshots>,
    /// How long stopping may take before what still runs is abandoned.
    pub stop_deadline: Duration,
    /// The APIs answer on sockets; without them only within the process.
    pub sockets: bool,
    /// Its parts can fail one by one on request: for clusters in tests.
    pub can_fail: bool,
}

/// Snapshots of the registry that a master writes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// Time between two.
    pub every: Duration,
    /// How many are kept, the newest ones.
    pub keep: usize,
}

/// What others are told of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Its name or address.
    pub host: String,
    /// Port under which its Mesos API is reached, if not the one that is listened on.
    pub port: Option<u16>,
}

/// How a node that is a process of its own meets the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where other nodes connect.
    pub listen: Listen,
    /// What others are told of this host; the listener's address when absent.
    pub advertise: Option<Advertise>,
    /// How it begins.
    pub begin: Begin,
}

/// How a node begins.
#[derive(Clone, PartialEq, Eq)]
pub enum Begin {
    /// With what its data directory holds.
    Again,
    /// As the first node of a new cluster.
    Bootstrap,
    /// In a cluster that exists.
    Join {
        /// Peer address of one of its masters.
        address: String,
        /// A join token; empty for a node that has joined before, which is told where a master is now.
        token: String,
    },
}

impl std::fmt::Debug for Begin {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Again => f.write_str("Again"),
            Self::Bootstrap => f.write_str("Bootstrap"),
            Self::Join { address, .. } => write!(f, "Join({address}, ***)"),
        }
    }
}

impl NodeConfig {
    /// Everything on loopback with default ports, ephemeral, one agent with what the host has.
    #[must_use]
    pub fn local() -> Self {
        let listen = |port| Listen { address: SocketAddr::from(([127, 0, 0, 1], port)), required: false };
        Self {
            master: listen(MASTER_PORT),
            agent: listen(AGENT_PORT),
            marathon: listen(MARATHON_PORT),
            hostnames: Vec::new(),
            advertise: None,
            peers: None,
            data_dir: DataDir::Ephemeral,
            masters: 1,
            agents: 1,
            agent_resources: None,
            agent_attributes: Vec::new(),
            executor: Executor::Process,
            launcher_path: None,
            run_id: None,
            election_timeout: Duration::from_secs(1),
            agent_unreachable_after: Duration::from_secs(10),
            agent_reregister_timeout: Duration::from_secs(600),
            stop_grace: Duration::from_secs(10),
            tasks_outlive: false,
            fault: None,
            snapshots: None,
            stop_deadline: Duration::from_secs(30),
            sockets: true,
            can_fail: false,
        }
    }

    /// The same on any free ports.
    #[must_use]
    pub fn on_free_ports(mut self) -> Self {
        for listen in [&mut self.master, &mut self.agent, &mut self.marathon] {
            *listen = Listen { address: SocketAddr::new(listen.address.ip(), 0), required: true };
        }
        self
    }
}
