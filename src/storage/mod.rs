//! Ordered key-value stores with atomic batches and durable commit: sled on disk, and memory.
//!
//! The storage rule: a commit is acknowledged only after the batch was applied, flushed and synced
//! on our own handle of sled's file. After a failed commit a store refuses everything, because what
//! is on disk is not known any more.
//!
//! A store's directory holds sled's files, `mark` (what the last commits left, to notice what sled loses),
//! `format` (the version of all this), `lock`, and `<key>-<number>.value` for each large value.

#[cfg(test)]
mod damage_tests;
mod faults;
mod file;
mod format;
mod mark;
mod memory;
mod open;
mod pieces;
mod rewrite;
mod room;
mod sled_store;
mod store;
#[cfg(test)]
mod tests;
mod wreck;
mod writer;

pub use faults::{Fault, FaultKind, Faults};
pub use memory::MemoryStore;
pub use room::{Room, Shortage, StoreRoom};
pub use sled_store::SledStore;
pub use store::{Batch, Change, Pair, Store, StoreError};
pub use writer::{Persisted, Writer};
