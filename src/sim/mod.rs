//! Whole clusters without a clock, a socket or a disk: masters with their consensus, agents and frameworks
//! over the pure cores, in a world that one seed decides.
//!
//! The world performs the effects of every core itself, late, lost or not at all: a virtual clock, a
//! network that delays, loses and cuts, disks that lose what was not synced, processes that crash. A checker
//! looks at every step. What a run cannot reach is a decision in the wrong room.

mod agents;
mod checker;
mod clients;
mod disk;
mod events;
mod faults;
mod frameworks;
mod history;
mod hosts;
mod masters;
mod nodes;
mod offers;
mod rest;
mod rogue;
mod schedule;
mod shrink;
mod world;

pub use schedule::{Planned, What};
pub use shrink::shrink;
pub use world::{Failure, Options, Report, play, run, schedule};
