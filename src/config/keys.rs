//! The one table of keys: names, what they may be, what they mean, and everything that sets them.

use std::time::Duration;

use super::kind::{Kind, Raw, Refusal, Value};
use super::settings::Layer;
use crate::base::nearest::nearest;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// As it is written in a file, with its table: `master.addr`.
    pub name: &'static str,
    /// What it may be set to.
    pub kind: Kind,
    /// What holds where nothing sets it.
    pub default: Fallback,
    /// What it means.
    pub meaning: &'static str,
    /// The variable of the environment that sets it.
    pub variable: &'static str,
    /// The flag that sets it, without its dashes.
    pub flag: Option<&'static str>,
    /// Which commands take it.
    pub users: Users,
}

/// What holds where nothing sets a key.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// This value, as it is typed.
    Is(&'static str),
    /// This value, as it is typed, for `node`; for `dev` what the second text says.
    OfNode(&'static str, &'static str),
    /// No fixed value: what the first text says. The second is an example of one.
    Says(&'static str, &'static str),
}

/// Which commands take a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// Every command.
    All,
    /// `node` only.
    Node,
    /// `dev` only.
    Dev,
    /// `node` and `dev`.
    Both,
    /// `node`, and `dev` unless it is set in a file of the system, which is about this machine's node.
    NodeAndOwnDev,
}

/// What settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A node.
    Node,
    /// A cluster in the foreground.
    Dev,
}

impl Key {
    /// Checks a value.
    ///
    /// # Errors
    /// It is not one that this key may be set to.
    pub fn read(&self, raw: &Raw<'_>) -> Result<Value, Refusal> {
        self.kind.read(raw)
    }

    /// What holds for a command where nothing sets the key, if that is one value.
    #[must_use]
    pub fn default_value(&self, command: For) -> Option<Value> {
        let typed = match (self.default, command) {
            (Fallback::Is(typed), _) | (Fallback::OfNode(typed, _), For::Node) => typed,
            (Fallback::OfNode(..), For::Dev) | (Fallback::Says(..), _) => return None,
        };
        self.read(&Raw::Typed(typed)).ok()
    }

    /// What holds for a command where nothing sets the key, in words.
    #[must_use]
    pub fn default_text(&self, command: For) -> &'static str {
        match (self.default, command) {
            (Fallback::Is(text), _)
            | (Fallback::OfNode(text, _), For::Node)
            | (Fallback::OfNode(_, text), For::Dev)
            | (Fallback::Says(text, _), _) => text,
        }
    }

    /// A value that the key may have: its default, or an example.
    #[must_use]
    pub fn example(&self) -> Option<Value> {
        let (Fallback::Is(typed) | Fallback::OfNode(typed, _) | Fallback::Says(_, typed)) = self.default;
        self.read(&Raw::Typed(typed)).ok()
    }

    /// Whether a command takes it from there.
    #[must_use]
    pub fn is_taken(&self, command: For, layer: Layer) -> bool {
        match self.users {
            Users::All | Users::Both => true,
            Users::Node => command == For::Node,
            Users::Dev => command == For::Dev,
            Users::NodeAndOwnDev => command == For::Node || layer != Layer::System,
        }
    }

    /// Whether a command has a use for it.
    #[must_use]
    pub fn is_for(&self, command: For) -> bool {
        self.is_taken(command, Layer::Flag)
    }

    /// The table that holds it, and its name there.
    #[must_use]
    pub fn split(&self) -> (Option<&'static str>, &'static str) {
        self.name.split_once('.').map_or((None, self.name), |(table, name)| (Some(table), name))
    }
}

/// The key of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name).copied()
}

/// The key that was probably meant: the same name in another table, else the nearest.
#[must_use]
pub fn nearest_key(typed: &str) -> Option<&'static str> {
    let last = typed.rsplit('.').next().unwrap_or(typed);
    let same = KEYS.iter().find(|key| key.split().1 == last).map(|key| key.name);
    same.filter(|name| typed.contains('.') != name.contains('.'))
        .or_else(|| nearest(typed, KEYS.iter().map(|key| key.name)))
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $name:ident = $key:expr;)+) => {
        $($(#[doc = $doc])+ pub static $name: Key = $key;)+

        /// Every key, in the order of a file: those without a table first.
        pub static KEYS: &[&Key] = &[$(&$name),+];
    };
}

keys! {
    /// Which cluster commands talk to.
    ADDR = Key {
        name: "addr",
        kind: Kind::Target,
        default: Fallback::Says("the cluster that `mesita dev` announced, else 127.0.0.1:5050", "127.0.0.1:5050"),
        meaning: "Cluster that commands talk to: any API address of it",
        variable: "MESITA_ADDR",
        flag: Some("addr"),
        users: Users::All,
    };
    /// Form of what commands print.
    OUTPUT = Key {
        name: "output",
        kind: Kind::Choice(&["table", "json", "jsonl", "yaml", "name"]),
        default: Fallback::Is("table"),
        meaning: "Form of what commands print",
        variable: "MESITA_OUTPUT",
        flag: Some("output"),
        users: Users::All,
    };
    /// When to colour.
    COLOR = Key {
        name: "color",
        kind: Kind::Choice(&["auto", "always", "never"]),
        default: Fallback::Is("auto"),
        meaning: "Colour: on a terminal only (unless NO_COLOR is set), always or never",
        variable: "MESITA_COLOR",
        flag: Some("color"),
        users: Users::All,
    };
    /// What a node is.
    ROLES = Key {
        name: "roles",
        kind: Kind::Choices(&["master", "agent"]),
        default: Fallback::Is("master,agent"),
        meaning: "What this node is",
        variable: "MESITA_ROLES",
        flag: Some("roles"),
        users: Users::Node,
    };
    /// Where state lives.
    DATA_DIR = Key {
        name: "data_dir",
        kind: Kind::Path("a directory, made if absent"),
        default: Fallback::OfNode("/var/lib/mesita", "a temporary directory, removed at the end"),
        meaning: "Keep state in this directory and find it again at the next start",
        variable: "MESITA_DATA_DIR",
        flag: Some("data-dir"),
        users: Users::NodeAndOwnDev,
    };
    /// What others are told this host is called.
    ADVERTISE = Key {
        name: "advertise",
        kind: Kind::Advertise,
        default: Fallback::Says("the address that is listened on", "node1.example.com"),
        meaning: "What others are told this host is called; with a port, where its Mesos API is reached from outside (behind a proxy or a port mapping)",
        variable: "MESITA_ADVERTISE",
        flag: Some("advertise"),
        users: Users::NodeAndOwnDev,
    };
    /// Names under which the APIs are asked.
    HOSTNAMES = Key {
        name: "hostnames",
        kind: Kind::Hosts,
        default: Fallback::Is(""),
        meaning: "Full names under which the APIs are asked on loopback (behind a proxy, say), beside addresses, `localhost`, names without a dot and the advertised one",
        variable: "MESITA_HOSTNAMES",
        flag: None,
        users: Users::NodeAndOwnDev,
    };
    /// Whether other machines may reach the APIs.
    INSECURE = Key {
        name: "insecure",
        kind: Kind::Switch,
        default: Fallback::Is("false"),
        meaning: "Allow addresses that other machines reach, although nothing authenticates them yet",
        variable: "MESITA_INSECURE",
        flag: Some("insecure"),
        users: Users::NodeAndOwnDev,
    };
    /// How long tasks have to end.
    STOP_GRACE = Key {
        name: "stop_grace",
        kind: Kind::Time(Duration::ZERO, DAY),
        default: Fallback::Is("10s"),
        meaning: "How long tasks have to end by themselves when a stop ends them, before they are killed; those of a `node` with a data directory go on",
        variable: "MESITA_STOP_GRACE",
        flag: None,
        users: Users::Both,
    };
    /// What mesita logs.
    LOG_LEVEL = Key {
        name: "log.level",
        kind: Kind::Text("error, warn, info, debug, trace, or a filter per module such as \"info,mesita::master=debug\""),
        default: Fallback::Is("warn"),
        meaning: "What mesita itself logs to stderr: error, warn, info, debug, trace, or a filter per module",
        variable: "MESITA_LOG",
        flag: Some("log-level"),
        users: Users::All,
    };
    /// How mesita logs.
    LOG_FORMAT = Key {
        name: "log.format",
        kind: Kind::Choice(&["text", "json"]),
        default: Fallback::Is("text"),
        meaning: "Form of these logs: lines for people, or one JSON object a line",
        variable: "MESITA_LOG_FORMAT",
        flag: Some("log-format"),
        users: Users::All,
    };
    /// Which cluster a node joins.
    JOIN_ADDR = Key {
        name: "join.addr",
        kind: Kind::Endpoint,
        default: Fallback::Says("none", "10.0.0.1:5052"),
        meaning: "Join the cluster of this master: its peer address. A node that has joined only asks it where the others are",
        variable: "MESITA_JOIN_ADDR",
        flag: Some("join"),
        users: Users::Node,
    };
    /// With which token a node joins.
    JOIN_TOKEN_FILE = Key {
        name: "join.token_file",
        kind: Kind::Path("a file"),
        default: Fallback::Says("none: the variable MESITA_JOIN_TOKEN holds the token", "/etc/mesita/join-token"),
        meaning: "File with the join token, which `mesita cluster join-token` makes",
        variable: "MESITA_JOIN_TOKEN_FILE",
        flag: Some("token-file"),
        users: Users::Node,
    };
    /// Where the master answers.
    MASTER_ADDR = Key {
        name: "master.addr",
        kind: Kind::Listen,
        default: Fallback::OfNode("127.0.0.1:5050", "127.0.0.1:5050 or the next free"),
        meaning: "Mesos master API; port 0 for any free one",
        variable: "MESITA_MASTER_ADDR",
        flag: Some("master-addr"),
        users: Users::NodeAndOwnDev,
    };
    /// How soon another master takes over.
    MASTER_ELECTION_TIMEOUT = Key {
        name: "master.election_timeout",
        kind: Kind::Time(Duration::from_millis(100), MINUTE),
        default: Fallback::Is("1s"),
        meaning: "Silence of the leading master after which the others elect one, at the soonest; the same on every node",
        variable: "MESITA_MASTER_ELECTION_TIMEOUT",
        flag: None,
        users: Users::Both,
    };
    /// How soon an agent is lost.
    MASTER_AGENT_UNREACHABLE_AFTER = Key {
        name: "master.agent_unreachable_after",
        kind: Kind::Time(SECOND, DAY),
        default: Fallback::Is("10s"),
        meaning: "Silence after which an agent counts as lost (75s in Mesos)",
        variable: "MESITA_MASTER_AGENT_UNREACHABLE_AFTER",
        flag: None,
        users: Users::Both,
    };
    /// How long agents have to come back.
    MASTER_AGENT_REREGISTER_TIMEOUT = Key {
        name: "master.agent_reregister_timeout",
        kind: Kind::Time(SECOND, DAY),
        default: Fallback::Is("10m"),
        meaning: "How long agents have to come back after a fail-over while most of them are absent, as after a power cut",
        variable: "MESITA_MASTER_AGENT_REREGISTER_TIMEOUT",
        flag: None,
        users: Users::Both,
    };
    /// Where the agent answers.
    AGENT_ADDR = Key {
        name: "agent.addr",
        kind: Kind::Listen,
        default: Fallback::OfNode("127.0.0.1:5051", "127.0.0.1:5051 or the next free"),
        meaning: "Agent API; port 0 for any free one",
        variable: "MESITA_AGENT_ADDR",
        flag: Some("agent-addr"),
        users: Users::NodeAndOwnDev,
    };
    /// What each agent has.
    AGENT_RESOURCES = Key {
        name: "agent.resources",
        kind: Kind::Resources,
        default: Fallback::Says("what the host has", "cpus:4;mem:4096;disk:4096;ports:[31000-32000]"),
        meaning: "What each agent has",
        variable: "MESITA_AGENT_RESOURCES",
        flag: Some("agent-resources"),
        users: Users::NodeAndOwnDev,
    };
    /// Attributes of each agent.
    AGENT_ATTRIBUTES = Key {
        name: "agent.attributes",
        kind: Kind::Attributes,
        default: Fallback::Says("none", "rack:r1;zone:a"),
        meaning: "Attributes of each agent, for constraints",
        variable: "MESITA_AGENT_ATTRIBUTES",
        flag: Some("agent-attributes"),
        users: Users::NodeAndOwnDev,
    };
    /// Where Marathon's API answers.
    MARATHON_ADDR = Key {
        name: "marathon.addr",
        kind: Kind::Listen,
        default: Fallback::OfNode("127.0.0.1:8080", "127.0.0.1:8080 or the next free"),
        meaning: "Marathon API; port 0 for any free one",
        variable: "MESITA_MARATHON_ADDR",
        flag: Some("marathon-addr"),
        users: Users::NodeAndOwnDev,
    };
    /// Where other nodes connect.
    PEER_ADDR = Key {
        name: "peer.addr",
        kind: Kind::Listen,
        default: Fallback::Is("127.0.0.1:5052"),
        meaning: "Where other nodes connect, always over mutual TLS; port 0 for any free one",
        variable: "MESITA_PEER_ADDR",
        flag: Some("peer-addr"),
        users: Users::Node,
    };
    /// How often a master writes a snapshot.
    SNAPSHOTS_EVERY = Key {
        name: "snapshots.every",
        kind: Kind::Time(SECOND, DAY),
        default: Fallback::Is("1h"),
        meaning: "How often a master writes a snapshot of the registry into its data directory, if something has changed",
        variable: "MESITA_SNAPSHOTS_EVERY",
        flag: None,
        users: Users::Node,
    };
    /// How many snapshots are kept.
    SNAPSHOTS_KEEP = Key {
        name: "snapshots.keep",
        kind: Kind::Count(0, 10_000),
        default: Fallback::Is("48"),
        meaning: "How many of these snapshots are kept; 0: none is written",
        variable: "MESITA_SNAPSHOTS_KEEP",
        flag: None,
        users: Users::Node,
    };
    /// How many masters `dev` runs.
    DEV_MASTERS = Key {
        name: "dev.masters",
        kind: Kind::Count(1, 7),
        default: Fallback::Is("1"),
        meaning: "Number of masters; more than one take over from each other",
        variable: "MESITA_DEV_MASTERS",
        flag: Some("masters"),
        users: Users::Dev,
    };
    /// How many agents `dev` runs.
    DEV_AGENTS = Key {
        name: "dev.agents",
        kind: Kind::Count(1, 32),
        default: Fallback::Is("1"),
        meaning: "Number of agents",
        variable: "MESITA_DEV_AGENTS",
        flag: Some("agents"),
        users: Users::Dev,
    };
}
