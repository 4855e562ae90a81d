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
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; the fields follow the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
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
