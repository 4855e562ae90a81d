//! How lost data is noticed.
//!
//! sled opens silently with holes, with older values, or at an earlier state when a part of its file is
//! damaged. Each commit therefore also writes a *mark*: how many commits there were, and a sum over
//! everything that is stored. At start the sum is computed again: one commit left exactly this, or it is
//! not trusted. A copy of the mark lies outside sled, in the file `mark`; it is written after each commit
//! and tells when all of the last commits are missing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Name of the copy.
pub(super) const FILE: &str = "mark";
/// Bytes of one copy: the mark and its CRC32C. There are two, written in turn, so that one is whole
/// whenever power fails.
const SLOT: usize = 28;
const SLOT_LENGTH: u64 = 28;

/// What one commit left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Commits so far.
    pub(super) commits: u64,
    /// Pieces that are stored.
    pub(super) pieces: u64,
    /// Sum over all of them.
    pub(super) sum: u64,
}

impl Mark {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.commits, self.pieces, self.sum].iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut numbers =
            bytes.chunks_exact(8).map(|chunk| u64::from_be_bytes(chunk.try_into().unwrap_or_default()));
        let mark = Self { commits: numbers.next()?, pieces: numbers.next()?, sum: numbers.next()? };
        (bytes.len() == 24).then_some(mark)
    }
}

/// The pieces that are stored, and what they add up to.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Checksum of each piece, and the file that it refers to.
    pieces: BTreeMap<Vec<u8>, (u32, Option<String>)>,
    sum: u64,
    pub(super) commits: u64,
}

impl Ledger {
    pub(super) fn mark(&self) -> Mark {
        Mark { commits: self.commits, pieces: self.pieces.len() as u64, sum: self.sum }
    }

    /// A piece is stored, in place of an earlier one. Answers the file that the earlier one referred to.
    pub(super) fn put(&mut self, stored: Vec<u8>, checksum: u32, file: Option<String>) -> Option<String> {
        let before = self.remove(&stored);
        self.sum = self.sum.wrapping_add(term(&stored, checksum));
        self.pieces.insert(stored, (checksum, file));
        before
    }

    /// A piece is gone. Answers the file that it referred to.
    pub(super) fn remove(&mut self, stored: &[u8]) -> Option<String> {
        let (checksum, file) = self.pieces.remove(stored)?;
        self.sum = self.sum.wrapping_sub(term(stored, checksum));
        file
    }

    pub(super) fn has(&self, stored: &[u8]) -> bool {
        self.pieces.contains_key(stored)
    }

    /// The files that values are in.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.pieces.values().filter_map(|(_, file)| file.as_deref())
    }
}

/// What one piece adds: well mixed, so that differences do not cancel out.
fn term(stored: &[u8], checksum: u32) -> u64 {
    let mut mixed = (u64::from(crc32c::crc32c(stored)) << 32) | u64::from(checksum);
    for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 31)
}

/// The copy of the mark.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
}

impl Witness {
    /// Makes the file with this mark, durably (the directory's entry is the caller's to sync).
    pub(super) fn create(directory: &Path, mark: Mark) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(directory.join(FILE))?;
        let witness = Self { file };
        witness.file.write_all_at(&[0; 2 * SLOT], 0)?;
        witness.write(mark)?;
        witness.sync()?;
        Ok(witness)
    }

    /// Opens it and reads the newer of its two copies; none if neither is whole. `NotFound` if there is no
    /// file.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Option<Mark>)> {
        let file = OpenOptions::new().read(true).write(true).open(directory.join(FILE))?;
        let mut newest: Option<Mark> = None;
        for slot in 0..2 {
            let mut bytes = [0; SLOT];
            if file.read_exact_at(&mut bytes, slot * SLOT_LENGTH).is_err() {
                continue;
            }
            let (content, sum) = bytes.split_at(SLOT - 4);
            let is_whole = crc32c::crc32c(content).to_be_bytes() == *sum;
            let mark = Mark::from_bytes(content).filter(|mark| is_whole && mark.commits % 2 == slot);
            newest = newest.max_by_commits(mark);
        }
        Ok((Self { file }, newest))
    }

    /// Notes what a commit left. It reaches the disk some time later: after a power cut it tells less than
    /// there is, never more.
    pub(super) fn write(&self, mark: Mark) -> io::Result<()> {
        let mut bytes = mark.to_bytes();
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        self.file.write_all_at(&bytes, mark.commits % 2 * SLOT_LENGTH)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

trait Newest {
    fn max_by_commits(self, other: Self) -> Self;
}

impl Newest for Option<Mark> {
    fn max_by_commits(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(other)) => Some(if one.commits >= other.commits { one } else { other }),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_tells_what_is_there_whatever_came_before() {
        let mut one = Ledger::default();
        one.put(b"a".to_vec(), 1, None);
        one.put(b"b".to_vec(), 2, None);
        one.put(b"a".to_vec(), 3, None);
        one.remove(b"b");
        let mut other = Ledger::default();
        other.put(b"a".to_vec(), 3, None);
        assert_eq!(one.mark(), other.mark());
        other.put(b"a".to_vec(), 1, None);
        assert_ne!(one.mark(), other.mark(), "an older value");
        other.remove(b"a");
        assert_eq!(other.mark(), Mark::default());
    }

    #[test]
    fn one_torn_copy_leaves_the_other() {
        let folder = tempfile::tempdir().expect("a directory");
        let mark = |commits| Mark { commits, pieces: commits * 2, sum: 77 };
        let witness = Witness::create(folder.path(), mark(6)).expect("made");
        witness.write(mark(7)).expect("written");
        let read = || Witness::open(folder.path()).expect("there").1;
        assert_eq!(read(), Some(mark(7)));
        witness.file.write_all_at(&[9], SLOT_LENGTH + 3).expect("written");
        assert_eq!(read(), Some(mark(6)));
        witness.file.write_all_at(&[9], 3).expect("written");
        assert_eq!(read(), None);
    }
}
