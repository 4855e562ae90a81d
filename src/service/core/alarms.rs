//! When each app has something to do although nothing happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::time::Mono;

/// An alarm is never nearer than this: whatever a deadline says, the loop does not spin.
const NEAREST: Duration = Duration::from_millis(1);

/// One alarm for each app at the most.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    by_app: BTreeMap<String, Mono>,
    in_order: BTreeSet<(Mono, String)>,
}

impl Alarms {
    /// Sets an app's alarm, or takes it away.
    pub(super) fn set(&mut self, app_id: &str, at: Option<Mono>, now: Mono) {
        let at = at.map(|at| at.max(now.after(NEAREST)));
        if self.by_app.get(app_id).copied() == at {
            return;
        }
        if let Some(old) = self.by_app.remove(app_id) {
            self.in_order.remove(&(old, app_id.to_owned()));
        }
        if let Some(at) = at {
            self.by_app.insert(app_id.to_owned(), at);
            self.in_order.insert((at, app_id.to_owned()));
        }
    }

    /// Takes out the apps whose alarm has come.
    pub(super) fn due(&mut self, now: Mono) -> Vec<String> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.in_order.first()
            && *at <= now
            && let Some((_, app_id)) = self.in_order.pop_first()
        {
            self.by_app.remove(&app_id);
            due.push(app_id);
        }
        due
    }

    /// The next one.
    pub(super) fn first(&self) -> Option<Mono> {
        self.in_order.first().map(|(at, _)| *at)
    }
}
