//! The registry behind consensus: propose, view, watch.

mod arc_cell;
mod handle;
mod keeper;
#[cfg(test)]
mod tests;

pub use crate::consensus::core::Status;
pub use crate::consensus::run::{Link, ProposeError};
pub use handle::{Committed, Leadership, Others, RecordError, Registry, RegistryConfig, RegistryError};
