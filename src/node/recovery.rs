//! Work on the data directory of a node that does not run: going on alone with what it holds when the
//! other masters are gone for good, and beginning again from a snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::data::REGISTRY;
use super::snapshots::{Contents, Snapshot};
use crate::base::clock::SystemClock;
use crate::base::id::NodeId;
use crate::base::time::{Clock, Timestamp};
use crate::os::files;
use crate::peer::wire::{Authority, Identity, PeerName, Role};
use crate::registry::core::State;
use crate::registry::run::{RegistryConfig, Salvaged, begin, salvage};
use crate::storage::{SledStore, Store};

/// Where a new registry is made before it takes the place of the old one.
const NEW: &str = "registry.new";

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RecoveryError(String);

fn failed(problem: impl std::fmt::Display) -> RecoveryError {
    RecoveryError(problem.to_string())
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> RecoveryError {
    move |error| RecoveryError(format!("{}: {error}", path.display()))
}

/// A stopped master that is to go on alone.
pub struct Recovery {
    root: PathBuf,
    id: NodeId,
    salvaged: Salvaged,
    /// Held, so that no node starts meanwhile.
    store: SledStore,
}

impl Recovery {
    /// Reads the data directory of a stopped master. Nothing is changed. Blocks.
    ///
    /// # Errors
    /// A node runs on it, it holds no registry of several masters, or what it holds cannot be trusted.
    pub fn open(root: &Path) -> Result<Self, RecoveryError> {
        let directory = root.join(REGISTRY);
        if !directory.is_dir() {
            return Err(failed(format!(
                "{} holds no registry of a node: give the data directory of a master that mesita node ran on",
                root.display()
            )));
        }
        // The node renews one that is out of date when it starts.
        let identity = Identity::load(&root.join("identity")).map_err(failed)?;
        let id = identity.filter(|identity| identity.name().role == Role::Master).map(|it| it.name().node_id);
        let id = id.ok_or_else(|| {
            failed(format!(
                "{} has no identity of a master: a cluster of one process has nobody to be recovered from; just start it",
                root.display()
            ))
        })?;
        // Whoever only looks changes nothing.
        let store = SledStore::open_as_it_is(&directory).map_err(failed)?;
        let salvaged = salvage(&store).map_err(failed)?;
        let salvaged =
            salvaged.ok_or_else(|| failed(format!("the registry in {} is empty", directory.display())))?;
        if salvaged.state.master(id).is_none() {
            return Err(failed(format!(
                "the node {id} of {} is no master of the cluster as far as it knows: use the directory of one that is",
                root.display()
            )));
        }
        Ok(Self { root: root.to_owned(), id, salvaged, store })
    }

    /// The node that goes on.
    #[must_use]
    pub fn node_id(&self) -> String {
        self.id.to_string()
    }

    /// What is kept.
    #[must_use]
    pub fn contents(&self) -> Contents {
        Contents::of(&self.salvaged.state)
    }

    /// Index of the last entry of the log, and up to which it is known that entries were committed. Those
    /// between are kept: they may have been acknowledged.
    #[must_use]
    pub fn indexes(&self) -> (u64, u64) {
        (self.salvaged.last, self.salvaged.committed)
    }

    /// Time of the last change, if it lies behind the last snapshot.
    #[must_use]
    pub fn changed(&self) -> Option<Timestamp> {
        self.salvaged.changed
    }

    /// Makes this node the only master. What was there before is kept beside it: the path is returned. Blocks.
    ///
    /// # Errors
    /// The disk refused; the registry is as it was.
    pub fn perform(self) -> Result<PathBuf, RecoveryError> {
        let Self { root, id, salvaged, store } = self;
        let (directory, new) = (root.join(REGISTRY), root.join(NEW));
        let mut state = salvaged.state;
        state.leave_only_master(id);
        // The rest of an attempt that did not come to its end.
        if new.exists() {
            std::fs::remove_dir_all(&new).map_err(at(&new))?;
        }
        write_registry(&new, id, &state, (salvaged.last + 1, salvaged.term + 1))?;
        drop(store);
        let old = free_name(&root, &format!("{REGISTRY}.before-recovery-at-{}", salvaged.last));
        files::exchange(&directory, &new).map_err(at(&directory))?;
        std::fs::rename(&new, &old).map_err(at(&old))?;
        files::sync_directory(&root).map_err(at(&root))?;
        Ok(old)
    }
}

/// Makes the data directory of a cluster's first node from a snapshot. Blocks.
///
/// # Errors
/// The directory is not empty, or the disk refused.
pub fn restore(snapshot: &Snapshot, root: &Path) -> Result<(), RecoveryError> {
    expect_empty(root)?;
    let parent =
        root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(parent).map_err(at(parent))?;
    let making = tempfile::Builder::new().prefix(".mesita-restoring-").tempdir_in(parent);
    let making = making.map_err(at(parent))?;
    let backup = &snapshot.backup;
    let mut state = backup.state.clone();
    // A new id: the node that had any of the old ones may come back.
    let id = match state.authority().cloned() {
        Some(authority) => {
            let authority = Authority::from_pem(&authority.certificate, &authority.key).map_err(failed)?;
            let id = super::identity::new_id();
            let name =
                PeerName { cluster_id: state.cluster_id().to_owned(), role: Role::Master, node_id: id };
            let now = SystemClock::new().now().wall;
            let identity = Identity::issue(&authority, &name, now).map_err(failed)?;
            identity.save(&making.path().join("identity")).map_err(failed)?;
            state.leave_only_master(id);
            id
        }
        None => RegistryConfig::alone(String::new()).id,
    };
    write_registry(&making.path().join(REGISTRY), id, &state, (backup.index.max(1), 1))?;
    // It has this mode until it is in its place.
    files::private_directory(making.path()).map_err(at(root))?;
    let made = making.keep();
    std::fs::rename(&made, root).map_err(|error| {
        // Best effort: the error says where the rest is.
        let left = std::fs::remove_dir_all(&made).err().map(|_| made.display().to_string());
        failed(format!(
            "{}: {error}{}",
            root.display(),
            left.map(|at| format!(" ({at} is left)")).unwrap_or_default()
        ))
    })?;
    files::sync_directory(parent).map_err(at(parent))
}

/// Whether a snapshot can be restored there.
///
/// # Errors
/// Something is there: what.
pub fn expect_empty(root: &Path) -> Result<(), RecoveryError> {
    match std::fs::read_dir(root) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(failed(format!(
                "{} is not empty: move it aside, or restore to another directory",
                root.display()
            ))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(root)(error)),
    }
}

fn write_registry(
    directory: &Path,
    id: NodeId,
    state: &State,
    position: (u64, u64),
) -> Result<(), RecoveryError> {
    std::fs::create_dir_all(directory).map_err(at(directory))?;
    let store: Arc<dyn Store> = Arc::new(SledStore::open(directory).map_err(failed)?);
    begin(&store, id, state, position).map_err(failed)
}

fn free_name(root: &Path, wanted: &str) -> PathBuf {
    let mut name = root.join(wanted);
    let mut number = 1;
    while name.exists() {
        number += 1;
        name = root.join(format!("{wanted}-{number}"));
    }
    name
}
