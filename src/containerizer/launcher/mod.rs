//! The launcher: a small process that is the parent of process tasks.
//!
//! It is exec'd by an agent with one end of a socket pair as its standard input, is single-threaded,
//! has a session of its own and adopts orphans (subreaper). Over the socket it is told what to start
//! and signal, and tells what started and how it ended. When the socket closes, the agent is gone:
//! it kills every task with everything that the task started, and exits.

mod program;
pub(super) mod protocol;
mod tasks;

pub use program::main;
pub(super) use tasks::{decode, kill_marked};
