//! The state machine around raft's own.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, EntryType};
use raft::{RawNode, StateRole};
use slog::Logger;

use super::log::Log;
use super::records::{self, Records, RecoveredLog};

/// Applied entries behind the last snapshot that call for a new one.
const SNAPSHOT_EVERY: u64 = 4_096;
/// Entries that stay behind a snapshot, for members that are a little late.
const KEEP_BEHIND: u64 = 1_024;
/// Records that one batch removes at the most: sled grows when many go at once.
const REMOVE_AT_ONCE: u64 = 1_024;
/// Bytes of entries in one append.
const APPEND_BYTES: u64 = 1024 * 1024;
/// Bytes of proposals that may wait for a majority.
const UNCOMMITTED_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of committed entries handed out at once.
const COMMITTED_BYTES: u64 = 4 * 1024 * 1024;

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Raft id of this member, never zero.
    pub id: u64,
    /// Ticks without a leader before an election.
    pub election_ticks: usize,
}

/// What happens.
#[derive(Debug)]
pub enum Input {
    /// A tick of the clock.
    Tick,
    /// A command to agree on; `id` is the proposer's own, unique while it waits.
    Propose {
        /// Names the proposal in [`Effect::Apply`] and [`Effect::Dropped`].
        id: u64,
        /// The command.
        data: Vec<u8>,
    },
    /// Everything up to this [`Effect::Persist`] is on disk.
    Persisted {
        /// Its number.
        seq: u64,
    },
    /// The state machine's data at exactly this index, as [`Effect::TakeSnapshot`] asked.
    Snapshot {
        /// The index that was asked for.
        index: u64,
        /// The data.
        data: Vec<u8>,
    },
}

/// What to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make these records durable, then say [`Input::Persisted`].
    Persist {
        /// Grows by at least one each time.
        seq: u64,
        /// The changes.
        records: Records,
    },
    /// Apply a committed command.
    Apply {
        /// Its index.
        index: u64,
        /// The command.
        data: Vec<u8>,
        /// The proposal that it was, if it was proposed here in this term.
        proposal: Option<u64>,
    },
    /// A proposal will not be committed by this member's doing; whether it ever is, is not known.
    Dropped {
        /// The proposal.
        proposal: u64,
    },
    /// A leader did not take a proposal: too much waits for a majority. It may be made again.
    Refused {
        /// The proposal.
        proposal: u64,
    },
    /// The role changed. A leader has applied everything that was committed before it.
    Role(Role),
    /// The log is long: take a snapshot of the state after everything applied so far, and hand it
    /// back as [`Input::Snapshot`] before anything else is applied.
    TakeSnapshot {
        /// The index that it stands for.
        index: u64,
    },
}

/// What this member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads in this term.
    Leader {
        /// The term.
        term: u64,
    },
    /// It follows, or nobody leads.
    Follower,
}

/// Something in the member is broken: it must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the consensus log is broken: {0}")]
pub struct Fault(pub String);

impl From<raft::Error> for Fault {
    fn from(error: raft::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<protobuf::ProtobufError> for Fault {
    fn from(error: protobuf::ProtobufError) -> Self {
        Self(error.to_string())
    }
}

/// A proposal that waits for its entry.
#[derive(Debug)]
struct Waiting {
    id: u64,
    index: u64,
    term: u64,
}

/// One member.
pub struct Consensus {
    node: RawNode<Log>,
    /// In order of index.
    waiting: VecDeque<Waiting>,
    applied: u64,
    role: Role,
    /// Last number handed to the disk, and last that came back.
    persist: (u64, u64),
    snapshot_asked: bool,
}

impl Consensus {
    /// A member that goes on from `log`, or the first member of a new cluster.
    ///
    /// # Errors
    /// The settings are not valid.
    pub fn new(config: &Config, log: Option<RecoveredLog>, logger: &Logger) -> Result<Self, Fault> {
        let log = log.map_or_else(|| first_log(config.id), |log| *log.0);
        let applied = log.snapshot.0;
        let raft_config = raft::Config {
            id: config.id,
            election_tick: config.election_ticks,
            heartbeat_tick: 1,
            max_size_per_msg: APPEND_BYTES,
            max_inflight_msgs: 256,
            max_uncommitted_size: UNCOMMITTED_BYTES,
            max_committed_size_per_ready: COMMITTED_BYTES,
            pre_vote: true,
            check_quorum: true,
            applied,
            ..raft::Config::default()
        };
        raft_config.validate()?;
        let mut node = RawNode::new(&raft_config, log, logger)?;
        node.set_batch_append(true);
        Ok(Self {
            node,
            waiting: VecDeque::new(),
            applied,
            role: Role::Follower,
            persist: (0, 0),
            snapshot_asked: false,
        })
    }

    /// Begins: the first records of a new cluster, and the campaign of a sole voter, which has nobody
    /// to wait for.
    ///
    /// # Errors
    /// The member is broken.
    pub fn start(&mut self, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        if self.node.raft.prs().conf().voters().contains(self.node.raft.id) && self.is_sole_voter() {
            self.node.campaign()?;
        }
        self.drain(effects)
    }

    fn is_sole_voter(&self) -> bool {
        self.node.store().conf_state.voters.len() == 1
            && self.node.store().conf_state.voters_outgoing.is_empty()
    }

    /// Handles inputs that came together, then emits what follows from all of them.
    ///
    /// # Errors
    /// The member is broken and must not be used any more.
    pub fn handle(
        &mut self,
        inputs: impl IntoIterator<Item = Input>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        for input in inputs {
            match input {
                Input::Tick => {
                    self.node.tick();
                }
                Input::Propose { id, data } => self.propose(id, data, effects),
                Input::Persisted { seq } => {
                    self.persist.1 = self.persist.1.max(seq);
                    self.node.on_persist_ready(seq);
                }
                Input::Snapshot { index, data } => self.snapshot(index, data, effects)?,
            }
        }
        self.drain(effects)
    }

    fn propose(&mut self, id: u64, data: Vec<u8>, effects: &mut Vec<Effect>) {
        // An empty command could not be told from raft's own empty entries.
        let is_leader = self.node.raft.state == StateRole::Leader;
        if data.is_empty() || !is_leader {
            return effects.push(Effect::Dropped { proposal: id });
        }
        if self.node.propose(Vec::new(), data).is_err() {
            return effects.push(Effect::Refused { proposal: id });
        }
        let (index, term) = (self.node.raft.raft_log.last_index(), self.node.raft.term);
        self.waiting.push_back(Waiting { id, index, term });
    }

    /// Takes everything that raft has ready.
    fn drain(&mut self, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let number = ready.number();
            let mut records = Records::new();
            let entries = ready.take_entries();
            for entry in &entries {
                records.push(records::entry_record(entry)?);
            }
            let last_before = self.node.store().last();
            self.node.mut_store().append(&entries);
            // Entries of a lost term that were longer than what replaces them.
            for index in self.node.store().last() + 1..=last_before {
                records.push((records::log_key(index), None));
            }
            if let Some(hard_state) = ready.hs() {
                self.node.mut_store().hard_state = hard_state.clone();
            }
            // The commit index goes along with every write.
            let commit = self.node.raft.raft_log.committed;
            self.node.mut_store().hard_state.commit = commit;
            if ready.hs().is_some() || !records.is_empty() {
                records.push(records::meta_record(self.node.store())?);
            }
            let committed = ready.take_committed_entries();
            self.node.advance_append_async(ready);
            if records.is_empty() && self.persist.0 == self.persist.1 {
                self.persist = (number, number);
                self.node.on_persist_ready(number);
            } else {
                self.persist.0 = number;
                effects.push(Effect::Persist { seq: number, records });
            }
            self.apply(committed, effects);
        }
        self.note_role(effects);
        let due = self.applied >= self.node.store().snapshot.0 + SNAPSHOT_EVERY;
        if due && !self.snapshot_asked {
            self.snapshot_asked = true;
            effects.push(Effect::TakeSnapshot { index: self.applied });
        }
        Ok(())
    }

    fn apply(&mut self, committed: Vec<Entry>, effects: &mut Vec<Effect>) {
        for mut entry in committed {
            self.applied = entry.index;
            let proposal = self.answered(entry.index, entry.term, effects);
            let is_command = entry.entry_type == EntryType::EntryNormal && !entry.data.is_empty();
            match proposal {
                _ if is_command => {
                    effects.push(Effect::Apply {
                        index: entry.index,
                        data: entry.take_data().to_vec(),
                        proposal,
                    });
                }
                Some(proposal) => effects.push(Effect::Dropped { proposal }),
                None => {}
            }
        }
        self.node.advance_apply_to(self.applied);
    }

    /// The proposal that an entry was; those whose place another entry took are dropped.
    fn answered(&mut self, index: u64, term: u64, effects: &mut Vec<Effect>) -> Option<u64> {
        while let Some(first) = self.waiting.front().filter(|waiting| waiting.index <= index) {
            let (id, is_it) = (first.id, first.index == index && first.term == term);
            self.waiting.pop_front();
            if is_it {
                return Some(id);
            }
            effects.push(Effect::Dropped { proposal: id });
        }
        None
    }

    fn note_role(&mut self, effects: &mut Vec<Effect>) {
        let raft = &self.node.raft;
        // A leader that has not committed in its own term may not know everything that was committed.
        let up_to_date = raft.state == StateRole::Leader
            && raft.commit_to_current_term()
            && self.applied == raft.raft_log.committed;
        let role = match (raft.state, up_to_date) {
            (StateRole::Leader, true) => Role::Leader { term: raft.term },
            (StateRole::Leader, false) if matches!(self.role, Role::Leader { term } if term == raft.term) => {
                self.role
            }
            _ => Role::Follower,
        };
        if raft.state != StateRole::Leader {
            let lost = self.waiting.drain(..);
            effects.extend(lost.map(|waiting| Effect::Dropped { proposal: waiting.id }));
        }
        if role != self.role {
            self.role = role;
            effects.push(Effect::Role(role));
        }
    }

    fn snapshot(&mut self, index: u64, data: Vec<u8>, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        self.snapshot_asked = false;
        if index != self.applied {
            return Err(Fault(format!("a snapshot of {index} was taken while {} was applied", self.applied)));
        }
        let term = raft::Storage::term(self.node.store(), index)?;
        let log = self.node.mut_store();
        log.snapshot = (index, term);
        log.snapshot_data.clone_from(&data);
        let first = log.compact(index.saturating_sub(KEEP_BEHIND));
        let last = log.cut.0;
        let mut records = vec![records::snapshot_record(&data), records::meta_record(log)?];
        // The snapshot is durable with the first batch; entries may go in any batch after that.
        let removed = first.map_or(0..0, |first| first..last + 1);
        let mut indexes = removed.map(|index| (records::log_key(index), None)).peekable();
        loop {
            records.extend(indexes.by_ref().take(usize::try_from(REMOVE_AT_ONCE).unwrap_or(usize::MAX)));
            // Numbers are raft's: a batch of ours repeats the last one, which acknowledges nothing new.
            effects.push(Effect::Persist { seq: self.persist.0, records: std::mem::take(&mut records) });
            if indexes.peek().is_none() {
                return Ok(());
            }
        }
    }

    /// Asserts what must hold between inputs.
    ///
    /// # Panics
    /// It does not hold: a bug.
    pub fn sanity_check(&self) {
        let log = self.node.store();
        assert!(self.applied <= self.node.raft.raft_log.committed, "applied beyond the commit index");
        assert!(log.cut.0 <= log.snapshot.0, "entries are gone that no snapshot covers");
        assert!(self.persist.1 <= self.persist.0, "persisted what was never handed out");
        let waiting: Vec<u64> = self.waiting.iter().map(|waiting| waiting.index).collect();
        assert!(waiting.is_sorted(), "proposals wait out of order");
    }

    /// Entries held in memory.
    #[must_use]
    pub fn log_length(&self) -> usize {
        self.node.store().entries.len()
    }
}

/// The log of a new cluster: its only voter is this member.
fn first_log(id: u64) -> Log {
    let mut log = Log { cut: (1, 1), snapshot: (1, 1), ..Log::default() };
    log.conf_state = ConfState { voters: vec![id], ..ConfState::default() };
    log.hard_state.term = 1;
    log.hard_state.commit = 1;
    log
}
