//! Raft without I/O: inputs in, effects out.
//!
//! The rule of order: what is appended becomes [`Effect::Persist`]; only [`Input::Persisted`] lets
//! raft count it, and lets a follower's votes and answers leave. So a command is committed, applied
//! and answered only after it is on disk. Ticks never wait for that.

#[cfg(test)]
mod cluster_tests;
mod driver;
mod election;
mod io;
mod log;
mod members;
mod messages;
mod offline;
mod reads;
mod records;
#[cfg(test)]
mod tests;

pub use driver::Consensus;
pub use io::{Config, Effect, Fault, Input, Progress, Refusal, Role, SNAPSHOT_EVERY, Status};
pub use offline::{Held, begin_with, held};
pub use records::{Boot, Records, RecoveredLog, Refuse, SNAPSHOT, recover};
