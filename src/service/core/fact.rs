//! What is known of an instance's task.

use std::sync::Arc;
use std::time::Duration;

use super::unreachable::Away;
use crate::api::marathon::{App, HealthCheck};
use crate::api::v1::TaskState as State;
use crate::base::time::{Mono, Timestamp};
use crate::service::model::Instance;

/// A kill is repeated until the task has ended.
pub(super) const KILL_RETRY: Duration = Duration::from_secs(30);

/// How long a task may take from its launch until it runs (Marathon: task_launch_timeout).
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(300);

/// What one check of an instance found.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckFact {
    pub(super) alive: Option<bool>,
    pub(super) failures: u32,
    pub(super) first_success: Option<Timestamp>,
    pub(super) last_success: Option<Timestamp>,
    pub(super) last_failure: Option<Timestamp>,
    pub(super) cause: Option<String>,
    /// When it runs next; none while it runs, or when it cannot.
    pub(super) next: Option<Mono>,
}

/// How well a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// A check says that it is not.
    Unhealthy,
    /// It does not run yet.
    Pending,
    /// It runs, but a check has no opinion yet, or the master has not been heard of it.
    Unknown,
    /// It runs, and every check says well.
    Healthy,
}

/// What is known of an instance's task.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) instance: Arc<Instance>,
    /// The definition that it was launched from: its checks are the ones that hold. None if its app
    /// was removed.
    pub(super) app: Option<Arc<App>>,
    pub(super) state: State,
    /// The master said so since this framework subscribed.
    pub(super) confirmed: bool,
    pub(super) started: Option<Timestamp>,
    pub(super) running_since: Option<Mono>,
    /// Since when it should come up.
    pub(super) pending_since: Option<Mono>,
    /// Its agent is out of reach.
    pub(super) away: Option<Away>,
    /// Its end is wanted, whether the master could be told so or not.
    pub(super) killing: bool,
    /// It was well when its end became wanted.
    pub(super) was_well: bool,
    /// When the master was told last.
    pub(super) kill_sent: Option<Mono>,
    pub(super) checks: Vec<CheckFact>,
    /// Health as the agent's checks found it.
    pub(super) agent_health: Option<bool>,
    pub(super) addresses: Vec<String>,
    /// Its end is on its way into the replicated state.
    pub(super) over: bool,
}

impl Fact {
    pub(super) fn new(instance: Arc<Instance>, app: Option<Arc<App>>) -> Self {
        let checks = app.iter().flat_map(|app| &app.health_checks).map(|_| CheckFact::default()).collect();
        // What was known before a restart holds until the master says otherwise.
        let started = instance.started_ns.map(Timestamp::from_nanos);
        Self {
            instance,
            state: if started.is_some() { State::TaskRunning } else { State::TaskStaging },
            confirmed: false,
            started,
            running_since: None,
            pending_since: None,
            away: None,
            killing: false,
            was_well: false,
            kill_sent: None,
            checks,
            app,
            agent_health: None,
            addresses: Vec::new(),
            over: false,
        }
    }

    /// The checks that hold for it.
    pub(super) fn health_checks(&self) -> &[HealthCheck] {
        self.app.as_ref().map_or(&[], |app| &app.health_checks)
    }

    pub(super) fn health(&self) -> Health {
        if self.state != State::TaskRunning {
            return Health::Pending;
        }
        if !self.confirmed {
            return Health::Unknown;
        }
        let opinions =
            self.health_checks().iter().zip(&self.checks).map(|(check, found)| {
                if check.is_marathon_level() { found.alive } else { self.agent_health }
            });
        opinions.fold(Health::Healthy, |health, opinion| match opinion {
            Some(true) => health,
            Some(false) => Health::Unhealthy,
            None => health.min(Health::Unknown),
        })
    }

    pub(super) fn is_healthy(&self) -> bool {
        !self.killing && self.health() == Health::Healthy
    }

    /// Whether its checks may run: the same answer for who runs them and for who sets the alarm.
    pub(super) fn is_probed(&self) -> bool {
        self.state == State::TaskRunning && !self.killing && !self.over
    }

    /// When something is due although nothing happens.
    pub(super) fn deadline(&self) -> Option<Mono> {
        if self.over {
            return None;
        }
        let kill = self.kill_sent.filter(|_| self.killing).map(|at| at.after(KILL_RETRY));
        let probes = self.checks.iter().filter(|_| self.is_probed()).filter_map(|check| check.next);
        let inactive = self.away.filter(|away| !away.inactive).and_then(|away| away.inactive_at);
        let expunged = self.away.and_then(|away| away.expunge_at);
        probes.chain(kill).chain(self.overdue_at()).chain(inactive).chain(expunged).min()
    }

    /// When it has taken too long to come up.
    pub(super) fn overdue_at(&self) -> Option<Mono> {
        self.pending_since.filter(|_| self.is_coming()).map(|since| since.after(LAUNCH_TIMEOUT))
    }

    /// Whether it should run and does not yet. Of a task that the master has not spoken of nobody knows.
    pub(super) fn is_coming(&self) -> bool {
        let is_pending = matches!(self.state, State::TaskStaging | State::TaskStarting);
        is_pending && self.confirmed && !self.killing && !self.over
    }
}
