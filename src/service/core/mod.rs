//! The service framework's decisions.
//!
//! It is driven by levels, not by steps: after each input [`Services::settle`] compares what should
//! run (the replicated apps and deployments) with what does (the replicated instances and what the
//! master said of their tasks) and emits what is missing: kills, wishes for offers, probes, steps of
//! deployments. An instance is launched only after its intent is committed, so a deposed leader
//! launches nothing.

mod alarms;
mod delay;
mod deploy;
#[cfg(test)]
mod deploy_tests;
mod fact;
mod health;
#[cfg(test)]
mod health_tests;
mod io;
mod known;
mod launch;
#[cfg(test)]
mod launch_tests;
mod link;
#[cfg(test)]
mod link_tests;
mod matcher;
mod plan;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod script_tests;
mod state;
mod task;
#[cfg(test)]
mod tests;
mod unreachable;
#[cfg(test)]
mod unreachable_tests;
mod updates;
mod views;

pub use io::{Effect, Input, Target};
pub use plan::plan;
pub use state::Services;
