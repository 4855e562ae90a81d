//! Raft without I/O: inputs in, effects out.
//!
//! The rule of order: what is appended becomes [`Effect::Persist`]; only [`Input::Persisted`] lets
//! raft count it, so a command is committed, applied and answered only after it is on disk. Ticks
//! never wait for that.

mod driver;
mod log;
mod records;
#[cfg(test)]
mod tests;

pub use driver::{Config, Consensus, Effect, Fault, Input, Role};
pub use records::{Boot, Records, Refuse, recover};
