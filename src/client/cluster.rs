//! The cluster itself: its masters, and who may join. mesita's own API, below `/mesita/v1/cluster`.

use serde::{Deserialize, Serialize};

use super::{ApiError, BoxFuture};

/// Where this API is.
pub const PATH: &str = "/mesita/v1/cluster";

/// How the cluster stands, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub cluster_id: String,
    /// Raft term of the leader.
    pub term: u64,
    /// Version of replicated commands that every master understands.
    pub command_version: u32,
    /// Index of the last entry of the log that a majority has.
    pub committed: u64,
    /// Index up to which entries are applied.
    pub applied: u64,
    /// Index of the last snapshot.
    pub snapshot: u64,
    /// The masters.
    pub masters: Vec<MasterStatus>,
    /// Nodes that have agents and no master.
    #[serde(default)]
    pub agent_nodes: Vec<AgentNodeStatus>,
}

/// One master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterStatus {
    /// Its id.
    pub id: String,
    /// `leader`, `voter` or `learner`.
    pub role: String,
    /// Whether the leader heard it within an election timeout.
    pub is_alive: bool,
    /// Entries that it is behind.
    pub lag: u64,
    /// `host:port` for other nodes; empty for masters of one process.
    pub peer_address: String,
    /// `host:port` of its Mesos API.
    pub master_address: String,
    /// Version of its program.
    pub version: String,
}

/// The agent of a node that has no master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentNodeStatus {
    /// Id of the node.
    pub id: String,
    /// Id of its agent.
    pub agent_id: String,
    /// What its host is called.
    pub hostname: String,
    /// Whether the leader is connected with it.
    pub is_alive: bool,
    /// Version of Mesos that it speaks; empty while it is away.
    pub version: String,
}

/// What a join token is to be good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenAsk {
    /// `master` or `agent`.
    pub role: String,
    /// It ends after so many seconds; none: never.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
    /// It admits one node only.
    #[serde(default)]
    pub once: bool,
}

/// A new join token. It is shown once: the cluster keeps only what it is recognised by.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenGiven {
    /// The token.
    pub token: String,
}

impl std::fmt::Debug for TokenGiven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenGiven(***)")
    }
}

/// What the leading master does for the cluster itself.
pub trait ClusterApi: Send + Sync {
    /// How the cluster stands.
    fn status(&self) -> BoxFuture<'_, Result<ClusterStatus, ApiError>>;

    /// Makes a join token.
    fn join_token(&self, ask: TokenAsk) -> BoxFuture<'_, Result<TokenGiven, ApiError>>;

    /// A snapshot of the registry, as the bytes of a file. They hold the authority's key.
    fn snapshot(&self) -> BoxFuture<'_, Result<Vec<u8>, ApiError>>;

    /// Removes a node for ever, whatever its roles; its agents are gone.
    fn remove_node(&self, id: String) -> BoxFuture<'_, Result<(), ApiError>>;
}
