//! The agent as its master, its containerizer and its disk see it: scripts, and random sequences
//! with crashes that lose what was not acknowledged by the disk.

mod checks;
mod drain;
mod kill;
mod model;
mod random;
mod recovery;
mod restart;
mod streams;
mod support;
