//! What to do about data that cannot be trusted: it depends on who else has a copy.

use std::path::Path;

use super::StartError;
use crate::consensus::run::MemberError;
use crate::registry::run::RegistryError;
use crate::storage::StoreError;

/// Who else has what a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// The other masters of a cluster of nodes.
    Nodes,
    /// Nobody.
    None,
    /// It is an agent's: its own tasks.
    Agent,
}

/// The error of a store or registry that does not open, with what to do.
pub(super) fn explain(error: RegistryError, root: &Path, copies: Copies) -> StartError {
    let what = match &error {
        RegistryError::Member(MemberError::Store(StoreError::Damaged(what))) => what.clone(),
        RegistryError::Member(MemberError::Refuse(refuse)) if !refuse.is_newer => refuse.what.clone(),
        _ => return StartError::Registry(error),
    };
    let root = root.display();
    let remedy = match copies {
        Copies::Nodes => format!(
            "This node votes and serves nothing on it. Remove it from the cluster (mesita cluster remove ID --yes, asked of another master), move {root} aside and join again with a new token; if no majority of masters is left, mesita cluster recover on one whose data is whole"
        ),
        Copies::None => format!(
            "Nothing is served on it. Move {root} aside and restore a snapshot: mesita cluster restore FILE --data-dir {root}"
        ),
        Copies::Agent => format!(
            "Move {root} aside: the agent registers anew, and what it ran is started again by those who want it"
        ),
    };
    StartError::Damaged { what, remedy }
}

/// The same for a store by itself; other errors stay as they are.
pub(super) fn explain_store(error: StartError, root: &Path, copies: Copies) -> StartError {
    match error {
        StartError::Store(error) => explain(RegistryError::Member(MemberError::Store(error)), root, copies),
        other => other,
    }
}
