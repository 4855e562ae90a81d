//! The ready line of `mesita dev`, and the file in which it is announced to other commands.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::CliError;
use crate::node::Node;

/// The ready line: where everything answers. Parts that are not built yet are `null`.
pub(super) fn line(node: &Node) -> Value {
    let url = |address: std::net::SocketAddr| format!("http://{address}");
    let addresses = node.addresses();
    json!({
        "schema": 1,
        "event": "ready",
        "masters": addresses.master_urls(),
        "agents": addresses.agents.iter().map(|address| url(*address)).collect::<Vec<_>>(),
        "marathon": addresses.marathon.map(url),
        "dns": Value::Null,
        "ui": Value::Null,
        "data_dir": node.data_dir().display().to_string(),
        "pid": std::process::id(),
    })
}

/// `$XDG_RUNTIME_DIR/mesita/dev.json`; nowhere when there is no such directory.
fn path() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty())?;
    Some(PathBuf::from(runtime).join("mesita/dev.json"))
}

/// The announcement of a running `dev`; dropping it withdraws it.
#[derive(Debug)]
pub(super) struct Announcement {
    path: PathBuf,
    text: String,
}

impl Announcement {
    /// Announces a ready line, unless there is no runtime directory to do so in. One that cannot be
    /// written is only a warning: other commands need `--addr` then.
    pub(super) fn make(line: &Value) -> Option<Self> {
        Self::write(path()?, line)
            .inspect_err(|error| {
                let hint = error.hint.as_deref().unwrap_or_default();
                tracing::warn!("{error}; other commands need --addr or MESITA_ADDR ({hint})");
            })
            .ok()
    }

    fn write(path: PathBuf, line: &Value) -> Result<Self, CliError> {
        let text = line.to_string();
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        let written = fs::create_dir_all(folder).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        });
        match written {
            Ok(()) => Ok(Self { path, text }),
            Err(error) => Err(CliError::new(format!("{} cannot be written: {error}", path.display()))
                .hint("unset XDG_RUNTIME_DIR to do without this file")),
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // A later `dev` may have announced itself in the same place: that one stays.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            // It may have gone meanwhile, which is what is wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Base URL of the cluster that a live `dev` announced.
pub(super) fn announced() -> Option<String> {
    announced_in(&path()?)
}

fn announced_in(path: &Path) -> Option<String> {
    let line: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    let pid = line["pid"].as_u64()?;
    // An announcement outlives a `kill -9`; its process tells whether it still holds.
    if !Path::new("/proc/self").exists() || Path::new(&format!("/proc/{pid}")).exists() {
        return line["masters"][0].as_str().map(str::to_owned);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_found_and_withdrawn() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("mesita/dev.json");
        let line = json!({ "masters": ["http://127.0.0.1:1"], "pid": std::process::id() });
        let announcement = Announcement::write(path.clone(), &line).expect("written");
        assert_eq!(announced_in(&path).as_deref(), Some("http://127.0.0.1:1"));
        drop(announcement);
        assert!(!path.exists());
    }

    #[test]
    fn an_announcement_of_a_dead_process_counts_for_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("dev.json");
        let line = json!({ "masters": ["http://127.0.0.1:1"], "pid": 4_194_305 });
        fs::write(&path, line.to_string()).expect("written");
        assert_eq!(announced_in(&path), None);
    }
}
