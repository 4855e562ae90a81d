//! What lies on disk: `meta` (hard state, configuration, where snapshot and log begin), [`SNAPSHOT`],
//! and one record for each entry under `log/<index>`. The store guards each record by a checksum;
//! [`recover`] checks what no single record can show.

use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState};

use super::log::Log;

/// Layout of the records.
const FORMAT: u8 = 1;
const META: &[u8] = b"meta";
/// Key of the snapshot's data, which may be large: it is replaced as a whole.
pub const SNAPSHOT: &[u8] = b"snapshot";
const LOG: &[u8] = b"log/";
/// Where the log of a new cluster begins: there is no data up to here.
pub(super) const FIRST: u64 = 1;

/// Changes to the records, in order. `None` removes.
pub type Records = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What a store holds at start.
#[derive(Debug)]
pub enum Boot {
    /// Nothing: this is a new cluster.
    Empty,
    /// A log to go on from.
    Log {
        /// Data of the last snapshot; empty when there was none yet.
        snapshot: Vec<u8>,
        /// For [`super::Consensus::new`].
        log: RecoveredLog,
    },
}

/// A log that was found whole.
#[derive(Debug)]
pub struct RecoveredLog(pub(super) Box<Log>);

/// Why a store cannot be trusted: a member that went on from it might vote twice, or lose what was
/// committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refuse {
    /// What is wrong.
    pub what: String,
    /// Nothing is: a later version wrote it.
    pub is_newer: bool,
}

fn refuse<T>(what: impl Into<String>) -> Result<T, Refuse> {
    Err(Refuse { what: what.into(), is_newer: false })
}

/// Refuses a record of a later layout.
fn check_format(what: &str, value: &[u8]) -> Result<(), Refuse> {
    match value.first() {
        Some(&format) if format > FORMAT => Err(Refuse {
            what: format!(
                "{what} has format {format}, this version knows formats up to {FORMAT}: upgrade this node"
            ),
            is_newer: true,
        }),
        _ => Ok(()),
    }
}

/// A record of one entry.
pub(super) fn entry_record(entry: &Entry) -> Result<(Vec<u8>, Option<Vec<u8>>), protobuf::ProtobufError> {
    let mut bytes = vec![FORMAT];
    entry.write_to_vec(&mut bytes)?;
    Ok((log_key(entry.index), Some(bytes)))
}

/// The record of everything but the entries.
pub(super) fn meta_record(log: &Log) -> Result<(Vec<u8>, Option<Vec<u8>>), protobuf::ProtobufError> {
    let mut bytes = vec![FORMAT];
    for number in [log.cut.0, log.cut.1, log.snapshot.0, log.snapshot.1] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    for part in [log.hard_state.write_to_bytes()?, log.conf_state.write_to_bytes()?] {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(&part);
    }
    Ok((META.to_vec(), Some(bytes)))
}

/// The record of a snapshot's data.
pub(super) fn snapshot_record(data: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    (SNAPSHOT.to_vec(), Some(data.to_vec()))
}

/// Key of an entry.
pub(super) fn log_key(index: u64) -> Vec<u8> {
    [LOG, &index.to_be_bytes()].concat()
}

/// Reads what a store holds and checks it as a whole: the entries follow each other without a hole,
/// terms never fall, everything committed is there.
///
/// # Errors
/// The records contradict each other: the node must not go on from them.
pub fn recover(pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<Boot, Refuse> {
    let find = |key: &[u8]| pairs.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_slice());
    let Some(meta) = find(META) else {
        return if pairs.is_empty() {
            Ok(Boot::Empty)
        } else {
            refuse("the log has entries but no head record")
        };
    };
    check_format("the head record of the log", meta)?;
    let Some(mut log) = read_meta(meta) else {
        return refuse("the head record of the log cannot be read");
    };
    for (key, value) in pairs.iter().filter(|(key, _)| key.starts_with(LOG)) {
        check_format("an entry of the log", value)?;
        let entry = match read_entry(value) {
            Some(entry) if *key == log_key(entry.index) => entry,
            _ => return refuse("an entry of the log cannot be read"),
        };
        // Compaction removes entries in several batches: what lies before the cut is on its way out.
        if entry.index <= log.cut.0 {
            continue;
        }
        let (last, term) = log.entries.back().map_or(log.cut, |entry| (entry.index, entry.term));
        if entry.index != last + 1 {
            return refuse(format!("the log has a hole: entry {} follows {last}", entry.index));
        }
        if entry.term < term {
            return refuse(format!("the term falls from {term} to {} at entry {}", entry.term, entry.index));
        }
        log.entries.push_back(entry);
    }
    let committed = log.hard_state.commit.max(log.snapshot.0);
    if log.last() < committed {
        return refuse(format!(
            "entries up to {committed} were committed, but the log ends at {}",
            log.last()
        ));
    }
    if log.cut.0 > log.snapshot.0 {
        return refuse("entries were removed that no snapshot covers");
    }
    let term = log.entries.back().map_or(log.cut.1, |entry| entry.term);
    if log.hard_state.term < term {
        return refuse(format!(
            "the log has entries of term {term}, but its head record knows only term {}: a vote may be lost",
            log.hard_state.term
        ));
    }
    let snapshot = match find(SNAPSHOT) {
        Some(data) => data.to_vec(),
        None if log.snapshot.0 <= FIRST => Vec::new(),
        None => return refuse(format!("the snapshot of entry {} is missing", log.snapshot.0)),
    };
    log.hard_state.commit = committed;
    log.snapshot_data = snapshot.clone().into();
    Ok(Boot::Log { snapshot, log: RecoveredLog(Box::new(log)) })
}

fn read_entry(value: &[u8]) -> Option<Entry> {
    let (&format, rest) = value.split_first()?;
    let mut entry = Entry::default();
    entry.merge_from_bytes(rest).ok()?;
    (format == FORMAT).then_some(entry)
}

fn read_meta(value: &[u8]) -> Option<Log> {
    let (&format, mut rest) = value.split_first()?;
    if format != FORMAT {
        return None;
    }
    let mut numbers = [0_u64; 4];
    for number in &mut numbers {
        let (bytes, more) = rest.split_first_chunk::<8>()?;
        *number = u64::from_be_bytes(*bytes);
        rest = more;
    }
    let mut part = || {
        let (length, more) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (bytes, more) = more.split_at_checked(length)?;
        rest = more;
        Some(bytes)
    };
    let (hard, conf) = (part()?, part()?);
    let mut hard_state = HardState::default();
    hard_state.merge_from_bytes(hard).ok()?;
    let mut conf_state = ConfState::default();
    conf_state.merge_from_bytes(conf).ok()?;
    let [cut_index, cut_term, snapshot_index, snapshot_term] = numbers;
    Some(Log {
        hard_state,
        conf_state,
        cut: (cut_index, cut_term),
        snapshot: (snapshot_index, snapshot_term),
        ..Log::default()
    })
}
