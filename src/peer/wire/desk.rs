//! Who decides: the wire checks certificates and carries messages, and asks the desk for the rest.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::hello::Hello;
use super::name::{PeerName, Role};
use super::refusal::Refusal;
use crate::api::peer::{FromAgent, ToAgent};
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;
use crate::base::time::Timestamp;

/// What the cluster knows of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It belongs here.
    Member,
    /// It did once: whatever it asks is refused.
    Removed,
    /// Not known here. Its certificate vouches for it, and what is known here may be old: it is let in,
    /// and whoever handles its messages decides.
    Unknown,
}

/// A node without a certificate asks for one.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinAsk {
    /// Secret part of its token.
    pub secret: String,
    /// What it wants to be.
    pub role: Role,
    /// DER of its signing request.
    pub csr: Vec<u8>,
    /// What it says of itself, without a cluster.
    pub hello: Hello,
    /// Its wall clock.
    pub wall: Timestamp,
}

impl fmt::Debug for JoinAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinAsk({} {}, ***)", self.role, self.hello.node_id)
    }
}

/// The answer to a node that may join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// PEM of its certificate.
    pub certificate: String,
    /// Its cluster from now on.
    pub cluster_id: String,
    /// Where the masters are: peer addresses.
    pub masters: BTreeMap<NodeId, String>,
}

/// An agent's connection, seen from the master. Dropping either half ends it.
#[derive(Debug)]
pub struct AgentStream {
    /// What the master says, in order.
    pub to_agent: mpsc::Sender<ToAgent>,
    /// What the agent says; ends with the connection.
    pub from_agent: mpsc::Receiver<FromAgent>,
}

/// An HTTP request that only the leader can answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardRequest {
    /// GET, POST, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers in order; a name may repeat.
    pub headers: Vec<(String, Bytes)>,
    /// The whole body.
    pub body: Bytes,
    /// Who asks, as the forwarding node authenticated them.
    pub principal: Option<String>,
}

/// The answer to a forwarded request.
#[derive(Debug)]
pub struct ForwardReply {
    /// HTTP status.
    pub status: u16,
    /// Headers in order.
    pub headers: Vec<(String, Bytes)>,
    /// The body in pieces. An error is the last item: the rest is lost. Dropping it tells the leader
    /// that nobody reads any more.
    pub body: mpsc::Receiver<Result<Bytes, Refusal>>,
}

/// Who leads, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leader {
    /// The node.
    pub node_id: Option<NodeId>,
    /// Its peer address.
    pub peer_address: Option<String>,
    /// Where the masters are: peer addresses.
    pub masters: BTreeMap<NodeId, String>,
}

/// The node behind the listener. Callers were authenticated before.
pub trait Desk: Send + Sync {
    /// What is known of a node. Asked for every call, and while a stream lasts.
    fn membership(&self, node_id: NodeId) -> Membership;

    /// A node wants to join. Its token is not checked yet.
    ///
    /// # Errors
    /// The secret is wrong, or this node cannot admit anyone.
    fn join(&self, ask: JoinAsk) -> BoxFuture<'_, Result<Joined, Refusal>>;

    /// A member wants its next certificate; returns PEM.
    ///
    /// # Errors
    /// This node cannot sign, or will not.
    fn renew(&self, peer: PeerName, csr: Vec<u8>) -> BoxFuture<'_, Result<String, Refusal>>;

    /// An agent connects. What it says must be about the node of its certificate: the desk checks ids
    /// of agents, which the wire does not know, and it ends the stream of a node that is removed.
    ///
    /// # Errors
    /// This node does not lead, or the agent is not welcome.
    fn agent(&self, peer: PeerName, stream: AgentStream) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Another master forwards a request.
    ///
    /// # Errors
    /// This node does not lead.
    fn forward(
        &self,
        peer: PeerName,
        request: ForwardRequest,
    ) -> BoxFuture<'_, Result<ForwardReply, Refusal>>;

    /// Who leads.
    fn leader(&self) -> Leader;

    /// A master introduced itself; `hello.node_id` is the certificate's.
    fn hello(&self, hello: Hello);
}
