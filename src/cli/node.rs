//! `mesita node`: one node of a cluster of several machines, in the foreground.
//!
//! Ctrl-C, SIGTERM and SIGHUP hand the leadership over and end the node; its tasks go on, and are
//! found again at the next start.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::args::NodeArgs;
use super::output::Printer;
use super::ready;
use super::signals::Interrupt;
use super::{CliError, Exit, dev};
use crate::config::{Begin, DataDir, Listen, NodeConfig, PEER_PORT, PeerConfig, Snapshots};
use crate::node::Node;
use crate::os::notify::{self, News};

/// Where a node keeps its state unless it is told otherwise.
const DATA_DIR: &str = "/var/lib/mesita";

/// Runs the node until it is interrupted or fails.
pub(super) async fn node(arguments: NodeArgs, printer: Printer) -> Result<Exit, CliError> {
    let config = resolve(arguments)?;
    let mut interrupt = Interrupt::install()?;
    let mut node = Box::pin(Node::start(config)).await.map_err(|error| CliError::new(error.to_string()))?;
    let mut line = ready::line(&node);
    line["peer"] = node.addresses().peer.map(|address| address.to_string()).into();
    let outcome = match announce(&line, printer) {
        Ok(()) => {
            tell(News::Ready);
            tokio::select! {
                () = interrupt.wait() => Ok(()),
                fatal = node.failed() => Err(CliError::new(fatal.to_string())),
            }
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

fn resolve(arguments: NodeArgs) -> Result<NodeConfig, CliError> {
    let usage = |message: String| CliError::with(Exit::Usage, message);
    let mut config = dev::resolve(&arguments.cluster)?;
    config.data_dir = DataDir::At(arguments.cluster.data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR)));
    config.tasks_outlive = true;
    config.snapshots = Some(Snapshots::default());
    let has = |role: &str| usize::from(arguments.roles.iter().any(|one| one == role));
    (config.masters, config.agents) = (has("master"), has("agent"));
    // A node is found where it was: a taken port is an error, not a reason for another.
    for listen in [&mut config.master, &mut config.agent, &mut config.marathon] {
        listen.required = true;
    }
    let begin = match (arguments.bootstrap, arguments.join) {
        (true, _) => Begin::Bootstrap,
        (false, Some(address)) => {
            let token = match (arguments.token, arguments.token_file) {
                (Some(token), _) => token,
                (None, Some(path)) => std::fs::read_to_string(&path)
                    .map_err(|error| usage(format!("--token-file {}: {error}", path.display())))?,
                // One that has joined before needs none.
                (None, None) => String::new(),
            };
            Begin::Join { address, token: token.trim().to_owned() }
        }
        (false, None) => Begin::Again,
    };
    let address = arguments.cluster.peer_addr;
    let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], PEER_PORT)));
    let listen = Listen { address, required: true };
    config.peers = Some(PeerConfig { listen, advertise: config.advertise.clone(), begin });
    Ok(config)
}
