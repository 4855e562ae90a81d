//! What goes in and what comes out.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::records::Records;

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Raft id of this member, never zero.
    pub id: u64,
    /// Ticks without a leader before an election; twice as many at the most.
    pub election_ticks: usize,
    /// Voters of a new cluster, the same for all of them. A member that joins one that exists names
    /// nobody: it waits for what the leader sends.
    pub first_voters: Vec<u64>,
    /// For the draws of election timeouts.
    pub seed: u64,
    /// Applied entries behind the last snapshot that call for a new one; a quarter as many stay in the log
    /// behind it, for members that are a little late. Usually [`SNAPSHOT_EVERY`].
    pub snapshot_every: u64,
}

/// The usual [`Config::snapshot_every`].
pub const SNAPSHOT_EVERY: u64 = 4_096;

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
    /// Somebody wants to read a state that has everything that was committed before now; `id` is the
    /// reader's own, unique while it waits.
    Read {
        /// Names the read in [`Effect::Readable`] and [`Effect::NotReadable`].
        id: u64,
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
    /// A message of another member arrived.
    Message {
        /// Who sent it, as the connection says.
        from: u64,
        /// What [`Effect::Send`] or the header of [`Effect::SendSnapshot`] was.
        message: Vec<u8>,
        /// The data of [`Effect::SendSnapshot`].
        snapshot: Option<Vec<u8>>,
    },
    /// Messages for a member were lost.
    Unreachable {
        /// The member.
        to: u64,
    },
    /// The transfer of a snapshot is over.
    SnapshotSent {
        /// The member.
        to: u64,
        /// Whether it has all of it.
        arrived: bool,
    },
    /// The connection to a member broke: its process has probably ended.
    Broken {
        /// The member.
        peer: u64,
        /// A message to it and back, as last measured.
        round_trip: Duration,
    },
    /// The time of an [`Effect::Wake`] is over.
    Alarm {
        /// Its number.
        alarm: u64,
    },
    /// Who should be a voter; as long as it is not known, nobody is added or removed.
    Members(BTreeSet<u64>),
    /// Nobody leads as far as the caller knows: campaign now, unless somebody does.
    Campaign,
    /// Another voter should lead, if this one does: it is going to stop.
    HandOver,
}

/// What to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make these records durable, then say [`Input::Persisted`].
    Persist {
        /// Never falls.
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
    /// Replace the state machine's state by this snapshot, which is on disk.
    Restore {
        /// The index that it stands for.
        index: u64,
        /// The data.
        data: Bytes,
    },
    /// A proposal may or may not be committed: this member has lost sight of it.
    Dropped {
        /// The proposal.
        proposal: u64,
    },
    /// A proposal was not made.
    Refused {
        /// The proposal.
        proposal: u64,
        /// Why not.
        reason: Refusal,
    },
    /// The state that is applied now has everything that was committed when the read came.
    Readable {
        /// The read.
        read: u64,
    },
    /// This member does not lead: it cannot say.
    NotReadable {
        /// The read.
        read: u64,
    },
    /// The role changed. A leader has applied everything that was committed before it.
    Role(Role),
    /// The log is long, or a member needs one: take a snapshot of the state after everything applied so
    /// far, and hand it back as [`Input::Snapshot`] before anything else is applied.
    TakeSnapshot {
        /// The index that it stands for.
        index: u64,
    },
    /// Send a message; it may be lost.
    Send {
        /// The member.
        to: u64,
        /// The message.
        message: Vec<u8>,
    },
    /// Send a snapshot, then say [`Input::SnapshotSent`].
    SendSnapshot {
        /// The member.
        to: u64,
        /// Its message without the data.
        header: Vec<u8>,
        /// The data.
        data: Bytes,
    },
    /// Say [`Input::Alarm`] after this time.
    Wake {
        /// Names the alarm; a later one replaces it.
        alarm: u64,
        /// How long.
        after: Duration,
    },
    /// A message was not for this member, or not one that a member sends; it changed nothing.
    Ignored {
        /// Who sent it.
        from: u64,
        /// What was wrong with it.
        reason: &'static str,
    },
}

/// Why a proposal was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This member does not lead.
    NotLeader,
    /// Too much waits for a majority, or another member takes the leadership over: it may be made again.
    Busy,
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
    Follower {
        /// Who leads, as far as it is known.
        leader: Option<u64>,
    },
}

/// How a member stands, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The member.
    pub id: u64,
    /// Whether it votes.
    pub is_voter: bool,
    /// Whether it was heard within an election timeout.
    pub is_active: bool,
    /// The last entry that it is known to have on disk.
    pub matched: u64,
}

/// How far the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The term.
    pub term: u64,
    /// The last entry.
    pub last: u64,
    /// The last entry that a majority has.
    pub committed: u64,
    /// The last entry that was applied.
    pub applied: u64,
    /// The index of the last snapshot.
    pub snapshot: u64,
    /// The members; their progress is known only to the leader.
    pub members: Vec<Progress>,
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
