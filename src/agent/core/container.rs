//! What the agent core asks of a containerizer, and what it hears back. The core decides
//! everything about a container (its environment, its sandbox, its limits); a containerizer only
//! carries it out.

use std::path::PathBuf;

use crate::api::v1;
use crate::base::id::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId};
use crate::base::time::Timestamp;

/// How a container is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process (or process tree) on the host.
    Process,
    /// A container of the Docker engine.
    Docker,
}

/// A limit that was set to infinity.
pub const UNLIMITED: i64 = i64::MAX;

/// Everything a containerizer needs to start one task.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchSpec {
    /// Names the container on this agent, unique for ever.
    pub container_id: ContainerId,
    /// The agent that owns the container.
    pub agent_id: AgentId,
    /// The framework that the task belongs to.
    pub framework_id: FrameworkId,
    /// The executor; for command tasks its text equals the task's id.
    pub executor_id: ExecutorId,
    /// The task.
    pub task_id: TaskId,
    /// How to run it.
    pub kind: Kind,
    /// What to run. Environment variables in it are already part of `environment`.
    pub command: v1::CommandInfo,
    /// Image, network, volumes, parameters; absent for a plain process.
    pub container: Option<v1::ContainerInfo>,
    /// The complete environment, in order, without duplicates.
    pub environment: Vec<(String, String)>,
    /// Operating system user; the agent's own when absent.
    pub user: Option<String>,
    /// Host directory that becomes the sandbox. The containerizer creates it, fetches
    /// `command.uris` into it, and writes `stdout` and `stderr` there.
    pub sandbox: PathBuf,
    /// Thousandths of a cpu that were allocated.
    pub cpus_milli: i64,
    /// Thousandths of a MiB of memory that were allocated.
    pub mem_milli: i64,
    /// Upper bound in thousandths of a cpu, when one was set; [`UNLIMITED`] for none at all.
    pub cpus_limit_milli: Option<i64>,
    /// Upper bound of memory in thousandths of a MiB, when one was set beside the request;
    /// [`UNLIMITED`] for none at all.
    pub mem_limit_milli: Option<i64>,
    /// Host ports in the task's resources, inclusive ranges.
    pub ports: Vec<(u64, u64)>,
}

/// A container that has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Host process id of the container's first process, when there is one.
    pub pid: Option<u32>,
    /// Addresses of the container in its own network; empty when it shares the host's.
    pub addresses: Vec<String>,
    /// Name of the container's network, for user networks only.
    pub network: Option<String>,
    /// Raw `docker inspect` output (an array with one object), docker only.
    pub inspect: Option<String>,
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchFailure {
    /// Before anything of the task existed: fetch, image, sandbox, unknown user (TASK_FAILED,
    /// REASON_CONTAINER_LAUNCH_FAILED). The text names the thing and the remedy.
    #[error("{0}")]
    Prepare(String),
    /// The container's description cannot be carried out or its start was refused (TASK_STARTING,
    /// then TASK_FAILED from the executor).
    #[error("{0}")]
    Start(String),
}

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Unknown: the container was lost.
    Lost,
}

/// A signal to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ask every process to end.
    Term,
    /// End every process.
    Kill,
}

/// What a containerizer reports by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerEvent {
    /// The container's first process ended; the rest of it is gone, too.
    Exited {
        /// Which container.
        container_id: ContainerId,
        /// How it ended.
        exit: Exit,
        /// When, by the clock of whoever saw it first.
        at: Timestamp,
        /// It was killed because it used more memory than allowed.
        out_of_memory: bool,
    },
}

/// A container that a containerizer found again after a restart of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Which container.
    pub container_id: ContainerId,
    /// Running with these facts, or ended meanwhile.
    pub state: SurvivorState,
}

/// What became of a survivor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SurvivorState {
    /// It still runs; an [`ContainerEvent::Exited`] follows some day.
    Running(Started),
    /// It ended; no event follows.
    Ended {
        /// How it ended.
        exit: Exit,
        /// When.
        at: Timestamp,
        /// It was killed because it used more memory than allowed.
        out_of_memory: bool,
    },
}

/// One run of a check or health check, as the core wants it done.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// HTTP GET; redirects are followed.
    Http {
        /// `http` or `https` (certificates are not verified).
        scheme: String,
        /// Host port on the loopback address, or container port at the container's address.
        port: u16,
        /// Starts with `/`.
        path: String,
        /// IPv6 loopback instead of IPv4.
        ipv6: bool,
    },
    /// A TCP connection.
    Tcp {
        /// As for HTTP.
        port: u16,
        /// IPv6 loopback instead of IPv4.
        ipv6: bool,
    },
    /// A command in the task's namespaces (docker: exec) with the task's environment.
    Command(v1::CommandInfo),
}

/// The outcome of one run of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// HTTP answered with this status code.
    Http(u32),
    /// TCP connected, or did not.
    Tcp(bool),
    /// The command exited with this code.
    Command(i32),
    /// It could not be carried out or took too long; the text says why.
    Failed(String),
}
