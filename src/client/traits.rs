//! The interfaces. Every method takes the caller's principal; streams end when either side drops.

use tokio::sync::mpsc;

use crate::api::ApiError;
use crate::api::v1::{master, scheduler};
use crate::api::{marathon, peer};
use crate::base::future::BoxFuture;
use crate::base::id::NodeId;

/// Who calls, as the edge authenticated it. `None`: nobody asked.
pub type Principal = Option<String>;

/// An accepted subscription.
#[derive(Debug)]
pub struct SubscriptionStream<E> {
    /// Identifies this subscription in later calls (`Mesos-Stream-Id`).
    pub stream_id: String,
    /// Events in order. The channel closes when the server ends the subscription; dropping the
    /// receiver ends it from the client's side.
    pub events: mpsc::Receiver<E>,
    /// Dropped together with the stream: tells the other side at once that nobody reads any more.
    pub guard: Box<dyn std::any::Any + Send + Sync>,
}

/// Mesos scheduler API, as the leading master offers it.
pub trait SchedulerApi: Send + Sync {
    /// SUBSCRIBE. `call.type` is SUBSCRIBE and `call.subscribe` is set.
    fn subscribe(
        &self,
        call: scheduler::Call,
        principal: Principal,
    ) -> BoxFuture<'_, Result<SubscriptionStream<scheduler::Event>, ApiError>>;

    /// Whether this master leads: where a server says so before it reads a request.
    ///
    /// # Errors
    /// `NotLeader`.
    fn leads(&self) -> Result<(), ApiError> {
        Ok(())
    }

    /// Any other call. Success means accepted (202), except UPDATE_FRAMEWORK, which is done (200).
    fn call(
        &self,
        call: scheduler::Call,
        stream_id: Option<String>,
        principal: Principal,
    ) -> BoxFuture<'_, Result<(), ApiError>>;
}

/// Mesos operator API of a master.
pub trait OperatorApi: Send + Sync {
    /// One call. `None`: done, nothing to say (an empty 200).
    fn call(
        &self,
        call: master::Call,
        principal: Principal,
    ) -> BoxFuture<'_, Result<Option<master::Response>, ApiError>>;

    /// Whether this master leads, as [`SchedulerApi::leads`].
    ///
    /// # Errors
    /// `NotLeader`.
    fn leads(&self) -> Result<(), ApiError> {
        Ok(())
    }

    /// The legacy JSON document `/state`, as text.
    fn legacy_state(&self, principal: Principal) -> BoxFuture<'_, Result<String, ApiError>>;
}

/// One agent's connection to the leading master. Dropping either half breaks it.
#[derive(Debug)]
pub struct AgentLink {
    /// What the agent says.
    pub to_master: mpsc::Sender<peer::FromAgent>,
    /// What the master says, in order.
    pub from_master: mpsc::Receiver<peer::ToAgent>,
}

/// The leading master as agents see it.
pub trait AgentPeer: Send + Sync {
    /// Opens the connection. The agent then sends Register or Reregister. `node` is the node of its
    /// certificate, if it came with one.
    fn connect(&self, node: Option<NodeId>) -> BoxFuture<'_, Result<AgentLink, ApiError>>;
}

/// One entry of a directory in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Virtual path of the entry.
    pub path: String,
    /// Number of hard links.
    pub nlink: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since the Unix epoch.
    pub mtime: i64,
    /// File type and permission bits as in `stat`.
    pub mode: u32,
    /// Owner.
    pub uid: String,
    /// Group.
    pub gid: String,
}

/// A piece of a file in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChunk {
    /// Size of the whole file in bytes, when it was read.
    pub size: u64,
    /// Bytes from the requested offset, at most 64 KiB.
    pub data: Vec<u8>,
}

/// What an agent answers by itself: its identity and the files of its sandboxes.
pub trait AgentApi: Send + Sync {
    /// The agent's id once it is admitted.
    fn agent_id(&self) -> Option<crate::base::id::AgentId>;

    /// Lists a directory given by its virtual path, such as
    /// `/frameworks/<framework>/executors/<executor>/runs/latest`. A file gives an empty list.
    fn list_files(&self, path: String) -> BoxFuture<'_, Result<Vec<FileEntry>, ApiError>>;

    /// Reads from `offset` at most `length` bytes (64 KiB when absent). `offset` past the end gives
    /// no data.
    fn read_file(
        &self,
        path: String,
        offset: u64,
        length: Option<u64>,
    ) -> BoxFuture<'_, Result<FileChunk, ApiError>>;
}

/// Marathon's `/v2`.
pub trait MarathonApi: Send + Sync {
    /// One request in its decoded form.
    fn call(
        &self,
        request: marathon::Request,
        principal: Principal,
    ) -> BoxFuture<'_, Result<marathon::Response, marathon::Refusal>>;

    /// `host:port` of the member that leads, as far as it is known here.
    fn leader(&self) -> Option<String>;
}
