//! Checks of docker tasks: HTTP and TCP from within the container's network, commands by exec.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use nix::sys::signal::Signal;

use super::super::probe::{Network, connect, within};
use super::engine::explain;
use crate::agent::core::container::{Probe, ProbeResult};
use crate::api::v1::CommandInfo;
use crate::os::processes;

/// Runs a probe against the container `name` whose first process is `pid`, at most `timeout` long
/// (zero: unlimited).
pub(super) async fn run(
    client: &bollard::Docker,
    name: &str,
    pid: Option<u32>,
    probe: &Probe,
    timeout: Duration,
) -> ProbeResult {
    match (probe, pid) {
        (Probe::Command(command), _) => exec(client, name, command, timeout).await,
        (_, Some(pid)) => within(timeout, connect(Network::Of(pid), probe)).await,
        (_, None) => ProbeResult::Failed("the container has no process".to_owned()),
    }
}

async fn exec(client: &bollard::Docker, name: &str, command: &CommandInfo, timeout: Duration) -> ProbeResult {
    let options = CreateExecOptions {
        cmd: Some(words(command)),
        env: command.environment.as_ref().map(|environment| {
            let variables = environment.variables.iter();
            variables.map(|one| format!("{}={}", one.name, one.value.as_deref().unwrap_or(""))).collect()
        }),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let id = match client.create_exec(name, options).await {
        Ok(made) => made.id,
        Err(error) => return ProbeResult::Failed(explain(&error)),
    };
    let result = within(timeout, finish(client, &id)).await;
    if matches!(result, ProbeResult::Failed(_)) {
        end(client, &id).await;
    }
    result
}

/// The words of a check's command.
fn words(command: &CommandInfo) -> Vec<String> {
    let value = command.value.clone().unwrap_or_default();
    if command.shell.unwrap_or(true) {
        return vec!["/bin/sh".to_owned(), "-c".to_owned(), value];
    }
    // The first argument is the name that the program sees; an exec has no place for it.
    std::iter::once(value).chain(command.arguments.iter().skip(1).cloned()).collect()
}

async fn finish(client: &bollard::Docker, id: &str) -> ProbeResult {
    match client.start_exec(id, None).await {
        // The output ends when the command does.
        Ok(StartExecResults::Attached { mut output, .. }) => while output.next().await.is_some() {},
        Ok(StartExecResults::Detached) => {}
        Err(error) => return ProbeResult::Failed(explain(&error)),
    }
    match client.inspect_exec(id).await {
        Ok(found) => match found.exit_code.and_then(|code| i32::try_from(code).ok()) {
            Some(code) => ProbeResult::Command(code),
            None => ProbeResult::Failed("the command closed its output and still runs".to_owned()),
        },
        Err(error) => ProbeResult::Failed(explain(&error)),
    }
}

/// A command that took too long is ended; the engine has no call for it.
async fn end(client: &bollard::Docker, id: &str) {
    if let Ok(found) = client.inspect_exec(id).await
        && found.running == Some(true)
        && let Some(pid) = found.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1)
    {
        processes::signal(pid, Signal::SIGKILL);
    }
}
