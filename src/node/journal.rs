//! What happened in a cluster in one process, for whoever tests something with it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::api::peer::from_agent;
use crate::api::v1;
use crate::base::clock::SystemClock;
use crate::base::time::Clock;

/// Events that are kept; older ones are forgotten.
const KEPT: usize = 10_000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, since the cluster began to start.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What may happen.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A master leads.
    Leader(usize),
    /// A master does not lead any more.
    Deposed(usize),
    /// An agent asked a master to admit it, for the first time or again.
    Registering(usize),
    /// An agent told a master of a task. What it tells again is no event.
    Task {
        /// The agent.
        agent: usize,
        /// What it told.
        status: Box<v1::TaskStatus>,
    },
    /// Something was broken or mended on request.
    Fault(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:.3} s ", self.at.as_secs_f64())?;
        match &self.what {
            What::Leader(number) => write!(f, "master {number} leads"),
            What::Deposed(number) => write!(f, "master {number} does not lead any more"),
            What::Registering(number) => write!(f, "agent {number} registers"),
            What::Task { agent, status } => {
                write!(f, "{} {} on agent {agent}", status.state().as_str_name(), status.task_id.value)?;
                match &status.message {
                    Some(message) => write!(f, ": {message}"),
                    None => Ok(()),
                }
            }
            What::Fault(what) => f.write_str(what),
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    /// Updates of tasks that are among them, by their uuid.
    told: BTreeSet<Vec<u8>>,
    /// How many were forgotten.
    forgotten: usize,
}

fn uuid_of(what: &What) -> Option<&[u8]> {
    match what {
        What::Task { status, .. } => status.uuid.as_deref(),
        _ => None,
    }
}

#[derive(Debug)]
struct Inner {
    clock: SystemClock,
    kept: Mutex<Kept>,
    /// How many there were.
    count: watch::Sender<usize>,
}

/// The events in order; clones share them.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

impl Journal {
    /// An empty one, which begins now.
    pub(super) fn new() -> Self {
        let (count, _) = watch::channel(0);
        Self(Arc::new(Inner { clock: SystemClock::new(), kept: Mutex::default(), count }))
    }

    /// Adds an event that happens now.
    pub fn record(&self, what: What) {
        let at = self.0.clock.now().mono.since_start();
        {
            let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if uuid_of(&what).is_some_and(|uuid| !kept.told.insert(uuid.to_vec())) {
                return;
            }
            kept.events.push_back(Event { at, what });
            if kept.events.len() > KEPT {
                let oldest = kept.events.pop_front();
                if let Some(uuid) = oldest.as_ref().and_then(|event| uuid_of(&event.what)) {
                    kept.told.remove(uuid);
                }
                kept.forgotten += 1;
            }
        }
        self.0.count.send_modify(|count| *count += 1);
    }

    /// What an agent said.
    pub(super) fn said(&self, agent: usize, message: &from_agent::Message) {
        match message {
            from_agent::Message::Register(_) | from_agent::Message::Reregister(_) => {
                self.record(What::Registering(agent));
            }
            from_agent::Message::Update(update) => {
                self.record(What::Task { agent, status: Box::new(update.status.clone()) });
            }
            _ => {}
        }
    }

    /// Everything that is kept.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).events.iter().cloned().collect()
    }

    /// The newest of them, oldest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<Event> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.events.iter().skip(kept.events.len().saturating_sub(count)).cloned().collect()
    }

    /// How many events there were.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.0.count.borrow()
    }

    /// The event of this number, counted from 0, as soon as there is one; of those that are forgotten, the
    /// oldest that is kept. With its number.
    pub async fn event(&self, number: usize) -> (usize, Event) {
        let mut count = self.0.count.subscribe();
        loop {
            // The sender is in `self`.
            let _ = count.wait_for(|count| *count > number).await;
            let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let at = number.saturating_sub(kept.forgotten);
            if let Some(event) = kept.events.get(at) {
                return (kept.forgotten + at, event.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::peer;

    fn update(uuid: u8) -> from_agent::Message {
        let status = v1::TaskStatus { uuid: Some(vec![uuid; 16]), ..Default::default() };
        let framework_id = v1::FrameworkId::default();
        from_agent::Message::Update(peer::StatusUpdate { framework_id, status, latest_state: 0 })
    }

    #[tokio::test]
    async fn what_is_told_again_is_no_event_and_what_is_long_ago_is_forgotten() {
        let journal = Journal::new();
        journal.said(0, &update(1));
        journal.said(0, &update(1));
        journal.said(0, &update(2));
        assert_eq!(journal.count(), 2);
        for number in 0..KEPT {
            journal.record(What::Leader(number));
        }
        assert_eq!((journal.count(), journal.all().len()), (KEPT + 2, KEPT));
        // Both updates are forgotten: a wait from the beginning goes on with what is kept.
        let (number, event) = journal.event(0).await;
        assert_eq!((number, event.what), (2, What::Leader(0)));
        let later = journal.clone();
        let waiting = tokio::spawn(async move { later.event(KEPT + 2).await.1.what });
        journal.record(What::Deposed(7));
        assert_eq!(waiting.await.expect("no panic"), What::Deposed(7));
    }
}
