//! Process trees, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Children of every process.
#[must_use]
pub fn children_of_all() -> BTreeMap<i32, Vec<i32>> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for pid in all() {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// Every process id.
fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    look(pid).map(|process| process.parent)
}

/// A process as it stood when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, which another process may have after its end.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// When it was started, in ticks since the system's start: with the id it names one process for ever.
    pub start: u64,
    /// It has ended, and nobody has asked how.
    pub ended: bool,
}

/// Looks at a process; none: there is no such process.
#[must_use]
pub fn look(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; the fields follow the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some(Process {
        pid,
        parent: number(1)?,
        group: number(2)?,
        start: fields.get(19)?.trim().parse().ok()?,
        ended: matches!(*fields.first()?, "Z" | "X"),
    })
}

/// Every process.
#[must_use]
pub fn snapshot() -> Vec<Process> {
    all().into_iter().filter_map(look).collect()
}

/// Names the time since the system's start: process ids and start times mean nothing after the next one.
#[must_use]
pub fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// All descendants of a process, without itself.
#[must_use]
pub fn descendants(root: i32) -> Vec<i32> {
    let children = children_of_all();
    let mut found = Vec::new();
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            found.push(*child);
            waiting.push(*child);
        }
    }
    found
}

/// Whether a process was started with this variable in its environment.
#[must_use]
pub fn has_variable(pid: i32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes()))
}

/// Every process that was started with the variable `name` set to one of `values`.
#[must_use]
pub fn marked(name: &str, values: &BTreeSet<String>) -> Vec<i32> {
    let is_marked = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| {
            let value =
                std::str::from_utf8(one).ok().and_then(|one| one.strip_prefix(name)?.strip_prefix('='));
            value.is_some_and(|value| values.contains(value))
        })
    };
    if values.is_empty() { Vec::new() } else { all().into_iter().filter(is_marked).collect() }
}

/// Whether a process is in a control group whose name contains `name`.
#[must_use]
pub fn is_in_cgroup(pid: u32, name: &str) -> bool {
    !name.is_empty()
        && fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(name))
}

/// Direct children of this process.
#[must_use]
pub fn own_children() -> Vec<i32> {
    let own = std::process::id();
    let Ok(text) = fs::read_to_string(format!("/proc/self/task/{own}/children")) else {
        return children_of_all().remove(&i32::try_from(own).unwrap_or(0)).unwrap_or_default();
    };
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Sends a signal to a process; one that has ended is no error.
pub fn signal(pid: i32, signal: Signal) {
    // ESRCH is what is wanted; EPERM cannot happen to our own children unless they changed user, and
    // then there is nothing to be done.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Sends a signal to a process group; one that has ended is no error.
pub fn signal_group(pgid: i32, signal: Signal) {
    // As above.
    let _ = killpg(Pid::from_raw(pgid), signal);
}
