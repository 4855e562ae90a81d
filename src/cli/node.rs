//! `mesita node`: one node of a cluster of several machines, in the foreground.
//!
//! Ctrl-C, SIGTERM and SIGHUP hand the leadership over and end the node; its tasks go on, and are
//! found again at the next start. SIGUSR1 drains the node's agents first: their tasks end, and they leave
//! the cluster.

use std::net::SocketAddr;

use super::args::NodeArgs;
use super::output::Printer;
use super::ready;
use super::signals::{DrainSignal, Interrupt};
use super::{CliError, Exit, dev};
use crate::base::spawn::Fatal;
use crate::config::{self, Begin, DataDir, Listen, NodeConfig, PEER_PORT, PeerConfig, Setting, Settings};
use crate::node::Node;
use crate::os::notify::{self, News};

/// Runs the node until it is interrupted or fails.
pub(super) async fn node(
    arguments: NodeArgs,
    settings: &Settings,
    printer: Printer,
) -> Result<Exit, CliError> {
    let config = resolve(&arguments, settings)?;
    let mut interrupt = Interrupt::install()?;
    let mut drain = DrainSignal::install()?;
    let mut node = Box::pin(Node::start(config)).await.map_err(|error| CliError::new(error.to_string()))?;
    let mut line = ready::line(&node);
    line["peer"] = node.addresses().peer.map(|address| address.to_string()).into();
    let outcome = match announce(&line, printer) {
        Ok(()) => {
            tell(News::Ready);
            until_the_end(&mut node, &mut interrupt, &mut drain, printer).await
        }
        Err(error) => Err(error),
    };
    tell(News::Stopping);
    if outcome.is_ok() {
        node.hand_over().await;
    }
    let stopped = Box::pin(node.stop(interrupt.wait_again())).await;
    if let Err(left) = stopped {
        printer.error(&CliError::new(format!("something is left: {}", left.join("; "))));
    }
    outcome.map(|()| Exit::Ok)
}

/// Waits until the node is to end: it was interrupted, it is drained, or it failed.
async fn until_the_end(
    node: &mut Node,
    interrupt: &mut Interrupt,
    drain: &mut DrainSignal,
    printer: Printer,
) -> Result<(), CliError> {
    tokio::select! {
        () = interrupt.wait() => return Ok(()),
        fatal = node.failed() => return failed(&fatal, printer),
        () = drain.wait() => {}
    }
    printer.note(
        "SIGUSR1: the tasks of this node end, and its agents leave the cluster; Ctrl-C ends the node at once",
    );
    let draining = node.drain();
    let remarks = tokio::select! {
        biased;
        fatal = node.failed() => return failed(&fatal, printer),
        () = interrupt.wait() => return Ok(()),
        remarks = draining => remarks,
    };
    // The tasks have ended, which is what was asked for: a service manager must not start the node again.
    remarks.iter().for_each(|remark| printer.note(remark));
    printer.note("drained");
    Ok(())
}

/// A part of the node has failed.
fn failed(fatal: &Fatal, printer: Printer) -> Result<(), CliError> {
    let error = CliError::new(fatal.to_string());
    if !fatal.is_removal {
        // At once: what is not known to be on disk must not get there any more.
        printer.error(&error);
        std::process::exit(i32::from(error.exit.code()));
    }
    Err(error)
}

/// Tells the service manager, if one started the node.
fn tell(news: News) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = notify::tell(&socket, news) {
        tracing::warn!(%error, "the service manager at NOTIFY_SOCKET cannot be told: {news:?}");
    }
}

fn announce(line: &serde_json::Value, printer: Printer) -> Result<(), CliError> {
    if printer.is_json() {
        return printer.data(&[line.to_string()]);
    }
    let mut lines = vec![format!("mesita {} runs a node", env!("CARGO_PKG_VERSION"))];
    // What the node's roles do not have is not shown.
    for (name, value) in [
        ("Mesos API   ", &line["masters"][0]),
        ("Agent API   ", &line["agents"][0]),
        ("Marathon API", &line["marathon"]),
        ("Other nodes ", &line["peer"]),
        ("Data        ", &line["data_dir"]),
    ] {
        lines.extend(value.as_str().map(|value| format!("  {name}  {value}")));
    }
    lines.push("Ctrl-C ends the node; its tasks go on.".to_owned());
    printer.data(&lines)
}

fn resolve(arguments: &NodeArgs, settings: &Settings) -> Result<NodeConfig, CliError> {
    dev::warn_of_dns(arguments.dns_addr);
    let mut config = dev::resolve(settings)?;
    config.tasks_outlive = true;
    config.fault.clone_from(&arguments.fault);
    if config.fault.is_some() && !settings.switch(&config::INSECURE) {
        return Err(CliError::with(Exit::Usage, "--fault damages this node on purpose")
            .hint("it is for tests of mesita itself; they add --insecure"));
    }
    let peer = settings.address(&config::PEER_ADDR);
    let address = peer.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], PEER_PORT)));
    let begin = begin(arguments, settings, &config.data_dir)?;
    let listen = Listen { address, required: true };
    config.peers = Some(PeerConfig { listen, advertise: config.advertise.clone(), begin });
    Ok(config)
}

/// How the node begins. One that has joined before needs no token any more: it is told where a master is.
fn begin(arguments: &NodeArgs, settings: &Settings, data_dir: &DataDir) -> Result<Begin, CliError> {
    let usage = |message: String| CliError::with(Exit::Usage, message);
    let joins = settings.set(&config::JOIN_ADDR);
    if arguments.bootstrap {
        return match joins {
            None => Ok(Begin::Bootstrap),
            Some(Setting { value, source }) => Err(usage(format!(
                "--bootstrap begins a new cluster, and {source} says to join the one of {value}"
            ))
            .hint("leave one of them away")),
        };
    }
    let Some(address) = settings.text(&config::JOIN_ADDR) else { return Ok(Begin::Again) };
    let file = settings.set(&config::JOIN_TOKEN_FILE);
    let token = match (&arguments.token, file) {
        (Some(token), _) => token.clone(),
        (None, Some(Setting { value, source })) => match std::fs::read_to_string(value.to_string()) {
            Ok(token) => token,
            Err(_) if is_member(data_dir) => String::new(),
            Err(error) => {
                return Err(usage(format!("{source}: the join token {value} cannot be read: {error}")));
            }
        },
        (None, None) if is_member(data_dir) => String::new(),
        (None, None) => {
            return Err(usage("joining needs a join token".to_owned())
                .hint("give --token-file FILE, or set MESITA_JOIN_TOKEN"));
        }
    };
    Ok(Begin::Join { address, token: token.trim().to_owned() })
}

fn is_member(data_dir: &DataDir) -> bool {
    match data_dir {
        DataDir::Ephemeral => false,
        DataDir::At(path) => crate::node::is_member(path),
    }
}
