//! Large values, each in a file of its own: `<key>-<number>.value`. sled holds only its name, length and
//! checksum. A file is durable before sled refers to it, and removed only after sled durably refers to
//! another.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// How names of such files end.
const SUFFIX: &str = ".value";

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) name: String,
    length: u64,
    checksum: u32,
}

impl Reference {
    /// `length (8) | CRC32C (4) | name`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.checksum.to_be_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (checksum, name) = rest.split_first_chunk::<4>()?;
        let name = std::str::from_utf8(name).ok().filter(|name| is_value(name))?;
        Some(Self {
            name: name.to_owned(),
            length: u64::from_be_bytes(*length),
            checksum: u32::from_be_bytes(*checksum),
        })
    }

    /// The value; none if the file is not what was written.
    pub(super) fn read(&self, directory: &Path) -> io::Result<Option<Vec<u8>>> {
        let value = match fs::read(directory.join(&self.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let is_whole = value.len() as u64 == self.length && crc32c::crc32c(&value) == self.checksum;
        Ok(is_whole.then_some(value))
    }
}

fn is_value(name: &str) -> bool {
    name.ends_with(SUFFIX) && !name.contains('/')
}

/// Name of the `number`th file of a key. Only letters of the key are used: keys of large values are words.
pub(super) fn name(key: &[u8], number: u64) -> String {
    let word: String = key.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_alphanumeric).collect();
    format!("{word}-{number}{SUFFIX}")
}

/// Writes a value; it is durable when this returns. `sync` is what makes a file or directory durable.
pub(super) fn write(
    directory: &Path,
    name: String,
    value: &[u8],
    sync: impl Fn(&File) -> io::Result<()>,
) -> io::Result<Reference> {
    let mut file = tempfile::Builder::new().suffix(".unfinished").tempfile_in(directory)?;
    file.write_all(value)?;
    sync(file.as_file())?;
    file.persist(directory.join(&name)).map_err(|error| error.error)?;
    sync(&File::open(directory)?)?;
    Ok(Reference { name, length: value.len() as u64, checksum: crc32c::crc32c(value) })
}

/// Removes what a crash left: files that were being written, and those that nothing refers to. Answers the
/// highest number that a name had.
pub(super) fn sweep<'a>(directory: &Path, wanted: impl Iterator<Item = &'a str>) -> io::Result<u64> {
    let wanted: Vec<&str> = wanted.collect();
    let mut highest = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if is_value(&name) {
            let number = name.trim_end_matches(SUFFIX).rsplit('-').next().and_then(|text| text.parse().ok());
            highest = highest.max(number.unwrap_or(0));
        }
        if name.ends_with(".unfinished") || (is_value(&name) && !wanted.contains(&name.as_str())) {
            fs::remove_file(&path)?;
        }
    }
    Ok(highest)
}
