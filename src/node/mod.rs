//! The composition root: configuration becomes running roles.
//!
//! [`Node::start`] reads from top to bottom: data directory, listeners, registry, master, agents,
//! service framework, servers. [`Node::stop`] is its mirror image. A node owns its tasks; when one
//! of them fails the node ends and says what and how to go on ([`Node::failed`]).

mod admin;
mod agents;
mod data;
#[cfg(feature = "tls")]
mod desk;
mod leading;
mod listen;
mod master;
mod ports;
mod start;
#[cfg(feature = "tls")]
mod wire;

pub use listen::Addresses;
pub use start::{Node, StartError};
#[cfg(feature = "tls")]
pub use wire::is_member;
