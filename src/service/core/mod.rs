//! The service framework's decisions.
//!
//! It is driven by levels, not by steps: after each input [`Services::settle`] compares what should
//! run (the replicated apps and deployments) with what does (the replicated instances and what the
//! master said of their tasks) and emits what is missing: kills, wishes for offers, probes, steps of
//! deployments. An instance is launched only after its intent is committed, so a deposed leader
//! launches nothing.

mod deploy;
mod health;
mod io;
mod launch;
mod matcher;
mod plan;
mod state;
mod task;
#[cfg(test)]
mod tests;
mod updates;
mod views;

pub use io::{Effect, Input, Target};
pub use plan::plan;
pub use state::Services;
