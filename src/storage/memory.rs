//! A store that forgets everything with the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::store::check_key;
use super::{Batch, Change, Faults, Pair, Store, StoreError, StoreRoom};

/// Pairs in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pairs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// A commit failed: nothing more is done.
    broken: AtomicBool,
    name: String,
    faults: Faults,
}

impl MemoryStore {
    /// An empty store whose disk, if it had one, would have these faults: failing and slow ones, and a lack
    /// of room.
    #[must_use]
    pub fn with_faults(name: &str, faults: Faults) -> Self {
        Self { name: name.to_owned(), faults, ..Self::default() }
    }

    /// Begins to work again after a failure, as a store on disk that is opened again.
    pub fn reopen(&self) {
        self.broken.store(false, Ordering::SeqCst);
    }

    fn disturb(&self) -> Result<(), StoreError> {
        let due = self.faults.of_commit(&self.name);
        due.write().and_then(|()| due.sync()).map_err(|error| {
            self.broken.store(true, Ordering::SeqCst);
            StoreError::Failed(format!("writing to memory failed: {error}"))
        })
    }
}

impl Store for MemoryStore {
    fn room(&self) -> Option<StoreRoom> {
        Some(StoreRoom { disk: None, store: self.name.clone(), faults: self.faults.clone() })
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let from = pairs.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(from.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("an earlier write to memory failed; start again".to_owned()));
        }
        self.disturb()?;
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        for change in batch.changes {
            match change {
                Change::Put(key, value) | Change::PutFile(key, value) => {
                    check_key(&key)?;
                    pairs.insert(key, value);
                }
                Change::Delete(key) => {
                    pairs.remove(&key);
                }
            }
        }
        Ok(())
    }
}
