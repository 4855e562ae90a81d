//! The launcher's main loop.

use std::io::{self, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::outlive::{self, Settings};
use super::protocol::{News, Order, VERSION, read, write};
use super::tasks::Tasks;
use crate::base::clock::SystemClock;
use crate::base::time::Clock;

/// What is said to whoever tries it by hand.
const USAGE: &str = "an agent starts this: --die-with-parent with a socket as standard input, or --outlive \
                     DIRECTORY [--idle-end-ms NUMBER] [--no-cgroup]";

/// Body of the hidden subcommand `launcher`. Its standard input is the socket of the agent that
/// started it, or it is given a directory in which it listens.
#[must_use]
pub fn main(arguments: Vec<String>) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let served = match words.as_slice() {
        ["--die-with-parent"] => serve(),
        ["--outlive", directory, rest @ ..] => match settings(rest) {
            Some(settings) => outlive::serve(Path::new(directory), settings),
            None => return complain(USAGE),
        },
        _ => return complain(USAGE),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("the launcher failed: {error}")),
    }
}

/// What follows the directory.
fn settings(words: &[&str]) -> Option<Settings> {
    let mut settings = Settings { idle_end: outlive::IDLE_END, cgroup: true };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--idle-end-ms" => settings.idle_end = Duration::from_millis(words.next()?.parse().ok()?),
            "--no-cgroup" => settings.cgroup = false,
            _ => return None,
        }
    }
    Some(settings)
}

fn complain(text: &str) -> ExitCode {
    // Without stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "mesita launcher: {text}");
    ExitCode::from(2)
}

fn serve() -> io::Result<()> {
    // A session of its own: Ctrl-C in the terminal of the agent is for the agent. Fails only if this
    // process leads a group already, and then it has one.
    let _ = nix::unistd::setsid();
    set_child_subreaper(true)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let mut socket = own_socket()?;
    let mut tasks = Tasks::default();
    let greeted = write(&mut socket, &News::Hello { version: VERSION });
    let outcome = greeted.and_then(|()| work(&mut socket, &signals, &mut tasks));
    // Whatever happened, nothing survives this process.
    tasks.destroy_all();
    match outcome {
        // The agent was killed while it was told something: the end of the socket, seen from the other side.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            Ok(())
        }
        other => other,
    }
}

/// Standard input as a socket that children do not inherit.
#[expect(unsafe_code, reason = "standard input is turned into an owned descriptor")]
fn own_socket() -> io::Result<UnixStream> {
    // SAFETY: descriptor 0 is open (the agent passed the socket) and nothing else in this process
    // uses or closes it: std's `Stdin` is never touched.
    let stdin = unsafe { OwnedFd::from_raw_fd(0) };
    let socket = UnixStream::from(stdin.try_clone()?);
    // The copy has CLOEXEC. The original becomes /dev/null for good: children get a null input anyway.
    let null = std::fs::File::open("/dev/null")?;
    let mut stdin = stdin;
    nix::unistd::dup2(null.as_fd(), &mut stdin)?;
    std::mem::forget(stdin);
    Ok(socket)
}

fn work(socket: &mut UnixStream, signals: &SignalFd, tasks: &mut Tasks) -> io::Result<()> {
    let clock = SystemClock::new();
    loop {
        let (readable, children) = {
            let mut waiting = [
                PollFd::new(socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut waiting, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let any = |at: usize| waiting[at].revents().is_some_and(|events| !events.is_empty());
            (any(0), any(1))
        };
        if children {
            while let Ok(Some(_)) = signals.read_signal() {}
            let at = clock.now().wall.nanos();
            let mut ended = Vec::new();
            tasks.reap(|end| ended.push(News::Exited { id: end.id, status: end.status, at }));
            for news in ended {
                write(socket, &news)?;
            }
        }
        if readable {
            match read::<Order>(socket) {
                Ok(Some(order)) => obey(order, socket, tasks)?,
                // The agent is gone, in order or not.
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn obey(order: Order, socket: &mut UnixStream, tasks: &mut Tasks) -> io::Result<()> {
    match order {
        Order::Launch(program) => {
            let news = match tasks.launch(&program) {
                Ok((pid, _)) => News::Started { id: program.id, pid },
                Err(problem) => News::Failed { id: program.id, problem },
            };
            write(socket, &news)
        }
        Order::Signal { id, kill } => {
            tasks.signal(&id, if kill { Signal::SIGKILL } else { Signal::SIGTERM });
            Ok(())
        }
        Order::DestroyAll => {
            tasks.destroy_all();
            write(socket, &News::Destroyed)
        }
        Order::List | Order::Forget { .. } => {
            let problem = "this launcher ends with its agent: there is nothing to find again".to_owned();
            write(socket, &News::Unknown { problem })
        }
    }
}
