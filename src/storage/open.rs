//! Opening a store: sled's own leftovers, then everything that is there against the mark.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{self, Reference};
use super::format::{self, FORMAT};
use super::mark::{self, Ledger, Mark, Witness};
use super::pieces::{Piece, Unreadable, checksum_of, decode, piece_key, split_key};
use super::sled_store::{MARK, damaged, mark_piece};
use super::{StoreError, store::OWN};

/// Attempts to get the lock of a store that was just closed.
const LOCK_TRIES: u32 = 200;
/// Pause between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// sled's page cache in bytes.
const CACHE: u64 = 32 * 1024 * 1024;

/// What [`super::SledStore`] is made of.
pub(super) struct Opened {
    pub(super) db: sled::Db,
    pub(super) file: File,
    pub(super) witness: Witness,
    pub(super) ledger: Ledger,
    pub(super) file_number: u64,
    pub(super) lock: File,
}

/// Opens what is in a directory, or makes it.
pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::Failed(format!("{what} in {}: {error}", path.display()))
    };
    // First: of a later version nothing is touched.
    let found = format::read(path)?;
    let lock = lock(path)?;
    remove_unfinished_snapshots(path).map_err(|error| failed("cannot tidy up", &error))?;
    let db = match open_sled(path) {
        Err(sled::Error::Corruption { .. }) => {
            set_snapshots_aside(path).map_err(|error| failed("cannot set sled's snapshots aside", &error))?;
            open_sled(path)
        }
        opened => opened,
    };
    let db = db.map_err(|error| match error {
        sled::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => locked(path),
        sled::Error::Io(error) => failed("cannot open the store", &error),
        error => unreadable(path, &error),
    })?;
    let file = File::open(path.join("db")).map_err(|error| failed("cannot open the data file", &error))?;
    let read = catch_unwind(AssertUnwindSafe(|| read_all(path, &db)));
    let (ledger, mark) = read.unwrap_or_else(|_| Err(unreadable(path, &"sled panicked")))?;
    let new = |error: io::Error| failed("cannot write", &error);
    let (witness, ledger) = if found.is_some() {
        (check(path, &ledger, mark)?, ledger)
    } else {
        let ledger = upgrade(path, &db, &file, ledger, mark)?;
        let witness = Witness::create(path, ledger.mark()).map_err(new)?;
        // Last: from here on the mark must be there. This also makes the entries of new files durable.
        format::write(path).map_err(new)?;
        (witness, ledger)
    };
    let file_number = file::sweep(path, ledger.files()).map_err(|error| failed("cannot tidy up", &error))?;
    Ok(Opened { db, file, witness, ledger, file_number, lock })
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::Failed(format!("{what} in {}: {error}", path.display()))
    };
    let lock =
        File::create(path.join("lock")).map_err(|error| failed("cannot create a lock file", &error))?;
    let mut tries = 0;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                tries += 1;
                std::thread::park_timeout(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(locked(path)),
            Err(TryLockError::Error(error)) => return Err(failed("cannot lock", &error)),
        }
    }
}

/// Reads every piece and checks it by itself. Gives what they add up to, and the mark among them.
fn read_all(path: &Path, db: &sled::Db) -> Result<(Ledger, Option<Mark>), StoreError> {
    let (mut ledger, mut mark) = (Ledger::default(), None);
    for item in db.iter() {
        let (stored, bytes) = item.map_err(|error| unreadable(path, &error))?;
        let problem = |key: &[u8], problem| damaged(path, key, &problem);
        let Some((key, number)) = split_key(&stored) else {
            return Err(problem(&stored, Unreadable::Damaged));
        };
        let piece = decode(key, number, &bytes).map_err(|why| problem(key, why))?;
        if key.first() == Some(&OWN) {
            let (MARK, Piece::Content(1, content)) = (key, piece) else {
                return Err(problem(key, Unreadable::Newer));
            };
            mark = Some(Mark::from_bytes(content).ok_or_else(|| problem(key, Unreadable::Damaged))?);
            continue;
        }
        let file = match piece {
            Piece::Content(..) => None,
            Piece::Reference(content) => {
                Some(Reference::from_bytes(content).ok_or_else(|| problem(key, Unreadable::Newer))?.name)
            }
        };
        ledger.put(stored.to_vec(), checksum_of(&bytes), file);
    }
    ledger.commits = mark.map_or(0, |mark| mark.commits);
    Ok((ledger, mark))
}

/// Compares what there is with the mark, and the mark with its copy.
fn check(path: &Path, ledger: &Ledger, mark: Option<Mark>) -> Result<Witness, StoreError> {
    let place = path.display();
    let damaged = |what: String| Err(StoreError::Damaged(what));
    let (witness, copy) = match Witness::open(path) {
        Ok((witness, Some(copy))) => (witness, copy),
        Ok((_, None)) => return damaged(format!("the file {} is damaged", path.join(mark::FILE).display())),
        Err(error) => {
            return damaged(format!("the file {} cannot be read: {error}", path.join(mark::FILE).display()));
        }
    };
    let mark = mark.unwrap_or_default();
    if mark.commits < copy.commits {
        return damaged(format!(
            "the data in {place} ends with commit {}, but {} were made: the last of them are lost",
            mark.commits, copy.commits
        ));
    }
    if ledger.mark() != mark || (mark.commits == copy.commits && mark != copy) {
        return damaged(format!(
            "the data in {place} is not what commit {} left: a part of it is lost or older than the rest",
            mark.commits
        ));
    }
    Ok(witness)
}

/// Adds the mark to a store that had none.
fn upgrade(
    path: &Path,
    db: &sled::Db,
    file: &File,
    mut ledger: Ledger,
    mark: Option<Mark>,
) -> Result<Ledger, StoreError> {
    let failed = |error: &dyn std::fmt::Display| {
        StoreError::Failed(format!("cannot write to {}: {error}", path.display()))
    };
    if mark.is_some_and(|mark| mark != ledger.mark()) {
        // An upgrade that a crash interrupted, and damage since then.
        return check(path, &ledger, mark).map(|_| ledger);
    }
    ledger.commits += 1;
    let mut batch = sled::Batch::default();
    batch.insert(piece_key(MARK, 0), mark_piece(ledger.mark())?);
    db.apply_batch(batch).map_err(|error| failed(&error))?;
    db.flush().map_err(|error| failed(&error))?;
    file.sync_data().map_err(|error| failed(&error))?;
    tracing::debug!(path = %path.display(), format = FORMAT, "the store has the newest format now");
    Ok(ledger)
}

pub(super) fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("the data in {} cannot be read: {error}", path.display()))
}

fn locked(path: &Path) -> StoreError {
    StoreError::Locked(format!(
        "the data in {} is in use by another process. Stop that one, or choose another directory with --data-dir",
        path.display()
    ))
}

/// A damaged file may also make sled panic.
fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(Some(500));
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .unwrap_or_else(|_| Err(sled::Error::ReportableBug("sled panicked".to_owned())))
}

/// A snapshot that was being written at a crash would be taken for a whole one.
fn remove_unfinished_snapshots(path: &Path) -> io::Result<()> {
    for name in snapshot_files(path)? {
        if name.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(name)?;
        }
    }
    Ok(())
}

/// Without its snapshots sled reads the whole log again.
fn set_snapshots_aside(path: &Path) -> io::Result<()> {
    let aside = path.join("damaged-snapshots");
    fs::create_dir_all(&aside)?;
    for name in snapshot_files(path)? {
        if let Some(file) = name.file_name() {
            fs::rename(&name, aside.join(file))?;
        }
    }
    Ok(())
}

fn snapshot_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.path();
        if name.file_name().is_some_and(|file| file.to_string_lossy().starts_with("snap.")) {
            files.push(name);
        }
    }
    Ok(files)
}
