//! Ends what a launcher that died left behind.
//!
//! First processes die with their launcher. The rest is found by its control group, and by what the launcher
//! wrote down: process groups and their descendants, and the mark that every process of a task carries. Where
//! there are no control groups, a launcher writes down from time to time who is in none of these groups.
//! Nothing else is touched, although ids are given again: start times tell processes apart.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::records::Live;
use super::tasks::MARK;
use crate::os::{cgroup, exact, processes};

/// Looks for processes that are left; a killed process may take a moment to end.
const LOOKS: usize = 1_000;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Kills until nothing is left.
///
/// # Errors
/// Something does not end, within about 5 s.
pub(super) fn end(live: &[Live], group: Option<&Path>) -> io::Result<()> {
    let boot = processes::boot();
    let live: Vec<&Live> = live.iter().filter(|task| task.boot == boot).collect();
    let marked = live.iter().filter(|task| !task.sandbox.is_empty());
    let sandboxes: BTreeSet<String> = marked.map(|task| task.sandbox.clone()).collect();
    for _ in 0..LOOKS {
        let mut is_quiet = !group.is_some_and(cgroup::kill);
        for process in left_of(&live) {
            is_quiet &= !exact::signal(process.pid, process.start, Signal::SIGKILL);
        }
        for process in processes::marked(MARK, &sandboxes).into_iter().filter_map(processes::look) {
            is_quiet &= !exact::signal(process.pid, process.start, Signal::SIGKILL);
        }
        if is_quiet {
            group.into_iter().for_each(cgroup::remove);
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::other("tasks of a launcher that died do not end"))
}

/// Descendants of this process that are in the group of no task, for [`end`] to find them.
pub(super) fn strays(live: &[Live], boot: &str) -> Vec<Live> {
    let all = processes::snapshot();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let groups: BTreeSet<i32> = live.iter().filter(|one| !one.id.is_empty()).map(|one| one.pid).collect();
    let mut found = with_descendants(&all, BTreeSet::from([own]));
    found.remove(&own);
    let strays = all.iter().filter(|one| found.contains(&one.pid) && !groups.contains(&one.group));
    let record = |one: &processes::Process| Live {
        id: String::new(),
        pid: one.pid,
        start: one.start,
        boot: boot.to_owned(),
        sandbox: String::new(),
    };
    strays.filter(|one| !one.ended).map(record).collect()
}

/// Processes of these records: exactly these, by their groups, and the descendants of all of them.
fn left_of(live: &[&Live]) -> Vec<processes::Process> {
    let all = processes::snapshot();
    let by_pid: BTreeMap<i32, &processes::Process> = all.iter().map(|one| (one.pid, one)).collect();
    // An id is not given again while a group has it: whoever has it now and is another came after the group.
    let groups: BTreeMap<i32, u64> = live
        .iter()
        .filter(|task| task.pid > 1 && by_pid.get(&task.pid).is_none_or(|one| one.start == task.start))
        .map(|task| (task.pid, task.start))
        .collect();
    let is_meant = |one: &processes::Process| {
        groups.get(&one.group).is_some_and(|start| one.start >= *start)
            || groups.get(&one.pid) == Some(&one.start)
    };
    let first = all.iter().filter(|one| is_meant(one)).map(|one| one.pid).collect();
    let found = with_descendants(&all, first);
    all.into_iter().filter(|one| found.contains(&one.pid)).collect()
}

/// Processes, their children, the children of these and so on.
fn with_descendants(all: &[processes::Process], mut found: BTreeSet<i32>) -> BTreeSet<i32> {
    loop {
        let is_next = |one: &&processes::Process| found.contains(&one.parent) && !found.contains(&one.pid);
        let more: Vec<i32> = all.iter().filter(is_next).map(|one| one.pid).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;

    /// A record of a process, or of one that had its id before.
    fn record(child: &Child, before: u64) -> Live {
        let pid = i32::try_from(child.id()).expect("an id");
        let start = processes::look(pid).expect("it runs").start - before;
        let sandbox = "/nowhere/at/all".to_owned();
        Live { id: "c".to_owned(), pid, start, boot: processes::boot(), sandbox }
    }

    #[test]
    fn groups_are_ended_and_ids_that_were_given_again_are_not() {
        let sleep = || Command::new("sleep").arg("1000").process_group(0).spawn().expect("sleep");
        let mut meant = Command::new("sh").args(["-c", "sleep 1000 & sleep 1000"]).process_group(0).spawn();
        let meant = meant.as_mut().expect("a shell");
        let (mut another, mut before) = (sleep(), sleep());
        let mut of_another_boot = record(&before, 0);
        of_another_boot.boot = "an earlier one".to_owned();
        end(&[record(meant, 0), record(&another, 1), of_another_boot], None).expect("ended");
        assert!(!meant.wait().expect("ours").success());
        for child in [&mut another, &mut before] {
            assert!(child.try_wait().expect("ours").is_none(), "it was not meant");
            child.kill().expect("killed");
            child.wait().expect("ours");
        }
    }
}
