//! The state machine around raft's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeV2, ConfState, Entry, EntryType, Message};
use raft::{RawNode, StateRole};
use slog::Logger;

use super::io::{Config, Effect, Fault, Input, Progress, Refusal, Role, Status};
use super::log::Log;
use super::reads::Reads;
use super::records::{self, Records, RecoveredLog};
use crate::base::chance::Chance;
#[cfg(planted)]
use crate::base::planted::{self, Bug};

/// The part of the entries between snapshots that stays behind one.
const KEPT_PART: u64 = 4;
/// Records that one batch removes at the most: sled grows when many go at once.
const REMOVE_AT_ONCE: u64 = 1_024;
/// Bytes of entries in one append.
const APPEND_BYTES: u64 = 1024 * 1024;
/// Appends to one member that are on their way at the same time.
const APPENDS_IN_FLIGHT: usize = 256;
/// Bytes of proposals that may wait for a majority.
const UNCOMMITTED_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of committed entries handed out at once.
const COMMITTED_BYTES: u64 = 4 * 1024 * 1024;

/// A proposal that waits for its entry.
#[derive(Debug)]
struct Waiting {
    id: u64,
    index: u64,
    term: u64,
}

/// What may leave only when everything up to a number is on disk.
#[derive(Debug, Default)]
struct Held {
    seq: u64,
    messages: Vec<Message>,
    /// Index and data of a snapshot that replaces the state.
    restore: Option<(u64, Bytes)>,
}

/// One member.
pub struct Consensus {
    pub(super) node: RawNode<Log>,
    pub(super) chance: Chance,
    pub(super) applied: u64,
    snapshot_every: u64,
    pub(super) role: Role,
    pub(super) reads: Reads,
    /// Who should vote, once it is known.
    pub(super) wanted: BTreeSet<u64>,
    /// Whether a step towards that may be possible: looked at with every tick, and when members change.
    pub(super) members_due: bool,
    /// Ticks since the start.
    pub(super) ticks: u64,
    /// Since which tick a snapshot is on its way to a member.
    pub(super) snapshots: BTreeMap<u64, u64>,
    /// The alarm that counts, and the tick of the last campaign that a broken connection caused.
    pub(super) alarm: u64,
    pub(super) rushed_at: Option<u64>,
    /// The election timeout in ticks, and the term and role for which it was drawn.
    pub(super) drawn: Option<((u64, StateRole), usize)>,
    /// In order of index.
    waiting: VecDeque<Waiting>,
    /// In order of number.
    held: VecDeque<Held>,
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
        let log = log.map_or_else(|| first_log(&config.first_voters), |log| *log.0);
        let applied = log.snapshot.0;
        let raft_config = raft::Config {
            id: config.id,
            election_tick: config.election_ticks,
            heartbeat_tick: 1,
            max_size_per_msg: APPEND_BYTES,
            max_inflight_msgs: APPENDS_IN_FLIGHT,
            max_uncommitted_size: UNCOMMITTED_BYTES,
            max_committed_size_per_ready: COMMITTED_BYTES,
            pre_vote: true,
            check_quorum: true,
            applied: {
                #[cfg(planted)]
                let applied =
                    if planted::has(Bug::ApplyTwice) && applied > log.cut.0 { applied - 1 } else { applied };
                applied
            },
            ..raft::Config::default()
        };
        raft_config.validate()?;
        let mut node = RawNode::new(&raft_config, log, logger)?;
        node.set_batch_append(true);
        Ok(Self {
            node,
            chance: Chance::new(config.seed),
            applied,
            snapshot_every: config.snapshot_every,
            role: Role::Follower { leader: None },
            reads: Reads::new(config.id, config.seed),
            wanted: BTreeSet::new(),
            members_due: true,
            ticks: 0,
            snapshots: BTreeMap::new(),
            alarm: 0,
            rushed_at: None,
            drawn: None,
            waiting: VecDeque::new(),
            held: VecDeque::new(),
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
        if self.is_alone() && self.is_voter() {
            self.node.campaign()?;
        }
        self.drain(effects)
    }

    /// Whether there is no other member.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.node.raft.prs().iter().count() <= 1
    }

    pub(super) fn is_voter(&self) -> bool {
        self.node.raft.prs().conf().voters().contains(self.node.raft.id)
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
                Input::Tick => self.tick(),
                Input::Propose { id, data } => self.propose(id, data, effects),
                Input::Read { id } => self.read(id, effects),
                Input::Persisted { seq } => self.persisted(seq, effects)?,
                Input::Snapshot { index, data } => self.snapshot(index, data, effects)?,
                Input::Message { from, message, snapshot } => {
                    self.message(from, &message, snapshot, effects)?;
                }
                Input::Unreachable { to } => self.node.report_unreachable(to),
                Input::SnapshotSent { to, arrived } => self.snapshot_sent(to, arrived),
                Input::Broken { peer, round_trip } => self.broken(peer, round_trip, effects),
                Input::Alarm { alarm } => self.rush(alarm)?,
                Input::Campaign => self.campaign()?,
                Input::Members(wanted) => {
                    self.wanted = wanted;
                    self.members_due = true;
                }
                Input::HandOver => self.hand_over(),
            }
        }
        self.drain(effects)
    }

    fn propose(&mut self, id: u64, data: Vec<u8>, effects: &mut Vec<Effect>) {
        // An empty command could not be told from raft's own empty entries.
        if data.is_empty() || self.node.raft.state != StateRole::Leader {
            return effects.push(Effect::Refused { proposal: id, reason: Refusal::NotLeader });
        }
        if self.node.propose(Vec::new(), data).is_err() {
            return effects.push(Effect::Refused { proposal: id, reason: Refusal::Busy });
        }
        let (index, term) = (self.node.raft.raft_log.last_index(), self.node.raft.term);
        self.waiting.push_back(Waiting { id, index, term });
    }

    fn persisted(&mut self, seq: u64, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        self.persist.1 = self.persist.1.max(seq);
        self.node.on_persist_ready(seq);
        let covered = self.held.iter().take_while(|held| held.seq <= seq).count();
        let covered: Vec<Held> = self.held.drain(..covered).collect();
        covered.into_iter().try_for_each(|held| self.release(held, effects))
    }

    fn release(&mut self, held: Held, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        if let Some((index, data)) = held.restore {
            self.applied = index;
            self.node.advance_apply_to(index);
            self.drop_waiting(effects);
            #[cfg(planted)]
            if planted::has(Bug::KeepOldState) {
                return self.send(held.messages, effects);
            }
            effects.push(Effect::Restore { index, data });
        }
        self.send(held.messages, effects)
    }

    /// Takes everything that raft has ready, and what follows from it.
    fn drain(&mut self, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        self.take_ready(effects)?;
        self.note_role(effects);
        self.follow_members();
        self.ask_to_read();
        // A conf change or a read may have made something ready.
        self.take_ready(effects)?;
        self.release_reads(effects);
        self.ask_for_snapshot(effects);
        Ok(())
    }

    fn take_ready(&mut self, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let number = ready.number();
            self.send(ready.take_messages(), effects)?;
            let mut held = Held { seq: number, messages: ready.take_persisted_messages(), restore: None };
            let mut records = Records::new();
            if !ready.snapshot().is_empty() {
                held.restore = Some(self.install(&mut ready, &mut records));
            }
            #[cfg(planted)]
            if planted::has(Bug::AnswerBeforeSync) {
                self.send(std::mem::take(&mut held.messages), effects)?;
            }
            let entries = ready.take_entries();
            self.append(&entries, &mut records)?;
            if let Some(hard_state) = ready.hs() {
                self.node.mut_store().hard_state = hard_state.clone();
            }
            // The commit index goes along with every write.
            let commit = self.node.raft.raft_log.committed;
            self.node.mut_store().hard_state.commit = commit;
            if ready.hs().is_some() || !records.is_empty() {
                records.push(records::meta_record(self.node.store())?);
            }
            self.reads.answered(ready.take_read_states());
            let committed = ready.take_committed_entries();
            self.node.advance_append_async(ready);
            if records.is_empty() && self.persist.0 == self.persist.1 {
                self.persist = (number, number);
                self.node.on_persist_ready(number);
                self.release(held, effects)?;
            } else {
                self.persist.0 = number;
                self.held.push_back(held);
                effects.push(Effect::Persist { seq: number, records });
            }
            self.apply(committed, effects)?;
        }
        Ok(())
    }

    /// Adds entries to the log in memory and to the records.
    fn append(&mut self, entries: &[Entry], records: &mut Records) -> Result<(), Fault> {
        for entry in entries {
            records.push(records::entry_record(entry)?);
        }
        let last_before = self.node.store().last();
        self.node.mut_store().append(entries);
        #[cfg(planted)]
        if planted::has(Bug::KeepLostTail) {
            return Ok(());
        }
        // Entries of a lost term that were longer than what replaces them.
        for index in self.node.store().last() + 1..=last_before {
            records.push((records::log_key(index), None));
        }
        Ok(())
    }

    /// Replaces the log by a snapshot that a leader sent.
    fn install(&mut self, ready: &mut raft::Ready, records: &mut Records) -> (u64, Bytes) {
        let snapshot = ready.snapshot();
        let (metadata, data) = (snapshot.get_metadata(), snapshot.data.clone());
        let at = (metadata.index, metadata.term);
        let log = self.node.mut_store();
        for index in log.cut.0 + 1..=log.last() {
            records.push((records::log_key(index), None));
        }
        log.entries.clear();
        (log.cut, log.snapshot) = (at, at);
        log.conf_state = metadata.get_conf_state().clone();
        log.snapshot_data = data.clone();
        records.push(records::snapshot_record(&data));
        (at.0, data)
    }

    /// Whether a snapshot that a leader sent is on its way to the disk. Until it is there this member does
    /// not campaign: raft would look among its entries for those that the snapshot replaced.
    pub(super) fn is_installing(&self) -> bool {
        self.held.iter().any(|held| held.restore.is_some())
    }

    fn ask_for_snapshot(&mut self, effects: &mut Vec<Effect>) {
        let log = self.node.store();
        let is_long = self.applied >= log.snapshot.0 + self.snapshot_every;
        let is_new = self.applied > log.snapshot.0;
        let is_wanted = is_new && log.is_snapshot_wanted();
        // A snapshot that is being installed has changed the configuration, but not the state yet.
        if (is_long || is_wanted) && !self.is_installing() && !self.snapshot_asked {
            self.snapshot_asked = true;
            effects.push(Effect::TakeSnapshot { index: self.applied });
        }
    }

    fn apply(&mut self, committed: Vec<Entry>, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        for mut entry in committed {
            self.applied = entry.index;
            let proposal = self.answered(entry.index, entry.term, effects);
            match entry.entry_type {
                EntryType::EntryNormal if !entry.data.is_empty() => {
                    effects.push(Effect::Apply {
                        index: entry.index,
                        data: entry.take_data().to_vec(),
                        proposal,
                    });
                    continue;
                }
                EntryType::EntryNormal => {}
                EntryType::EntryConfChange => {
                    let mut change = ConfChange::default();
                    change.merge_from_bytes(&entry.data)?;
                    self.node.apply_conf_change(&change)?;
                }
                EntryType::EntryConfChangeV2 => {
                    let mut change = ConfChangeV2::default();
                    change.merge_from_bytes(&entry.data)?;
                    self.node.apply_conf_change(&change)?;
                }
            }
            self.members_due = true;
            effects.extend(proposal.map(|proposal| Effect::Dropped { proposal }));
        }
        self.node.advance_apply_to(self.applied);
        Ok(())
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
        let leader = Some(raft.leader_id).filter(|leader| *leader != 0);
        let role = match (raft.state, up_to_date) {
            (StateRole::Leader, true) => Role::Leader { term: raft.term },
            (StateRole::Leader, false) if matches!(self.role, Role::Leader { term } if term == raft.term) => {
                self.role
            }
            (StateRole::Leader, false) => Role::Follower { leader: None },
            _ => Role::Follower { leader },
        };
        if raft.state != StateRole::Leader {
            self.drop_waiting(effects);
        }
        if role != self.role {
            self.role = role;
            effects.push(Effect::Role(role));
        }
    }

    fn drop_waiting(&mut self, effects: &mut Vec<Effect>) {
        let lost = self.waiting.drain(..);
        effects.extend(lost.map(|waiting| Effect::Dropped { proposal: waiting.id }));
    }

    fn snapshot(&mut self, index: u64, data: Vec<u8>, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        self.snapshot_asked = false;
        if index != self.applied {
            return Err(Fault(format!("a snapshot of {index} was taken while {} was applied", self.applied)));
        }
        let term = raft::Storage::term(self.node.store(), index)?;
        let conf_state = self.node.raft.prs().conf().to_conf_state();
        let snapshot_every = self.snapshot_every;
        let log = self.node.mut_store();
        log.snapshot = (index, term);
        log.conf_state = conf_state;
        log.snapshot_data = data.into();
        log.snapshot_taken();
        let first = log.compact(index.saturating_sub(snapshot_every / KEPT_PART));
        let last = log.cut.0;
        let mut records = vec![records::snapshot_record(&log.snapshot_data), records::meta_record(log)?];
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

    /// How far the log and its members are.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft = &self.node.raft;
        let voters = raft.prs().conf().voters();
        let mut members: Vec<Progress> = raft
            .prs()
            .iter()
            .map(|(&id, progress)| Progress {
                id,
                is_voter: voters.contains(id),
                is_active: id == raft.id || progress.recent_active,
                matched: progress.matched,
            })
            .collect();
        members.sort_by_key(|member| member.id);
        Status {
            term: raft.term,
            last: raft.raft_log.last_index(),
            committed: raft.raft_log.committed,
            applied: self.applied,
            snapshot: self.node.store().snapshot.0,
            members,
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

/// The log of a new cluster, the same for each of its voters; without any, the log of a member that waits
/// to be sent one.
pub(super) fn first_log(voters: &[u64]) -> Log {
    if voters.is_empty() {
        return Log::default();
    }
    let first = (records::FIRST, 1);
    let mut log = Log { cut: first, snapshot: first, ..Log::default() };
    log.conf_state = ConfState { voters: voters.to_vec(), ..ConfState::default() };
    (log.hard_state.commit, log.hard_state.term) = first;
    log
}
