//! A store that forgets everything with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::store::MAX_KEY;
use super::{Batch, Change, Pair, Store, StoreError};

/// Pairs in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pairs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Store for MemoryStore {
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let from = pairs.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(from.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        for change in batch.changes {
            match change {
                Change::Put(key, _) if key.len() > MAX_KEY => {
                    return Err(StoreError::Failed(format!("a key of {} bytes is too long", key.len())));
                }
                Change::Put(key, value) => {
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
