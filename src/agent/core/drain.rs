//! Taking no more tasks for a while, and leaving a cluster: no more offers, every task ends, its framework
//! acknowledges that, and then the agent unregisters. Each wait has an end: tasks, frameworks and the master
//! have a deadline.

use std::time::Duration;

use super::io::Effect;
use super::state::{Agent, KillCause, Phase};
use crate::api::peer::{self, from_agent};
use crate::api::v1;
use crate::base::time::{Mono, Now};

/// How long tasks may take to end after the last of them was to be ended by force.
const ENDED: Duration = Duration::from_secs(120);
/// How long frameworks may take to acknowledge the ends of their tasks.
const ACKNOWLEDGED: Duration = Duration::from_secs(30);
/// How long the master may take to record that the agent left.
const RECORDED: Duration = Duration::from_secs(10);
/// How often masters are told: one of an earlier version only closes the connection, and would be told for ever.
const TELLS: u8 = 2;

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Drain {
    /// Tasks are ending; those that have not until then cannot be ended.
    Ending(Mono),
    /// They have ended; until then their frameworks may acknowledge that.
    Ended(Mono),
    /// The agent is leaving; until then the master may record it.
    Leaving {
        until: Mono,
        /// How many masters were told.
        tells: u8,
        /// The one over the connection that stands was.
        told: bool,
    },
    Over,
}

impl Agent {
    /// Whether there is room for more tasks: while there is not, nothing of the agent is offered.
    pub(super) fn on_room(&mut self, is_short: bool, effects: &mut Vec<Effect>) {
        if self.is_short != is_short {
            self.is_short = is_short;
            if self.registered {
                self.say_pausing(is_short, effects);
            }
        }
    }

    /// To a master that has just admitted this agent; it takes for granted that there is room.
    pub(super) fn say_room(&self, effects: &mut Vec<Effect>) {
        if self.is_short {
            self.say_pausing(true, effects);
        }
    }

    fn say_pausing(&self, is_paused: bool, effects: &mut Vec<Effect>) {
        effects.push(Effect::Tell(Box::new(from_agent::Message::Pausing(peer::Pausing { is_paused }))));
    }

    /// Tells the master first: what ends here must not be started here again.
    pub(super) fn on_drain(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain::Ending(now.mono));
        self.say_draining(effects);
        self.kill_all(KillCause::Draining, now, effects);
        let graces = self.tasks.values().filter_map(|task| task.killing.as_ref()?.escalate);
        self.drain = Some(Drain::Ending(graces.max().unwrap_or(now.mono).after(ENDED)));
    }

    pub(super) fn say_draining(&self, effects: &mut Vec<Effect>) {
        if self.drain.is_some() && self.registered {
            effects.push(Effect::Tell(Box::new(from_agent::Message::Draining(peer::Draining {}))));
        }
    }

    /// Takes the steps of a drain that are due; after each input.
    pub(super) fn go_on_draining(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Some(Drain::Ending(until)) = self.drain
            && (self.unended() == 0 || until <= now.mono)
        {
            self.drain = Some(Drain::Ended(now.mono.after(ACKNOWLEDGED)));
        }
        if let Some(Drain::Ended(until)) = self.drain
            && (self.tasks.is_empty() || until <= now.mono)
        {
            self.drain = Some(Drain::Leaving { until: now.mono.after(RECORDED), tells: 0, told: false });
        }
        let Some(Drain::Leaving { until, tells, told }) = self.drain else { return };
        if self.id.is_none() {
            // No master knows of it.
            return self.end_drain(true, effects);
        }
        if until <= now.mono || (tells >= TELLS && !told) {
            return self.end_drain(false, effects);
        }
        let Some(id) = self.id.as_ref().filter(|_| self.registered && !told) else { return };
        let agent_id = v1::AgentId { value: id.to_string() };
        let unregister = from_agent::Message::Unregister(peer::Unregister { agent_id });
        effects.push(Effect::Tell(Box::new(unregister)));
        self.drain = Some(Drain::Leaving { until, tells: tells + 1, told: true });
    }

    /// The connection broke: whether it was recorded is not known.
    pub(super) fn must_leave_again(&mut self) {
        if let Some(Drain::Leaving { told, .. }) = &mut self.drain {
            *told = false;
        }
    }

    /// The master wants this agent to end. True: because it left.
    pub(super) fn has_left(&mut self, effects: &mut Vec<Effect>) -> bool {
        let has_left = matches!(self.drain, Some(Drain::Leaving { told: true, .. }));
        if has_left {
            self.end_drain(true, effects);
        }
        has_left
    }

    fn end_drain(&mut self, unregistered: bool, effects: &mut Vec<Effect>) {
        self.drain = Some(Drain::Over);
        let unacknowledged = self.tasks.values().map(|task| task.stream.updates.len()).sum();
        effects.push(Effect::Drained { unregistered, unacknowledged, unended: self.unended() });
    }

    fn unended(&self) -> usize {
        self.tasks.values().filter(|task| task.phase != Phase::Ended).count()
    }

    pub(super) fn drain_deadline(&self) -> Option<Mono> {
        match self.drain? {
            Drain::Ending(until) | Drain::Ended(until) | Drain::Leaving { until, .. } => Some(until),
            Drain::Over => None,
        }
    }
}
