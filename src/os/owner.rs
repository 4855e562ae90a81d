//! Whose a directory is: the process that made it, or found it again, is written down in it. What is left of
//! a process that ended without cleaning up is known by that.

use std::fs;
use std::io;
use std::path::Path;

use super::processes;

/// Name of the file.
const FILE: &str = "owner";
/// In place of a process: what belongs to the directory goes on without one.
const OUTLIVES: &str = "outlives";

/// What is known of the owner of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A process of this machine that runs.
    Runs,
    /// It ended, or the directory is gone.
    Gone,
    /// Nobody can say from here: another machine or another container wrote it, it cannot be read, or it needs
    /// no process.
    Unknown,
}

/// Where process ids and paths mean the same as here: the machine, its start, the container.
#[must_use]
pub fn place() -> String {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let of = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
    let (boot, processes, mounts) = (processes::boot(), of("pid"), of("mnt"));
    format!("{} {boot} {} {}", machine.trim(), processes.display(), mounts.display())
}

/// Writes this process down as the owner of a directory, or that what is in it outlives its owners.
///
/// # Errors
/// The file cannot be written.
pub fn write(directory: &Path, outlives: bool) -> io::Result<()> {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let start = processes::look(pid).map_or(0, |process| process.start);
    let who = if outlives { OUTLIVES.to_owned() } else { format!("{pid} {start}") };
    // Nobody reads a half of it.
    let (file, fresh) = (directory.join(FILE), directory.join(format!("{FILE}.new")));
    fs::write(&fresh, format!("{who}\n{}\n", place()))?;
    fs::rename(fresh, file)
}

/// Looks at the owner of a directory. `here` is what [`place`] says.
#[must_use]
pub fn look(directory: &Path, here: &str) -> Owner {
    let Ok(text) = fs::read_to_string(directory.join(FILE)) else {
        // What may not be looked at may be there.
        let is_gone = directory.try_exists().is_ok_and(|exists| !exists);
        return if is_gone { Owner::Gone } else { Owner::Unknown };
    };
    who_of(&text, here).unwrap_or(Owner::Unknown)
}

/// None: nobody can say.
fn who_of(text: &str, here: &str) -> Option<Owner> {
    let (who, place) = text.split_once('\n')?;
    let (pid, start) = who.split_once(' ')?;
    let (pid, start) = (pid.parse::<i32>().ok()?, start.parse::<u64>().ok()?);
    let words = |place: &str| place.trim_end().split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (place, here) = (words(place), words(here));
    let ([machine, boot, ..], [own_machine, own_boot, ..]) = (place.as_slice(), here.as_slice()) else {
        return None;
    };
    if machine != own_machine || machine.is_empty() && boot != own_boot {
        return None;
    }
    if boot != own_boot {
        return Some(Owner::Gone);
    }
    if place != here {
        return None;
    }
    Some(match processes::look(pid) {
        Some(process) if process.start == start && !process.ended => Owner::Runs,
        _ => Owner::Gone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_runs_or_is_gone_or_is_not_known_from_here() {
        let folder = tempfile::tempdir().expect("a directory");
        let here = place();
        let look = || super::look(folder.path(), &here);
        assert_eq!(look(), Owner::Unknown, "nobody wrote anything down");
        write(folder.path(), false).expect("written");
        assert_eq!(look(), Owner::Runs);
        let file = folder.path().join(FILE);
        let whole = fs::read_to_string(&file).expect("readable");
        // The same process id of another time.
        let (pid, rest) = whole.split_once(' ').expect("two numbers");
        fs::write(&file, format!("{pid} 1{rest}")).expect("written");
        assert_eq!(look(), Owner::Gone);
        fs::write(&file, whole.replace(&processes::boot(), "another-start")).expect("written");
        assert_eq!(look(), Owner::Gone, "of an earlier start of the system");
        fs::write(&file, whole.replace("pid:[", "pid:[1")).expect("written");
        assert_eq!(look(), Owner::Unknown, "of another container");
        fs::write(&file, "").expect("written");
        assert_eq!(look(), Owner::Unknown, "nothing can be said of it");
        let (who, rest) = whole.split_once('\n').expect("two lines");
        fs::write(&file, format!("{who}\nx{rest}")).expect("written");
        assert_eq!(look(), Owner::Unknown, "of another machine");
        write(folder.path(), true).expect("written");
        assert_eq!(look(), Owner::Unknown, "it needs nobody");
        assert_eq!(super::look(&folder.path().join("none"), &here), Owner::Gone);
    }
}
