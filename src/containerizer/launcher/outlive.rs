//! The launcher that outlives its agents.
//!
//! Its directory holds `lock` (one launcher at a time, with its process id), `socket`, `tasks` (what runs),
//! `exits` (what ended and was not taken note of), `cgroup` (its control group) and `launcher.log`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::protocol::{News, Order, Program, VERSION, read_frame, write};
use super::records::{Ended, Live, Records};
use super::remains;
use super::tasks::Tasks;
use crate::base::clock::SystemClock;
use crate::base::time::{Clock, Mono};
use crate::os::{cgroup, processes};

/// The socket's name in the directory.
pub(in crate::containerizer) const SOCKET: &str = "socket";
/// First line on the standard output of a launcher that listens; anything else says why it does not.
pub(in crate::containerizer) const READY: &str = "ready";
/// Why a launcher does not serve where another one does.
pub(in crate::containerizer) const TAKEN: &str = "another launcher serves here";
/// A launcher without tasks, unforgotten ends and an agent ends itself after this time.
pub(super) const IDLE_END: Duration = Duration::from_secs(60);
/// Time for an agent to write or take a frame that was begun; one that hangs must not hold up the ends of tasks.
const FRAME_DEADLINE: Duration = Duration::from_secs(5);

/// How often processes are written down that left the groups of their tasks, where there are no control groups.
const RECORD_EVERY: Duration = Duration::from_secs(2);

const LOCK: &str = "lock";
const TASKS: &str = "tasks";
const EXITS: &str = "exits";
const CGROUP: &str = "cgroup";

/// How to serve.
pub(super) struct Settings {
    /// See [`IDLE_END`].
    pub(super) idle_end: Duration,
    /// Whether to have a control group if that is possible.
    pub(super) cgroup: bool,
}

/// Serves in a directory until there is nothing left to do.
pub(super) fn serve(directory: &Path, settings: Settings) -> io::Result<()> {
    match Server::begin(directory, settings) {
        Ok(mut server) => {
            // The agent that started this may be gone already.
            let _ = writeln!(io::stdout(), "{READY}");
            close_output()?;
            let outcome = server.work();
            server.close();
            outcome
        }
        Err(error) => {
            // As above; it is said on standard error, too.
            let _ = writeln!(io::stdout(), "{error}");
            Err(error)
        }
    }
}

/// Ends what a launcher of this directory left that died; nothing while one lives.
///
/// # Errors
/// The directory cannot be used, or something does not end.
pub(in crate::containerizer) fn end_remains(directory: &Path) -> io::Result<()> {
    let Ok(_lock) = lock(&directory.join(LOCK)) else { return Ok(()) };
    let live = Records::<Live>::open(&directory.join(TASKS), false)?;
    remains::end(live.entries(), group_of(directory).as_deref())
}

/// The control group of the launcher that was here.
fn group_of(directory: &Path) -> Option<PathBuf> {
    let path = fs::read_to_string(directory.join(CGROUP)).ok()?;
    (!path.is_empty()).then(|| PathBuf::from(path))
}

fn lock(path: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => io::Error::new(io::ErrorKind::AddrInUse, TAKEN),
        other => other.into(),
    })
}

/// A control group of this process's own; its name is given once.
fn own_group() -> Option<PathBuf> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let start = processes::look(own).map_or(0, |process| process.start);
    cgroup::enter(&format!("mesita-launcher-{own}-{start}"))
}

/// Standard output becomes /dev/null, so that whoever waits for the first line sees its end.
fn close_output() -> io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    Ok(nix::unistd::dup2_stdout(null.as_fd())?)
}

struct Server {
    listener: UnixListener,
    /// The newest agent; a hung one is replaced.
    agent: Option<UnixStream>,
    signals: SignalFd,
    tasks: Tasks,
    /// What runs.
    live: Records<Live>,
    /// What ended and was not forgotten: bounded by what ran when the last agent went away, and by what an
    /// agent that is there leaves unacknowledged.
    exits: Records<Ended>,
    group: Option<PathBuf>,
    boot: String,
    clock: SystemClock,
    settings: Settings,
    /// When processes are written down the next time.
    record_at: Mono,
    /// It was asked to end as soon as no task runs.
    is_leaving: bool,
    _lock: Flock<File>,
}

/// What there is to do.
struct Ready {
    agent: bool,
    children: bool,
    caller: bool,
    nothing: bool,
}

impl Server {
    fn begin(directory: &Path, settings: Settings) -> io::Result<Self> {
        // Fails only if this process leads a group already, and then it has one.
        let _ = nix::unistd::setsid();
        // Names are short from here on: a socket's path has room for 108 bytes only.
        std::env::set_current_dir(directory)?;
        let mut lock = lock(Path::new(LOCK))?;
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        set_child_subreaper(true)?;
        let mut taken = SigSet::empty();
        // Whoever ends everything asks first: tasks that end then still have somebody who sees how.
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            taken.add(signal);
        }
        taken.thread_block()?;
        let signals = SignalFd::with_flags(&taken, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let mut live = Records::<Live>::open(Path::new(TASKS), false)?;
        remains::end(live.entries(), group_of(Path::new(".")).as_deref())?;
        live.remove(|_| true)?;
        let exits = Records::open(Path::new(EXITS), true)?;
        let group = if settings.cgroup { own_group() } else { None };
        let text = group.as_ref().map(|group| group.display().to_string()).unwrap_or_default();
        fs::write(CGROUP, text)?;
        // Nobody listens there any more: the lock is ours. There may be none.
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            agent: None,
            signals,
            tasks: Tasks::default(),
            live,
            exits,
            group,
            boot: processes::boot(),
            clock: SystemClock::new(),
            settings,
            record_at: Mono::default(),
            is_leaving: false,
            _lock: lock,
        })
    }

    fn work(&mut self) -> io::Result<()> {
        loop {
            if self.is_leaving && self.tasks.is_empty() {
                return Ok(());
            }
            let ready = self.wait()?;
            if ready.nothing && self.is_idle() {
                return Ok(());
            }
            if ready.children {
                self.on_signals();
            }
            if ready.agent && self.listen_to_agent() {
                return Ok(());
            }
            if ready.caller {
                self.accept();
            }
            if self.group.is_none() {
                self.record_strays();
            }
        }
    }

    /// Waits for something to do.
    fn wait(&self) -> io::Result<Ready> {
        let mut waiting = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        waiting.extend(self.agent.as_ref().map(|agent| PollFd::new(agent.as_fd(), PollFlags::POLLIN)));
        let limit = if self.is_idle() {
            PollTimeout::try_from(self.settings.idle_end).unwrap_or(PollTimeout::MAX)
        } else if self.group.is_none() && !self.tasks.is_empty() {
            PollTimeout::try_from(RECORD_EVERY).unwrap_or(PollTimeout::MAX)
        } else {
            PollTimeout::NONE
        };
        let count = match poll(&mut waiting, limit) {
            Err(Errno::EINTR) => 1,
            other => other?,
        };
        let any = |at: usize| {
            let events = waiting.get(at).and_then(PollFd::revents);
            events.is_some_and(|events| !events.is_empty())
        };
        Ok(Ready { children: any(0), caller: any(1), agent: any(2), nothing: count == 0 })
    }

    fn is_idle(&self) -> bool {
        self.agent.is_none() && self.tasks.is_empty() && self.exits.entries().is_empty()
    }

    fn on_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let is_child =
                i32::try_from(signal.ssi_signo).is_ok_and(|number| number == Signal::SIGCHLD as i32);
            self.is_leaving |= !is_child;
        }
        let at = self.clock.now().wall.nanos();
        let (exits, live, mut news) = (&mut self.exits, &mut self.live, Vec::new());
        self.tasks.reap(|end| {
            let ended = Ended { id: end.id.clone(), pid: end.pid, start: end.start, status: end.status, at };
            // In memory it is known all the same, and the agent is told.
            complain_of("writing down how a task ended", exits.add(ended));
            complain_of("writing down what runs", live.remove(|task| task.id == end.id));
            news.push(News::Exited { id: end.id, status: end.status, at });
        });
        news.iter().for_each(|news| self.tell(news));
    }

    /// Takes a new agent in the place of the one before.
    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            // It has gone again.
            return;
        };
        let limited = stream
            .set_read_timeout(Some(FRAME_DEADLINE))
            .and_then(|()| stream.set_write_timeout(Some(FRAME_DEADLINE)));
        complain_of("limiting a connection", limited);
        self.agent = Some(stream);
        self.tell(&News::Hello { version: VERSION });
    }

    /// An agent that cannot be told anything is gone; what it must know it asks for when it comes back.
    fn tell(&mut self, news: &News) {
        if let Some(agent) = &mut self.agent
            && write(agent, news).is_err()
        {
            self.agent = None;
        }
    }

    /// Carries out one order; answers whether it was the last.
    fn listen_to_agent(&mut self) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        let Ok(Some(frame)) = read_frame(agent) else {
            self.agent = None;
            return false;
        };
        match serde_json::from_slice(&frame) {
            Ok(order) => self.obey(order),
            Err(error) => {
                // An agent of a later version.
                self.tell(&News::Unknown { problem: error.to_string() });
                false
            }
        }
    }

    fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Launch(program) => {
                let news = self.launch(*program);
                self.tell(&news);
            }
            Order::Signal { id, kill } => {
                self.tasks.signal(&id, if kill { Signal::SIGKILL } else { Signal::SIGTERM });
            }
            Order::DestroyAll => {
                self.tasks.destroy_all();
                complain_of("writing down what runs", self.live.remove(|_| true));
                self.tell(&News::Destroyed);
                return true;
            }
            Order::List => {
                let tasks = self.live.entries().iter().filter(|one| !one.id.is_empty());
                let (live, ended) = (tasks.cloned().collect(), self.exits.entries().to_vec());
                self.tell(&News::Tasks { live, ended });
            }
            Order::Forget { ids } => {
                complain_of("forgetting ends", self.exits.remove(|ended| ids.contains(&ended.id)));
            }
        }
        false
    }

    fn launch(&mut self, program: Program) -> News {
        let Program { id, sandbox, .. } = &program;
        let is_known = self.live.entries().iter().any(|task| &task.id == id)
            || self.exits.entries().iter().any(|ended| &ended.id == id);
        if is_known {
            return News::Failed { id: program.id, problem: "it was started before".to_owned() };
        }
        let (id, sandbox, boot) = (id.clone(), sandbox.clone(), self.boot.clone());
        let record = Live { id: id.clone(), pid: 0, start: 0, boot, sandbox };
        // Before it exists: whatever happens to this process, its processes are found.
        complain_of("writing down what runs", self.live.add(record.clone()));
        let news = match self.tasks.launch(&program) {
            Ok((pid, start)) => {
                let record = Live { pid: i32::try_from(pid).unwrap_or(0), start, ..record };
                complain_of("writing down what runs", self.live.add(record));
                News::Started { id: id.clone(), pid }
            }
            Err(problem) => News::Failed { id: id.clone(), problem },
        };
        complain_of("writing down what runs", self.live.remove(|task| task.id == id && task.pid == 0));
        news
    }

    /// Writes down processes that only their parents lead to, and forgets those that have ended.
    fn record_strays(&mut self) {
        let now = self.clock.now().mono;
        if now < self.record_at || (self.tasks.is_empty() && self.live.entries().is_empty()) {
            return;
        }
        self.record_at = now.after(RECORD_EVERY);
        let strays = remains::strays(self.live.entries(), &self.boot);
        let is_gone = |one: &Live| one.id.is_empty() && !strays.contains(one);
        complain_of("writing down what runs", self.live.remove(is_gone));
        for stray in strays {
            if !self.live.entries().contains(&stray) {
                complain_of("writing down what runs", self.live.add(stray));
            }
        }
    }

    /// The directory is left to the next one.
    fn close(&mut self) {
        // Whoever connects now would wait for nothing.
        let _ = fs::remove_file(SOCKET);
        // What left its task is nobody's, and nobody would see to it any more.
        self.tasks.destroy_all();
        if let Some(group) = self.group.take() {
            complain_of("leaving the control group", cgroup::leave(&group));
        }
    }
}

/// What an agent need not know and nobody can undo goes to the launcher's log.
fn complain_of(what: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        // Without a log there is nobody to tell.
        let _ = writeln!(io::stderr(), "mesita launcher: {what} failed: {error}");
    }
}
