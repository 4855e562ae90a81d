//! Room on disks.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What may still be written by whoever is not root.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// The room of the file system that a path is on; none where the system does not say.
#[must_use]
pub fn space(path: &Path) -> Option<Space> {
    let stat = statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    Some(Space { free: bytes(stat.blocks_available()), total: bytes(stat.blocks()) })
}

/// Takes room for a file of so many bytes.
///
/// # Errors
/// There is none, or the disk refuses.
pub fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
        nix::fcntl::posix_fallocate(file, 0, bytes).map_err(io::Error::from)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let (mut file, zeros) = (file, io::Read::take(io::repeat(0), bytes));
        io::copy(&mut { zeros }, &mut file).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_room_that_it_asked_for() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().expect("a file");
        allocate(&file, 1 << 20).expect("there is room");
        let metadata = file.metadata().expect("open");
        assert_eq!((metadata.len(), metadata.blocks() * 512 >= 1 << 20), (1 << 20, true));
        let space = space(Path::new("/")).expect("known");
        assert!(space.free <= space.total && space.total > 0);
    }
}
