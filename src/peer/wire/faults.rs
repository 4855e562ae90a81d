//! Faults of links on request, for tests: always there, and nothing unless armed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::chance::Chance;
use crate::base::id::NodeId;

/// What happens to the next frame of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It passes, so much later.
    Passes(Duration),
    /// It is lost.
    Lost,
}

/// One direction of a link.
#[derive(Debug)]
struct Rule {
    is_cut: bool,
    delay: Duration,
    /// Frames of a thousand that are lost, and the draw.
    loss: Option<(u64, Chance)>,
}

impl Default for Rule {
    fn default() -> Self {
        Self { is_cut: false, delay: Duration::ZERO, loss: None }
    }
}

#[derive(Debug, Default)]
struct Inner {
    is_armed: AtomicBool,
    rules: Mutex<BTreeMap<(NodeId, NodeId), Rule>>,
}

/// The faults of all links that share this value.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Inner>,
}

impl Faults {
    /// From now on nothing that `from` sends reaches `to`; the other direction still works.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.change(from, to, |rule| rule.is_cut = true);
    }

    /// Everything from `from` to `to` takes longer.
    pub fn delay(&self, from: NodeId, to: NodeId, by: Duration) {
        self.change(from, to, |rule| rule.delay = by);
    }

    /// Of a thousand frames from `from` to `to` so many are lost, drawn from `seed`.
    pub fn lose(&self, from: NodeId, to: NodeId, of_thousand: u64, seed: u64) {
        self.change(from, to, |rule| rule.loss = Some((of_thousand, Chance::new(seed))));
    }

    /// Ends every fault.
    pub fn heal(&self) {
        self.inner.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.inner.is_armed.store(false, Ordering::Release);
    }

    /// What happens to a frame now. Each call draws anew.
    #[must_use]
    pub fn fate(&self, from: NodeId, to: NodeId) -> Fate {
        if !self.inner.is_armed.load(Ordering::Acquire) {
            return Fate::Passes(Duration::ZERO);
        }
        let mut rules = self.inner.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rule) = rules.get_mut(&(from, to)) else { return Fate::Passes(Duration::ZERO) };
        let is_lost = rule.loss.as_mut().is_some_and(|(share, chance)| chance.below(1_000) < *share);
        if rule.is_cut || is_lost { Fate::Lost } else { Fate::Passes(rule.delay) }
    }

    /// Whether a direction is cut.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.inner.is_armed.load(Ordering::Acquire)
            && self
                .inner
                .rules
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&(from, to))
                .is_some_and(|rule| rule.is_cut)
    }

    fn change(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Rule)) {
        change(
            self.inner.rules.lock().unwrap_or_else(PoisonError::into_inner).entry((from, to)).or_default(),
        );
        self.inner.is_armed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_one_way_repeatable_and_healed() {
        let node = |number| NodeId::new(number).expect("not zero");
        let (one, two) = (node(1), node(2));
        let passes = Fate::Passes(Duration::ZERO);
        let draws = |seed| {
            let faults = Faults::default();
            faults.lose(one, two, 500, seed);
            (0..64).map(|_| faults.fate(one, two)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let faults = Faults::default();
        assert_eq!(faults.fate(one, two), passes);
        faults.cut(one, two);
        assert_eq!((faults.fate(one, two), faults.fate(two, one)), (Fate::Lost, passes));
        assert!(faults.is_cut(one, two) && !faults.is_cut(two, one));
        faults.heal();
        faults.delay(one, two, Duration::from_millis(5));
        assert_eq!(faults.fate(one, two), Fate::Passes(Duration::from_millis(5)));
    }
}
