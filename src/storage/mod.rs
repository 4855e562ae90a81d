//! Ordered key-value stores with atomic batches and durable commit: sled on disk, and memory.
//!
//! The storage rule: a commit is acknowledged only after the batch was applied, flushed and synced
//! on our own handle of sled's file. After a failed commit a store refuses everything, because what
//! is on disk is not known any more.

mod memory;
mod sled_store;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use memory::MemoryStore;
pub use sled_store::SledStore;
pub use store::{Batch, Change, Pair, Store, StoreError};
pub use writer::{Persisted, Writer};
