//! The version of a store's layout, in a file of its own that is read before anything else is touched.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::StoreError;

/// Name of the file. A directory without it is of version 1, or new.
const FILE: &str = "format";
/// The version that is written. 1: pieces of values. 2: a mark, and large values in files.
pub(super) const FORMAT: u32 = 2;

/// Reads the version of a store; none if there is no such file.
///
/// # Errors
/// `Newer` when a later version wrote it, `Damaged` when it cannot be read.
pub(super) fn read(directory: &Path) -> Result<Option<u32>, StoreError> {
    let path = directory.join(FILE);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Failed(format!("cannot read {}: {error}", path.display()))),
    };
    match text.trim().parse() {
        Ok(version @ 2..=FORMAT) => Ok(Some(version)),
        Ok(version) if version > FORMAT => Err(StoreError::Newer(format!(
            "the data in {} has format {version}, this version knows formats up to {FORMAT}: upgrade this node",
            directory.display()
        ))),
        _ => Err(StoreError::Damaged(format!("the file {} is damaged", path.display()))),
    }
}

/// Writes the version down, durably (the directory's entry is the caller's to sync).
pub(super) fn write(directory: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().suffix(".unfinished").tempfile_in(directory)?;
    writeln!(file, "{FORMAT}")?;
    file.as_file().sync_all()?;
    file.persist(directory.join(FILE)).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
