//! Room on the disk of a data directory. While there is little left, its owner takes on nothing new; when
//! there is none, a ballast is thrown off, so that the next start has what it needs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Faults;
use crate::os::disk::{Space, allocate, space};

/// Name of the ballast in a data directory.
const BALLAST: &str = "ballast";
const MIB: u64 = 1024 * 1024;
/// What the ballast takes.
const BALLAST_BYTES: u64 = 32 * MIB;
/// With less than this nothing new is taken on.
const RESERVE: u64 = 64 * MIB;
/// On a small disk each is at most this part of it.
const PART: u64 = 16;
/// Who found too little waits for more than the reserve, in quarters of it: a store frees and takes room all
/// the time, and would go back and forth.
const ENOUGH_AGAIN: u64 = 5;

/// The room of a data directory.
#[derive(Debug)]
pub struct Room {
    directory: PathBuf,
    /// The ballast is where it belongs, as far as is known.
    is_aboard: AtomicBool,
    /// A write found the disk full: the process ends, and the ballast is the next one's.
    is_over: AtomicBool,
    /// There was too little when last looked.
    was_short: AtomicBool,
}

/// There is little room left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk of {} is nearly full: {:.1} MiB are free. Make room on it: with {:.1} MiB all works again",
    .directory.display(), in_mib(*.free), in_mib(*.wanted)
)]
pub struct Shortage {
    /// The data directory.
    pub directory: PathBuf,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that should be.
    pub wanted: u64,
}

/// The room that one store has.
#[derive(Clone, Debug)]
pub struct StoreRoom {
    /// Of the disk that it is on; none in memory.
    pub(super) disk: Option<Arc<Room>>,
    pub(super) store: String,
    pub(super) faults: Faults,
}

impl StoreRoom {
    /// Whether there is little room left, at this moment.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        if self.faults.is_full(&self.store) {
            let directory = PathBuf::from(format!("{} (a fault on request)", self.store));
            return Some(Shortage { directory, free: 0, wanted: RESERVE });
        }
        self.disk.as_ref()?.shortage()
    }
}

fn in_mib(bytes: u64) -> f64 {
    // Of bytes nothing smaller than a tenth of a MiB is told.
    u32::try_from(bytes * 10 / MIB).map_or(f64::INFINITY, |tenths| f64::from(tenths) / 10.0)
}

impl Room {
    /// Of a directory. Nothing is done yet.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            is_aboard: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            was_short: AtomicBool::new(false),
        }
    }

    /// Takes a ballast aboard, if there is room for it; throws it off, if there is none left. For whoever has
    /// the directory to itself.
    pub(super) fn prepare(&self) {
        if let Some(space) = space(&self.directory)
            && let Err(error) = self.load(space)
        {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "no room could be set aside for the time when the disk is full");
        }
    }

    fn load(&self, space: Space) -> io::Result<()> {
        let (path, bytes) = (self.directory.join(BALLAST), ballast_bytes(space));
        let has = fs::metadata(&path).map_or(0, |ballast| ballast.len());
        if has > 0 && space.free < bytes / 2 {
            self.throw_off();
        } else if has < bytes && space.free >= bytes + reserve(space) {
            allocate(&File::create(&path)?, bytes).inspect_err(|_| self.throw_off())?;
            self.is_aboard.store(true, Ordering::Relaxed);
        } else if has >= bytes {
            self.is_aboard.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A write found the disk full: frees what was set aside, for the next start.
    pub(super) fn is_full(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.throw_off();
    }

    /// Frees what was set aside.
    fn throw_off(&self) {
        self.is_aboard.store(false, Ordering::Relaxed);
        match fs::remove_file(self.directory.join(BALLAST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(directory = %self.directory.display(), %error, "the ballast stays");
            }
            _ => {}
        }
    }

    /// Whether there is little room left, at this moment. Where there is enough again, a ballast is, too.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        let space = space(&self.directory)?;
        let is_aboard = self.is_aboard.load(Ordering::Relaxed);
        let wanted = wanted(space, self.was_short.load(Ordering::Relaxed), is_aboard);
        self.was_short.store(space.free < wanted, Ordering::Relaxed);
        if space.free >= wanted && !is_aboard && !self.is_over.load(Ordering::Relaxed) {
            self.prepare();
        }
        (space.free < wanted).then(|| Shortage {
            directory: self.directory.clone(),
            free: space.free,
            wanted,
        })
    }
}

fn reserve(space: Space) -> u64 {
    RESERVE.min(space.total / PART)
}

fn ballast_bytes(space: Space) -> u64 {
    BALLAST_BYTES.min(space.total / PART)
}

/// What should be free. What the ballast left behind when it was thrown off is room to start, not to take on
/// more: it comes back first.
fn wanted(space: Space, was_short: bool, is_aboard: bool) -> u64 {
    let reserve = reserve(space);
    match (is_aboard, was_short) {
        (false, _) => reserve + ballast_bytes(space),
        (true, true) => reserve / 4 * ENOUGH_AGAIN,
        (true, false) => reserve,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_ends_with_more_than_it_began_with() {
        let large = Space { free: 0, total: 100 * RESERVE };
        assert_eq!((wanted(large, false, true), wanted(large, true, true)), (64 * MIB, 80 * MIB));
        let small = Space { free: 0, total: 64 * MIB };
        assert_eq!((wanted(small, false, true), wanted(small, true, true)), (4 * MIB, 5 * MIB));
        // Without a ballast, for which there is to be room, too.
        assert_eq!((wanted(large, false, false), wanted(large, true, false)), (96 * MIB, 96 * MIB));
        assert_eq!(wanted(small, false, false), 8 * MIB);
    }

    #[test]
    fn a_ballast_is_taken_aboard_once_and_thrown_off() {
        let folder = tempfile::tempdir().expect("a directory");
        let space = space(folder.path()).expect("known");
        let room = Room::of(folder.path());
        room.prepare();
        assert_eq!(room.shortage(), None, "this test needs {RESERVE} bytes");
        let ballast = folder.path().join(BALLAST);
        let length = fs::metadata(&ballast).expect("aboard").len();
        assert_eq!(length, ballast_bytes(space));
        Room::of(folder.path()).prepare();
        assert_eq!(fs::metadata(&ballast).expect("still aboard").len(), length);
        room.throw_off();
        room.throw_off();
        assert!(!ballast.exists());
        // One that a crash left short is made whole.
        fs::write(&ballast, b"short").expect("written");
        // With enough room it comes back by itself.
        assert_eq!(room.shortage(), None);
        assert_eq!(fs::metadata(&ballast).expect("aboard again").len(), length);
        // What a full disk made it throw off stays off.
        room.is_full();
        assert_eq!((room.shortage(), ballast.exists()), (None, false));
    }

    #[test]
    fn a_shortage_says_where_and_how_much() {
        let shortage = Shortage { directory: PathBuf::from("/data"), free: 3 * MIB / 2, wanted: RESERVE };
        let text = shortage.to_string();
        assert!(text.contains("/data") && text.contains(" 1.5 MiB") && text.contains(" 64.0 MiB"), "{text}");
    }
}
