//! The replicated state and the closed list of commands that change it.
//!
//! Applying is deterministic: no clock, no chance, no float, no random order. Commands are checked
//! before they are proposed; what does not fit the state any more when it is applied is refused with
//! a reply, never with an error.

mod backup;
mod command;
mod joining;
mod masters;
mod state;
#[cfg(test)]
mod tests;

pub use backup::Backup;
pub use command::{Change, Command, DecodeError, Reply};
pub use joining::{Authority, TokenEntry};
pub use masters::MasterEntry;
pub use state::{AgentEntry, FrameworkEntry, MAX_REMOVED_FRAMEWORKS, Standing, State};

/// The newest command and snapshot format that this version knows.
pub const VERSION: u32 = 4;
/// The version since which [`Change::ForgetAgents`] is understood.
pub const FORGETS_AGENTS: u32 = 2;
/// The version since which masters, the authority and join tokens are recorded.
pub const KNOWS_MASTERS: u32 = 3;
/// The version since which agents belong to nodes, and any node can be removed.
pub const KNOWS_NODES: u32 = 4;
