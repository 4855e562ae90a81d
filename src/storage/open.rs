//! Opening a store: sled's own leftovers, then everything that is there against the mark, and a file that
//! has become too large is written anew.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{self, Reference};
use super::format::{self, FORMAT};
use super::mark::{self, Ledger, Mark, Witness};
use super::pieces::{Piece, Unreadable, checksum_of, decode, piece_key, split_key};
use super::rewrite::{self, Rewritten};
use super::sled_store::{MARK, damaged, mark_piece};
use super::{Room, StoreError, store::OWN};

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

/// What a store holds: every piece of it was read.
struct Content {
    db: sled::Db,
    ledger: Ledger,
    mark: Option<Mark>,
    /// Bytes of all keys and pieces.
    live: u64,
}

/// Opens what is in a directory, or makes it. A file that is larger than it should be, by more than `slack`
/// bytes, is written anew.
pub(super) fn open(path: &Path, slack: u64, room: Option<&Room>) -> Result<Opened, StoreError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::Failed(format!("{what} in {}: {error}", path.display()))
    };
    // First: of a later version nothing is touched.
    let found = format::read(path)?;
    let lock = lock(path)?;
    if let Some(room) = room {
        room.prepare();
    }
    rewrite::finish(path).map_err(|error| failed("cannot tidy up", &error))?;
    let mut content = read(path)?;
    let data_file =
        || File::open(path.join("db")).map_err(|error| failed("cannot open the data file", &error));
    let new = |error: io::Error| failed("cannot write", &error);
    let witness = if found.is_some() {
        let witness = check(path, &content.ledger, content.mark)?;
        content = renew(path, content, slack)?;
        witness
    } else {
        content.ledger = upgrade(path, &content.db, &data_file()?, content.ledger, content.mark)?;
        let witness = Witness::create(path, content.ledger.mark()).map_err(new)?;
        // Last: from here on the mark must be there. This also makes the entries of new files durable.
        format::write(path).map_err(new)?;
        witness
    };
    let Content { db, ledger, .. } = content;
    let file_number = file::sweep(path, ledger.files()).map_err(|error| failed("cannot tidy up", &error))?;
    Ok(Opened { db, file: data_file()?, witness, ledger, file_number, lock })
}

/// Opens sled in a directory and reads everything.
fn read(path: &Path) -> Result<Content, StoreError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::Failed(format!("{what} in {}: {error}", path.display()))
    };
    remove_unfinished_snapshots(path).map_err(|error| failed("cannot tidy up", &error))?;
    let db = match open_sled(path) {
        Err(sled::Error::Corruption { .. }) => {
            set_snapshots_aside(path).map_err(|error| failed("cannot set sled's snapshots aside", &error))?;
            open_sled(path)
        }
        opened => opened,
    };
    let db = db.map_err(|error| match error {
        sled::Error::Io(error) if is_locked(&error) => locked(path),
        sled::Error::Io(error) => failed("cannot open the store", &error),
        error => unreadable(path, &error),
    })?;
    let read = catch_unwind(AssertUnwindSafe(|| read_all(path, &db)));
    let (ledger, mark, live) = read.unwrap_or_else(|_| Err(unreadable(path, &"sled panicked")))?;
    Ok(Content { db, ledger, mark, live })
}

/// Writes a file anew that is larger than it should be. What there is was checked. Where that does not work,
/// the old one is used.
fn renew(path: &Path, content: Content, slack: u64) -> Result<Content, StoreError> {
    let before = content.db.size_on_disk().unwrap_or(0);
    if !rewrite::is_due(before, content.live, slack) {
        return Ok(content);
    }
    let (sum, mark) = (content.ledger.mark(), content.mark);
    if let Err(error) = rewrite_checked(path, content) {
        tracing::warn!(path = %path.display(), %error, "the data file is larger than it should be, and was not written anew");
    }
    let failed = |error: &dyn std::fmt::Display| {
        StoreError::Failed(format!("cannot write the data file in {} anew: {error}", path.display()))
    };
    // Either nothing counts but the old file, or the new one is whole and takes its place.
    rewrite::finish(path).map_err(|error| failed(&error))?;
    let content = read(path)?;
    if (content.ledger.mark(), content.mark) != (sum, mark) {
        return Err(unreadable(path, &"it is not what it was before it was written anew"));
    }
    let now = content.db.size_on_disk().unwrap_or(0);
    tracing::info!(path = %path.display(), before, now, "the data file was too large");
    Ok(content)
}

/// Writes a new file and reads it again before it counts.
fn rewrite_checked(path: &Path, content: Content) -> Result<(), StoreError> {
    let written = catch_unwind(AssertUnwindSafe(|| Rewritten::write(path, &content.db)));
    let rewritten = written.unwrap_or_else(|_| Err(unreadable(path, &"sled panicked")))?;
    // Of the disk's word alone nothing is thrown away.
    let again = read(rewritten.directory())?;
    if again.ledger.mark() != content.ledger.mark() || again.mark != content.mark {
        return Err(unreadable(path, &"what was written is not what was read"));
    }
    drop((again, content));
    wait_until_closed(&path.join("db"))?;
    wait_until_closed(&rewritten.directory().join("db"))?;
    rewritten.commit(path).map_err(|error| StoreError::Failed(error.to_string()))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::Failed(format!("{what} in {}: {error}", path.display()))
    };
    let lock =
        File::create(path.join("lock")).map_err(|error| failed("cannot create a lock file", &error))?;
    take_lock(&lock, path).map(|()| lock)
}

/// Waits a little for a lock that somebody else has.
fn take_lock(file: &File, path: &Path) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                tries += 1;
                std::thread::park_timeout(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(locked(path)),
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::Failed(format!("cannot lock {}: {error}", path.display())));
            }
        }
    }
}

/// Reads every piece and checks it by itself. Gives what they add up to, the mark among them, and how many
/// bytes they are.
fn read_all(path: &Path, db: &sled::Db) -> Result<(Ledger, Option<Mark>, u64), StoreError> {
    let (mut ledger, mut mark, mut live) = (Ledger::default(), None, 0);
    for item in db.iter() {
        let (stored, bytes) = item.map_err(|error| unreadable(path, &error))?;
        live += (stored.len() + bytes.len()) as u64;
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
    Ok((ledger, mark, live))
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

/// Opens sled; one that was just closed lets go of its file a little later.
pub(super) fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    let mut tries = 0;
    loop {
        match try_open_sled(path) {
            Err(sled::Error::Io(error)) if is_locked(&error) && tries < LOCK_TRIES => {
                tries += 1;
                std::thread::park_timeout(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// What sled still does with a file that was closed, it does under its lock.
fn wait_until_closed(file: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::Failed(format!("cannot open {}: {error}", file.display()));
    take_lock(&File::open(file).map_err(failed)?, file)
}

/// sled hides the system's word in a text.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

/// A damaged file may also make sled panic.
fn try_open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(Some(500));
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .unwrap_or_else(|_| Err(sled::Error::ReportableBug("sled panicked".to_owned())))
}

/// Takes sled's snapshots away: it reads its whole file again.
pub(super) fn remove_snapshots(path: &Path) -> io::Result<()> {
    snapshot_files(path)?.into_iter().try_for_each(fs::remove_file)
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

pub(super) fn snapshot_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.path();
        if name.file_name().is_some_and(|file| file.to_string_lossy().starts_with("snap.")) {
            files.push(name);
        }
    }
    Ok(files)
}
