//! Requests of `/v2`: what is answered at once, and what becomes a change of the replicated state.

mod answer;
mod cancel;
mod change;
mod kill;
mod ports;
mod queue;
mod read;
mod show;
mod stats;

pub(super) use answer::{Answer, Proposal, World, answer, planned};
