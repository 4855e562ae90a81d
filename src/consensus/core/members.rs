//! Who votes: step by step from the members that there are to those that there should be.
//!
//! A new member first learns; it votes once it has caught up. What is to be removed goes together with
//! what becomes a voter, in one joint change, which raft leaves by itself. A leader that is to go hands
//! over first. Each step follows from what is there, so a new leader goes on where an old one ended.

use raft::StateRole;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::driver::Consensus;
use super::io::Role;

/// Entries that a learner may be behind to count as caught up.
const CAUGHT_UP: u64 = 128;

impl Consensus {
    /// Takes one step, if there is one to take and no other is on its way.
    pub(super) fn follow_members(&mut self) {
        if !std::mem::take(&mut self.members_due) {
            return;
        }
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader && matches!(self.role, Role::Leader { .. });
        let is_busy = raft.raft_log.applied < raft.pending_conf_index || raft.lead_transferee.is_some();
        if !leads || is_busy || self.wanted.is_empty() || self.is_joint() {
            return;
        }
        let changes = self.next_changes();
        if changes.is_empty() {
            return;
        }
        let mut change = ConfChangeV2::default();
        change.set_changes(changes.into());
        // A refusal means that another change is on its way: it is tried again.
        let _ = self.node.propose_conf_change(Vec::new(), change);
    }

    fn is_joint(&self) -> bool {
        let conf = self.node.raft.prs().conf().to_conf_state();
        !conf.voters_outgoing.is_empty()
    }

    fn next_changes(&mut self) -> Vec<ConfChangeSingle> {
        let status = self.status();
        let is_member = |id: u64| status.members.iter().any(|member| member.id == id);
        if let Some(&new) = self.wanted.iter().find(|&&id| !is_member(id)) {
            return vec![single(ConfChangeType::AddLearnerNode, new)];
        }
        let mut changes = Vec::new();
        let mut is_learning = false;
        for member in status.members.iter().filter(|member| self.wanted.contains(&member.id)) {
            let is_close = member.matched + CAUGHT_UP >= status.last && member.matched > 0;
            match (member.is_voter, member.is_active, is_close) {
                (false, true, true) => changes.push(single(ConfChangeType::AddNode, member.id)),
                (false, true, false) => is_learning = true,
                _ => {}
            }
        }
        let surplus: Vec<u64> =
            status.members.iter().map(|member| member.id).filter(|id| !self.wanted.contains(id)).collect();
        // What replaces them should vote first.
        if is_learning || surplus.is_empty() {
            return changes;
        }
        let stays = status.members.iter().any(|member| member.is_voter && self.wanted.contains(&member.id));
        if !stays && changes.is_empty() {
            return changes;
        }
        if surplus.contains(&self.node.raft.id) {
            if stays {
                self.hand_over();
                return Vec::new();
            }
            return changes;
        }
        changes.extend(surplus.into_iter().map(|id| single(ConfChangeType::RemoveNode, id)));
        changes
    }
}

fn single(kind: ConfChangeType, id: u64) -> ConfChangeSingle {
    let mut change = ConfChangeSingle::default();
    change.set_change_type(kind);
    change.node_id = id;
    change
}
