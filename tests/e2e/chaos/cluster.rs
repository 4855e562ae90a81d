//! A cluster of `mesita node` processes that faults are done to.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::history::{Evidence, SCRIPT};
use super::http::{self, Leads};
use super::net::{Network, Space};
use crate::kills::Dice;
use crate::outliving::clear;
use crate::support::{POLL, lines_of, now, signal_process};

/// How long a node may take until it says that it is ready.
const READY: Duration = Duration::from_secs(60);

/// Where masters answer at the moment; clients share it, as they would a list of addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(Arc<Mutex<Vec<Option<String>>>>);

impl Addresses {
    fn put(&self, number: usize, address: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= number {
            all.resize(number + 1, None);
        }
        all[number] = address;
    }

    /// Every address that should answer.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }

    /// One of them.
    pub(crate) fn any(&self, dice: &mut Dice) -> String {
        let all = self.all();
        let drawn = usize::try_from(dice.below(all.len().max(1) as u64)).unwrap_or(0);
        all.get(drawn).cloned().unwrap_or_default()
    }
}

/// One node: a process, or what is left of it.
pub(crate) struct Member {
    pub(crate) data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    pub(crate) master: String,
    pub(crate) peer: String,
    /// The program that it runs.
    pub(crate) program: PathBuf,
    /// The network that it lives in; none: the host's loopback.
    space: Option<Space>,
    stopped: bool,
}

/// What a cluster is made of.
pub(crate) struct Plan {
    /// What each agent has.
    pub(crate) resources: &'static str,
    /// The program of each node.
    pub(crate) programs: [PathBuf; 3],
}

impl Plan {
    /// Three nodes of the program that was built.
    pub(crate) fn new(resources: &'static str) -> Self {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_mesita"));
        Self { resources, programs: [own.clone(), own.clone(), own] }
    }
}

/// Three nodes, each a master with an agent.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) addresses: Addresses,
    resources: &'static str,
    folder: Option<TempDir>,
    pub(crate) network: Option<Network>,
}

impl Cluster {
    /// Three nodes on loopback.
    pub(crate) fn start(plan: &Plan) -> Self {
        Self::start_in(plan, None)
    }

    /// Three nodes, each in a network of its own if there is one.
    pub(crate) fn start_in(plan: &Plan, network: Option<Network>) -> Self {
        let folder = tempfile::Builder::new().prefix("mesita-chaos-").tempdir().expect("a directory");
        std::fs::write(folder.path().join("task.sh"), SCRIPT).expect("written");
        let members = plan.programs.iter().enumerate().map(|(number, program)| Member {
            data: folder.path().join(format!("node-{number}")),
            log: folder.path().join(format!("node-{number}.log")),
            child: None,
            master: String::new(),
            peer: String::new(),
            program: program.clone(),
            space: network.as_ref().map(|network| network.space(number)),
            stopped: false,
        });
        let mut cluster = Self {
            members: members.collect(),
            addresses: Addresses::default(),
            resources: plan.resources,
            folder: Some(folder),
            network,
        };
        cluster.launch(0, &["--bootstrap"]);
        let peer = cluster.members[0].peer.clone();
        let token = cluster.members[0].data.join("identity/secrets/join-token-master").display().to_string();
        for number in 1..cluster.members.len() {
            cluster.launch(number, &["--join", &peer, "--token-file", &token]);
        }
        // One that is still learning does not count: two voters stand no loss at all.
        cluster.wait("every master to vote", READY, || {
            let status =
                cluster.inside(|| http::get(&cluster.members[0].master, "/mesita/v1/cluster")).json();
            let masters = status["masters"].as_array()?;
            let voters = masters.iter().filter(|master| master["role"] != "learner").count();
            (voters == cluster.members.len()).then_some(())
        });
        cluster
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it lives as long as the cluster").path()
    }

    /// Where tasks write.
    pub(crate) fn task_log(&self) -> PathBuf {
        self.folder().join("tasks.log")
    }

    /// The command of a task.
    pub(crate) fn task(&self) -> String {
        format!("exec sh {}/task.sh {}", self.folder().display(), self.task_log().display())
    }

    pub(crate) fn evidence(&self) -> Evidence {
        Evidence::read(&self.task_log())
    }

    /// Starts a node again on what it has, and waits until it says that it is ready.
    pub(crate) fn restart(&mut self, number: usize) {
        self.launch(number, &[]);
    }

    fn launch(&mut self, number: usize, arguments: &[&str]) {
        let resources = self.resources;
        let member = &mut self.members[number];
        let mut command = Command::new(&member.program);
        command.env_remove("MESITA_ADDR").env_remove("XDG_RUNTIME_DIR").env("MESITA_LOG", "mesita=info");
        command.args(["node", "--json", "--data-dir"]).arg(&member.data).args(arguments);
        command.args(["--agent-resources", resources]);
        let host = member.space.as_ref().map_or("127.0.0.1", |space| space.address.as_str());
        let ports: [(&str, u16); 4] = [
            ("--master-addr", 5050),
            ("--agent-addr", 5051),
            ("--peer-addr", 5052),
            ("--marathon-addr", 8080),
        ];
        for (flag, port) in ports {
            // In a network of its own a node has its ports to itself.
            let port = if member.space.is_some() { port } else { 0 };
            command.args([flag, &format!("{host}:{port}")]);
        }
        if member.space.is_some() {
            command.arg("--insecure");
        }
        let log = OpenOptions::new().create(true).append(true).open(&member.log).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = match &member.space {
            Some(space) => space.spawn(command),
            None => command.spawn().expect("the program starts"),
        };
        let lines = lines_of(&mut child);
        member.child = Some(child);
        member.stopped = false;
        let line = lines.recv_timeout(READY).unwrap_or_default();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let log = || std::fs::read_to_string(&member.log).unwrap_or_default();
        assert_eq!(ready["event"], "ready", "node {number} is not ready: {line}\n{}", last_lines(&log(), 20));
        member.master =
            ready["masters"][0].as_str().unwrap_or_default().trim_start_matches("http://").to_owned();
        member.peer = ready["peer"].as_str().unwrap_or_default().to_owned();
        self.addresses.put(number, Some(member.master.clone()));
    }

    pub(crate) fn is_up(&self, number: usize) -> bool {
        self.members[number].child.is_some() && !self.members[number].stopped
    }

    pub(crate) fn up(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|number| self.is_up(*number)).collect()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, number: usize) {
        self.end(number, "KILL");
    }

    /// Ends a node with a signal and waits for it; its tasks go on.
    pub(crate) fn end(&mut self, number: usize, signal: &str) -> Option<i32> {
        let mut child = self.members[number].child.take().expect("it runs");
        signal_process(child.id(), signal);
        let status = child.wait().expect("our own child");
        self.addresses.put(number, None);
        status.code()
    }

    pub(crate) fn freeze(&mut self, number: usize) {
        self.signal(number, "STOP");
        self.members[number].stopped = true;
    }

    pub(crate) fn thaw(&mut self, number: usize) {
        self.signal(number, "CONT");
        self.members[number].stopped = false;
    }

    fn signal(&self, number: usize, signal: &str) {
        signal_process(self.members[number].child.as_ref().expect("it runs").id(), signal);
    }

    /// Who leads, as one of `among` says that leads itself.
    pub(crate) fn leader_among(&self, among: &[usize]) -> Option<usize> {
        let inside =
            |number: &&usize| self.inside(|| http::who_leads(&self.members[**number].master)) == Leads::Here;
        among.iter().find(inside).copied()
    }

    /// Runs something where the nodes can be reached from.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.network {
            Some(network) => network.inside(work),
            None => work(),
        }
    }

    /// The leader, if it says that every one of `wanted` agents is active.
    pub(crate) fn settled(&self, among: &[usize], wanted: usize) -> Option<usize> {
        let leader = self.leader_among(among)?;
        (self.active_agents(leader)? == wanted).then_some(leader)
    }

    pub(crate) fn active_agents(&self, asked: usize) -> Option<usize> {
        let body = json!({ "type": "GET_AGENTS" });
        let answer = self.inside(|| http::post(&self.members[asked].master, "/api/v1", &body)).json();
        let agents = answer["get_agents"]["agents"].as_array()?;
        Some(agents.iter().filter(|agent| agent["active"] == true).count())
    }

    /// Waits for a leader that has all agents; fails with `what` after `limit`.
    pub(crate) fn wait_settled(&self, what: &str, limit: Duration) -> usize {
        let up = self.up();
        self.wait(what, limit, || self.settled(&up, up.len()))
    }

    /// Waits for a condition; says what was waited for, and how the nodes stand, when it never holds.
    pub(crate) fn wait<T>(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
        let start = now();
        loop {
            if let Some(value) = condition() {
                return value;
            }
            assert!(start.elapsed() < limit, "waited {limit:?} for {what}\n{}", self.standing());
            std::thread::park_timeout(POLL);
        }
    }

    /// What a person wants to know of a failure.
    pub(crate) fn standing(&self) -> String {
        let mut lines = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            let says = self.inside(|| http::who_leads(&member.master));
            let state = match (&member.child, member.stopped) {
                (None, _) => "ended".to_owned(),
                (_, true) => "stopped".to_owned(),
                _ => format!("{says:?}"),
            };
            lines.push(format!("node {number} ({} peer {}): {state}", member.master, member.peer));
        }
        lines.join("\n")
    }

    /// Panics and fatal errors in the logs.
    pub(crate) fn faults_in_logs(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            let text = std::fs::read_to_string(&member.log).unwrap_or_default();
            let bad = text.lines().filter(|line| line.contains("panicked at"));
            found.extend(bad.map(|line| format!("node {number}: {line}")));
        }
        found
    }

    /// Keeps everything for whoever looks into a failure, and says where.
    pub(crate) fn keep(&mut self) -> PathBuf {
        match self.folder.take() {
            Some(folder) => {
                let path = folder.keep();
                eprintln!("logs, histories and data are in {}", path.display());
                path
            }
            None => PathBuf::new(),
        }
    }

    /// Writes something beside the logs.
    pub(crate) fn note(&self, name: &str, text: &str) {
        use std::io::Write as _;
        let written =
            File::create(self.folder().join(name)).and_then(|mut file| file.write_all(text.as_bytes()));
        written.expect("written");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                // Also one that is stopped ends by this.
                let _ = child.kill();
                let _ = child.wait();
            }
            clear(&member.data, &member.data.join("agent-0/notes/launcher"));
        }
        if std::thread::panicking() {
            self.keep();
        }
    }
}

pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
