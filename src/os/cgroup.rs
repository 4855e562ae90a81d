//! A control group (version 2) of one's own: whoever is in it stays in it, whatever it does to its session,
//! parent and environment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::processes;

/// Makes a group named `name` and moves this process into it; none: this system or user cannot.
///
/// It lies at the top of the hierarchy, so that a service manager that ends the group of the agent does not
/// end this one; where that is not allowed, below the group of this process.
#[must_use]
pub fn enter(name: &str) -> Option<PathBuf> {
    let root = mount()?;
    let own = own_group(&root)?;
    [root, own].into_iter().map(|parent| parent.join(name)).find(|group| {
        let entered = fs::create_dir(group).and_then(|()| join(group, 0));
        if entered.is_err() {
            // It may not even have been made.
            let _ = fs::remove_dir(group);
        }
        entered.is_ok()
    })
}

/// Moves this process to the parent of a group and removes the group.
///
/// # Errors
/// Something is left in it.
pub fn leave(group: &Path) -> io::Result<()> {
    if let Some(parent) = group.parent() {
        join(parent, 0)?;
    }
    fs::remove_dir(group)
}

/// Kills everything in a group; answers whether anything was there.
#[must_use]
pub fn kill(group: &Path) -> bool {
    let members = members(group);
    // Kernels before 5.14 have no such file.
    if !members.is_empty() && fs::write(group.join("cgroup.kill"), "1").is_err() {
        members.iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
    }
    !members.is_empty()
}

/// Removes an empty group.
pub fn remove(group: &Path) {
    // It may be gone, or its last process may just be ending: an empty directory remains, no more.
    let _ = fs::remove_dir(group);
}

/// Processes of a group; those that have ended are in none.
fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

/// Zero is the process that writes.
fn join(group: &Path, pid: i32) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), pid.to_string())
}

/// Where the hierarchy is mounted.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let path = fields.get(1).filter(|_| fields.get(2) == Some(&"cgroup2"))?;
        Some(PathBuf::from(path))
    })
}

fn own_group(root: &Path) -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(root.join(path))
}
