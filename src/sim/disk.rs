//! A disk that forgets what was not synced.

use std::collections::{BTreeMap, VecDeque};

/// A key, and its value or that it is removed.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// What is on it, and what was written and may be lost.
#[derive(Debug, Default)]
pub(super) struct Disk {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    written: VecDeque<(u64, Vec<Change>)>,
}

impl Disk {
    pub(super) fn write(&mut self, seq: u64, changes: Vec<Change>) {
        self.written.push_back((seq, changes));
    }

    /// Makes the oldest batches durable; answers the number of the last of them.
    pub(super) fn sync(&mut self, count: usize) -> Option<u64> {
        let mut last = None;
        for (seq, changes) in self.written.drain(..count.min(self.written.len())) {
            for (key, value) in changes {
                match value {
                    Some(value) => self.durable.insert(key, value),
                    None => self.durable.remove(&key),
                };
            }
            last = Some(seq);
        }
        last
    }

    pub(super) fn unsynced(&self) -> usize {
        self.written.len()
    }

    /// Power fails: of what was not synced the oldest `kept` batches reached the disk all the same.
    pub(super) fn crash(&mut self, kept: usize) {
        self.sync(kept);
        self.written.clear();
    }

    pub(super) fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.durable.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
