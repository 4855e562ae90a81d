//! Arguments as typed. Nothing here touches the system; the commands resolve them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::flags::{Flags, OfAll, OfDev, OfNode, OfShow};

/// A whole Mesos-style cluster in one binary.
#[derive(Debug, Parser)]
#[command(name = "mesita", version = env!("CARGO_PKG_VERSION"), about, max_term_width = 110)]
#[command(infer_subcommands = false, arg_required_else_help = true, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every command, as typed.
#[derive(Debug, Args)]
pub(super) struct GlobalArgs {
    #[command(flatten)]
    pub(super) flags: Flags<OfAll>,
    /// The same as `--output json`.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Only ids, one a line.
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
}

/// Output forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// The JSON document as YAML.
    Yaml,
    /// Only ids, one a line.
    Name,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Forms of mesita's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a whole cluster in the foreground, deploy FILES, stream their logs; Ctrl-C stops it all.
    Dev(Dev),
    /// Deploy services from Marathon JSON files and wait until they are healthy.
    Deploy(Deploy),
    /// List services, or the instances of one.
    Ps(Ps),
    /// Print the logs of a service.
    Logs(Logs),
    /// Change the number of instances of a service.
    Scale(Scale),
    /// Stop and remove services.
    Stop(Stop),
    /// Run one task now, stream its output, exit with its code.
    Run(Run),
    /// Run a command with a throw-away cluster around it, and exit with its code.
    With(With),
    /// Remove containers and temporary directories that ended clusters left behind.
    ///
    /// A cluster that ends cleans up after itself; one that is killed with SIGKILL cannot. What belongs to a data
    /// directory that was named, which its node may come back to, is left alone unless it is named here.
    Reap(Reap),
    /// Say why a service is not running as it should.
    Explain(Explain),
    /// A node of a cluster of several machines: a master with an agent beside it.
    ///
    /// SIGINT and SIGTERM end it and leave its tasks running. SIGUSR1 drains it: its tasks end, its agent
    /// leaves the cluster, and the node ends.
    Node(NodeArgs),
    /// The nodes of a cluster, and who may join.
    Cluster {
        /// What to do.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Configuration: what is set, what may be set.
    Config {
        /// What to do.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a completion script for a shell.
    Completion(Completion),
    /// Print versions.
    Version,
    /// Parent of process tasks; started by an agent.
    #[command(hide = true, disable_help_flag = true)]
    Launcher {
        /// For the launcher itself.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// A web page that says which instance it is.
    #[command(hide = true)]
    DemoWeb(DemoWeb),
}

/// Arguments of `reap`.
#[derive(Debug, Args)]
pub(super) struct Reap {
    /// Only what the node of this data directory left, also where the node might come back to it.
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Only say what would be removed.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub(super) struct Dev {
    /// App files (Marathon JSON: one app, an array, or a group with apps).
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) flags: Flags<OfDev>,
    /// Where other nodes would connect; the masters of `dev` need no sockets between them.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) peer_addr: Option<SocketAddr>,
    /// DNS; not built yet, so nothing listens there.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) dns_addr: Option<SocketAddr>,
}

/// Arguments of `with`.
#[derive(Debug, Args)]
pub(super) struct With {
    /// App files, deployed and healthy before the command runs.
    pub(super) files: Vec<PathBuf>,
    /// Number of masters.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) masters: usize,
    /// Number of agents.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) agents: usize,
    /// What each agent has: cpus:4;mem:4096;ports:[31000-31099].
    #[arg(long, value_name = "TEXT")]
    pub(super) resources: Option<String>,
    /// Tasks are not run: they stay running until they are killed.
    #[arg(long)]
    pub(super) fake: bool,
    /// The command; without one, one line of JSON says where everything answers, and the cluster ends when
    /// standard input does.
    #[arg(last = true, value_name = "CMD")]
    pub(super) command: Vec<std::ffi::OsString>,
}

/// What `cluster` does.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Show the nodes: who leads, who is alive, how far each is.
    Status,
    /// Make a token with which a node joins.
    JoinToken(JoinTokenArgs),
    /// The registry in a file: save it, look into one.
    Snapshot {
        /// What to do.
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Make the data directory of a new cluster's first node from a snapshot.
    Restore(RestoreArgs),
    /// Let a stopped master go on alone when the others are gone for good.
    Recover(RecoverArgs),
    /// Remove a node for ever: it ends, its agent is gone, and its id is refused from then on.
    Remove(RemoveArgs),
}

/// What `cluster snapshot` does.
#[derive(Debug, Subcommand)]
pub(super) enum SnapshotCommand {
    /// Save the registry as it is now; the file holds the authority's key.
    Save {
        /// Where to.
        file: PathBuf,
    },
    /// Show what a file holds.
    Inspect {
        /// The file.
        file: PathBuf,
    },
}

/// Arguments of `cluster restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The snapshot.
    pub(super) file: PathBuf,
    /// The data directory to be made; it must be empty or absent.
    #[arg(long, env = "MESITA_DATA_DIR", value_name = "DIR")]
    pub(super) data_dir: PathBuf,
    #[command(flatten)]
    pub(super) confirmation: Confirmation,
}

/// Arguments of `cluster recover`.
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// Take what this node holds for the whole truth.
    #[arg(long)]
    pub(super) from_this_node: bool,
    /// The data directory of the stopped node.
    #[arg(long, env = "MESITA_DATA_DIR", value_name = "DIR", default_value = "/var/lib/mesita")]
    pub(super) data_dir: PathBuf,
    #[command(flatten)]
    pub(super) confirmation: Confirmation,
}

/// Whether something that cannot be undone is to be done.
#[derive(Debug, Args)]
pub(super) struct Confirmation {
    /// Only show what would be done.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do it.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) yes: bool,
}

/// Arguments of `cluster join-token`.
#[derive(Debug, Args)]
pub(super) struct JoinTokenArgs {
    /// What the node is to be.
    #[arg(long, default_value = "master", value_parser = ["master", "agent"])]
    pub(super) role: String,
    /// The token ends after this time, as `1h30m` [default: never].
    #[arg(long, value_parser = crate::config::duration::parse)]
    pub(super) expires: Option<std::time::Duration>,
    /// The token admits one node only.
    #[arg(long)]
    pub(super) once: bool,
}

/// Arguments of `cluster remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// Id of the node, as `cluster status` shows it.
    pub(super) node: String,
    /// Do it.
    #[arg(long)]
    pub(super) yes: bool,
}

/// Arguments of `node`.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// Read this configuration file in place of the system's, the user's and the project's.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Begin a new cluster with this node.
    #[arg(long, conflicts_with = "join")]
    pub(super) bootstrap: bool,
    /// The join token itself; others on this machine can see it.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "MESITA_JOIN_TOKEN",
        hide_env_values = true,
        conflicts_with = "token-file"
    )]
    pub(super) token: Option<String>,
    #[command(flatten)]
    pub(super) flags: Flags<OfNode>,
    /// Faults that a test of mesita itself asks for.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(super) fault: Option<PathBuf>,
    /// DNS; not built yet, so nothing listens there.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) dns_addr: Option<SocketAddr>,
}

/// What `config` does.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show what every key is set to, and what sets it.
    Show(ConfigShow),
    /// Print a configuration file with every key, its meaning and its default.
    Default,
    /// Say what a key means, what it may be, and everything that sets it.
    Explain(ConfigExplain),
}

/// Arguments of `config show`.
#[derive(Debug, Args)]
pub(super) struct ConfigShow {
    /// The command that the settings are for.
    #[arg(long, default_value = "node", value_name = "COMMAND")]
    pub(super) r#for: ConfigFor,
    /// Read this configuration file in place of the system's, the user's and the project's.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) flags: Flags<OfShow>,
}

/// Commands that settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ConfigFor {
    /// `mesita node`.
    Node,
    /// `mesita dev`.
    Dev,
}

/// Arguments of `config explain`.
#[derive(Debug, Args)]
pub(super) struct ConfigExplain {
    /// The key with its table, as `master.addr`; or a table, for all of its keys.
    pub(super) key: String,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub(super) struct Completion {
    /// The shell.
    pub(super) shell: clap_complete::Shell,
}

/// Arguments of `deploy`.
#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// App files (Marathon JSON: one app, an array, or a group with apps).
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Replace running deployments of the same services.
    #[arg(long)]
    pub(super) force: bool,
    /// Do not wait until the services are healthy.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "5m", value_parser = crate::config::duration::parse)]
    pub(super) timeout: std::time::Duration,
}

/// Arguments of `ps`.
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Show the instances of this service.
    pub(super) service: Option<String>,
    /// Show every instance of every service.
    #[arg(short, long)]
    pub(super) all: bool,
    /// Look again every two seconds, until Ctrl-C.
    #[arg(short, long)]
    pub(super) watch: bool,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Service or instance (any unique beginning).
    pub(super) service: String,
    /// Go on as more is written, also by replacements.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only the last N lines of each file.
    #[arg(long, value_name = "N")]
    pub(super) tail: Option<usize>,
    /// Only stdout or stderr.
    #[arg(long, value_name = "NAME", value_parser = ["stdout", "stderr"])]
    pub(super) stream: Option<String>,
    /// Do not put the instance before each line.
    #[arg(long)]
    pub(super) no_prefix: bool,
}

/// Arguments of `scale`.
#[derive(Debug, Args)]
pub(super) struct Scale {
    /// Service.
    pub(super) service: String,
    /// Number of instances.
    pub(super) instances: u32,
    /// Replace running deployments of the service.
    #[arg(long)]
    pub(super) force: bool,
    /// Do not wait.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "5m", value_parser = crate::config::duration::parse)]
    pub(super) timeout: std::time::Duration,
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Services.
    #[arg(required = true)]
    pub(super) services: Vec<String>,
    /// Do not wait.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "5m", value_parser = crate::config::duration::parse)]
    pub(super) timeout: std::time::Duration,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Docker image; without it the command is a process on the agent.
    #[arg(long)]
    pub(super) image: Option<String>,
    /// CPUs.
    #[arg(long, default_value_t = 0.1)]
    pub(super) cpus: f64,
    /// Memory in MiB.
    #[arg(long, default_value_t = 32.0)]
    pub(super) mem: f64,
    /// Environment, `NAME=VALUE`.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// How long to wait for an agent that can run it.
    #[arg(long, default_value = "30s", value_parser = crate::config::duration::parse)]
    pub(super) timeout: std::time::Duration,
    /// Command and its arguments.
    #[arg(required = true, last = true)]
    pub(super) command: Vec<String>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Service.
    pub(super) service: String,
}

/// Arguments of `demo-web`.
#[derive(Debug, Args)]
pub(super) struct DemoWeb {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) host: std::net::IpAddr,
    /// Port to listen on.
    #[arg(long)]
    pub(super) port: u16,
    /// Answer `/health` with 500.
    #[arg(long)]
    pub(super) fail_health: bool,
    /// A service that `/upstream` finds through `/v2` and asks.
    #[arg(long)]
    pub(super) upstream: Option<String>,
}
