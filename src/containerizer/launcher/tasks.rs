//! The launcher's tasks.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::protocol::Program;
use crate::os::{processes, users};

/// Everything of a task carries its sandbox in this variable (Mesos sets it for every task).
const MARK: &str = "MESOS_DIRECTORY";

struct Task {
    id: String,
    sandbox: String,
    /// Reaped by us with the others, not through this handle.
    _child: Child,
}

/// Tasks by the id of their first process.
#[derive(Default)]
pub(super) struct Tasks {
    running: BTreeMap<i32, Task>,
}

impl Tasks {
    /// Starts a task; answers the id of its first process.
    pub(super) fn launch(&mut self, program: &Program) -> Result<u32, String> {
        let mut command = Command::new(&program.file);
        if let Some((first, rest)) = program.argv.split_first() {
            command.arg0(first).args(rest);
        }
        command.env_clear().envs(program.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&program.sandbox).process_group(0).stdin(Stdio::null());
        command.stdout(log(&program.sandbox, "stdout", program.account)?).stderr(log(
            &program.sandbox,
            "stderr",
            program.account,
        )?);
        let own = users::own();
        if let Some((uid, gid)) = program.account.filter(|account| *account != (own.uid, own.gid)) {
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().map_err(|error| explain(program, &error))?;
        let pid = child.id();
        let task = Task { id: program.id.clone(), sandbox: program.sandbox.clone(), _child: child };
        self.running.insert(i32::try_from(pid).unwrap_or(0), task);
        Ok(pid)
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

    /// Reaps whatever has ended; answers the tasks among it with their raw wait statuses.
    pub(super) fn reap(&mut self) -> Vec<(String, i32)> {
        let mut ended = Vec::new();
        while let Some((pid, status)) = reap_one() {
            if let Some(task) = self.running.remove(&pid) {
                self.sweep(pid, &task.sandbox);
                ended.push((task.id, status));
            }
        }
        ended
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
        self.running.clear();
    }
}

fn reap_one() -> Option<(i32, i32)> {
    match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(pid, code)) => Some((pid.as_raw(), (code & 0xff) << 8)),
        Ok(WaitStatus::Signaled(pid, signal, core)) => {
            Some((pid.as_raw(), signal as i32 | if core { 0x80 } else { 0 }))
        }
        _ => None,
    }
}

/// A log file of a task.
fn log(sandbox: &str, name: &str, account: Option<(u32, u32)>) -> Result<Stdio, String> {
    let path = Path::new(sandbox).join(name);
    let file = OpenOptions::new().create(true).append(true).mode(0o644).open(&path);
    let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    if let Some((uid, gid)) = account {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Stdio::from(file))
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
