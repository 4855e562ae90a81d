//! The app object, in canonical form (legacy spellings are rewritten before it is read).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::number;
use super::unreachable::UnreachableStrategy;

fn one() -> f64 {
    1.0
}

/// An app definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Absolute path.
    pub id: String,
    /// Shell command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// Arguments, instead of a shell command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Operating system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How many tasks should run.
    #[serde(default = "App::one_instance")]
    pub instances: u32,
    /// CPUs of each.
    #[serde(default = "one", serialize_with = "number::write")]
    pub cpus: f64,
    /// MiB of memory of each.
    #[serde(default = "App::default_mem", serialize_with = "number::write")]
    pub mem: f64,
    /// MiB of disk of each.
    #[serde(default, serialize_with = "number::write")]
    pub disk: f64,
    /// GPUs of each.
    #[serde(default)]
    pub gpus: u32,
    /// Always the command executor.
    #[serde(default)]
    pub executor: String,
    /// Image, volumes, ports inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Exactly one.
    #[serde(default = "App::host_network")]
    pub networks: Vec<Network>,
    /// Host mode only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_definitions: Option<Vec<PortDefinition>>,
    /// Use the service ports as host ports.
    #[serde(default)]
    pub require_ports: bool,
    /// Files to bring into the sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetch: Vec<FetchUri>,
    /// `[field, OPERATOR, value]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Vec<String>>,
    /// How to find out whether a task is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
    /// How an upgrade goes.
    #[serde(default)]
    pub upgrade_strategy: UpgradeStrategy,
    /// What happens to unreachable tasks.
    #[serde(default)]
    pub unreachable_strategy: UnreachableStrategy,
    /// Which of equal victims goes first.
    #[serde(default = "App::youngest_first")]
    pub kill_selection: String,
    /// First delay after a failure.
    #[serde(default = "one", serialize_with = "number::write")]
    pub backoff_seconds: f64,
    /// Growth of the delay.
    #[serde(default = "App::default_backoff_factor", serialize_with = "number::write")]
    pub backoff_factor: f64,
    /// Longest delay.
    #[serde(default = "App::default_max_delay", serialize_with = "number::write")]
    pub max_launch_delay_seconds: f64,
    /// Time between SIGTERM and SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "number::write_some")]
    pub task_kill_grace_period_seconds: Option<f64>,
    /// Apps that must be up before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// Role of its tasks.
    #[serde(default = "App::default_role")]
    pub role: String,
}

impl App {
    fn one_instance() -> u32 {
        1
    }

    fn default_mem() -> f64 {
        128.0
    }

    fn host_network() -> Vec<Network> {
        vec![Network { mode: "host".to_owned(), name: None }]
    }

    fn youngest_first() -> String {
        "YOUNGEST_FIRST".to_owned()
    }

    fn default_backoff_factor() -> f64 {
        1.15
    }

    fn default_max_delay() -> f64 {
        300.0
    }

    fn default_role() -> String {
        "*".to_owned()
    }

    /// Whether its tasks share the host's network.
    #[must_use]
    pub fn is_host_mode(&self) -> bool {
        self.networks.iter().all(|network| network.mode == "host")
    }

    /// Whether its tasks run in the Docker engine.
    #[must_use]
    pub fn is_docker(&self) -> bool {
        self.container.as_ref().is_some_and(|container| container.kind == "DOCKER")
    }

    /// The mappings of ports inside, not in host mode.
    #[must_use]
    pub fn mappings(&self) -> &[PortMapping] {
        self.container.as_ref().and_then(|container| container.port_mappings.as_deref()).unwrap_or_default()
    }

    /// Service ports by position.
    #[must_use]
    pub fn service_ports(&self) -> Vec<u32> {
        if self.is_host_mode() {
            self.port_definitions.iter().flatten().map(|port| port.port).collect()
        } else {
            self.mappings().iter().map(|mapping| mapping.service_port).collect()
        }
    }
}

/// How tasks run in a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// DOCKER or MESOS.
    #[serde(rename = "type", default = "Container::docker_type")]
    pub kind: String,
    /// The image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<Docker>,
    /// Host directories inside.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Ports inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_mappings: Option<Vec<PortMapping>>,
}

impl Container {
    fn docker_type() -> String {
        "DOCKER".to_owned()
    }
}

/// An image and how it is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Docker {
    /// Its name.
    pub image: String,
    /// Pull even if it is here.
    #[serde(default)]
    pub force_pull_image: bool,
    /// All privileges.
    #[serde(default)]
    pub privileged: bool,
    /// Flags of `docker run`.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
}

/// A flag of `docker run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// A host directory inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Inside.
    pub container_path: String,
    /// Outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// RO or RW.
    pub mode: String,
}

/// A port inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Inside; 0: like the host port.
    #[serde(default)]
    pub container_port: u32,
    /// Outside; 0: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u32>,
    /// Cluster-wide logical number.
    #[serde(default)]
    pub service_port: u32,
    /// tcp, udp or `udp,tcp`.
    #[serde(default = "PortDefinition::tcp")]
    pub protocol: String,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// host, container/bridge or container.
    #[serde(default = "Network::container")]
    pub mode: String,
    /// Name, of container networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Network {
    fn container() -> String {
        "container".to_owned()
    }
}

/// A port in host mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDefinition {
    /// Service port; with requirePorts also the host port.
    #[serde(default)]
    pub port: u32,
    /// tcp, udp or `udp,tcp`.
    #[serde(default = "PortDefinition::tcp")]
    pub protocol: String,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl PortDefinition {
    fn tcp() -> String {
        "tcp".to_owned()
    }
}

/// A file to bring into the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchUri {
    /// From where.
    pub uri: String,
    /// Unpack archives.
    #[serde(default = "FetchUri::yes")]
    pub extract: bool,
    /// Make it executable.
    #[serde(default)]
    pub executable: bool,
    /// Keep it for others.
    #[serde(default)]
    pub cache: bool,
    /// Name in the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_path: Option<String>,
}

impl FetchUri {
    fn yes() -> bool {
        true
    }
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// HTTP, TCP, COMMAND, MESOS_HTTP or MESOS_TCP.
    #[serde(default = "HealthCheck::http")]
    pub protocol: String,
    /// Of HTTP kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Position of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_index: Option<usize>,
    /// Or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// Of COMMAND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<HealthCommand>,
    /// Failures are ignored for so long, until the first success.
    #[serde(default = "HealthCheck::grace", serialize_with = "number::write")]
    pub grace_period_seconds: f64,
    /// Between two runs.
    #[serde(default = "HealthCheck::interval", serialize_with = "number::write")]
    pub interval_seconds: f64,
    /// Of one run.
    #[serde(default = "HealthCheck::timeout", serialize_with = "number::write")]
    pub timeout_seconds: f64,
    /// More than so many kill the task; 0: never.
    #[serde(default = "HealthCheck::failures")]
    pub max_consecutive_failures: u32,
    /// 1xx answers count for nothing.
    #[serde(default)]
    pub ignore_http1xx: bool,
    /// Before the first run, of MESOS kinds.
    #[serde(default = "HealthCheck::delay", serialize_with = "number::write")]
    pub delay_seconds: f64,
}

impl HealthCheck {
    fn http() -> String {
        "HTTP".to_owned()
    }

    fn grace() -> f64 {
        300.0
    }

    fn interval() -> f64 {
        60.0
    }

    fn timeout() -> f64 {
        20.0
    }

    fn failures() -> u32 {
        3
    }

    fn delay() -> f64 {
        15.0
    }

    /// Whether the service framework itself runs it (the others are the agent's).
    #[must_use]
    pub fn is_marathon_level(&self) -> bool {
        matches!(self.protocol.as_str(), "HTTP" | "TCP")
    }
}

/// The command of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCommand {
    /// For the shell.
    pub value: String,
}

/// How an upgrade goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeStrategy {
    /// Part of the instances that must stay healthy.
    #[serde(serialize_with = "number::write")]
    pub minimum_health_capacity: f64,
    /// Part of the instances that may run in addition.
    #[serde(serialize_with = "number::write")]
    pub maximum_over_capacity: f64,
}

impl Default for UpgradeStrategy {
    fn default() -> Self {
        Self { minimum_health_capacity: 1.0, maximum_over_capacity: 1.0 }
    }
}
