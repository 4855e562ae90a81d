//! Checks of docker tasks: HTTP and TCP from within the container's network, commands by exec.

use std::net::IpAddr;
use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use nix::sys::signal::Signal;

use super::super::probe::{Network, connect, within};
use super::engine::explain;
use crate::agent::core::container::{Probe, ProbeResult};
use crate::api::v1::CommandInfo;
use crate::os::{processes, users};

/// Where a container can be reached.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The engine's own id of the container.
    pub(super) engine_id: String,
    /// Its first process, by the engine's count.
    pub(super) pid: Option<u32>,
    /// It shares the host's network.
    pub(super) host_network: bool,
    /// Its address in its own network.
    pub(super) address: Option<IpAddr>,
}

impl Place {
    /// A process of the container by the host's count; none if the engine counts in another namespace (in
    /// a virtual machine, or without root): what has the number here is somebody else.
    fn own(&self, pid: u32) -> Option<u32> {
        processes::is_in_cgroup(pid, &self.engine_id).then_some(pid)
    }

    /// The network from which its ports are probed.
    fn network(&self) -> Result<Network, String> {
        if self.host_network {
            return Ok(Network::Host);
        }
        // Only root may enter: then what listens on the container's loopback only is found, too.
        let enter = self.pid.and_then(|pid| self.own(pid)).filter(|_| users::own().uid == 0);
        match (enter, self.address) {
            (Some(pid), _) => Ok(Network::Of(pid)),
            (None, Some(address)) => Ok(Network::At(address)),
            (None, None) => Err("the container has no network that a check could reach".to_owned()),
        }
    }
}

/// Runs a probe against the container `name`, at most `timeout` long (zero: unlimited).
pub(super) async fn run(
    client: &bollard::Docker,
    name: &str,
    place: &Place,
    probe: &Probe,
    timeout: Duration,
) -> ProbeResult {
    if let Probe::Command(command) = probe {
        return exec(client, name, place, command, timeout).await;
    }
    match place.network() {
        Ok(network) => within(timeout, connect(network, probe)).await,
        Err(problem) => ProbeResult::Failed(problem),
    }
}

async fn exec(
    client: &bollard::Docker,
    name: &str,
    place: &Place,
    command: &CommandInfo,
    timeout: Duration,
) -> ProbeResult {
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
        end(client, place, &id).await;
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

/// A command that took too long is ended with what it started; the engine has no call for it.
async fn end(client: &bollard::Docker, place: &Place, id: &str) {
    let Ok(found) = client.inspect_exec(id).await else { return };
    let running = found.pid.filter(|_| found.running == Some(true));
    let Some(pid) = running.and_then(|pid| u32::try_from(pid).ok()).and_then(|pid| place.own(pid)) else {
        return;
    };
    if let Ok(pid) = i32::try_from(pid) {
        let below = processes::descendants(pid);
        below.into_iter().chain([pid]).for_each(|pid| processes::signal(pid, Signal::SIGKILL));
    }
}
