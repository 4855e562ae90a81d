//! Three `mesita node` processes with an agent each.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Ended, signal};

/// One node.
pub(crate) struct Node {
    /// Its process.
    pub(crate) process: Ended,
    /// Base URL of its master.
    pub(crate) master: String,
    peer: String,
    data: PathBuf,
}

impl Node {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesita"));
        command.args(["node", "--json", "--data-dir"]).arg(data).args(arguments);
        for flag in ["--master-addr", "--agent-addr", "--marathon-addr", "--peer-addr"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        command.args(["--agent-resources", "cpus:2;mem:1024;disk:1024;ports:[31000-31009]"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Ended(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (master, peer) = (text(&ready["masters"][0]), text(&ready["peer"]));
        Self { process, master, peer, data: data.to_owned() }
    }
}

/// Three of them; nothing is left of them when dropped.
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
    folder: TempDir,
}

impl Nodes {
    pub(crate) fn start(parent: &Path) -> Self {
        let folder = tempfile::tempdir_in(parent).unwrap();
        let mut three = Self { nodes: Vec::new(), folder };
        let data = |number: usize| three.folder.path().join(format!("node-{number}"));
        let data = [data(0), data(1), data(2)];
        three.nodes.push(Node::start(&data[0], &["--bootstrap"]));
        let token = data[0].join("identity/secrets/join-token-master").display().to_string();
        let peer = three.nodes[0].peer.clone();
        for data in &data[1..] {
            three.nodes.push(Node::start(data, &["--join", &peer, "--token-file", &token]));
        }
        three
    }

    pub(crate) fn masters(&self, among: &[usize]) -> Vec<String> {
        among.iter().map(|number| self.nodes[*number].master.clone()).collect()
    }

    /// Starts one again that was killed.
    pub(crate) fn restart(&mut self, number: usize) {
        let data = self.nodes[number].data.clone();
        self.nodes[number] = Node::start(&data, &[]);
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if matches!(node.process.0.try_wait(), Ok(None)) {
                signal(&node.process.0, Signal::SIGKILL);
            }
            let _ = node.process.0.wait();
        }
        // Launchers outlive their nodes: whoever has one of these directories on its command line or works in it.
        let folder = self.folder.path();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let works_here =
                fs::read_link(entry.path().join("cwd")).is_ok_and(|directory| directory.starts_with(folder));
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_told = String::from_utf8_lossy(&line).contains(&*folder.to_string_lossy());
            if works_here || is_told {
                // It may have ended.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for node in &self.nodes {
            let group = fs::read_to_string(node.data.join("agent-0/notes/launcher/cgroup"));
            // There may be none.
            let _ = fs::remove_dir(group.unwrap_or_default());
        }
    }
}
