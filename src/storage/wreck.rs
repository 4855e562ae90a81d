//! What faults on request do to the bytes of a store.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::faults::Due;

/// sled's file, as it is.
pub(super) fn image(directory: &Path) -> io::Result<Vec<u8>> {
    fs::read(directory.join("db"))
}

/// Damage that stays, whatever sled writes when it is closed.
#[derive(Debug)]
pub(super) struct Wreck {
    path: PathBuf,
    torn: Mutex<Option<(u64, Vec<u8>)>>,
}

impl Wreck {
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join("db"), torn: Mutex::default() }
    }

    /// Damages what was written since `before`. A torn tail is a failure: nothing follows it.
    pub(super) fn damage(&self, due: &Due, before: &[u8]) -> io::Result<()> {
        if !due.damages() {
            return Ok(());
        }
        let after = fs::read(&self.path)?;
        let differs = |at: &usize| before.get(*at) != after.get(*at);
        let first = (0..after.len()).find(differs).unwrap_or(after.len());
        let last = (first..after.len()).rfind(differs).unwrap_or(first);
        let middle = first + (last - first) / 2;
        if due.flipped_byte {
            if let Some(byte) = after.get(middle) {
                self.write(middle as u64, &[byte ^ 0x10])?;
            }
            return Ok(());
        }
        let lost: Vec<u8> = (middle..=last).map(|at| before.get(at).copied().unwrap_or(0)).collect();
        *self.torn.lock().unwrap_or_else(PoisonError::into_inner) = Some((middle as u64, lost));
        Err(io::Error::other("power failed while it was written (a fault on request)"))
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(bytes, at)?;
        file.sync_all()
    }
}

impl Drop for Wreck {
    fn drop(&mut self) {
        let torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((at, bytes)) = torn
            && let Err(error) = self.write(at, &bytes)
        {
            tracing::error!(%error, "a fault on request could not be done");
        }
    }
}
