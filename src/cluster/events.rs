//! What happened, to wait for and to look back at.

use std::time::Duration;

use super::{Cluster, Event, WaitError};
use crate::node::Journal;

/// Events that a wait that failed names.
const NAMED: usize = 10;

/// The events of a cluster, one after another.
#[derive(Debug)]
pub struct Events {
    journal: Journal,
    next: usize,
}

impl Events {
    /// The next event for which this holds; those before it are passed over.
    ///
    /// # Errors
    /// None came within this time: with the last that did.
    pub async fn next_matching(
        &mut self,
        within: Duration,
        mut holds: impl FnMut(&Event) -> bool,
    ) -> Result<Event, WaitError> {
        let looking = async {
            loop {
                let (number, event) = self.journal.event(self.next).await;
                self.next = number + 1;
                if holds(&event) {
                    return event;
                }
            }
        };
        let waited = tokio::time::timeout(within, looking).await;
        waited.map_err(|_| WaitError {
            what: "an event".to_owned(),
            within,
            reasons: vec!["none of those that came was it".to_owned()],
            events: last(&self.journal),
            logs: Vec::new(),
        })
    }
}

/// The newest events, in words.
pub(super) fn last(journal: &Journal) -> Vec<String> {
    journal.last(NAMED).iter().map(ToString::to_string).collect()
}

impl Cluster {
    /// The events from now on. [`Cluster::history`] has those before.
    #[must_use]
    pub fn events(&self) -> Events {
        let journal = self.levers.journal().clone();
        Events { next: journal.count(), journal }
    }

    /// What happened until now, oldest first: at most the last 10,000 events.
    #[must_use]
    pub fn history(&self) -> Vec<Event> {
        self.levers.journal().all()
    }
}
