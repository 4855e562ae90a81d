//! The store on disk.
//!
//! sled's own `flush` does not survive a power cut, it opens silently with holes after corruption,
//! and it keeps large values in files that it never syncs. Hence: a commit also syncs sled's file,
//! every value carries a checksum over key and content, and values are cut into small pieces.
//!
//! A value under `key` is stored as pieces under `key ++ piece number (u16)`, each with the layout
//! `format (1) | number of pieces (2) | content | CRC32C (4)`.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::store::MAX_KEY;
use super::{Batch, Change, Pair, Store, StoreError};

/// Content of a piece in bytes: sixteen of them on a page stay far below sled's limit for blobs.
const PIECE: usize = 4_000;
/// Layout of a piece.
const FORMAT: u8 = 1;
/// Attempts to get the lock of a store that was just closed.
const LOCK_TRIES: u32 = 200;
/// Pause between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// sled's page cache in bytes.
const CACHE: u64 = 32 * 1024 * 1024;

/// How many pieces a value has, and those that were found.
type Pieces = (u16, Vec<(u16, Vec<u8>)>);

/// A sled database in a directory of its own.
pub struct SledStore {
    path: PathBuf,
    db: sled::Db,
    /// Our handle of sled's file, for syncing.
    file: File,
    /// A commit failed: nothing more is done.
    broken: AtomicBool,
    /// Held as long as the store is open.
    _lock: File,
}

impl SledStore {
    /// Opens or creates the store in a directory that exists.
    ///
    /// Blocks for up to two seconds while a store that was just closed lets its lock go.
    ///
    /// # Errors
    /// `Locked` when another process has it open, `Damaged` when it cannot be read, `Failed` when the
    /// disk refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            StoreError::Failed(format!("{what} in {}: {error}", path.display()))
        };
        let lock =
            File::create(path.join("lock")).map_err(|error| failed("cannot create a lock file", &error))?;
        let mut tries = 0;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::park_timeout(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(locked(path)),
                Err(TryLockError::Error(error)) => return Err(failed("cannot lock", &error)),
            }
        }
        remove_unfinished_snapshots(path).map_err(|error| failed("cannot tidy up", &error))?;
        let db = match open_sled(path) {
            Err(sled::Error::Corruption { .. }) => {
                set_snapshots_aside(path)
                    .map_err(|error| failed("cannot set sled's snapshots aside", &error))?;
                open_sled(path)
            }
            opened => opened,
        };
        let db = db.map_err(|error| match error {
            sled::Error::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock => locked(path),
            sled::Error::Io(error) => failed("cannot open the store", &error),
            error => StoreError::Damaged(format!(
                "the store in {} cannot be read ({error}). Restore the directory from a backup, or remove it and join again as a new member",
                path.display()
            )),
        })?;
        let file =
            File::open(path.join("db")).map_err(|error| failed("cannot open the data file", &error))?;
        // The directory entry of a new file must be durable, too.
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed("cannot sync", &error))?;
        Ok(Self { path: path.to_owned(), db, file, broken: AtomicBool::new(false), _lock: lock })
    }

    fn apply(&self, batch: Batch) -> Result<(), String> {
        let mut pieces = sled::Batch::default();
        for change in batch.changes {
            let (key, value) = match change {
                Change::Put(key, value) => (key, Some(value)),
                Change::Delete(key) => (key, None),
            };
            if key.len() > MAX_KEY {
                return Err(format!("a key of {} bytes is too long", key.len()));
            }
            let count = value.as_deref().map_or(Ok(0), |value| self.put(&mut pieces, &key, value))?;
            self.remove_pieces(&mut pieces, &key, count)?;
        }
        self.db.apply_batch(pieces).map_err(|error| error.to_string())?;
        self.db.flush().map_err(|error| error.to_string())?;
        self.file.sync_data().map_err(|error| error.to_string())
    }

    /// Adds the pieces of a value; answers how many there are.
    fn put(&self, pieces: &mut sled::Batch, key: &[u8], value: &[u8]) -> Result<u16, String> {
        let chunks: Vec<&[u8]> = if value.is_empty() { vec![value] } else { value.chunks(PIECE).collect() };
        let count = u16::try_from(chunks.len())
            .map_err(|_| format!("a value of {} bytes is too long", value.len()))?;
        for (number, chunk) in (0..count).zip(chunks) {
            pieces.insert(piece_key(key, number), encode(key, number, count, chunk));
        }
        Ok(count)
    }

    /// Removes what an earlier, longer value left from piece `from` on.
    fn remove_pieces(&self, pieces: &mut sled::Batch, key: &[u8], from: u16) -> Result<(), String> {
        let mut number = from;
        while self.db.contains_key(piece_key(key, number)).map_err(|error| error.to_string())? {
            pieces.remove(piece_key(key, number));
            number += 1;
        }
        Ok(())
    }

    fn damaged(&self, key: &[u8]) -> StoreError {
        StoreError::Damaged(format!(
            "the record {:?} in {} is damaged. Restore the directory from a backup, or remove it and join again as a new member",
            String::from_utf8_lossy(key),
            self.path.display()
        ))
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
}

impl Store for SledStore {
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        self.refuse_if_broken()?;
        let mut values: BTreeMap<Vec<u8>, Pieces> = BTreeMap::new();
        for item in self.db.scan_prefix(prefix) {
            let (stored, bytes) = item.map_err(|error| StoreError::Damaged(error.to_string()))?;
            let Some((key, number)) = split_key(&stored).filter(|(key, _)| key.starts_with(prefix)) else {
                continue;
            };
            let (count, content) = decode(key, number, &bytes).ok_or_else(|| self.damaged(key))?;
            let value = values.entry(key.to_vec()).or_insert_with(|| (count, Vec::new()));
            value.1.push((number, content.to_vec()));
        }
        let mut pairs = Vec::with_capacity(values.len());
        for (key, (count, mut pieces)) in values {
            pieces.sort_unstable_by_key(|(number, _)| *number);
            if !pieces.iter().map(|(number, _)| *number).eq(0..count) {
                return Err(self.damaged(&key));
            }
            pairs.push((key, pieces.into_iter().flat_map(|(_, content)| content).collect()));
        }
        Ok(pairs)
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.refuse_if_broken()?;
        self.apply(batch).map_err(|problem| {
            self.broken.store(true, Ordering::SeqCst);
            StoreError::Failed(format!(
                "writing to {} failed: {problem}. Make room or replace the disk, then start again",
                self.path.display()
            ))
        })
    }
}

fn locked(path: &Path) -> StoreError {
    StoreError::Locked(format!(
        "the data in {} is in use by another process. Stop that one, or choose another directory with --data-dir",
        path.display()
    ))
}

fn open_sled(path: &Path) -> Result<sled::Db, sled::Error> {
    sled::Config::new()
        .path(path)
        .cache_capacity(CACHE)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(Some(500))
        .open()
}

/// A snapshot that was being written at a crash would be taken for a whole one.
fn remove_unfinished_snapshots(path: &Path) -> std::io::Result<()> {
    for name in snapshot_files(path)? {
        if name.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(name)?;
        }
    }
    Ok(())
}

/// Without its snapshots sled reads the whole log again.
fn set_snapshots_aside(path: &Path) -> std::io::Result<()> {
    let aside = path.join("damaged-snapshots");
    fs::create_dir_all(&aside)?;
    for name in snapshot_files(path)? {
        if let Some(file) = name.file_name() {
            fs::rename(&name, aside.join(file))?;
        }
    }
    Ok(())
}

fn snapshot_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.path();
        if name.file_name().is_some_and(|file| file.to_string_lossy().starts_with("snap.")) {
            files.push(name);
        }
    }
    Ok(files)
}

fn piece_key(key: &[u8], number: u16) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

fn split_key(stored: &[u8]) -> Option<(&[u8], u16)> {
    let (key, number) = stored.split_last_chunk::<2>()?;
    Some((key, u16::from_be_bytes(*number)))
}

fn checksum(key: &[u8], number: u16, head: &[u8]) -> [u8; 4] {
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), &number.to_be_bytes()), head);
    sum.to_be_bytes()
}

fn encode(key: &[u8], number: u16, count: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(content);
    let sum = checksum(key, number, &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// Number of pieces and content, if the checksum is right.
fn decode<'a>(key: &[u8], number: u16, bytes: &'a [u8]) -> Option<(u16, &'a [u8])> {
    let (head, sum) = bytes.split_last_chunk::<4>()?;
    let (&format, rest) = head.split_first()?;
    let (count, content) = rest.split_first_chunk::<2>()?;
    (format == FORMAT && checksum(key, number, head) == *sum).then(|| (u16::from_be_bytes(*count), content))
}
