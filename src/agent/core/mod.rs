//! The agent's decisions: tasks, status-update streams, checks and the kill ladder, checkpoints and
//! recovery.
//!
//! The walk of a task: RunTask is written down before the containerizer is asked; what it reports
//! becomes a status update, which is written down before it is sent and sent again until the scheduler
//! acknowledges it; after the acknowledged terminal update nothing of the task is left but its sandbox.

mod checkpoint;
mod checks;
pub mod container;
mod drain;
mod environment;
mod io;
mod kill;
mod launch;
mod master;
mod recover;
mod state;
mod streams;
#[cfg(test)]
mod tests;

pub use io::{Effect, Input};
pub use state::{Agent, Config};
