//! Process tasks: orders for the launcher, and what comes back.
//!
//! The launcher dies with the agent, or outlives it ([`ProcessConfig::outlive`]). A launcher that outlives its
//! agent is asked what runs and what ended whenever a connection to it is made, and that is put beside what
//! the agent knows: both come to the same, whoever of the two was away.

mod attach;
mod containerizer;
mod link;
mod shared;

pub use containerizer::{Process, ProcessConfig};
