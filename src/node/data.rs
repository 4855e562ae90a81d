//! Where a node keeps its state: memory and a temporary directory, or a data directory.
//!
//! ```text
//! <data>/registry/   sled: log and state of the registry
//! <data>/master-<n>/ the same for each of several masters in one process
//! <data>/owner      who uses it now, for `mesita reap`
//! <data>/ballast     room that is set aside for the time when the disk is full
//! <data>/agent-<n>/  sled `meta` with checkpoints, `work` with sandboxes, `notes` of containerizers
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use super::StartError;
use super::agents::store_name;
use crate::config::DataDir;
use crate::os::owner::{self, Owner};
use crate::storage::{Faults, MemoryStore, Room, SledStore, Store};

/// Directory of a registry.
pub(super) const REGISTRY: &str = "registry";
/// How the names of temporary directories begin.
const TEMPORARY: &str = "mesita-";
/// How the directories of several masters begin; a number follows.
const MASTER: &str = "master-";

/// The state of one node on disk or in memory.
#[derive(Debug)]
pub(super) struct Data {
    root: PathBuf,
    is_ephemeral: bool,
    /// Faults of its disks, for tests.
    faults: Faults,
    /// Of what is on a disk.
    room: Option<Arc<Room>>,
    /// Stores in memory outlive their owners, as disks do.
    memory: Arc<Mutex<BTreeMap<String, Arc<MemoryStore>>>>,
    /// Removes the directory when the node ends.
    temporary: Option<TempDir>,
}

impl Data {
    /// Opens the data directory, or makes a temporary one whose name carries `run_id`.
    pub(super) fn open(data_dir: &DataDir, run_id: Option<&str>, faults: Faults) -> Result<Self, StartError> {
        match data_dir {
            DataDir::Ephemeral => {
                let prefix = run_id.map_or_else(|| TEMPORARY.to_owned(), |run| format!("{TEMPORARY}{run}-"));
                let temporary = tempfile::Builder::new()
                    .prefix(&prefix)
                    .tempdir()
                    .map_err(|source| StartError::DataDir { path: std::env::temp_dir(), source })?;
                let root = temporary.path().to_owned();
                Ok(Self {
                    root,
                    is_ephemeral: true,
                    faults,
                    room: None,
                    memory: Arc::default(),
                    temporary: Some(temporary),
                })
            }
            DataDir::At(path) => {
                let failed = |source| StartError::DataDir { path: path.clone(), source };
                fs::create_dir_all(path).map_err(failed)?;
                let root = path.canonicalize().map_err(failed)?;
                let room = Some(Arc::new(Room::of(&root)));
                Ok(Self { root, is_ephemeral: false, faults, room, memory: Arc::default(), temporary: None })
            }
        }
    }

    /// The directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes down whose it is now.
    pub(super) fn own(&self, outlives: bool) -> Result<(), StartError> {
        let failed = |source| StartError::DataDir { path: self.root.clone(), source };
        owner::write(&self.root, outlives).map_err(failed)
    }

    /// The same directory, for somebody who does not own it.
    pub(super) fn share(&self) -> Self {
        self.part(self.root.clone())
    }

    /// What belongs to this in a directory of its own.
    fn part(&self, root: PathBuf) -> Self {
        Self {
            root,
            is_ephemeral: self.is_ephemeral,
            faults: self.faults.clone(),
            room: self.room.clone(),
            memory: Arc::clone(&self.memory),
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
        self.part(self.root.join(format!("{MASTER}{number}")))
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
        self.store(REGISTRY, &self.registry_name())
    }

    /// The name of the registry's store, and of its master as a part of the node.
    pub(super) fn registry_name(&self) -> String {
        let name = self.root.file_name().map(|name| name.to_string_lossy().into_owned());
        // One of several masters has a directory with its name.
        name.filter(|name| name.starts_with(MASTER)).unwrap_or_else(|| REGISTRY.to_owned())
    }

    /// The faults of its disks.
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The checkpoints of one agent.
    pub(super) fn agent_store(&self, index: usize) -> Result<Arc<dyn Store>, StartError> {
        self.store(&format!("agent-{index}/meta"), &store_name(index))
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
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let store = memory
                .entry(name.to_owned())
                .or_insert_with(|| Arc::new(MemoryStore::with_faults(name, self.faults.clone())));
            store.reopen();
            return Ok(Arc::clone(store) as _);
        }
        let path = self.root.join(directory);
        fs::create_dir_all(&path).map_err(|source| StartError::DataDir { path: path.clone(), source })?;
        Ok(Arc::new(SledStore::open_with(&path, name, self.faults.clone(), self.room.clone())?))
    }

    /// Leaves a temporary directory where it is.
    pub(super) fn keep(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _: PathBuf = temporary.keep();
        }
    }

    /// Removes a temporary directory now, so that a failure is seen.
    pub(super) fn close(self) -> std::io::Result<()> {
        self.temporary.map_or(Ok(()), TempDir::close)
    }
}

/// Temporary directories of nodes that ended without removing them, with why one stays; removes them unless
/// `dry_run`. `of`: only this one.
#[must_use]
pub fn reap(of: Option<&Path>, dry_run: bool) -> Vec<(PathBuf, Option<String>)> {
    let here = owner::place();
    let all = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = all.filter(|path| of.is_none_or(|of| of == path));
    let is_orphan = |path: &PathBuf| {
        let is_temporary = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY));
        // Of one without an owner's file nobody knows whose it is.
        is_temporary && owner::look(path, &here) == Owner::Gone
    };
    let mut orphans: Vec<_> = all.filter(is_orphan).collect();
    orphans.sort();
    let remove = |path: PathBuf| {
        let removed = if dry_run { Ok(()) } else { fs::remove_dir_all(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => (path, Some(error.to_string())),
            _ => (path, None),
        }
    };
    orphans.into_iter().map(remove).collect()
}
