//! What a launcher writes down: a line of JSON for each thing that is still to be remembered.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Lines of forgotten things that a file may hold before it is written anew.
const SLACK: usize = 32;

/// A task that runs, or one of its processes that could not be found by its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containerizer) struct Live {
    /// Empty for a mere process, as is the sandbox.
    pub(in crate::containerizer) id: String,
    /// Its first process; 0 while it is being started.
    pub(in crate::containerizer) pid: i32,
    /// When that was started, in ticks since the start of the system.
    pub(in crate::containerizer) start: u64,
    /// Which start of the system.
    pub(in crate::containerizer) boot: String,
    pub(in crate::containerizer) sandbox: String,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containerizer) struct Ended {
    pub(in crate::containerizer) id: String,
    pub(in crate::containerizer) pid: i32,
    pub(in crate::containerizer) start: u64,
    /// Raw wait status.
    pub(in crate::containerizer) status: i32,
    /// Nanoseconds since 1970.
    pub(in crate::containerizer) at: i64,
}

/// A file of records.
pub(super) struct Records<T> {
    path: PathBuf,
    file: File,
    entries: Vec<T>,
    lines: usize,
    /// Whether a record outlives a loss of power.
    durable: bool,
    /// The end of the file is not known to be whole.
    torn: bool,
}

impl<T: Serialize + DeserializeOwned> Records<T> {
    /// Opens or makes the file `path`, which lies in the current directory. A last line that was not written
    /// to its end was never reported to anybody and does not count.
    pub(super) fn open(path: &Path, durable: bool) -> io::Result<Self> {
        let file = append_to(path)?;
        // After a loss of power anything may stand in the place of a line.
        let bytes = fs::read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let entries: Vec<T> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let lines = text.lines().count();
        let torn = lines != entries.len() || !(text.is_empty() || text.ends_with('\n'));
        let mut records = Self { path: path.to_owned(), file, entries, lines, durable, torn };
        if records.torn {
            records.rewrite()?;
        }
        Ok(records)
    }

    pub(super) fn entries(&self) -> &[T] {
        &self.entries
    }

    /// Remembers something. It is remembered in memory even if the disk fails.
    pub(super) fn add(&mut self, entry: T) -> io::Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.entries.push(entry);
        if self.torn {
            return self.rewrite();
        }
        self.torn = true;
        self.file.write_all(&line)?;
        self.lines += 1;
        self.sync()?;
        self.torn = false;
        Ok(())
    }

    /// Forgets things. The file shrinks when nothing is left, or when most of it is forgotten.
    pub(super) fn remove(&mut self, is: impl Fn(&T) -> bool) -> io::Result<()> {
        let before = self.entries.len();
        self.entries.retain(|entry| !is(entry));
        let is_changed = self.entries.len() < before;
        if self.entries.is_empty() && is_changed {
            self.file.set_len(0)?;
            (self.lines, self.torn) = (0, false);
            return self.sync();
        }
        if self.lines > 2 * self.entries.len() + SLACK { self.rewrite() } else { Ok(()) }
    }

    /// Writes another file and puts it in the place of this one.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        for entry in &self.entries {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        if self.durable {
            file.sync_data()?;
        }
        fs::rename(&new, &self.path)?;
        if self.durable {
            File::open(".")?.sync_all()?;
        }
        self.file = append_to(&self.path)?;
        (self.lines, self.torn) = (self.entries.len(), false);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.durable { self.file.sync_data() } else { Ok(()) }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(number: i32) -> Ended {
        Ended { id: format!("c{number}"), pid: number, start: 7, status: 256, at: 1 }
    }

    #[test]
    fn what_is_written_is_found_again_and_what_is_forgotten_takes_no_room() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("exits");
        let length = || fs::metadata(&path).expect("a file").len();
        let mut records = Records::open(&path, true).expect("opened");
        (0..100).for_each(|number| records.add(ended(number)).expect("written"));
        let full = length();
        records.remove(|one: &Ended| one.pid < 70).expect("removed");
        assert!(length() < full / 2, "{} of {full}", length());
        drop(records);
        let mut records = Records::<Ended>::open(&path, true).expect("opened");
        assert_eq!(records.entries(), (70..100).map(ended).collect::<Vec<_>>());
        records.remove(|_| true).expect("removed");
        assert_eq!(length(), 0);
        records.add(ended(1)).expect("written");
        assert_eq!(Records::<Ended>::open(&path, true).expect("opened").entries(), [ended(1)]);
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next_one() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("exits");
        let mut records = Records::open(&path, true).expect("opened");
        records.add(ended(1)).expect("written");
        drop(records);
        let mut bytes = fs::read(&path).expect("a file");
        bytes.extend(b"{\"id\":\"c2\",\"pi\xff\0");
        fs::write(&path, bytes).expect("written");
        let mut records = Records::<Ended>::open(&path, true).expect("opened");
        assert_eq!(records.entries(), [ended(1)]);
        records.add(ended(3)).expect("written");
        assert_eq!(Records::<Ended>::open(&path, true).expect("opened").entries(), [ended(1), ended(3)]);
    }
}
