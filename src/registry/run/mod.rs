//! The registry behind consensus: propose, view, watch.

mod arc_cell;
#[cfg(test)]
mod behind_tests;
mod handle;
mod in_order;
mod keeper;
mod offline;
#[cfg(test)]
mod tests;

pub use crate::consensus::core::Status;
pub use crate::consensus::run::{Link, ProposeError};
pub use handle::{Committed, Leadership, Others, RecordError, Registry, RegistryConfig, RegistryError};
pub use in_order::{HandedIn, Outcome, propose_in_order};
pub use offline::{Salvaged, begin, salvage};
