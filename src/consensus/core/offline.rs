//! The log of a member that does not run: what it holds, and a log that begins anew from one state.

use raft::eraftpb::{ConfState, EntryType};

use super::log::Log;
use super::records::{self, Boot, Records, RecoveredLog, Refuse};

/// What a stopped member holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Data of the last snapshot; empty: none yet.
    pub snapshot: Vec<u8>,
    /// Every entry behind it that carries data: its index and the data.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// Index of the last entry of all.
    pub last: u64,
    /// Index up to which this member knows that entries are committed. Those behind it may be.
    pub committed: u64,
    /// The newest term that it knows.
    pub term: u64,
    /// Who votes, as of the last configuration in its log.
    pub voters: Vec<u64>,
}

/// Reads the records of a stopped member. None: there is no log.
///
/// # Errors
/// They cannot be trusted.
pub fn held(pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<Held>, Refuse> {
    let Boot::Log { snapshot, log: RecoveredLog(log) } = records::recover(pairs)? else { return Ok(None) };
    let behind = log.entries.iter().filter(|entry| entry.index > log.snapshot.0);
    let with_data =
        behind.filter(|entry| entry.entry_type == EntryType::EntryNormal && !entry.data.is_empty());
    Ok(Some(Held {
        snapshot,
        entries: with_data.map(|entry| (entry.index, entry.data.to_vec())).collect(),
        last: log.last(),
        committed: log.hard_state.commit,
        term: log.hard_state.term.max(log.entries.back().map_or(log.cut.1, |entry| entry.term)),
        voters: log.conf_state.voters.clone(),
    }))
}

/// The records of a member that is the only voter of a log which begins with a state: the `data` of
/// everything up to `index`, in a `term` that nobody knew before.
///
/// # Errors
/// The records cannot be encoded.
pub fn begin_with(voter: u64, index: u64, term: u64, data: &[u8]) -> Result<Records, Refuse> {
    let mut log = Log { cut: (index, term), snapshot: (index, term), ..Log::default() };
    log.conf_state = ConfState { voters: vec![voter], ..ConfState::default() };
    (log.hard_state.commit, log.hard_state.term) = (index, term);
    let meta = records::meta_record(&log).map_err(|error| Refuse {
        what: format!("the head record of the log cannot be written: {error}"),
        is_newer: false,
    })?;
    Ok(vec![meta, records::snapshot_record(data)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_begins_with_a_state_is_whole_and_says_what_it_holds() {
        let records = begin_with(7, 41, 3, b"state").expect("encoded");
        let pairs: Vec<_> = records.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let found = held(&pairs).expect("whole").expect("a log");
        let wanted = Held {
            snapshot: b"state".to_vec(),
            entries: Vec::new(),
            last: 41,
            committed: 41,
            term: 3,
            voters: vec![7],
        };
        assert_eq!(found, wanted);
        assert_eq!(held(&[]), Ok(None));
    }
}
