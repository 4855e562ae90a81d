//! `mesita dev`: a whole cluster in the foreground.
//!
//! Files are read before anything starts, so that a mistake in them costs nothing. Then the node
//! starts, the files are deployed, the logs of every instance are streamed, and the first Ctrl-C or
//! SIGTERM stops every task and removes every temporary file.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::Dev;
use super::follow::Follower;
use super::logs::{Printing, Trouble};
use super::output::{Paint, Printer};
use super::ready::{self, Announcement};
use super::services::Services;
use super::settings::Global;
use super::signals::Interrupt;
use super::target::Target;
use super::{CliError, Exit, files, wait};
use crate::config::{self, NodeConfig, Settings};
use crate::node::Node;

/// How long the files given to `dev` may take to become healthy before their logs are streamed
/// without waiting any longer.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a person sees only progress before the logs are shown, too.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long agents may take to register before the ready line comes without them.
const AGENTS_DEADLINE: Duration = Duration::from_secs(10);
/// Pause while there is no service whose logs could be looked at.
const IDLE_POLL: Duration = Duration::from_secs(1);
/// Pause between two looks at the logs.
const LOG_POLL: Duration = Duration::from_millis(200);

/// Runs the cluster until it is interrupted or fails.
pub(super) async fn dev(
    arguments: Dev,
    settings: &Settings,
    global: &Global,
    printer: Printer,
) -> Result<Exit, CliError> {
    let apps = files::read(&arguments.files)?;
    let config = resolve(settings)?;
    if let Some(address) = arguments.peer_addr {
        tracing::warn!(%address, "--peer-addr: the masters of `dev` need no sockets between them");
    }
    warn_of_dns(arguments.dns_addr);
    let mut interrupt = Interrupt::install()?;
    let mut node = Box::pin(Node::start(config)).await.map_err(|error| CliError::new(error.to_string()))?;
    let outcome = live(&mut node, apps, global, printer, &mut interrupt).await;
    if !printer.is_json() {
        printer.note("stopping every task; Ctrl-C again kills what takes its time");
    }
    let stopped = Box::pin(node.stop(interrupt.wait_again())).await;
    let Err(left) = stopped else { return outcome.map(|()| Exit::Ok) };
    printer.error(&CliError::new(format!("something is left: {}", left.join("; "))));
    match outcome {
        // A closed pipe would end quietly, as if nothing were left.
        Err(error) if !error.is_quiet() => Err(error),
        _ => Ok(Exit::Error),
    }
}

/// From the first line to the interrupt.
async fn live(
    node: &mut Node,
    apps: Vec<Value>,
    global: &Global,
    printer: Printer,
    interrupt: &mut Interrupt,
) -> Result<(), CliError> {
    let waited = tokio::select! {
        () = interrupt.wait() => return Ok(()),
        waited = node.wait_for_agents(AGENTS_DEADLINE) => waited,
    };
    if let Err(registered) = waited {
        tracing::warn!(
            "only {registered} of {} agents have registered so far",
            node.addresses().agents.len()
        );
    }
    let line = ready::line(node);
    let _announcement = Announcement::make(&line);
    let target = Target::at(line["masters"][0].as_str().unwrap_or_default());
    if !printer.is_json() {
        printer.data(&banner(&line))?;
    }
    tokio::select! {
        () = interrupt.wait() => Ok(()),
        fatal = node.failed() => Err(CliError::new(fatal.to_string())),
        served = serve(&target, apps, line, global, printer) => served,
    }
}

/// Deploys the files, then streams logs for ever.
async fn serve(
    target: &Target,
    apps: Vec<Value>,
    line: Value,
    global: &Global,
    printer: Printer,
) -> Result<(), CliError> {
    let services = Services::new(target)?;
    let before = ended_before(&services, target).await?;
    if apps.is_empty() {
        if printer.is_json() {
            printer.data(&[line.to_string()])?;
        }
        return stream(&services, target, before, global, printer).await;
    }
    let change = services.deploy(&apps, true).await?;
    // Machines read nothing before the ready line, and end without one. People see what goes wrong while
    // it does.
    let patience = if printer.is_json() { DEPLOY_TIMEOUT } else { PATIENCE };
    let settled = wait::settled(&services, &change, patience, printer.is_json()).await;
    let announce = async |settled: Result<(), CliError>| match settled {
        Err(error) if printer.is_json() => {
            printer.data(&[failed_event(&error)])?;
            Err(error)
        }
        Err(error) => {
            printer.error(&error);
            Ok(())
        }
        Ok(()) if printer.is_json() => printer.data(&[line.to_string()]),
        Ok(()) => printer.data(&addresses(&services).await?),
    };
    let streaming = stream(&services, target, before, global, printer);
    if printer.is_json() || settled.is_ok() {
        announce(settled).await?;
        return streaming.await;
    }
    printer.note("not everything is healthy yet; the logs so far:");
    let waiting = async {
        let rest = DEPLOY_TIMEOUT.saturating_sub(PATIENCE);
        announce(wait::quietly(&services, &change, rest).await).await?;
        std::future::pending().await
    };
    tokio::select! {
        outcome = streaming => outcome,
        outcome = waiting => outcome,
    }
}

/// Streams the logs of every instance of every service, but of none in `before`. Only output that cannot
/// be written ends it: a cluster that does not answer now is asked again.
async fn stream(
    services: &Services,
    target: &Target,
    before: BTreeSet<String>,
    global: &Global,
    printer: Printer,
) -> Result<(), CliError> {
    let mut printing: Option<Printing> = None;
    let mut is_quiet = false;
    loop {
        if printing.is_none() {
            // A failure shows again below, when the services are listed.
            let framework_id = services.framework_id().await.ok().flatten();
            printing = framework_id.map(|id| {
                let follower = Follower::new(target, id);
                let mut printing = Printing::new(follower, Paint::stdout(global.color), printer);
                printing.leave_out(before.clone());
                printing
            });
        }
        let round = match (&mut printing, services.list().await) {
            (Some(printing), Ok(list)) => {
                let ids: Vec<String> = list.into_iter().map(|service| service.id).collect();
                printing.round(services, &ids, None, false).await
            }
            (None, Ok(_)) => Ok(()),
            (_, Err(error)) => Err(Trouble::Cluster(error)),
        };
        match round {
            Ok(()) => is_quiet = false,
            Err(Trouble::Output(error)) => return Err(error),
            // Once is enough until it goes well again.
            Err(Trouble::Cluster(error)) => {
                if !std::mem::replace(&mut is_quiet, true) {
                    tracing::warn!("logs are not shown for now: {error}");
                }
            }
        }
        tokio::time::sleep(if printing.is_some() { LOG_POLL } else { IDLE_POLL }).await;
    }
}

/// Tasks that had ended before this run of `dev` deployed anything: their output is old.
async fn ended_before(services: &Services, target: &Target) -> Result<BTreeSet<String>, CliError> {
    let Some(framework_id) = services.framework_id().await? else { return Ok(BTreeSet::new()) };
    let ended = Follower::new(target, framework_id).ended().await?;
    Ok(ended.into_iter().map(|source| source.task_id).collect())
}

/// What a person wants to know first.
fn banner(line: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let count = |key: &str, name: &str| match line[key].as_array().map_or(0, Vec::len) {
        1 => format!("one {name}"),
        many => format!("{many} {name}s"),
    };
    let masters = line["masters"].as_array().cloned().unwrap_or_default();
    let first = format!(
        "mesita {} runs {} and {}",
        env!("CARGO_PKG_VERSION"),
        count("masters", "master"),
        count("agents", "agent")
    );
    let mesos = masters.iter().map(|master| format!("  Mesos API     {}", text(master)));
    let rest = [
        format!("  Agent API     {}", text(&line["agents"][0])),
        format!("  Marathon API  {}", text(&line["marathon"])),
        format!("  Data          {}", text(&line["data_dir"])),
        "Ctrl-C stops everything.".to_owned(),
    ];
    std::iter::once(first).chain(mesos).chain(rest).collect()
}

/// One line for each instance: where it answers.
async fn addresses(services: &Services) -> Result<Vec<String>, CliError> {
    let mut lines = Vec::new();
    for service in services.list().await? {
        for instance in services.instances(&service.id).await? {
            for address in instance.addresses() {
                lines.push(format!("{} is at http://{address}/", service.id));
            }
        }
    }
    Ok(lines)
}

/// What `--json` prints in place of the ready line when the apps do not become healthy.
fn failed_event(error: &CliError) -> String {
    json!({ "schema": 1, "event": "failed", "message": error.message }).to_string()
}

/// From settings to a node, with what only this program knows.
pub(super) fn resolve(settings: &Settings) -> Result<NodeConfig, CliError> {
    let mut config = config::node_config(settings)?;
    if let Some(source) = settings.source(&config::INSECURE).filter(|_| settings.switch(&config::INSECURE)) {
        tracing::warn!("{source}: whoever reaches these addresses can run programs here");
    }
    config.launcher_path = Some(own_program()?);
    config.run_id = std::env::var("MESITA_RUN_ID").ok().filter(|value| !value.is_empty());
    Ok(config)
}

/// Says that nothing listens there.
pub(super) fn warn_of_dns(address: Option<SocketAddr>) {
    if let Some(address) = address {
        tracing::warn!(%address, "--dns-addr: what would listen there is not built yet");
    }
}

/// The program that runs: agents start it again as the launcher.
fn own_program() -> Result<PathBuf, CliError> {
    std::env::current_exe()
        .map_err(|error| CliError::new(format!("the path of this program is unknown: {error}")))
}

/// One event of `--json` after the ready line.
pub(super) fn log_event(service: &str, task_id: &str, stream: &str, line: &str) -> String {
    json!({ "schema": 1, "event": "log", "service": service, "task": task_id, "stream": stream, "line": line }).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::Cli;
    use super::super::settings::add_flags;
    use super::*;
    use crate::config::{For, Layers};

    fn resolved(text: &[&str]) -> Result<NodeConfig, CliError> {
        let cli = Cli::try_parse_from([&["mesita", "dev"], text].concat()).expect("valid arguments");
        let mut layers = Layers::default();
        add_flags(&cli, &mut layers);
        resolve(&layers.effective(For::Dev))
    }

    #[test]
    fn other_machines_only_with_insecure() {
        let open = ["--master-addr", "0.0.0.0:0"];
        let error = resolved(&open).expect_err("not loopback");
        assert!(error.message.contains("--master-addr") && error.exit == Exit::Usage, "{error}");
        assert!(resolved(&[&open[..], &["--insecure"]].concat()).is_ok());
        assert!(resolved(&[&open[..], &["--insecure=false"]].concat()).is_err());
    }

    #[test]
    fn no_arguments_mean_one_agent() {
        assert_eq!(resolved(&[]).expect("valid").agents, 1);
        assert_eq!(resolved(&["--agents", "3"]).expect("valid").agents, 3);
    }

    #[test]
    fn a_port_that_was_asked_for_is_required() {
        let config = resolved(&["--marathon-addr", "127.0.0.1:0"]).expect("valid");
        assert!(config.marathon.required && !config.master.required);
    }
}
