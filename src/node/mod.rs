//! The composition root: configuration becomes running roles.
//!
//! [`Node::start`] reads from top to bottom: data directory, listeners, registry, master, agents,
//! service framework, servers. [`Node::stop`] is its mirror image. A node owns its tasks; when one
//! of them fails the node ends and says what and how to go on ([`Node::failed`]).

mod admin;
mod agents;
mod damage;
mod data;
#[cfg(feature = "tls")]
mod desk;
mod faults;
#[cfg(feature = "tls")]
mod identity;
mod journal;
mod leading;
mod levers;
mod listen;
mod master;
mod ports;
#[cfg(feature = "tls")]
mod recovery;
#[cfg(feature = "tls")]
mod renewing;
mod snapshots;
mod start;
#[cfg(feature = "tls")]
mod visitor;
#[cfg(feature = "tls")]
mod wire;
mod wires;

pub use data::reap;
#[cfg(feature = "tls")]
pub use identity::is_member;
pub use journal::{Event, Journal, What};
pub use levers::Levers;
pub use listen::{Addresses, Given};
#[cfg(feature = "tls")]
pub use recovery::{Recovery, RecoveryError, expect_empty, restore};
pub use snapshots::{Contents, Snapshot, SnapshotError};
pub use start::{Broken, Node, StartError};
pub use wires::Part;
