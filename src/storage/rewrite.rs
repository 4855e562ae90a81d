//! sled keeps the room of what was removed all at once. A file that has become much larger than what is in it
//! is written anew while its store is opened, in a directory of its own, and then takes the old one's place:
//! a crash leaves the one or the other, whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::open::{open_sled, remove_snapshots, snapshot_files};

/// Directory in which sled's files are written anew.
const UNFINISHED: &str = "rewrite-begun";
/// Its name when they are whole: from then on they count, and not the old ones.
const FINISHED: &str = "rewrite";
/// File in it: the old snapshots are gone, and those that are there are new.
const CLEARED: &str = "cleared";
/// A file may be so many times as large as what is in it,
const TIMES: u64 = 8;
/// and that much larger: sled's own books, and room that is used again.
pub(super) const SLACK: u64 = 64 * 1024 * 1024;
/// Pieces that are written together.
const TOGETHER: usize = 1_000;

/// Whether a file of `on_disk` bytes with `live` bytes in it is to be written anew.
pub(super) const fn is_due(on_disk: u64, live: u64, slack: u64) -> bool {
    on_disk > live.saturating_mul(TIMES).saturating_add(slack)
}

/// Ends what a crash interrupted: files that are whole take their place, others are removed. Nobody may have
/// the old ones open.
pub(super) fn finish(store: &Path) -> io::Result<()> {
    remove(&store.join(UNFINISHED))?;
    let new = store.join(FINISHED);
    if new.join("db").exists() {
        // What snapshots say of the old file is not true of the new one, and the other way round.
        if !new.join(CLEARED).exists() {
            remove_snapshots(store)?;
            sync_directory(store)?;
            File::create(new.join(CLEARED))?.sync_all()?;
            sync_directory(&new)?;
        }
        for from in snapshot_files(&new)? {
            fs::rename(&from, store.join(from.file_name().unwrap_or_default()))?;
        }
        sync_directory(store)?;
        fs::rename(new.join("db"), store.join("db"))?;
        sync_directory(store)?;
    }
    remove(&new)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file that has yet to be checked, and to take its place.
pub(super) struct Rewritten {
    directory: PathBuf,
}

impl Rewritten {
    /// Writes everything that is in `db` into a new file.
    ///
    /// # Errors
    /// The disk has no room for it, say: nothing has changed.
    pub(super) fn write(store: &Path, db: &sled::Db) -> Result<Self, StoreError> {
        let failed = |error: &dyn std::fmt::Display| StoreError::Failed(error.to_string());
        let directory = store.join(UNFINISHED);
        fs::create_dir(&directory).map_err(|error| failed(&error))?;
        let new = open_sled(&directory).map_err(|error| failed(&error))?;
        let (mut batch, mut count) = (sled::Batch::default(), 0);
        for item in db.iter() {
            let (key, value) = item.map_err(|error| failed(&error))?;
            batch.insert(key, value);
            count += 1;
            if count % TOGETHER == 0 {
                new.apply_batch(std::mem::take(&mut batch)).map_err(|error| failed(&error))?;
            }
        }
        new.apply_batch(batch).map_err(|error| failed(&error))?;
        new.flush().map_err(|error| failed(&error))?;
        drop(new);
        // The file is of use only where sled is set up alike.
        let same = |name: &str| Ok(fs::read(store.join(name))? == fs::read(directory.join(name))?);
        if !same("conf").map_err(|error: io::Error| failed(&error))? {
            return Err(StoreError::Failed("sled was set up differently when it was made".to_owned()));
        }
        Ok(Self { directory })
    }

    /// Where the new file is, to be read once more.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the new file the one that counts. Nobody may have it open.
    pub(super) fn commit(self, store: &Path) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            File::open(entry?.path())?.sync_all()?;
        }
        sync_directory(&self.directory)?;
        fs::rename(&self.directory, store.join(FINISHED))?;
        sync_directory(store)
    }
}
