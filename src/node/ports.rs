//! Host ports of several agents on one host: each takes a block of its own, claimed by a lock file
//! in the temporary directory (other processes see it) and probed by binding its first port.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::{Ipv4Addr, TcpListener};

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

/// A claimed block; dropping it frees the claim.
#[derive(Debug)]
pub(super) struct PortBlock {
    /// First port.
    pub(super) begin: u16,
    /// Last port, inclusive.
    pub(super) end: u16,
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
        usual.chain(more).find_map(Self::try_claim).ok_or(StartError::NoPorts)
    }

    fn try_claim(begin: u16) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("mesita-ports-{begin}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
        }
        // Something else may use the range without our lock: its first port tells.
        TcpListener::bind((Ipv4Addr::LOCALHOST, begin)).ok()?;
        Some(Self { begin, end: begin + BLOCK - 1, _lock: lock })
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
    }
}
