//! The interface of a store.

use super::StoreRoom;

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a value.
    Put(Vec<u8>, Vec<u8>),
    /// Sets a large value, which gets a file of its own.
    PutFile(Vec<u8>, Vec<u8>),
    /// Removes a key; an absent key is no error.
    Delete(Vec<u8>),
}

/// Changes that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order in which they apply.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Sets a value.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change::Put(key.into(), value.into()));
    }

    /// Sets a large value that is read and replaced as a whole, a snapshot: on disk it gets a file of its
    /// own.
    pub fn put_file(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change::PutFile(key.into(), value.into()));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(key.into()));
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What is on disk cannot be trusted; the text says what is damaged. Whoever opened the store knows how
    /// to go on without it.
    #[error("{0}")]
    Damaged(String),
    /// A later version wrote what is on disk.
    #[error("{0}")]
    Newer(String),
    /// The disk refused (full, failing); the store takes no more writes.
    #[error("{0}")]
    Failed(String),
    /// Another process holds the store.
    #[error("{0}")]
    Locked(String),
}

/// Longest key in bytes, in every store.
const MAX_KEY: usize = 256;
/// How the keys of a store's own records begin.
pub(super) const OWN: u8 = 0;

/// Refuses a key that no store takes.
pub(super) fn check_key(key: &[u8]) -> Result<(), StoreError> {
    if key.len() > MAX_KEY {
        return Err(StoreError::Failed(format!("a key of {} bytes is too long", key.len())));
    }
    if key.first() == Some(&OWN) {
        return Err(StoreError::Failed("keys that begin with a zero byte are the store's own".to_owned()));
    }
    Ok(())
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered key-value store. Keys have at most 256 bytes and do not begin with a zero byte; values may be
/// of any size.
pub trait Store: Send + Sync {
    /// Every pair whose key starts with `prefix`, in key order. Each value was verified against its
    /// checksum.
    ///
    /// # Errors
    /// A value is damaged.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError>;

    /// Applies a batch and returns when it is durable. Blocks; call it from a thread that may.
    ///
    /// # Errors
    /// The disk refused: nothing more may be acknowledged on this store.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// Its room, where that is watched.
    fn room(&self) -> Option<StoreRoom> {
        None
    }
}
