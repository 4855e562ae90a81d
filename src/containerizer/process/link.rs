//! Connections to launchers: who reads what they tell, and what follows when they end.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Weak};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::attach::attach;
use super::shared::{Asked, Orders, Shared};
use crate::agent::core::container::Exit;
use crate::base::time::Clock;
use crate::containerizer::ContainerizerError;
use crate::containerizer::launcher::protocol::{self, News, VERSION};
use crate::containerizer::launcher::{end_remains, kill_marked};
use crate::os::processes;

fn failed(program: &Path, problem: &impl ToString) -> ContainerizerError {
    ContainerizerError::Launcher { program: program.display().to_string(), problem: problem.to_string() }
}

/// Starts a launcher that dies with us.
pub(super) async fn start_dying(program: &Path, shared: &Arc<Shared>) -> Result<(), ContainerizerError> {
    let problem = |error: io::Error| failed(program, &error);
    let (own, other) = std::os::unix::net::UnixStream::pair().map_err(problem)?;
    let mut child = Command::new(program)
        .args(["launcher", "--die-with-parent"])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(other)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(problem)?;
    own.set_nonblocking(true).map_err(problem)?;
    let stream = UnixStream::from_std(own).map_err(problem)?;
    let (mut from, to) = stream.into_split();
    let problem = match read(&mut from).await {
        Ok(Some(News::Hello { version: VERSION })) => None,
        Ok(other) => Some(format!("it said {other:?} instead of its version {VERSION}")),
        Err(error) => Some(error.to_string()),
    };
    if let Some(problem) = problem {
        // Whatever this is, it is not left behind. It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(program, &problem));
    }
    let shared = Arc::clone(shared);
    {
        let mut state = shared.state();
        state.orders = Some(write_to(to));
        state.child = Some(child);
    }
    tokio::spawn(async move {
        while let Ok(Some(news)) = read(&mut from).await {
            shared.on_news(news);
        }
        shared.on_death().await;
    });
    Ok(())
}

/// Writes frames until there is nobody who gives orders, or who takes them.
fn write_to(mut to: OwnedWriteHalf) -> Orders {
    let (orders, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
    tokio::spawn(async move {
        while let Some(frame) = queue.recv().await {
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
    });
    orders
}

/// Where a launcher that outlives us is, and how one is started.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) program: PathBuf,
    pub(super) directory: PathBuf,
}

/// Connects to the launcher of a place, or starts it. What it tells is read until `shared` lets go.
pub(super) async fn connect_outliving(
    place: &Place,
    shared: &Arc<Shared>,
    launching: &Arc<tokio::sync::Mutex<()>>,
) -> Result<(), ContainerizerError> {
    let from = open(place, shared).await?;
    let (place, shared, launching) = (place.clone(), Arc::downgrade(shared), Arc::clone(launching));
    tokio::spawn(serve(place, shared, launching, from));
    Ok(())
}

async fn open(place: &Place, shared: &Arc<Shared>) -> Result<OwnedReadHalf, ContainerizerError> {
    let Place { program, directory } = place.clone();
    let attached = tokio::task::spawn_blocking(move || attach(&program, &directory)).await;
    let stream = attached
        .map_err(io::Error::other)
        .and_then(|stream| UnixStream::from_std(stream?))
        .map_err(|error| failed(&place.program, &error))?;
    let (from, to) = stream.into_split();
    let mut state = shared.state();
    // The agent may have let go in the meantime; then the connection ends here.
    if !state.closed {
        state.orders = Some(write_to(to));
    }
    Ok(from)
}

/// Reads what the launcher tells; when it is gone, finds it or another one, until the agent lets go.
async fn serve(
    place: Place,
    shared: Weak<Shared>,
    launching: Arc<tokio::sync::Mutex<()>>,
    mut from: OwnedReadHalf,
) {
    loop {
        loop {
            let news = read(&mut from).await;
            let Some(shared) = shared.upgrade() else { return };
            match news {
                Ok(Some(news)) => shared.on_news(news),
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "the connection to the launcher broke");
                    break;
                }
            }
        }
        let Some(shared) = shared.upgrade() else { return };
        // Nobody connects beside this: a launcher has one agent.
        let _one = launching.lock().await;
        if !shared.on_break() {
            return;
        }
        match open(&place, &shared).await {
            Ok(next) => {
                from = next;
                shared.ask_again();
            }
            Err(error) => {
                tracing::error!(%error, "no launcher; its tasks are ended");
                shared.on_loss(place.directory).await;
                return;
            }
        }
    }
}

impl Shared {
    /// The launcher is gone. What it had started is ended before anybody hears of it: one that was killed
    /// could not do so itself.
    async fn on_death(&self) {
        let (starting, running, pids, child) = {
            let mut state = self.state();
            state.orders = None;
            state.destroyed.clear();
            state.asked.clear();
            let (starting, running) =
                (std::mem::take(&mut state.starting), std::mem::take(&mut state.running));
            (starting, running, std::mem::take(&mut state.pids), state.child.take())
        };
        let sandboxes: BTreeSet<String> =
            running.values().map(|spec| spec.sandbox.display().to_string()).collect();
        let sweep = tokio::task::spawn_blocking(move || {
            if let Some(mut child) = child {
                // It has closed its socket as its last act, so this does not wait long.
                let _ = child.wait();
            }
            pids.into_values()
                .for_each(|pid| processes::signal_group(pid, nix::sys::signal::Signal::SIGKILL));
            kill_marked(&sandboxes);
        });
        if let Err(error) = sweep.await {
            tracing::error!(%error, "what a dead launcher left could not be ended");
        }
        for waiting in std::mem::take(&mut self.state().ended) {
            // A launch that nobody waits for is an agent that ends.
            let _ = waiting.send(());
        }
        for (_, waiting) in starting {
            // As above.
            let _ = waiting.send(Err("the launcher ended".to_owned()));
        }
        let at = self.clock.now().wall;
        for (container_id, _) in running {
            self.report(container_id, Exit::Lost, at);
        }
    }

    /// The connection to a launcher that outlives us is gone; answers whether it is still wanted.
    fn on_break(&self) -> bool {
        let mut state = self.state();
        state.orders = None;
        state.destroyed.clear();
        state.asked.retain(|asked| asked.answer.is_some());
        for waiting in state.ended.drain(..) {
            // Nobody may wait any more.
            let _ = waiting.send(());
        }
        !state.closed
    }

    /// Puts what the agent knows beside what the launcher has, on a new connection.
    fn ask_again(&self) {
        let mut state = self.state();
        let known = state.running.values().cloned().collect();
        // What was asked over the old connection is asked again, before anything else.
        let mut again = std::mem::take(&mut state.asked);
        again.push(Asked { known, answer: None });
        for asked in again {
            state.ask(asked);
        }
    }

    /// There is no launcher and will be none: everything is lost.
    async fn on_loss(&self, directory: PathBuf) {
        let sweep = tokio::task::spawn_blocking(move || end_remains(&directory)).await;
        if let Err(error) = sweep.map_err(io::Error::other).and_then(|ended| ended) {
            tracing::error!(%error, "what a dead launcher left could not be ended");
        }
        self.on_death().await;
    }
}

async fn read(from: &mut OwnedReadHalf) -> io::Result<Option<News>> {
    loop {
        let mut head = [0; 4];
        match from.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut body = vec![0; protocol::frame_length(head)?];
        from.read_exact(&mut body).await?;
        match serde_json::from_slice(&body) {
            Ok(news) => return Ok(Some(news)),
            // A launcher of a later version has more to tell.
            Err(error) => tracing::debug!(%error, "the launcher said something unknown"),
        }
    }
}
