//! What a container writes, copied into its sandbox.
//!
//! The engine keeps the output; the sandbox's files say how far it was copied. So every copy begins at
//! the beginning and skips as many bytes of each stream as its file already has: after a restart of the
//! agent or a broken connection nothing is lost and nothing comes twice.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;

use super::engine;
use crate::os::users::Account;

/// One stream and how much of it is still to be skipped.
struct Copy {
    file: File,
    skip: u64,
}

impl Copy {
    /// Opens a file of the sandbox; the task may have put anything in its place, so links are not
    /// followed.
    fn open(sandbox: &Path, name: &str, account: Option<Account>) -> io::Result<Self> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let path = sandbox.join(name);
        let file =
            OpenOptions::new().create(true).append(true).mode(0o644).custom_flags(flags.bits()).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no plain file")));
        }
        if let Some(account) = account {
            fchown(&file, Some(account.uid), Some(account.gid))?;
        }
        Ok(Self { file, skip: metadata.len() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= u64::try_from(skipped).unwrap_or(self.skip);
        self.file.write_all(bytes.get(skipped..).unwrap_or_default())
    }
}

/// Copies until the container has ended and everything that it wrote is there.
///
/// # Errors
/// The engine or the disk failed; calling again goes on where this stopped.
pub(super) async fn copy(
    client: &bollard::Docker,
    container: &str,
    sandbox: &Path,
    account: Option<Account>,
) -> Result<(), String> {
    let disk = |error: io::Error| format!("the sandbox {}: {error}", sandbox.display());
    let mut out = Copy::open(sandbox, "stdout", account).map_err(disk)?;
    let mut err = Copy::open(sandbox, "stderr", account).map_err(disk)?;
    let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
    let mut stream = Box::pin(client.logs(container, Some(options)));
    while let Some(piece) = stream.next().await {
        match piece.map_err(|error| engine::explain(&error))? {
            LogOutput::StdErr { message } => err.write(&message).map_err(disk)?,
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                out.write(&message).map_err(disk)?;
            }
            LogOutput::StdIn { .. } => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_second_copy_goes_on_where_the_first_stopped() {
        let folder = tempfile::tempdir().expect("a directory");
        let mut copy = Copy::open(folder.path(), "stdout", None).expect("opened");
        copy.write(b"one ").expect("written");
        for piece in [b"on".as_slice(), b"e t", b"wo"] {
            // The same stream from its beginning, cut elsewhere.
            if piece == b"on" {
                copy = Copy::open(folder.path(), "stdout", None).expect("opened");
            }
            copy.write(piece).expect("written");
        }
        assert_eq!(std::fs::read(folder.path().join("stdout")).expect("there"), b"one two");
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let folder = tempfile::tempdir().expect("a directory");
        symlink("/etc/passwd", folder.path().join("stdout")).expect("linked");
        assert!(Copy::open(folder.path(), "stdout", None).is_err());
        nix::unistd::mkfifo(&folder.path().join("stderr"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert!(Copy::open(folder.path(), "stderr", None).is_err());
    }
}
