//! The master's decisions.
//!
//! The walk of a launch: an agent registers ([`agents`](self)) and its resources are free; the
//! allocator grants them to a subscribed framework and they become an offer; ACCEPT takes the offer
//! apart, checks each task and tells the agent to run it; status updates come back, are booked and
//! passed on; the scheduler acknowledges, the agent hears of it. Resources are charged from the offer
//! to the first terminal state.
//!
//! [`Master::handle`] takes one input, [`Master::settle`] follows a group of them: it makes offers.

mod accept;
mod agents;
mod forget;
#[cfg(test)]
mod forget_tests;
mod framework_check;
mod frameworks;
mod io;
mod kill;
mod legacy;
#[cfg(test)]
mod legacy_tests;
#[cfg(test)]
mod links_tests;
mod losses;
mod nodes;
mod offers;
mod reconcile;
mod returning;
#[cfg(test)]
mod script_tests;
mod silence;
mod state;
#[cfg(test)]
mod streams_tests;
mod subscribe;
mod task_check;
#[cfg(test)]
mod tasks_tests;
#[cfg(test)]
mod tests;
mod updates;
mod views;
mod wire;

pub use io::{ConnId, Effect, Input, LinkId, ReplyId};
pub use state::{Config, Master};
