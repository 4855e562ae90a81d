//! Reaching a launcher that outlives its agents: the one that runs, or a new one. Everything here waits.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::containerizer::launcher::protocol::{self, News, OLDEST};
use crate::containerizer::launcher::{READY, SOCKET, TAKEN};
use crate::os::files::private_directory;

/// Attempts to reach a launcher. One that is just ending is in the way of the next.
const ATTEMPTS: usize = 100;
/// Pause between them.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a launcher may take to say its version.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Where a launcher says what it cannot tell an agent.
const LOG: &str = "launcher.log";

/// A connection to the launcher of a directory, which is started if there is none.
pub(super) fn attach(program: &Path, directory: &Path) -> io::Result<UnixStream> {
    private_directory(directory)?;
    for _ in 0..ATTEMPTS {
        match greet(directory) {
            Ok(stream) => return Ok(stream),
            Err(error) if is_about_its_end(&error) => {}
            Err(error) => return Err(error),
        }
        match start(program, directory)?.as_deref() {
            None => {}
            Some(TAKEN) => std::thread::sleep(PAUSE),
            Some(refusal) => return Err(io::Error::other(refusal.to_owned())),
        }
    }
    Err(io::Error::other(format!("another one holds {} and does not answer", directory.display())))
}

/// No launcher, or one that has just ended.
fn is_about_its_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};

    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotFound | UnexpectedEof)
}

/// Connects and hears the launcher's version.
fn greet(directory: &Path) -> io::Result<UnixStream> {
    // By way of a descriptor, because a socket's path has room for 108 bytes only.
    let folder = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(HELLO_DEADLINE))?;
    match protocol::read(&mut stream) {
        Ok(Some(News::Hello { version })) if version >= OLDEST => {
            stream.set_read_timeout(None)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        }
        Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(other) => Err(io::Error::other(format!("it said {other:?} instead of a version from {OLDEST}"))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let seconds = HELLO_DEADLINE.as_secs();
            let place = directory.display();
            Err(io::Error::other(format!("the one that serves {place} said nothing for {seconds} s")))
        }
        Err(error) => Err(error),
    }
}

/// Starts a launcher; answers why it does not serve, if it does not.
fn start(program: &Path, directory: &Path) -> io::Result<Option<String>> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(directory.join(LOG))?;
    let mut child = Command::new(program)
        .args(["launcher", "--outlive"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    // Its end is of no interest, but somebody must ask for it.
    let reaper = std::thread::Builder::new().name("launcher-reaper".to_owned());
    reaper.spawn(move || child.wait())?;
    let line = line.trim();
    Ok(match line {
        READY => None,
        "" => Some(format!("it ended at once; see {}", directory.join(LOG).display())),
        refusal => Some(refusal.to_owned()),
    })
}
