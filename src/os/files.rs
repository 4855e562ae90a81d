//! Files that only their owner may read, written whole or not at all.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a directory that only its owner enters (mode 0700), or makes one that is there so. Blocks.
///
/// # Errors
/// The system refused.
pub fn private_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// Writes `name` in a directory, as [`private_directory`] makes it. The file has mode 0600, is durable
/// when this returns, and replaces an earlier one. Blocks.
///
/// # Errors
/// The system refused.
pub fn write_private(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    private_directory(directory)?;
    write_owned(directory, name, content)
}

/// The same in a directory that may belong to others as well.
///
/// # Errors
/// The system refused.
pub fn write_owned(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    // A temporary file has mode 0600 from the start.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(directory.join(name)).map_err(|error| error.error)?;
    sync_directory(directory)
}

/// Removes a file; one that is not there is no error. Blocks.
///
/// # Errors
/// The system refused.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes what was renamed or made in a directory durable. Blocks.
///
/// # Errors
/// The system refused.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Gives two files or directories of one file system each other's names, at once. Blocks.
///
/// # Errors
/// One is not there, or the system refused.
#[cfg(target_os = "linux")]
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).map_err(io::Error::from)
}

/// The same in three steps: after a crash between them, the names may be wrong.
///
/// # Errors
/// One is not there, or the system refused.
#[cfg(not(target_os = "linux"))]
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let between = other.with_extension("exchanging");
    fs::rename(one, &between)?;
    fs::rename(other, one)?;
    fs::rename(&between, other)
}
