//! The launcher's tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::protocol::Program;
use crate::os::{child, processes, users};

/// Everything of a task carries its sandbox in this variable (Mesos sets it for every task).
pub(in crate::containerizer) const MARK: &str = "MESOS_DIRECTORY";
/// Looks for processes of a task that fork while they are killed.
const SWEEPS: usize = 100;

/// Kills every process that carries one of these sandboxes.
pub(in crate::containerizer) fn kill_marked(sandboxes: &BTreeSet<String>) {
    for _ in 0..SWEEPS {
        let left = processes::marked(MARK, sandboxes);
        if left.is_empty() {
            return;
        }
        left.into_iter().for_each(|pid| processes::signal(pid, Signal::SIGKILL));
    }
}

struct Task {
    id: String,
    sandbox: String,
    /// When its first process was started, in ticks since the start of the system.
    start: u64,
    /// Reaped by us with the others, not through this handle.
    _child: Child,
}

/// A task that has ended, while the id of its first process is still its own.
pub(super) struct End {
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) start: u64,
    /// Raw wait status.
    pub(super) status: i32,
}

/// Tasks by the id of their first process.
#[derive(Default)]
pub(super) struct Tasks {
    running: BTreeMap<i32, Task>,
}

impl Tasks {
    /// Whether no task runs.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts a task; answers the id of its first process, and when that was started.
    pub(super) fn launch(&mut self, program: &Program) -> Result<(u32, u64), String> {
        let mut command = Command::new(&program.file);
        if let Some((first, rest)) = program.argv.split_first() {
            command.arg0(first).args(rest);
        }
        command.env_clear().envs(program.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&program.sandbox).process_group(0).stdin(Stdio::null());
        command.stdout(log(&program.sandbox, "stdout")?).stderr(log(&program.sandbox, "stderr")?);
        let own = users::own();
        if let Some((uid, gid)) = program.account.filter(|account| *account != (own.uid, own.gid)) {
            command.uid(uid).gid(gid);
        }
        child::begin_clean_and_die_with_us(&mut command);
        let child = command.spawn().map_err(|error| explain(program, &error))?;
        let pid = child.id();
        let first = i32::try_from(pid).unwrap_or(0);
        // It is there at least as a child that nobody has asked about.
        let start = processes::look(first).map_or(0, |process| process.start);
        let task = Task { id: program.id.clone(), sandbox: program.sandbox.clone(), start, _child: child };
        self.running.insert(first, task);
        Ok((pid, start))
    }

    /// Signals everything of a task.
    pub(super) fn signal(&self, id: &str, signal: Signal) {
        let Some((pid, task)) = self.running.iter().find(|(_, task)| task.id == id) else { return };
        let mut all = vec![*pid];
        all.extend(processes::descendants(*pid));
        for adopted in self.adopted(&task.sandbox) {
            all.push(adopted);
            all.extend(processes::descendants(adopted));
        }
        for pid in all {
            processes::signal(pid, signal);
        }
        // Whoever was forked while we looked is in the group, unless it left it on purpose.
        if signal == Signal::SIGKILL {
            processes::signal_group(*pid, signal);
        }
    }

    /// Processes of a task whose parents have ended: they are our own children now.
    fn adopted(&self, sandbox: &str) -> Vec<i32> {
        let strangers = processes::own_children().into_iter().filter(|pid| !self.running.contains_key(pid));
        strangers.filter(|pid| processes::has_variable(*pid, MARK, sandbox)).collect()
    }

    /// Reaps whatever has ended, and tells `ended` of the tasks among it: before their ids are given again,
    /// and before anybody could lose how they ended.
    pub(super) fn reap(&mut self, mut ended: impl FnMut(End)) {
        while let Some((pid, status)) = look_at_one() {
            if let Some(task) = self.running.remove(&pid) {
                self.sweep(pid, &task.sandbox);
                ended(End { id: task.id, pid, start: task.start, status });
            }
            // It has ended, so this neither waits nor fails.
            let _ = waitpid(Pid::from_raw(pid), None);
        }
    }

    /// The first process of a task has ended: the rest of it must not go on.
    fn sweep(&self, pid: i32, sandbox: &str) {
        processes::signal_group(pid, Signal::SIGKILL);
        for adopted in self.adopted(sandbox) {
            for pid in processes::descendants(adopted) {
                processes::signal(pid, Signal::SIGKILL);
            }
            processes::signal(adopted, Signal::SIGKILL);
        }
    }

    /// Kills everything below this process until nothing is left.
    pub(super) fn destroy_all(&mut self) {
        let sandboxes: BTreeSet<String> = self.running.values().map(|task| task.sandbox.clone()).collect();
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        loop {
            let left = processes::descendants(own);
            for pid in &left {
                processes::signal(*pid, Signal::SIGKILL);
            }
            if left.is_empty() {
                break;
            }
            // Waits for one at least; adopted orphans come one after another.
            if waitpid(None, None).is_err() {
                break;
            }
        }
        // Checks of a task are the agent's children, and may still run after a kill -9 of the agent.
        kill_marked(&sandboxes);
        self.running.clear();
    }
}

/// A child that has ended, and its raw wait status; it stays to be reaped.
fn look_at_one() -> Option<(i32, i32)> {
    let how = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, how) {
        Ok(WaitStatus::Exited(pid, code)) => Some((pid.as_raw(), (code & 0xff) << 8)),
        Ok(WaitStatus::Signaled(pid, signal, core)) => {
            Some((pid.as_raw(), signal as i32 | if core { 0x80 } else { 0 }))
        }
        _ => None,
    }
}

/// A log file of a task, as the agent made it: whatever its user put in its place since is not followed.
fn log(sandbox: &str, name: &str) -> Result<Stdio, String> {
    let path = Path::new(sandbox).join(name);
    let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let file = OpenOptions::new().append(true).custom_flags(flags).open(&path);
    file.map(Stdio::from).map_err(|error| format!("cannot open {}: {error}", path.display()))
}

/// Why a program did not start, for people.
fn explain(program: &Program, error: &std::io::Error) -> String {
    let file = &program.file;
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!(
                "the command {file:?} was not found; give its path, or set PATH in the task's environment"
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("the command {file:?} cannot be executed by the task's user; check its mode and owner")
        }
        _ => format!("the command {file:?} cannot be started: {error}"),
    }
}

/// Code or signal of a raw wait status.
pub(in crate::containerizer) fn decode(status: i32) -> (Option<i32>, Option<i32>) {
    let status = std::process::ExitStatus::from_raw(status);
    (status.code(), status.signal())
}
