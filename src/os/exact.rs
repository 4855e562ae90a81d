//! Signals to exactly one process, although ids are given again.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;

use super::processes;

/// Sends a signal to the process `pid` that was started at `start`. Answers whether there was one that
/// had not ended yet; whoever has its id now gets nothing.
#[must_use]
pub fn signal(pid: i32, start: u64, signal: Signal) -> bool {
    let is_it = || processes::look(pid).is_some_and(|it| it.start == start && !it.ended);
    match open(pid) {
        // The descriptor stands for one process, so what is found now is what it stands for, or that ended.
        Ok(process) => is_it() && send(&process, signal),
        Err(Errno::ESRCH) => false,
        // A kernel before 5.3: a moment lies between the look and the signal.
        Err(_) => {
            let found = is_it();
            if found {
                processes::signal(pid, signal);
            }
            found
        }
    }
}

#[expect(unsafe_code, reason = "a system call without a safe wrapper")]
pub(super) fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = i32::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor (with CLOEXEC) and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[expect(unsafe_code, reason = "a system call without a safe wrapper")]
fn send(process: &OwnedFd, signal: Signal) -> bool {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    let (descriptor, number) = (process.as_raw_fd(), signal as i32);
    // SAFETY: the descriptor is open, a null siginfo is allowed, and nothing is written.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, number, nothing, 0) };
    Errno::result(answer).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_the_process_that_is_meant() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let pid = i32::try_from(child.id()).expect("an id");
        let start = processes::look(pid).expect("it runs").start;
        assert!(!signal(pid, start + 1, Signal::SIGKILL), "one that had this id before");
        assert!(child.try_wait().expect("ours").is_none(), "it still runs");
        assert!(signal(pid, start, Signal::SIGTERM));
        assert_eq!(child.wait().expect("ours").signal(), Some(Signal::SIGTERM as i32));
        assert!(!signal(pid, start, Signal::SIGKILL), "it has ended");
    }
}
