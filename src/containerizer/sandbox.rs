//! The directory of one task.
//!
//! It belongs to the agent until everything is in it, and is given to the task's user last: nobody can put
//! a link in the way of what the agent writes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, lchown};
use std::path::Path;

use super::fetch;
use crate::agent::core::container::LaunchFailure;
use crate::api::v1::command_info::Uri;
use crate::os::users::Account;

/// Creates a sandbox (mode 0750) with what `uris` name and empty files for the output, all of it
/// `account`'s.
///
/// # Errors
/// The directory cannot be made or given away, or something cannot be fetched.
pub(super) fn prepare(path: &Path, account: Option<Account>, uris: &[Uri]) -> Result<(), LaunchFailure> {
    let failed = |error: io::Error| {
        LaunchFailure::Prepare(format!("Failed to create the sandbox {}: {error}", path.display()))
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    DirBuilder::new().mode(0o750).create(path).map_err(failed)?;
    fetch::fetch(uris, path, account)?;
    for name in ["stdout", "stderr"] {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o644).open(path.join(name)).map_err(failed)?;
    }
    account.map_or(Ok(()), |account| give(path, account).map_err(failed))
}

/// Gives a directory away, from the inside out.
fn give(path: &Path, account: Account) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), account)?;
        }
    }
    lchown(path, Some(account.uid), Some(account.gid))
}
