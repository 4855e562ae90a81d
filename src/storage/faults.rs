//! Faults of disks on request, for tests: always there, and nothing unless armed.
//!
//! A fault names the store whose disk has it and begins after a number of commits: `registry` is the store
//! of a sole master, `master-<n>` that of one of several, `agent-<n>` an agent's.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The disk does not confirm what was written.
    SyncFails,
    /// The disk confirms this much later.
    SyncSlow(Duration),
    /// There is no room for what is written.
    NoSpace,
    /// Power fails while the commit is written: only the first half of it is on the disk.
    TornTail,
    /// A byte of what was written changes later.
    FlippedByte,
}

/// A fault and when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Commits that go well first, counted from when it was armed.
    pub after: u64,
    /// Commits that it hits; none: every one from then on.
    pub times: Option<u64>,
}

impl Fault {
    /// It hits every commit after the first `after`.
    #[must_use]
    pub const fn from(kind: FaultKind, after: u64) -> Self {
        Self { kind, after, times: None }
    }

    /// It hits one commit, after the first `after`.
    #[must_use]
    pub const fn once(kind: FaultKind, after: u64) -> Self {
        Self { kind, after, times: Some(1) }
    }

    fn hits(&self, commit: u64) -> bool {
        commit > self.after && self.times.is_none_or(|times| commit - self.after <= times)
    }
}

#[derive(Debug)]
struct Armed {
    store: String,
    fault: Fault,
    /// Commits since it was armed.
    seen: u64,
}

#[derive(Debug, Default)]
struct Inner {
    is_armed: AtomicBool,
    armed: Mutex<Vec<Armed>>,
    /// Stores whose disks have no room for anything new.
    full: Mutex<BTreeSet<String>>,
    /// Stores whose disks had a fault that hit a commit.
    hit: Mutex<BTreeSet<String>>,
}

/// The faults of all stores that share this value.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Inner>,
}

impl Faults {
    /// From now on a store's disk has a fault.
    pub fn arm(&self, store: &str, fault: Fault) {
        let armed = Armed { store: store.to_owned(), fault, seen: 0 };
        let mut all = self.inner.armed.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(armed);
        self.inner.is_armed.store(true, Ordering::Release);
    }

    /// From now on the disk of a store counts as nearly full: its owner takes on nothing new.
    pub fn fill(&self, store: &str) {
        self.inner.full.lock().unwrap_or_else(PoisonError::into_inner).insert(store.to_owned());
    }

    /// Whether a store's disk counts as nearly full.
    pub(super) fn is_full(&self, store: &str) -> bool {
        self.inner.full.lock().unwrap_or_else(PoisonError::into_inner).contains(store)
    }

    /// Whether a fault has hit a commit of a store, also if it has ended since; [`Faults::heal_store`] forgets
    /// it.
    #[must_use]
    pub fn has_hit(&self, store: &str) -> bool {
        self.inner.hit.lock().unwrap_or_else(PoisonError::into_inner).contains(store)
    }

    /// Ends every fault of a store. What they did stays done.
    pub fn heal_store(&self, store: &str) {
        self.inner.armed.lock().unwrap_or_else(PoisonError::into_inner).retain(|armed| armed.store != store);
        self.inner.full.lock().unwrap_or_else(PoisonError::into_inner).remove(store);
        self.inner.hit.lock().unwrap_or_else(PoisonError::into_inner).remove(store);
    }

    /// Ends every fault. What they did stays done.
    pub fn heal(&self) {
        self.inner.full.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut all = self.inner.armed.lock().unwrap_or_else(PoisonError::into_inner);
        all.clear();
        self.inner.is_armed.store(false, Ordering::Release);
    }

    /// What goes wrong with the next commit of a store.
    pub(super) fn of_commit(&self, store: &str) -> Due {
        let mut due = Due::default();
        if !self.inner.is_armed.load(Ordering::Acquire) {
            return due;
        }
        let mut all = self.inner.armed.lock().unwrap_or_else(PoisonError::into_inner);
        for armed in all.iter_mut().filter(|armed| armed.store == store) {
            armed.seen += 1;
            if armed.fault.hits(armed.seen) {
                due.add(armed.fault.kind);
                self.inner.hit.lock().unwrap_or_else(PoisonError::into_inner).insert(store.to_owned());
            }
        }
        due
    }
}

/// What goes wrong with one commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) sync_fails: bool,
    pub(super) sync_slow: Duration,
    pub(super) no_space: bool,
    pub(super) torn_tail: bool,
    pub(super) flipped_byte: bool,
}

impl Due {
    fn add(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::SyncFails => self.sync_fails = true,
            FaultKind::SyncSlow(by) => self.sync_slow = self.sync_slow.max(by),
            FaultKind::NoSpace => self.no_space = true,
            FaultKind::TornTail => self.torn_tail = true,
            FaultKind::FlippedByte => self.flipped_byte = true,
        }
    }

    /// Whether the bytes of the file are changed.
    pub(super) const fn damages(&self) -> bool {
        self.torn_tail || self.flipped_byte
    }

    /// Before anything is written.
    pub(super) fn write(&self) -> std::io::Result<()> {
        if self.no_space { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// In place of the disk's own word, when something is to be made durable.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        if !self.sync_slow.is_zero() {
            std::thread::sleep(self.sync_slow);
        }
        if self.sync_fails {
            Err(std::io::Error::other("the disk did not confirm it (a fault on request)"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_the_commits_that_it_names_of_the_store_that_it_names() {
        let faults = Faults::default();
        assert_eq!(faults.of_commit("registry"), Due::default());
        faults.arm("registry", Fault { kind: FaultKind::NoSpace, after: 2, times: Some(2) });
        faults.arm("registry", Fault::from(FaultKind::SyncSlow(Duration::from_secs(1)), 3));
        let hits: Vec<_> = (0..6)
            .map(|_| faults.of_commit("registry"))
            .map(|due| (due.no_space, due.sync_slow.as_secs()))
            .collect();
        assert_eq!(hits, [(false, 0), (false, 0), (true, 0), (true, 1), (false, 1), (false, 1)]);
        assert_eq!(faults.of_commit("agent-0"), Due::default());
        faults.heal();
        assert_eq!(faults.of_commit("registry"), Due::default());
        assert!(faults.has_hit("registry") && !faults.has_hit("agent-0"), "it is remembered");
        faults.heal_store("registry");
        assert!(!faults.has_hit("registry"));
    }
}
