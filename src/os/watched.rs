//! A process whose end is waited for, by a descriptor that stands for it and for nobody who gets its id later.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getppid};

use super::exact;

/// How often it is looked whether the parent is still there, where nothing tells.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The process that started this one.
#[derive(Debug)]
pub struct Parent {
    pid: Pid,
    /// Becomes readable when it ends. None: this kernel has no such descriptors, or the parent is outside of
    /// what this process sees.
    descriptor: Option<OwnedFd>,
}

impl Parent {
    /// The parent at this moment. One that ends while it is looked at is not mistaken for the one after it.
    #[must_use]
    pub fn now() -> Self {
        loop {
            let pid = getppid();
            let descriptor = exact::open(pid.as_raw());
            let ended = matches!(descriptor, Err(Errno::ESRCH)) && pid.as_raw() > 0;
            if getppid() == pid && !ended {
                return Self { pid, descriptor: descriptor.ok() };
            }
        }
    }

    /// Waits until it has ended, which may take for ever: for a thread of its own.
    pub fn wait(&self) {
        if let Some(descriptor) = &self.descriptor {
            let mut ends = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
            loop {
                match poll(&mut ends, PollTimeout::NONE) {
                    Ok(_) => return,
                    Err(Errno::EINTR) => {}
                    Err(_) => break,
                }
            }
        }
        while getppid() == self.pid {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_started_this_test_still_runs() {
        let parent = Parent::now();
        assert_eq!(parent.pid, getppid());
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            parent.wait();
            // The test is over by then.
            let _ = ended.send(());
        });
        assert!(end.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "it has not ended");
    }
}
