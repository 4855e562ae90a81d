//! What a child process is given before its program runs.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::getppid;

/// Lets the child begin without blocked signals, whatever this process blocks, and end with this process,
/// however that ends. Call it from the thread that lives as long as the process.
#[expect(unsafe_code, reason = "code between fork and exec")]
pub fn begin_clean_and_die_with_us(command: &mut Command) {
    let parent = nix::unistd::getpid();
    let prepare = move || {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        // After the switch of users, which would clear it.
        set_pdeathsig(Signal::SIGKILL)?;
        // Whoever died before that sent nothing.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
    };
    // SAFETY: the closure makes three system calls and allocates nothing, so it may run between fork and
    // exec whatever other threads held.
    unsafe {
        command.pre_exec(prepare);
    }
}
