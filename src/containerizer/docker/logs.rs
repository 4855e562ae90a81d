//! What a container writes, copied into its sandbox.
//!
//! The engine keeps the output for a while, each entry with its time. A copy notes from time to time how
//! long the sandbox's files were when the entry of a certain time had been written (a [`Mark`], kept
//! outside of the sandbox). The next copy, after a restart of the agent or a broken connection, asks for
//! entries from that time on, and skips as many bytes of each stream as its file has grown since the mark:
//! nothing is lost and nothing comes twice, even if the engine has thrown old entries away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::engine;
use crate::base::time::Timestamp;
use crate::os::users::Account;

/// Bytes that are copied between two marks: what a restart reads again at the most.
const MARK_EVERY: u64 = 64 * 1024;

/// Where the output of a container goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) sandbox: PathBuf,
    /// Who owns the files.
    pub(super) account: Option<Account>,
    /// File of the mark.
    pub(super) mark: PathBuf,
}

/// How far the output was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Time of the last entry, in nanoseconds since the Unix epoch.
    last_ns: i64,
    /// Lengths of the files after it.
    stdout: u64,
    stderr: u64,
}

impl Mark {
    /// The mark of a file; the beginning where there is none.
    fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file as a whole: half a mark would be worse than an old one.
    fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, self)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }
}

/// One stream and how much of it is still to be skipped.
struct Copy {
    file: File,
    length: u64,
    skip: u64,
}

impl Copy {
    /// Opens a file of the sandbox that had `marked` bytes at the mark. The task may have put anything in
    /// its place, so links are not followed.
    fn open(sandbox: &Path, name: &str, account: Option<Account>, marked: u64) -> io::Result<Self> {
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
        let length = metadata.len();
        Ok(Self { file, length, skip: length.saturating_sub(marked) })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= u64::try_from(skipped).unwrap_or(self.skip);
        let rest = bytes.get(skipped..).unwrap_or_default();
        self.length += u64::try_from(rest.len()).unwrap_or(0);
        self.file.write_all(rest)
    }
}

/// A copy under way.
struct Copies {
    out: Copy,
    err: Copy,
    mark: Mark,
    /// Bytes since the mark was written.
    unmarked: u64,
}

impl Copies {
    fn open(target: &Target) -> io::Result<Self> {
        let mark = Mark::read(&target.mark)?;
        let out = Copy::open(&target.sandbox, "stdout", target.account, mark.stdout)?;
        let err = Copy::open(&target.sandbox, "stderr", target.account, mark.stderr)?;
        Ok(Self { out, err, mark, unmarked: 0 })
    }

    /// Copies one entry: its time, a blank, what was written.
    fn entry(&mut self, is_stderr: bool, bytes: &[u8], target: &Target) -> io::Result<()> {
        let (time, content) = split(bytes);
        if time.is_some_and(|time| time <= self.mark.last_ns) {
            return Ok(());
        }
        if is_stderr {
            self.err.write(content)?
        } else {
            self.out.write(content)?
        }
        self.unmarked += u64::try_from(content.len()).unwrap_or(0);
        // A mark in the middle of what is still skipped would be of another length.
        let Some(time) = time.filter(|_| self.out.skip == 0 && self.err.skip == 0) else { return Ok(()) };
        if self.unmarked >= MARK_EVERY {
            self.mark = Mark { last_ns: time, stdout: self.out.length, stderr: self.err.length };
            self.mark.write(&target.mark)?;
            self.unmarked = 0;
        }
        Ok(())
    }
}

/// Time and content of an entry; an engine that gives no times gives only content.
fn split(bytes: &[u8]) -> (Option<i64>, &[u8]) {
    let Some(at) = bytes.iter().take(64).position(|byte| *byte == b' ') else { return (None, bytes) };
    let time = std::str::from_utf8(&bytes[..at]).ok().and_then(|text| Timestamp::parse_rfc3339(text).ok());
    match time {
        Some(time) => (Some(time.nanos()), &bytes[at + 1..]),
        None => (None, bytes),
    }
}

/// Copies until the container has ended and everything that it wrote is there.
///
/// # Errors
/// The engine or the disk failed; calling again goes on where this stopped.
pub(super) async fn copy(client: &bollard::Docker, container: &str, target: &Target) -> Result<(), String> {
    let disk = |error: io::Error| format!("the output in {}: {error}", target.sandbox.display());
    let mut copies = Copies::open(target).map_err(disk)?;
    // Whole seconds, so entries of the same second come again; those before the mark are dropped.
    let since = i32::try_from(copies.mark.last_ns / 1_000_000_000).unwrap_or(0);
    let options =
        LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).timestamps(true).since(since);
    let mut stream = Box::pin(client.logs(container, Some(options.build())));
    while let Some(piece) = stream.next().await {
        match piece.map_err(|error| engine::explain(&error))? {
            LogOutput::StdErr { message } => copies.entry(true, &message, target).map_err(disk)?,
            LogOutput::StdOut { message } | LogOutput::Console { message } => {
                copies.entry(false, &message, target).map_err(disk)?;
            }
            LogOutput::StdIn { .. } => {}
        }
    }
    Ok(())
}

/// Forgets how far the output of a container was copied.
pub(super) fn forget(mark: &Path) -> io::Result<()> {
    match fs::remove_file(mark) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn target(folder: &Path) -> Target {
        Target { sandbox: folder.to_owned(), account: None, mark: folder.join("marks/one") }
    }

    /// What the engine says of a line that was written in this second.
    fn entry(second: u32, text: &str) -> Vec<u8> {
        format!("2024-05-01T10:00:{second:02}.000000001Z {text}\n").into_bytes()
    }

    #[test]
    fn a_second_copy_goes_on_where_the_first_stopped() {
        let folder = tempfile::tempdir().expect("a directory");
        let target = target(folder.path());
        let long = "x".repeat(40_000);
        let all = [entry(1, "one"), entry(2, &long), entry(3, &long), entry(4, "four"), entry(5, "five")];
        // Stopped after the fourth, with a mark at the third.
        let mut copies = Copies::open(&target).expect("opened");
        for (number, one) in all.iter().take(4).enumerate() {
            copies.entry(number == 0, one, &target).expect("copied");
        }
        let marked = Mark::read(&target.mark).expect("a mark");
        assert_eq!((marked.stdout, marked.stderr), (80_002, 4));
        // The engine has thrown the first two away, and gives the third again: it is of the same second.
        let mut copies = Copies::open(&target).expect("opened");
        for one in &all[2..] {
            copies.entry(false, one, &target).expect("copied");
        }
        let copied = fs::read_to_string(folder.path().join("stdout")).expect("there");
        assert_eq!(copied, format!("{long}\n{long}\nfour\nfive\n"));
        assert_eq!(fs::read_to_string(folder.path().join("stderr")).expect("there"), "one\n");
    }

    #[test]
    fn without_a_mark_the_files_themselves_tell() {
        let folder = tempfile::tempdir().expect("a directory");
        let target = target(folder.path());
        for count in [1, 3] {
            let mut copies = Copies::open(&target).expect("opened");
            for second in 0..count {
                copies.entry(false, &entry(second, &second.to_string()), &target).expect("copied");
            }
        }
        assert_eq!(fs::read_to_string(folder.path().join("stdout")).expect("there"), "0\n1\n2\n");
        forget(&target.mark).expect("there was none");
    }

    #[test]
    fn content_that_looks_like_no_entry_is_kept() {
        assert_eq!(split(b"hello world"), (None, &b"hello world"[..]));
        assert_eq!(split(b"\xff\xfe x").1, b"\xff\xfe x");
        assert_eq!(split(b"2024-05-01T10:00:01.5Z a b").1, b"a b");
        assert_eq!(split(b""), (None, &b""[..]));
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let folder = tempfile::tempdir().expect("a directory");
        symlink("/etc/passwd", folder.path().join("stdout")).expect("linked");
        assert!(Copy::open(folder.path(), "stdout", None, 0).is_err());
        nix::unistd::mkfifo(&folder.path().join("stderr"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert!(Copy::open(folder.path(), "stderr", None, 0).is_err());
    }
}
