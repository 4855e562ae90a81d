//! What breaks the parts of a cluster in one process, on request and without waiting for anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::journal::Journal;
use super::wires::{Part, Wires};
use crate::base::clock::SystemClock;
use crate::containerizer::Fake;
use crate::storage::{Fault, Faults};

/// What belongs to one part.
#[derive(Clone, Debug)]
pub(super) struct Lever {
    /// The name by which faults know its disk.
    pub(super) store: String,
    pub(super) clock: Arc<SystemClock>,
}

/// Breaks ways, disks and clocks; clones work on the same.
#[derive(Clone, Debug)]
pub struct Levers {
    pub(super) wires: Wires,
    pub(super) faults: Faults,
    pub(super) parts: BTreeMap<Part, Lever>,
    /// With the numbers of their agents.
    pub(super) fakes: Vec<(usize, Arc<Fake>)>,
    pub(super) journal: Journal,
}

impl Levers {
    /// What happened.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether there is such a part, running or not.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains_key(&part)
    }

    /// Every part.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.parts.keys().copied()
    }

    /// Lets nothing through from one part to another, in this direction only.
    pub fn cut(&self, from: Part, to: Part) {
        self.wires.cut(from, to);
    }

    /// Lets every message between parts be on its way for this long.
    pub fn delay(&self, delay: Duration) {
        self.wires.delay(delay);
    }

    /// Undoes every [`Levers::cut`] and [`Levers::delay`], and makes every disk whole.
    pub fn heal(&self) {
        self.wires.heal();
        self.faults.heal();
    }

    /// Gives the disk of a part a fault.
    pub fn fail_disk(&self, part: Part, fault: Fault) {
        if let Some(lever) = self.parts.get(&part) {
            self.faults.arm(&lever.store, fault);
        }
    }

    /// Lets the disk of a part count as nearly full.
    pub fn fill_disk(&self, part: Part) {
        if let Some(lever) = self.parts.get(&part) {
            self.faults.fill(&lever.store);
        }
    }

    /// Sets how far the wall clock of a part is ahead of the system's, in nanoseconds.
    pub fn skew_clock(&self, part: Part, nanos: i64) {
        if let Some(lever) = self.parts.get(&part) {
            lever.clock.skew(nanos);
        }
    }

    /// Containerizers that only pretend to run tasks, with the numbers of their agents.
    #[must_use]
    pub fn fakes(&self) -> &[(usize, Arc<Fake>)] {
        &self.fakes
    }
}
