//! Where a node keeps its state: memory and a temporary directory, or a data directory.
//!
//! ```text
//! <data>/registry/   sled: log and state of the registry
//! <data>/master-<n>/ the same for each of several masters in one process
//! <data>/agent-<n>/  sled `meta` with checkpoints, `work` with sandboxes, `notes` of containerizers
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::StartError;
use crate::config::DataDir;
use crate::storage::{Faults, MemoryStore, SledStore, Store};

/// Directory of a registry.
pub(super) const REGISTRY: &str = "registry";
/// How the directories of several masters begin; a number follows.
const MASTER: &str = "master-";

/// The state of one node on disk or in memory.
#[derive(Debug)]
pub(super) struct Data {
    root: PathBuf,
    is_ephemeral: bool,
    /// Faults of its disks, for tests.
    faults: Faults,
    /// Removes the directory when the node ends.
    temporary: Option<TempDir>,
}

impl Data {
    /// Opens the data directory, or makes a temporary one whose name carries `run_id`.
    pub(super) fn open(data_dir: &DataDir, run_id: Option<&str>, faults: Faults) -> Result<Self, StartError> {
        match data_dir {
            DataDir::Ephemeral => {
                let prefix = run_id.map_or_else(|| "mesita-".to_owned(), |run| format!("mesita-{run}-"));
                let temporary = tempfile::Builder::new()
                    .prefix(&prefix)
                    .tempdir()
                    .map_err(|source| StartError::DataDir { path: std::env::temp_dir(), source })?;
                let root = temporary.path().to_owned();
                Ok(Self { root, is_ephemeral: true, faults, temporary: Some(temporary) })
            }
            DataDir::At(path) => {
                let failed = |source| StartError::DataDir { path: path.clone(), source };
                fs::create_dir_all(path).map_err(failed)?;
                let root = path.canonicalize().map_err(failed)?;
                Ok(Self { root, is_ephemeral: false, faults, temporary: None })
            }
        }
    }

    /// The directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The same directory, for somebody who does not own it.
    pub(super) fn share(&self) -> Self {
        Self {
            root: self.root.clone(),
            is_ephemeral: self.is_ephemeral,
            faults: self.faults.clone(),
            temporary: None,
        }
    }

    /// Whether the state ends with the node.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.is_ephemeral
    }

    /// Whether a registry was kept here.
    #[cfg(feature = "tls")]
    pub(super) fn has_registry(&self) -> bool {
        self.root.join(REGISTRY).exists()
    }

    /// The part of one of several masters.
    pub(super) fn of_master(&self, number: usize) -> Self {
        let root = self.root.join(format!("{MASTER}{number}"));
        Self { root, is_ephemeral: self.is_ephemeral, faults: self.faults.clone(), temporary: None }
    }

    /// Refuses a directory that was made for another number of masters: their registry would seem empty.
    pub(super) fn expect_masters(&self, masters: usize) -> Result<(), StartError> {
        let failed = |source| StartError::DataDir { path: self.root.clone(), source };
        let (mut parts, mut is_sole) = (0, false);
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            is_sole |= name == REGISTRY;
            parts += usize::from(name.to_string_lossy().starts_with(MASTER));
        }
        let holds = if is_sole { 1 } else { parts };
        if holds == 0 || holds == masters {
            return Ok(());
        }
        Err(StartError::OtherMasters { path: self.root.clone(), holds, wanted: masters })
    }

    /// The registry's store.
    pub(super) fn registry_store(&self) -> Result<Arc<dyn Store>, StartError> {
        let name = self.root.file_name().map(|name| name.to_string_lossy().into_owned());
        // One of several masters has a directory with its name.
        let name = name.filter(|name| name.starts_with(MASTER)).unwrap_or_else(|| REGISTRY.to_owned());
        self.store(REGISTRY, &name)
    }

    /// The checkpoints of one agent.
    pub(super) fn agent_store(&self, index: usize) -> Result<Arc<dyn Store>, StartError> {
        self.store(&format!("agent-{index}/meta"), &format!("agent-{index}"))
    }

    /// The sandboxes of one agent.
    pub(super) fn agent_work_dir(&self, index: usize) -> Result<PathBuf, StartError> {
        let path = self.root.join(format!("agent-{index}/work"));
        fs::create_dir_all(&path).map_err(|source| StartError::DataDir { path: path.clone(), source })?;
        Ok(path)
    }

    /// What the containerizers of one agent keep.
    pub(super) fn agent_notes(&self, index: usize) -> PathBuf {
        self.root.join(format!("agent-{index}/notes"))
    }

    /// A store in a directory, under the name by which faults know it.
    fn store(&self, directory: &str, name: &str) -> Result<Arc<dyn Store>, StartError> {
        if self.is_ephemeral {
            return Ok(Arc::new(MemoryStore::default()));
        }
        let path = self.root.join(directory);
        fs::create_dir_all(&path).map_err(|source| StartError::DataDir { path: path.clone(), source })?;
        Ok(Arc::new(SledStore::open_with(&path, name, self.faults.clone())?))
    }

    /// Removes a temporary directory now, so that a failure is seen.
    pub(super) fn close(self) -> std::io::Result<()> {
        self.temporary.map_or(Ok(()), TempDir::close)
    }
}
