//! Snapshots of the registry in files of their own: taken on a schedule, kept for a while, read by people.
//!
//! ```text
//! <data>/snapshots/<time>-<index>.mesita   readable by the owner only: they hold the authority's key
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::SystemClock;
use crate::base::spawn::{Fatal, Shutdown};
use crate::base::time::{Clock, Timestamp};
use crate::config::Snapshots;
use crate::os::files;
use crate::registry::core::{Backup, Standing, State};
use crate::registry::run::Registry;

/// How the names of snapshots end.
const SUFFIX: &str = ".mesita";
/// How often the clock is looked at, and the pause after one could not be written.
const LOOK: Duration = Duration::from_secs(60);

/// What a registry holds, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Name of the cluster.
    pub cluster_id: String,
    /// Version of replicated commands.
    pub command_version: u32,
    /// Apps of the service framework.
    pub apps: Vec<String>,
    /// Instances that it keeps, running or on their way.
    pub instances: usize,
    /// Deployments that go on.
    pub deployments: usize,
    /// Frameworks that were not removed.
    pub frameworks: usize,
    /// Agents that belong to the cluster.
    pub agents: usize,
    /// Masters: id and peer address.
    pub masters: Vec<(String, String)>,
}

impl Contents {
    /// Counts a state.
    pub(super) fn of(state: &State) -> Self {
        let service = state.service();
        let admitted = state.agents().filter(|(_, entry)| entry.standing == Standing::Admitted);
        Self {
            cluster_id: state.cluster_id().to_owned(),
            command_version: state.version(),
            apps: service.apps().keys().cloned().collect(),
            instances: service.instances().len(),
            deployments: service.deployments().len(),
            frameworks: state.frameworks().filter(|(_, entry)| entry.removed.is_none()).count(),
            agents: admitted.count(),
            masters: state
                .masters()
                .map(|(id, entry)| (id.to_string(), entry.peer_address.clone()))
                .collect(),
        }
    }
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no snapshot, or damaged, or newer.
    #[error("{path}: {problem}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

/// A snapshot that was read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) backup: Backup,
}

impl Snapshot {
    /// Reads a file as `mesita cluster snapshot save` and the schedule write them.
    ///
    /// # Errors
    /// It cannot be read, is no snapshot, is damaged, or was written by a later version.
    pub fn read(path: &Path) -> Result<Self, SnapshotError> {
        let bytes =
            std::fs::read(path).map_err(|source| SnapshotError::File { path: path.to_owned(), source })?;
        Self::decode(&bytes).map_err(|problem| SnapshotError::Unreadable { path: path.to_owned(), problem })
    }

    /// The same from bytes.
    ///
    /// # Errors
    /// They are no snapshot: why.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        Backup::decode(bytes).map(|backup| Self { backup }).map_err(|error| error.0)
    }

    /// When it was taken.
    #[must_use]
    pub fn taken(&self) -> Timestamp {
        self.backup.taken
    }

    /// Index of the last command in it.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.backup.index
    }

    /// Version of the program that took it.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.backup.program
    }

    /// What it holds.
    #[must_use]
    pub fn contents(&self) -> Contents {
        Contents::of(&self.backup.state)
    }
}

/// The registry as it is now, as the bytes of a file.
pub(super) fn take(registry: &Registry, now: Timestamp) -> (u64, Vec<u8>) {
    // The view is at least as new as the index says.
    let index = *registry.watch().borrow();
    let state = (*registry.view()).clone();
    let program = env!("CARGO_PKG_VERSION").to_owned();
    (index, Backup { taken: now, index, program, state }.encode())
}

/// Takes snapshots of a registry, when something has changed since the last.
pub(super) struct Schedule {
    pub(super) registry: Registry,
    pub(super) directory: PathBuf,
    pub(super) settings: Snapshots,
    pub(super) clock: Arc<SystemClock>,
}

impl Schedule {
    pub(super) async fn run(self, mut shutdown: Shutdown) -> Result<(), Fatal> {
        let mut applied = self.registry.watch();
        let mut newest = self.names().ok().and_then(|names| taken_at(names.last()?));
        let mut last_index = 0;
        loop {
            let (now, index) = (self.clock.now().wall, *applied.borrow_and_update());
            // A clock that was set back must not end the schedule.
            let since = newest.filter(|at| *at <= now).map(|at| now.since(at));
            let pause = since.map_or(Duration::ZERO, |since| self.settings.every.saturating_sub(since));
            if !pause.is_zero() {
                tokio::select! {
                    // In pieces: the wall clock may be set.
                    () = tokio::time::sleep(pause.min(LOOK)) => continue,
                    () = shutdown.requested() => return Ok(()),
                }
            }
            if index == last_index {
                tokio::select! {
                    changed = applied.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return Ok(()),
                    },
                    () = shutdown.requested() => return Ok(()),
                }
            }
            match self.take(now) {
                Ok(()) => (newest, last_index) = (Some(now), index),
                Err(error) => {
                    let path = self.directory.display();
                    tracing::warn!(%error, "no snapshot could be written to {path}: make room there");
                    tokio::select! {
                        () = tokio::time::sleep(LOOK) => {}
                        () = shutdown.requested() => return Ok(()),
                    }
                }
            }
        }
    }

    fn take(&self, now: Timestamp) -> std::io::Result<()> {
        let (index, bytes) = take(&self.registry, now);
        files::write_private(&self.directory, &name_of(now, index), &bytes)?;
        let names = self.names()?;
        for name in &names[..names.len().saturating_sub(self.settings.keep)] {
            files::remove(&self.directory.join(name))?;
        }
        Ok(())
    }

    /// The snapshots that are there, oldest first.
    fn names(&self) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        match std::fs::read_dir(&self.directory) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry?.file_name().to_string_lossy().into_owned();
                    if taken_at(&name).is_some() {
                        names.push(name);
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// `2026-01-31T12-00-00.000Z-00000000000000000041.mesita`: in order of time, and a name on every system.
fn name_of(taken: Timestamp, index: u64) -> String {
    format!("{}-{index:020}{SUFFIX}", taken.rfc3339_millis().replace(':', "-"))
}

/// When a snapshot of this name was taken.
fn taken_at(name: &str) -> Option<Timestamp> {
    let (time, _index) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    let (date, time) = time.split_once('T')?;
    Timestamp::parse_rfc3339(&format!("{date}T{}", time.replace('-', ":"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_snapshots_say_when_and_sort_by_time() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let (one, other) = (name_of(at(1_700_000_000), 9), name_of(at(1_800_000_000), 3));
        assert!(one < other, "{one} {other}");
        assert_eq!(taken_at(&one), Some(at(1_700_000_000)));
        for other in ["", "notes.txt", "x.mesita", "2026-mesita"] {
            assert_eq!(taken_at(other), None, "{other}");
        }
    }
}
