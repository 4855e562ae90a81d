//! `mesita with`: a throw-away cluster around a command.
//!
//! The cluster is on free ports and in temporary directories. It ends with the command, with its own
//! parent, or, without a command, with standard input: whoever starts it need not clean up after it.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::args::With;
use super::output::Printer;
use super::ready;
use super::services::Services;
use super::signals::Interrupt;
use super::target::Target;
use super::{CliError, Exit, dev, files, wait};
use crate::config::{Executor, For, NodeConfig, Settings};
use crate::node::Node;
use crate::os::watched::Parent;
use crate::resources::Resources;

/// How long agents may take to register.
const AGENTS_DEADLINE: Duration = Duration::from_secs(20);
/// How long the files may take to become healthy.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the command has to end by itself once it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Why the cluster ends.
enum End {
    Command(ExitStatus),
    Input,
    Parent,
    Interrupt,
    Failed(CliError),
}

/// Runs the cluster as long as it is wanted.
pub(super) async fn with(arguments: With, printer: Printer) -> Result<Exit, CliError> {
    let parent = Parent::now();
    let mut parent = on_a_thread(move || parent.wait());
    let passes_on = !arguments.command.is_empty();
    let ours = |error: CliError| match error.exit {
        // The command's own code is passed on, so that ours must be told from it.
        Exit::Error | Exit::TimedOut | Exit::DeploymentFailed if passes_on => {
            CliError { exit: Exit::RunFailed, ..error }
        }
        _ => error,
    };
    let apps = files::read(&arguments.files)?;
    let config = config(&arguments)?;
    let mut interrupt = Interrupt::install()?;
    let started = Box::pin(Node::start(config)).await;
    let mut node = started.map_err(|error| ours(CliError::new(error.to_string())))?;
    let outcome = live(&mut node, apps, arguments.command, printer, &mut parent, &mut interrupt).await;
    let stopped = Box::pin(node.stop(interrupt.wait_again())).await;
    if let Err(left) = stopped {
        printer.error(&CliError::new(format!("something is left: {}", left.join("; "))));
    }
    outcome.map_err(ours)
}

fn config(arguments: &With) -> Result<NodeConfig, CliError> {
    let mut config = dev::resolve(&Settings::none(For::Dev))?.on_free_ports();
    let wrong = |problem: String| CliError::with(Exit::Usage, problem);
    for (name, count) in [("--masters", arguments.masters), ("--agents", arguments.agents)] {
        if !(1..=1_000).contains(&count) {
            return Err(wrong(format!("{name} {count}: from 1 to 1000 can be")));
        }
    }
    config.masters = arguments.masters;
    config.agents = arguments.agents;
    if arguments.fake {
        config.executor = Executor::Fake;
    }
    if let Some(text) = &arguments.resources {
        let resources = Resources::parse(text);
        config.agent_resources =
            Some(resources.map_err(|error| wrong(format!("--resources {text:?}: {error}")))?);
    }
    // Nobody waits for tasks of a test that is over.
    config.stop_grace = Duration::ZERO;
    Ok(config)
}

async fn live(
    node: &mut Node,
    apps: Vec<Value>,
    command: Vec<OsString>,
    printer: Printer,
    parent: &mut oneshot::Receiver<()>,
    interrupt: &mut Interrupt,
) -> Result<Exit, CliError> {
    let ready = tokio::select! {
        ready = begin(node, apps, printer) => ready,
        () = interrupt.wait() => return Ok(Exit::Command(130)),
        _ = &mut *parent => return Err(CliError::new("what started this command has ended")),
    };
    let line = ready?;
    if command.is_empty() || printer.is_json() {
        printer.data(&[line.to_string()])?;
    }
    let mut child = match &command[..] {
        [] => None,
        [program, rest @ ..] => Some(start(program, rest, &line)?),
    };
    let end = tokio::select! {
        end = ended(&mut child) => end,
        _ = &mut *parent => End::Parent,
        () = interrupt.wait() => End::Interrupt,
        fatal = node.failed() => End::Failed(CliError::new(fatal.to_string())),
    };
    if let (Some(child), false) = (&mut child, matches!(end, End::Command(_))) {
        // A terminal has asked the command itself, too: it may take its time over that.
        let was_asked = matches!(end, End::Interrupt) && std::io::IsTerminal::is_terminal(&std::io::stdin());
        let status = stop(child, !was_asked, interrupt).await?;
        if matches!(end, End::Interrupt) {
            return Ok(code(status));
        }
    }
    match end {
        End::Command(status) => Ok(code(status)),
        End::Input => Ok(Exit::Ok),
        End::Interrupt => Ok(Exit::Command(130)),
        End::Parent => Err(CliError::new("what started this command has ended")),
        End::Failed(error) => Err(error),
    }
}

/// Waits until everything answers and the files are deployed. The line that says where.
async fn begin(node: &Node, apps: Vec<Value>, printer: Printer) -> Result<Value, CliError> {
    node.wait_for_agents(AGENTS_DEADLINE).await.map_err(|registered| {
        CliError::new(format!(
            "only {registered} of {} agents have registered",
            node.addresses().agents.len()
        ))
    })?;
    let line = ready::line(node);
    if !apps.is_empty() {
        let services = Services::new(&Target::at(line["masters"][0].as_str().unwrap_or_default()))?;
        let change = services.deploy(&apps, true).await?;
        wait::settled(&services, &change, DEPLOY_TIMEOUT, printer.is_json()).await?;
    }
    Ok(line)
}

fn start(program: &OsString, rest: &[OsString], line: &Value) -> Result<Child, CliError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all =
        |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<String>>().join(",");
    let mut command = Command::new(program);
    command
        .args(rest)
        .env("MESITA_ADDR", text(&line["masters"][0]))
        .env("MESITA_MASTERS", all(&line["masters"]))
        .env("MESITA_AGENTS", all(&line["agents"]))
        .env("MESITA_MARATHON", text(&line["marathon"]))
        .env("MESITA_READY", line.to_string())
        .kill_on_drop(true);
    command.spawn().map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        CliError::with(Exit::Command(code), format!("{} cannot be run: {error}", program.to_string_lossy()))
    })
}

/// Waits for the command, or for the end of standard input where there is none.
async fn ended(child: &mut Option<Child>) -> End {
    if let Some(child) = child {
        return match child.wait().await {
            Ok(status) => End::Command(status),
            Err(error) => End::Failed(CliError::new(format!("the command cannot be waited for: {error}"))),
        };
    }
    let is_closed = on_a_thread(|| {
        // What cannot be read any more is as good as its end.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    });
    // A thread that died reads nothing any more, either.
    let _ = is_closed.await;
    End::Input
}

/// Asks the command to end, if nobody has, and makes it.
async fn stop(child: &mut Child, asks: bool, interrupt: &mut Interrupt) -> Result<ExitStatus, CliError> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).filter(|_| asks);
    if let Some(pid) = pid {
        // It may have ended at this moment.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    let lost = |error: std::io::Error| CliError::new(format!("the command cannot be waited for: {error}"));
    tokio::select! {
        status = child.wait() => return status.map_err(lost),
        () = tokio::time::sleep(GRACE) => {}
        () = interrupt.wait_again() => {}
    }
    child.kill().await.map_err(lost)?;
    child.wait().await.map_err(lost)
}

/// As a shell tells it.
fn code(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    if code == 0 { Exit::Ok } else { Exit::Command(u8::try_from(code).unwrap_or(1)) }
}

/// What ends when the thread has done its work. The work cannot be given up, and nobody waits for it when
/// all ends.
fn on_a_thread(work: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (done, is_done) = oneshot::channel();
    std::thread::spawn(move || {
        work();
        // Nobody may be waiting any more.
        let _ = done.send(());
    });
    is_done
}
