//! The log in memory, as raft reads it. The disk has the same; it is read only at start.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

/// Entries behind the last snapshot, and what the snapshot stands for.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) hard_state: HardState,
    /// The members at the snapshot.
    pub(super) conf_state: ConfState,
    /// Index and term before the first entry.
    pub(super) cut: (u64, u64),
    /// Index and term of the snapshot; at or behind `cut` is compacted only what it covers.
    pub(super) snapshot: (u64, u64),
    pub(super) snapshot_data: Bytes,
    pub(super) entries: VecDeque<Entry>,
    /// Raft asked for a newer snapshot than there is. It asks through a shared reference.
    pub(super) snapshot_wanted: AtomicBool,
}

impl Log {
    /// Adds entries; those that they replace go first.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = usize::try_from(first.index.saturating_sub(self.cut.0 + 1)).unwrap_or(usize::MAX);
        self.entries.truncate(keep);
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets entries up to `index`, which a snapshot covers. Returns the first that was forgotten.
    pub(super) fn compact(&mut self, index: u64) -> Option<u64> {
        let first = self.cut.0 + 1;
        let mut cut = self.cut;
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            if let Some(entry) = self.entries.pop_front() {
                cut = (entry.index, entry.term);
            }
        }
        self.cut = cut;
        (cut.0 >= first).then_some(first)
    }

    pub(super) fn is_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.load(Ordering::Relaxed)
    }

    pub(super) fn snapshot_taken(&self) {
        self.snapshot_wanted.store(false, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> u64 {
        self.entries.back().map_or(self.cut.0, |entry| entry.index)
    }

    fn at(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.cut.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.cut.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let mut entries = Vec::new();
        for index in low..high {
            entries.push(self.at(index).cloned().ok_or(Error::Store(StorageError::Unavailable))?);
        }
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.cut.0 {
            return Ok(self.cut.1);
        }
        if index == self.snapshot.0 {
            return Ok(self.snapshot.1);
        }
        if index < self.cut.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.at(index).map(|entry| entry.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.cut.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // Its receiver would drop a snapshot whose members it does not belong to, and ask for it for ever.
        let conf = &self.conf_state;
        let knows = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
        let is_known = knows.iter().any(|ids| ids.contains(&to));
        if self.snapshot.0 < request_index || !is_known {
            self.snapshot_wanted.store(true, Ordering::Relaxed);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.snapshot.0;
        metadata.term = self.snapshot.1;
        metadata.set_conf_state(self.conf_state.clone());
        snapshot.set_data(self.snapshot_data.clone());
        Ok(snapshot)
    }
}
