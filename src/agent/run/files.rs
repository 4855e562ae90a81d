//! Files of sandboxes, by virtual path: `/frameworks/<framework>/executors/<executor>/runs/latest/…`,
//! or below the sandbox's own absolute path. Nothing outside of the work directory is ever opened.

use std::fs::Metadata;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::id::AgentId;
use crate::client::{ApiError, FileChunk, FileEntry};
use crate::os::beneath;

/// Bytes that one read gives at the most: sixteen pages, as in Mesos.
const MAX_READ: u64 = 64 * 1024;
/// Entries that one listing gives at the most.
const MAX_ENTRIES: usize = 10_000;

/// The path below the work directory that a virtual path means.
fn resolve(work_dir: &Path, id: Option<&AgentId>, path: &str) -> Result<PathBuf, ApiError> {
    let not_found = || ApiError::NotFound(format!("there is no file {path:?}"));
    if path.contains('\0') {
        return Err(ApiError::Invalid("a path must not contain NUL".to_owned()));
    }
    if let Ok(below) = Path::new(path).strip_prefix(work_dir) {
        return Ok(below.to_owned());
    }
    let rest = path.strip_prefix("/frameworks/").ok_or_else(not_found)?;
    let id = id.ok_or_else(not_found)?;
    let mut below = PathBuf::from("slaves").join(id.as_str()).join("frameworks");
    below.push(rest);
    latest(work_dir, &below).ok_or_else(not_found)
}

/// Replaces `runs/latest` by the newest run.
fn latest(work_dir: &Path, below: &Path) -> Option<PathBuf> {
    let mut resolved = PathBuf::new();
    for part in below.components() {
        if part.as_os_str() == "latest" && resolved.file_name().is_some_and(|name| name == "runs") {
            let runs = std::fs::read_dir(work_dir.join(&resolved)).ok()?;
            let newest = runs.filter_map(Result::ok).filter_map(|entry| {
                let made = entry.metadata().ok()?.created().or_else(|_| entry.metadata()?.modified()).ok()?;
                Some((made, entry.file_name()))
            });
            resolved.push(newest.max()?.1);
        } else {
            resolved.push(part);
        }
    }
    Some(resolved)
}

fn io_error(path: &str, error: &std::io::Error) -> ApiError {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            ApiError::NotFound(format!("there is no file {path:?}"))
        }
        std::io::ErrorKind::IsADirectory => ApiError::Invalid(format!("{path:?} is a directory")),
        _ => ApiError::Forbidden(format!("{path:?} cannot be read: {error}")),
    }
}

pub(super) fn read(
    work_dir: &Path,
    id: Option<&AgentId>,
    path: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<FileChunk, ApiError> {
    let below = resolve(work_dir, id, path)?;
    let mut file = beneath::open(work_dir, &below).map_err(|error| io_error(path, &error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, &error))?;
    if metadata.is_dir() {
        return Err(ApiError::Invalid(format!("{path:?} is a directory")));
    }
    let size = metadata.len();
    let wanted = length.unwrap_or(MAX_READ).min(MAX_READ).min(size.saturating_sub(offset));
    let mut data = Vec::new();
    if wanted > 0 {
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.take(wanted).read_to_end(&mut data))
            .map_err(|error| io_error(path, &error))?;
    }
    Ok(FileChunk { size, data })
}

pub(super) fn list(work_dir: &Path, id: Option<&AgentId>, path: &str) -> Result<Vec<FileEntry>, ApiError> {
    let below = resolve(work_dir, id, path)?;
    let folder = beneath::open(work_dir, &below).map_err(|error| io_error(path, &error))?;
    let metadata = folder.metadata().map_err(|error| io_error(path, &error))?;
    if !metadata.is_dir() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    // The directory that was checked, whatever its path leads to by now.
    let opened = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let listing = std::fs::read_dir(opened).map_err(|error| io_error(path, &error))?;
    for entry in listing.filter_map(Result::ok).take(MAX_ENTRIES) {
        // What vanishes while it is listed is not there.
        if let Ok(metadata) = entry.metadata() {
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(file_entry(format!("{}/{name}", path.trim_end_matches('/')), &metadata));
        }
    }
    entries.sort_by(|one, two| one.path.cmp(&two.path));
    Ok(entries)
}

fn file_entry(path: String, metadata: &Metadata) -> FileEntry {
    FileEntry {
        path,
        nlink: metadata.nlink(),
        size: metadata.len(),
        mtime: metadata.mtime(),
        mode: metadata.mode(),
        uid: metadata.uid().to_string(),
        gid: metadata.gid().to_string(),
    }
}
