//! Tasks on agents that nobody hears of (Marathon's unreachableStrategy).

use std::time::Duration;

use super::fact::Fact;
use super::state::Services;
use crate::api::marathon::{App, UnreachableStrategy};
use crate::api::v1::{self, TaskState as State};
use crate::base::time::{Mono, Now, Timestamp};
use crate::service::model::Instance;

/// Longest patience with an agent; absurd values count as this.
const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// A task is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Away {
    /// When a replacement is launched; never if its app disables that.
    pub(super) inactive_at: Option<Mono>,
    /// When it is forgotten.
    pub(super) expunge_at: Option<Mono>,
    /// It does not count any more.
    pub(super) inactive: bool,
}

/// After what times a task out of reach is inactive, and expunged; none if never.
fn limits(app: Option<&App>) -> Option<(Duration, Duration)> {
    // Without a definition: at once, which is Marathon's default.
    let strategy = app.map(|app| app.unreachable_strategy).unwrap_or_default();
    let UnreachableStrategy::Enabled { inactive_after_seconds, expunge_after_seconds } = strategy else {
        return None;
    };
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(MAX);
    Some((seconds(inactive_after_seconds), seconds(expunge_after_seconds)))
}

impl Services {
    /// The master cannot reach a task's agent. True if the instance waits for it.
    pub(super) fn unreachable(&mut self, instance: &Instance, status: &v1::TaskStatus, now: Now) -> bool {
        let Some(fact) = self.fact_mut(instance) else { return false };
        let limits = limits(fact.app.as_deref());
        // What should end anyway is killed when it shows up again.
        if fact.killing || limits.is_some_and(|(_, expunge)| expunge.is_zero()) {
            return false;
        }
        let gone = status
            .unreachable_time
            .as_ref()
            .map_or(Duration::ZERO, |time| now.wall.since(Timestamp::from_nanos(time.nanoseconds)));
        let at = |after: Duration| now.mono.after(after.saturating_sub(gone));
        fact.state = State::TaskUnreachable;
        fact.away.get_or_insert_with(|| Away {
            inactive_at: limits.map(|(inactive, _)| at(inactive)),
            expunge_at: limits.map(|(_, expunge)| at(expunge)),
            inactive: false,
        });
        true
    }
}

impl Fact {
    /// Counts a task that is out of reach for too long no more; true if it is forgotten, too.
    pub(super) fn is_given_up(&mut self, now: Mono) -> bool {
        let Some(away) = &mut self.away else { return false };
        away.inactive |= away.inactive_at.is_some_and(|at| at <= now);
        !self.over && away.expunge_at.is_some_and(|at| at <= now)
    }
}
