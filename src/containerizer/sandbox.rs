//! The directory of one task.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use crate::agent::core::container::LaunchFailure;
use crate::os::users::Account;

/// Creates a sandbox (mode 0750) that belongs to `account`.
///
/// # Errors
/// The directory cannot be made or given away.
pub(super) fn create(path: &Path, account: Option<Account>) -> Result<(), LaunchFailure> {
    let failed = |error: std::io::Error| {
        LaunchFailure::Prepare(format!("Failed to create the sandbox {}: {error}", path.display()))
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    DirBuilder::new().mode(0o750).create(path).map_err(failed)?;
    if let Some(account) = account {
        chown(path, Some(account.uid), Some(account.gid)).map_err(failed)?;
    }
    Ok(())
}
