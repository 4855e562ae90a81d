//! Where components meet: the interfaces of the scheduler, operator, agent and service APIs, spoken
//! in API messages. `master/run`, `agent/run` and `service/run` implement them, the servers and
//! [`http`] carry them over sockets, and a composition root hands `Arc<dyn …>` of them around.
//!
//! Nothing here knows status codes: [`ApiError`] says who must act, the edge maps it once.

pub mod cluster;
pub mod http;
mod traits;

pub use crate::api::ApiError;
pub use crate::base::future::BoxFuture;
pub use traits::{
    AgentApi, AgentLink, AgentPeer, FileChunk, FileEntry, MarathonApi, OperatorApi, Principal, SchedulerApi,
    SubscriptionStream,
};
