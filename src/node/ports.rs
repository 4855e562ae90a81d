//! Host ports of several agents on one host: each takes a block of its own, claimed by a lock file
//! in the temporary directory (other processes see it) and probed by binding its first port.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::StartError;

/// First port of the first block, as in Mesos.
const FIRST_PORT: u16 = 31_000;
/// Ports in a block.
const BLOCK: u16 = 100;
/// Blocks that exist: up to port 32767, below the kernel's ephemeral range.
const BLOCKS: u16 = 17;
/// Last resort above the usual range, for machines with many clusters.
const MORE_BLOCKS: u16 = 100;
/// First port of those.
const MORE_FIRST_PORT: u16 = 20_000;

/// Attempts to claim a block again that an agent had before: its last holder may just be ending.
const CLAIM_TRIES: u32 = 100;
/// Pause between two attempts.
const CLAIM_PAUSE: Duration = Duration::from_millis(20);

/// A claimed block; dropping it frees the claim.
#[derive(Debug)]
pub(super) struct PortBlock {
    /// First port.
    pub(super) begin: u16,
    /// Last port, inclusive.
    pub(super) end: u16,
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl PortBlock {
    /// Claims a free block.
    ///
    /// # Errors
    /// Every block is claimed.
    pub(super) fn claim() -> Result<Self, StartError> {
        let usual = (0..BLOCKS).map(|index| FIRST_PORT + index * BLOCK);
        let more = (0..MORE_BLOCKS).map(|index| MORE_FIRST_PORT + index * BLOCK);
        // Something else may use the range without our lock: its first port tells.
        let is_free = |block: &Self| TcpListener::bind((Ipv4Addr::LOCALHOST, block.begin)).is_ok();
        let claimed = usual.chain(more).find_map(|begin| Self::try_claim(begin).filter(is_free));
        claimed.ok_or(StartError::NoPorts)
    }

    /// Claims the block that is written down in `note`, because containers of this agent may still use its
    /// ports; another one, which is written down, if that is claimed by somebody else. Blocks for up to
    /// two seconds.
    ///
    /// # Errors
    /// Every block is claimed, or the note cannot be written.
    pub(super) fn claim_again(note: &Path) -> Result<Self, StartError> {
        let noted = fs::read_to_string(note).ok().and_then(|text| text.trim().parse().ok());
        for _ in 0..noted.map_or(0, |_| CLAIM_TRIES) {
            if let Some(block) = noted.and_then(Self::try_claim) {
                return Ok(block);
            }
            std::thread::park_timeout(CLAIM_PAUSE);
        }
        let block = Self::claim()?;
        let folder = note.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(note, block.begin.to_string()))
            .map_err(|source| StartError::DataDir { path: note.to_owned(), source })?;
        Ok(block)
    }

    fn try_claim(begin: u16) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("mesita-ports-{begin}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).ok()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
        }
        // Whoever held it before has removed it meanwhile: a lock on what has no name holds nobody off.
        let same = fs::metadata(&path).ok()?.ino() == lock.metadata().ok()?.ino();
        same.then(|| Self { begin, end: begin.saturating_add(BLOCK - 1), path, _lock: lock })
    }
}

impl Drop for PortBlock {
    fn drop(&mut self) {
        // Still locked: nobody else can have claimed it. One that stays is claimed by whoever comes next.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_never_overlap() {
        let one = PortBlock::claim().expect("a free block");
        let two = PortBlock::claim().expect("another free block");
        assert!(one.end < two.begin || two.end < one.begin, "{one:?} {two:?}");
        let path = one.path.clone();
        drop(one);
        assert!(!path.exists() || PortBlock::try_claim(two.begin).is_none(), "nothing of it is left");
    }

    #[test]
    fn an_agent_gets_its_ports_again_unless_another_has_them() {
        let folder = tempfile::tempdir().expect("a directory");
        let note = folder.path().join("notes/ports");
        let first = PortBlock::claim_again(&note).expect("a free block");
        let begin = first.begin;
        drop(first);
        let again = PortBlock::claim_again(&note).expect("the same block");
        assert_eq!(again.begin, begin);
        let other = PortBlock::claim_again(&note).expect("another block");
        assert_ne!(other.begin, begin, "it is claimed");
        assert_eq!(fs::read_to_string(&note).expect("a note"), other.begin.to_string());
    }
}
