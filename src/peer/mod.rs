//! Between nodes: what carries consensus messages, agents' connections and forwarded requests.
//!
//! [`Network`] is what consensus sees. [`memory`] connects nodes of one process without a socket.

mod link;
pub mod memory;
#[cfg(feature = "tls")]
pub mod wire;

pub use link::{Event, Frame, Network, SendError};
