//! Configuration: of a node as its roles take it ([`NodeConfig`]), and of the program as people write it.
//!
//! [`KEYS`] is the one table of keys. A value comes from a flag, a variable of the environment or a file;
//! [`Layers`] collects them, each with its [`Source`], and [`Layers::effective`] gives the [`Settings`] of
//! one command, in which the most particular source of each key has won. [`node_config`] makes them a
//! [`NodeConfig`], which is complete and valid. Reading files and the environment is the command line's
//! work: texts come in, typed values and [`Problem`]s go out.

pub mod duration;
#[cfg(feature = "cli")]
mod file;
mod keys;
mod kind;
mod node;
mod problem;
mod resolve;
mod sample;
mod settings;
#[cfg(all(test, feature = "cli"))]
mod tests;

pub use keys::{
    ADDR, ADVERTISE, AGENT_ADDR, AGENT_ATTRIBUTES, AGENT_RESOURCES, COLOR, DATA_DIR, DEV_AGENTS, DEV_MASTERS,
    Fallback, For, HOSTNAMES, INSECURE, JOIN_ADDR, JOIN_TOKEN_FILE, KEYS, Key, LOG_FORMAT, LOG_LEVEL,
    MARATHON_ADDR, MASTER_ADDR, MASTER_AGENT_REREGISTER_TIMEOUT, MASTER_AGENT_UNREACHABLE_AFTER,
    MASTER_ELECTION_TIMEOUT, OUTPUT, PEER_ADDR, ROLES, SNAPSHOTS_EVERY, SNAPSHOTS_KEEP, STOP_GRACE, Users,
    find, nearest_key,
};
pub use kind::{Kind, Raw, Refusal, Value};
pub use node::{
    AGENT_PORT, Advertise, Begin, DEFAULT_AGENT_PORT, DataDir, Executor, Listen, MARATHON_PORT,
    MARATHON_VERSION, MASTER_PORT, MESOS_VERSION, NodeConfig, PEER_PORT, PeerConfig, Snapshots,
};
pub use problem::Problem;
pub use resolve::node_config;
pub use sample::sample;
pub use settings::{Layer, Layers, Place, Setting, Settings, Source};
