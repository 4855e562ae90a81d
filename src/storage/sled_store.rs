//! The store on disk.
//!
//! sled's own `flush` does not survive a power cut, it opens silently with holes after corruption,
//! and it keeps large values in files that it never syncs. Hence: a commit also syncs sled's file,
//! every value carries a checksum ([`super::pieces`]), a sum over all of them tells whether they belong
//! together ([`super::mark`]), and large values have files of their own ([`super::file`]).
//!
//! Opening is strict: what a single commit left is read, or nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::Due;
use super::file::{self, Reference};
use super::mark::{Ledger, Mark, Witness};
use super::open::{self, Opened};
use super::pieces::{Piece, Unreadable, checksum_of, cut, decode, piece_key, reference, split_key};
use super::rewrite::SLACK;
use super::store::{OWN, check_key};
use super::wreck::{Wreck, image};
use super::{Batch, Change, Faults, Pair, Room, Store, StoreError, StoreRoom};

/// Key of the mark.
pub(super) const MARK: &[u8] = &[OWN, b'm', b'a', b'r', b'k'];

/// A sled database in a directory of its own.
pub struct SledStore {
    path: PathBuf,
    db: sled::Db,
    /// Our handle of sled's file, for syncing.
    file: File,
    witness: Witness,
    inner: Mutex<Inner>,
    /// A commit failed: nothing more is done.
    broken: AtomicBool,
    name: String,
    faults: Faults,
    room: Option<Arc<Room>>,
    /// Behind the database: it has the last word.
    wreck: Wreck,
    /// Held as long as the store is open.
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    /// Of the last file of a value.
    file_number: u64,
}

/// Why a commit failed.
enum Problem {
    Io(io::Error),
    Other(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<sled::Error> for Problem {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Self::Io(error),
            error => Self::Other(error.to_string()),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Other(error.to_string())
    }
}

impl SledStore {
    /// Opens or creates the store in a directory that exists.
    ///
    /// Blocks for up to two seconds while a store that was just closed lets its lock go.
    ///
    /// # Errors
    /// `Locked` when another process has it open, `Damaged` when what is there is not what the last commit
    /// left, `Newer` when a later version wrote it, `Failed` when the disk refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, "", Faults::default(), None)
    }

    /// The same on a disk with faults, which know the store by this name, and whose room is watched.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    pub fn open_with(
        path: &Path,
        name: &str,
        faults: Faults,
        room: Option<Arc<Room>>,
    ) -> Result<Self, StoreError> {
        let opened = open::open(path, SLACK, room.as_deref())?;
        Ok(Self::of(path, opened, name, faults, room))
    }

    fn of(path: &Path, opened: Opened, name: &str, faults: Faults, room: Option<Arc<Room>>) -> Self {
        Self {
            path: path.to_owned(),
            db: opened.db,
            file: opened.file,
            witness: opened.witness,
            inner: Mutex::new(Inner { ledger: opened.ledger, file_number: opened.file_number }),
            broken: AtomicBool::new(false),
            name: name.to_owned(),
            faults,
            room,
            wreck: Wreck::new(path),
            _lock: opened.lock,
        }
    }

    /// As [`SledStore::open`], but leaves a file that has become too large as it is.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    pub fn open_as_it_is(path: &Path) -> Result<Self, StoreError> {
        let opened = open::open(path, u64::MAX, None)?;
        Ok(Self::of(path, opened, "", Faults::default(), None))
    }

    /// Bytes of everything that the store keeps on disk.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.db.size_on_disk().map_err(|error| StoreError::Failed(error.to_string()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, batch: Batch) -> Result<(), Problem> {
        let due = self.faults.of_commit(&self.name);
        let before = if due.damages() { image(&self.path)? } else { Vec::new() };
        due.write()?;
        let mut inner = self.inner();
        let (mut pieces, mut replaced) = (sled::Batch::default(), Vec::new());
        for change in batch.changes {
            match change {
                Change::Put(key, value) => {
                    check_key(&key)?;
                    let new = cut(&key, &value)?.into_iter().map(|(number, bytes)| (number, bytes, None));
                    inner.replace(&key, new.collect(), &mut pieces, &mut replaced);
                }
                Change::PutFile(key, value) => {
                    check_key(&key)?;
                    let at = inner.write_file(&self.path, &key, &value, &due)?;
                    let piece = (0, reference(&key, &at.to_bytes()), Some(at.name));
                    inner.replace(&key, vec![piece], &mut pieces, &mut replaced);
                }
                Change::Delete(key) => inner.replace(&key, Vec::new(), &mut pieces, &mut replaced),
            }
        }
        inner.ledger.commits += 1;
        let mark = inner.ledger.mark();
        pieces.insert(piece_key(MARK, 0), mark_piece(mark)?);
        self.db.apply_batch(pieces)?;
        self.db.flush()?;
        self.wreck.damage(&due, &before)?;
        due.sync()?;
        self.file.sync_data()?;
        self.witness.write(mark)?;
        for name in replaced {
            // What stays is removed at the next start.
            drop(std::fs::remove_file(self.path.join(name)));
        }
        Ok(())
    }

    fn refuse_if_broken(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Failed(format!(
                "an earlier write to {} failed; start again",
                self.path.display()
            )));
        }
        Ok(())
    }

    fn failed(&self, problem: Problem) -> StoreError {
        let path = self.path.display();
        StoreError::Failed(match problem {
            Problem::Io(error) if is_full(&error) => {
                if let Some(room) = &self.room {
                    room.is_full();
                }
                format!("the disk of {path} is full. Make room on it, then start again")
            }
            Problem::Io(error) => {
                format!("writing to {path} failed: {error}. Look at the disk, then start again")
            }
            Problem::Other(problem) => format!("writing to {path} failed: {problem}. Start again"),
        })
    }

    /// One value of its pieces.
    fn value(&self, key: &[u8], found: Found) -> Result<Vec<u8>, StoreError> {
        match found {
            Found::Pieces(count, mut pieces) => {
                pieces.sort_unstable_by_key(|(number, _)| *number);
                if !pieces.iter().map(|(number, _)| *number).eq(0..count) {
                    return Err(damaged(&self.path, key, &Unreadable::Damaged));
                }
                Ok(pieces.into_iter().flat_map(|(_, content)| content).collect())
            }
            Found::File(at) => {
                let file = self.path.join(&at.name);
                let read = at.read(&self.path).map_err(|error| {
                    StoreError::Damaged(format!("the file {} cannot be read: {error}", file.display()))
                })?;
                read.ok_or_else(|| {
                    StoreError::Damaged(format!(
                        "the file {} is damaged: it is not what was written",
                        file.display()
                    ))
                })
            }
        }
    }
}

impl Inner {
    /// Puts the new pieces of a key in place of all that it has.
    fn replace(
        &mut self,
        key: &[u8],
        new: Vec<(u16, Vec<u8>, Option<String>)>,
        pieces: &mut sled::Batch,
        replaced: &mut Vec<String>,
    ) {
        let mut next = 0;
        for (number, bytes, file) in new {
            let stored = piece_key(key, number);
            replaced.extend(self.ledger.put(stored.clone(), checksum_of(&bytes), file));
            pieces.insert(stored, bytes);
            next = number + 1;
        }
        // What an earlier, longer value left.
        while self.ledger.has(&piece_key(key, next)) {
            let stored = piece_key(key, next);
            replaced.extend(self.ledger.remove(&stored));
            pieces.remove(stored);
            next += 1;
        }
    }

    fn write_file(&mut self, directory: &Path, key: &[u8], value: &[u8], due: &Due) -> io::Result<Reference> {
        self.file_number += 1;
        let name = file::name(key, self.file_number);
        file::write(directory, name, value, |file| due.sync().and_then(|()| file.sync_all()))
    }
}

/// What was found of one value.
enum Found {
    /// How many pieces it has, and those that were found.
    Pieces(u16, Vec<(u16, Vec<u8>)>),
    File(Reference),
}

impl Store for SledStore {
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        self.refuse_if_broken()?;
        let mut values: BTreeMap<Vec<u8>, Found> = BTreeMap::new();
        for item in self.db.scan_prefix(prefix) {
            let (stored, bytes) = item.map_err(|error| StoreError::Damaged(error.to_string()))?;
            let Some((key, number)) = split_key(&stored) else { continue };
            if !key.starts_with(prefix) || key.first() == Some(&OWN) {
                continue;
            }
            let piece = decode(key, number, &bytes).map_err(|problem| damaged(&self.path, key, &problem))?;
            match (piece, values.get_mut(key)) {
                (Piece::Content(_, content), Some(Found::Pieces(_, pieces))) => {
                    pieces.push((number, content.to_vec()));
                }
                (Piece::Content(count, content), None) => {
                    values.insert(key.to_vec(), Found::Pieces(count, vec![(number, content.to_vec())]));
                }
                (Piece::Reference(content), None) => {
                    let at = Reference::from_bytes(content)
                        .ok_or_else(|| damaged(&self.path, key, &Unreadable::Newer))?;
                    values.insert(key.to_vec(), Found::File(at));
                }
                _ => return Err(damaged(&self.path, key, &Unreadable::Damaged)),
            }
        }
        let read = |(key, found): (Vec<u8>, Found)| Ok((key.clone(), self.value(&key, found)?));
        values.into_iter().map(read).collect()
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.refuse_if_broken()?;
        self.apply(batch).map_err(|problem| {
            self.broken.store(true, Ordering::SeqCst);
            self.failed(problem)
        })
    }

    fn room(&self) -> Option<StoreRoom> {
        Some(StoreRoom { disk: self.room.clone(), store: self.name.clone(), faults: self.faults.clone() })
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // What the copy tells is true without this, too; it would only be older after a power cut.
        drop(self.witness.sync());
    }
}

/// The mark as a piece.
pub(super) fn mark_piece(mark: Mark) -> Result<Vec<u8>, StoreError> {
    Ok(cut(MARK, &mark.to_bytes())?.into_iter().flat_map(|(_, bytes)| bytes).collect())
}

pub(super) fn damaged(path: &Path, key: &[u8], problem: &Unreadable) -> StoreError {
    let (key, path) = (String::from_utf8_lossy(key).escape_debug().to_string(), path.display());
    match problem {
        Unreadable::Damaged => StoreError::Damaged(format!("the record {key:?} in {path} is damaged")),
        Unreadable::Newer => StoreError::Newer(format!(
            "a later version wrote the record {key:?} in {path}: upgrade this node"
        )),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
