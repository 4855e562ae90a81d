//! Delays of launches after failures (Marathon: backoffSeconds, backoffFactor, maxLaunchDelaySeconds).

use std::time::Duration;

use super::state::Services;
use crate::base::backoff::Backoff;
use crate::base::time::{Mono, seconds_capped};
use crate::service::model::Instance;

/// Longest delay between launches, whatever an app asks for.
const MAX_DELAY: Duration = Duration::from_secs(24 * 3_600);

/// Delay of an app's launches.
#[derive(Clone, Debug)]
pub(super) struct Delay {
    backoff: Backoff,
    /// Nothing is launched before.
    pub(super) until: Mono,
    /// Of which configuration.
    pub(super) config_ns: i64,
    /// When a launch failed last, or came a step further: the longest delay later without a failure,
    /// the failures are forgotten.
    last: Mono,
    longest: Duration,
}

impl Delay {
    fn forgotten_at(&self) -> Mono {
        self.last.after(self.longest)
    }
}

impl Services {
    /// A task failed: the next launch waits, longer each time. What is left of an earlier
    /// configuration says nothing about the current one.
    pub(super) fn delay(&mut self, instance: &Instance, now: Mono) {
        let Some(known) = self.apps.get(&instance.app_id) else { return };
        if instance.version_ns < known.config_ns {
            return;
        }
        let (app, config_ns) = (&known.current.app, known.config_ns);
        let longest = seconds_capped(app.max_launch_delay_seconds, MAX_DELAY);
        let delay = self.delays.entry(instance.app_id.clone()).or_insert_with(|| {
            let first = seconds_capped(app.backoff_seconds, MAX_DELAY);
            let backoff = Backoff::new(first, app.backoff_factor, longest);
            Delay { backoff, until: now, config_ns, last: now, longest }
        });
        delay.until = now.after(delay.backoff.next_delay());
        delay.last = now;
    }

    /// A launch came a step further: whether it works will show from here.
    pub(super) fn progress(&mut self, app_id: &str, now: Mono) {
        if let Some(delay) = self.delays.get_mut(app_id) {
            delay.last = now;
        }
    }

    /// Its launches need not wait any longer.
    pub(super) fn reset_delay(&mut self, app_id: &str) {
        self.delays.remove(app_id);
    }

    /// Until when an app's launches wait.
    pub(super) fn delayed_until(&self, app_id: &str, now: Mono) -> Option<Mono> {
        self.delays.get(app_id).map(|delay| delay.until).filter(|until| *until > now)
    }

    /// Forgets failures of long ago, unless a launch is wanted or on its way: with delays at their
    /// longest, a crash loop would begin anew each time. Answers when to look again.
    pub(super) fn forget_failures(&mut self, app_id: &str, is_quiet: bool, now: Mono) -> Option<Mono> {
        let at = self.delays.get(app_id)?.forgotten_at();
        if at > now {
            return Some(at);
        }
        if is_quiet {
            self.delays.remove(app_id);
        }
        None
    }
}
