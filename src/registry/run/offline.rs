//! The registry of a node that does not run.

use std::sync::Arc;

use super::handle::RegistryError;
use crate::base::id::NodeId;
use crate::base::time::Timestamp;
use crate::consensus::core::{SNAPSHOT, begin_with, held};
use crate::consensus::run::MemberError;
use crate::registry::core::{Command, State};
use crate::storage::{Batch, Store};

/// What the registry of a stopped node holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Salvaged {
    /// The state after every entry of the log, also those of which this node does not know whether they
    /// were committed.
    pub state: State,
    /// Index of the last entry.
    pub last: u64,
    /// Index up to which it knows that entries are committed.
    pub committed: u64,
    /// The newest term that it knows.
    pub term: u64,
    /// Time of the last command behind the last snapshot.
    pub changed: Option<Timestamp>,
}

/// Reads a store that nobody uses. None: there is no registry in it. Blocks.
///
/// # Errors
/// It cannot be read or trusted.
pub fn salvage(store: &dyn Store) -> Result<Option<Salvaged>, RegistryError> {
    let pairs = store.scan(b"").map_err(MemberError::from)?;
    let Some(held) = held(&pairs).map_err(MemberError::from)? else { return Ok(None) };
    let decode = |error: crate::registry::core::DecodeError| MemberError::Fault(error.to_string());
    let mut state = State::restore(&held.snapshot).map_err(decode)?;
    let mut changed = None;
    for (_, data) in &held.entries {
        let command = Command::decode(data).map_err(decode)?;
        changed = Some(command.time);
        state.apply(command);
    }
    let (last, committed, term) = (held.last, held.committed, held.term);
    Ok(Some(Salvaged { state, last, committed, term, changed }))
}

/// Fills an empty store with the registry of a member that is alone, whose log begins with a state. Durable
/// when it returns. Blocks.
///
/// # Errors
/// The disk refused.
pub fn begin(
    store: &Arc<dyn Store>,
    id: NodeId,
    state: &State,
    (index, term): (u64, u64),
) -> Result<(), RegistryError> {
    let records = begin_with(id.get(), index, term, &state.snapshot()).map_err(MemberError::from)?;
    let mut batch = Batch::default();
    for (key, value) in records {
        if let Some(value) = value {
            if key == SNAPSHOT {
                batch.put_file(key, value);
            } else {
                batch.put(key, value);
            }
        }
    }
    store.commit(batch).map_err(MemberError::from)?;
    Ok(())
}
