//! When a member campaigns: after an election timeout, drawn here so that a run can be repeated, or
//! soon after the connection to the leader broke.
//!
//! If everybody campaigned at once when a leader's process ends, the vote would be split every time. So
//! each waits for its turn: `rank × 2 × round trip`, by raft id. All let go of the leader at once,
//! since a member that believes in a leader refuses every candidate for an election timeout. A member
//! that still hears the leader keeps it: a partial cut deposes no one.

use std::time::Duration;

use raft::{INVALID_ID, ProgressState, StateRole};

use super::driver::Consensus;
use super::io::{Effect, Fault, Role};

/// Shortest round trip that is counted with: below it, scheduling decides.
const MIN_ROUND_TRIP: Duration = Duration::from_millis(1);
/// Longest: waiting longer than that for one's turn would be slower than the election timeout.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Ticks that a snapshot may take to its receiver.
const SNAPSHOT_TICKS: u64 = 600;

impl Consensus {
    pub(super) fn tick(&mut self) {
        let raft = &mut self.node.raft;
        let now = (raft.term, raft.state);
        let timeout = match self.drawn.filter(|(drawn_for, _)| *drawn_for == now) {
            Some((_, timeout)) => timeout,
            None => {
                let base = raft.election_timeout();
                let more = self.chance.below(u64::try_from(base).unwrap_or(u64::MAX));
                base + usize::try_from(more).unwrap_or(0)
            }
        };
        self.drawn = Some((now, timeout));
        // Raft draws one by itself whenever it resets, which it does within a term, too.
        raft.set_randomized_election_timeout(timeout);
        self.ticks += 1;
        self.members_due = true;
        if !self.is_installing() {
            self.node.tick();
        }
        self.give_up_snapshots();
    }

    /// Snapshots whose fate nobody told.
    fn give_up_snapshots(&mut self) {
        let is_waiting = |progress: &raft::Progress| progress.state == ProgressState::Snapshot;
        let progress = self.node.raft.prs().iter();
        let waiting: Vec<u64> = progress.filter(|(_, p)| is_waiting(p)).map(|(&id, _)| id).collect();
        self.snapshots.retain(|id, _| waiting.contains(id));
        for id in waiting {
            let since = *self.snapshots.entry(id).or_insert(self.ticks);
            if self.ticks >= since + SNAPSHOT_TICKS {
                self.snapshots.remove(&id);
                self.snapshot_sent(id, false);
            }
        }
    }

    /// The connection to `peer` broke.
    pub(super) fn broken(&mut self, peer: u64, round_trip: Duration, effects: &mut Vec<Effect>) {
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Follower || raft.leader_id != peer {
            return;
        }
        let term = raft.term;
        raft.become_follower(term, INVALID_ID);
        let timeout = u64::try_from(raft.election_timeout()).unwrap_or(u64::MAX);
        let has_rushed = self.rushed_at.is_some_and(|at| self.ticks < at + timeout);
        if has_rushed || !self.is_voter() {
            return;
        }
        let id = self.node.raft.id;
        let voters = self.node.raft.prs().conf().voters().ids();
        let rank = voters.iter().filter(|&voter| voter != peer && voter < id).count();
        let round_trip = round_trip.clamp(MIN_ROUND_TRIP, MAX_ROUND_TRIP);
        let turn = round_trip * 2 * u32::try_from(rank).unwrap_or(u32::MAX);
        let jitter = self.chance.below(u64::try_from(round_trip.as_micros()).unwrap_or(0));
        self.rushed_at = Some(self.ticks);
        self.alarm += 1;
        effects.push(Effect::Wake { alarm: self.alarm, after: turn + Duration::from_micros(jitter) });
    }

    /// Its turn has come: it campaigns unless somebody leads again.
    pub(super) fn rush(&mut self, alarm: u64) -> Result<(), Fault> {
        if alarm == self.alarm {
            self.campaign()?;
        }
        Ok(())
    }

    /// Campaigns unless somebody leads.
    pub(super) fn campaign(&mut self) -> Result<(), Fault> {
        let raft = &self.node.raft;
        let is_free = raft.state == StateRole::Follower && raft.leader_id == INVALID_ID;
        if is_free && self.is_voter() && !self.is_installing() {
            self.node.campaign()?;
        }
        Ok(())
    }

    /// Lets the voter that is furthest lead in place of this member.
    pub(super) fn hand_over(&mut self) {
        if !matches!(self.role, Role::Leader { .. }) {
            return;
        }
        let status = self.status();
        let others = status.members.iter().filter(|member| member.id != self.node.raft.id);
        let next = others.filter(|member| member.is_voter && member.is_active).max_by_key(|m| m.matched);
        if let Some(next) = next {
            self.node.transfer_leader(next.id);
        }
    }
}
