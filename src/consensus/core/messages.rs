//! Messages from and to other members.
//!
//! raft-rs trusts whoever it hears: a commit index beyond the log, an empty proposal or a term from
//! nowhere would end it. So everything is checked before raft sees it. That a message comes from who
//! it says, and from this cluster, is known from the connection.

use protobuf::Message as _;
use raft::SnapshotStatus;
use raft::eraftpb::{EntryType, Message, MessageType};

use super::driver::Consensus;
use super::io::{Effect, Fault};
#[cfg(planted)]
use crate::base::planted::{self, Bug};

/// How far a term may be ahead: nobody campaigns so often, and a term cannot be taken back.
const MAX_TERM_AHEAD: u64 = 1_000_000;

impl Consensus {
    pub(super) fn send(&self, messages: Vec<Message>, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        for mut message in messages {
            let to = message.to;
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let data = std::mem::take(&mut message.mut_snapshot().data);
                effects.push(Effect::SendSnapshot { to, header: message.write_to_bytes()?, data });
            } else {
                effects.push(Effect::Send { to, message: message.write_to_bytes()? });
            }
        }
        Ok(())
    }

    pub(super) fn message(
        &mut self,
        from: u64,
        bytes: &[u8],
        snapshot: Option<Vec<u8>>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let ignored = |reason| Effect::Ignored { from, reason };
        let mut message = Message::default();
        if message.merge_from_bytes(bytes).is_err() {
            effects.push(ignored("it cannot be read"));
            return Ok(());
        }
        if let Some(data) = snapshot {
            message.mut_snapshot().set_data(data.into());
        }
        if let Err(reason) = self.check(from, &message) {
            effects.push(ignored(reason));
            return Ok(());
        }
        self.check_commit(&message)?;
        #[cfg(planted)]
        if planted::has(Bug::VoteTwice) && message.get_msg_type() == MessageType::MsgRequestVote {
            self.node.raft.vote = raft::INVALID_ID;
        }
        match self.node.step(message) {
            Ok(()) => {}
            Err(raft::Error::StepPeerNotFound) => effects.push(ignored("it answers nothing that was asked")),
            Err(error @ raft::Error::Store(_)) => return Err(error.into()),
            Err(_) => effects.push(ignored("raft did not take it")),
        }
        Ok(())
    }

    fn check(&self, from: u64, message: &Message) -> Result<(), &'static str> {
        let raft = &self.node.raft;
        if message.from != from {
            return Err("it names another sender than its connection");
        }
        if message.to != raft.id {
            return Err("it is for another member");
        }
        if message.term > raft.term.saturating_add(MAX_TERM_AHEAD) {
            return Err("its term is too far ahead");
        }
        if message.term == 0 {
            return Err("it has no term");
        }
        match message.get_msg_type() {
            MessageType::MsgAppend => check_entries(message),
            MessageType::MsgSnapshot => self.check_snapshot(message),
            MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgAppendResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse => Ok(()),
            MessageType::MsgTimeoutNow if self.is_installing() => Err("a snapshot is being installed"),
            MessageType::MsgTimeoutNow => Ok(()),
            // Proposals and reads are made at the leader; the rest a member only says to itself.
            _ => Err("members do not send its kind"),
        }
    }

    fn check_snapshot(&self, message: &Message) -> Result<(), &'static str> {
        let metadata = message.get_snapshot().get_metadata();
        let conf = metadata.get_conf_state();
        let members = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
        if metadata.index == 0 || metadata.term == 0 || metadata.term > message.term {
            return Err("its snapshot stands for no entry");
        }
        if conf.voters.is_empty() || conf.voters.contains(&0) || conf.learners.contains(&0) {
            return Err("its snapshot has no voters");
        }
        if !members.iter().any(|ids| ids.contains(&self.node.raft.id)) {
            return Err("its snapshot is for other members");
        }
        Ok(())
    }

    /// What a leader of now believes committed here was acknowledged by this member once.
    fn check_commit(&self, message: &Message) -> Result<(), Fault> {
        let (raft, last) = (&self.node.raft, self.node.raft.raft_log.last_index());
        let is_heartbeat = message.get_msg_type() == MessageType::MsgHeartbeat;
        if is_heartbeat && message.term >= raft.term && message.commit > last {
            return Err(Fault(format!(
                "its leader counts on entry {}, but the log ends at {last}: a part of it was lost",
                message.commit
            )));
        }
        Ok(())
    }

    pub(super) fn snapshot_sent(&mut self, to: u64, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(to, status);
    }
}

/// Entries follow each other, and their terms do not fall.
fn check_entries(message: &Message) -> Result<(), &'static str> {
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in &message.entries {
        let is_next = index.checked_add(1) == Some(entry.index);
        if !is_next || entry.term < term || entry.term > message.term {
            return Err("its entries do not follow each other");
        }
        let is_change = entry.entry_type != EntryType::EntryNormal;
        if is_change && !can_be_read(entry.entry_type, &entry.data) {
            return Err("its change of members cannot be read");
        }
        (index, term) = (entry.index, entry.term);
    }
    Ok(())
}

fn can_be_read(kind: EntryType, data: &[u8]) -> bool {
    match kind {
        EntryType::EntryNormal => true,
        EntryType::EntryConfChange => raft::eraftpb::ConfChange::default().merge_from_bytes(data).is_ok(),
        EntryType::EntryConfChangeV2 => raft::eraftpb::ConfChangeV2::default().merge_from_bytes(data).is_ok(),
    }
}
