//! The TaskInfo of an instance (Marathon: environment, ports, discovery, container).

use crate::api::marathon::{App, HealthCheck};
use crate::api::v1;
use crate::base::id::Role;
use crate::base::time::Timestamp;
use crate::resources::{Format, Resources};
use crate::service::model::{Instance, ids};

/// Longest key and value of a label that becomes a variable.
const LABEL_LIMITS: (usize, usize) = (493, 512);

/// Everything that the agent needs to run an instance.
pub(super) fn task_info(app: &App, instance: &Instance, resources: &Resources) -> v1::TaskInfo {
    let variables = environment(app, instance).into_iter().map(|(name, value)| v1::environment::Variable {
        name,
        value: Some(value),
        ..Default::default()
    });
    let shell = app.cmd.is_some();
    let docker = app.is_docker();
    let value = match (&app.cmd, docker) {
        (Some(cmd), _) => Some(cmd.clone()),
        // With an image the arguments follow its entry point.
        (None, true) => None,
        (None, false) => app.args.first().cloned(),
    };
    let command = v1::CommandInfo {
        shell: Some(shell),
        value,
        arguments: app.args.clone(),
        environment: Some(v1::Environment { variables: variables.collect() }),
        user: app.user.clone(),
        uris: app.fetch.iter().map(uri).collect(),
    };
    let grace = app.task_kill_grace_period_seconds.map(|seconds| v1::KillPolicy {
        grace_period: Some(v1::DurationInfo { nanoseconds: nanos(seconds) }),
    });
    v1::TaskInfo {
        name: ids::reversed(&app.id),
        task_id: v1::TaskId { value: instance.task_id.clone() },
        agent_id: v1::AgentId { value: instance.agent_id.clone() },
        resources: resources.allocated_to(&Role::new(&app.role)).to_wire(Format::PostRefinement),
        command: Some(command),
        container: container(app, instance),
        health_check: app
            .health_checks
            .iter()
            .find(|check| !check.is_marathon_level())
            .map(|check| health(app, check, instance)),
        kill_policy: grace,
        labels: Some(v1::Labels {
            labels: app
                .labels
                .iter()
                .map(|(key, value)| v1::Label { key: key.clone(), value: Some(value.clone()) })
                .collect(),
        }),
        discovery: Some(discovery(app, instance)),
        ..Default::default()
    }
}

fn nanos(seconds: f64) -> i64 {
    let duration =
        crate::base::time::seconds_capped(seconds, std::time::Duration::from_secs(3_600 * 24 * 365));
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn uri(fetch: &crate::api::marathon::FetchUri) -> v1::command_info::Uri {
    v1::command_info::Uri {
        value: fetch.uri.clone(),
        executable: Some(fetch.executable),
        extract: Some(fetch.extract),
        cache: Some(fetch.cache),
        output_file: fetch.dest_path.clone(),
    }
}

/// The variables that Marathon sets; the app's own win.
fn environment(app: &App, instance: &Instance) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| {
        variables.retain(|(other, _)| other != name);
        variables.push((name.to_owned(), value));
    };
    set("MESOS_TASK_ID", instance.task_id.clone());
    set("MARATHON_APP_ID", app.id.clone());
    set("MARATHON_APP_VERSION", Timestamp::from_nanos(instance.version_ns).rfc3339_millis());
    set("MARATHON_APP_RESOURCE_CPUS", format!("{:?}", app.cpus));
    set("MARATHON_APP_RESOURCE_MEM", format!("{:?}", app.mem));
    set("MARATHON_APP_RESOURCE_DISK", format!("{:?}", app.disk));
    set("MARATHON_APP_RESOURCE_GPUS", app.gpus.to_string());
    set("MARATHON_APP_ENFORCE_GROUP_ROLE", "FALSE".to_owned());
    if let Some(docker) = app.container.as_ref().and_then(|container| container.docker.as_ref()) {
        set("MARATHON_APP_DOCKER_IMAGE", docker.image.clone());
    }
    let mut mangled = Vec::new();
    for (key, value) in
        app.labels.iter().filter(|(key, value)| key.len() < LABEL_LIMITS.0 && value.len() < LABEL_LIMITS.1)
    {
        let key = mangle(key);
        set(&format!("MARATHON_APP_LABEL_{key}"), value.clone());
        mangled.push(key);
    }
    set("MARATHON_APP_LABELS", mangled.join(" "));
    set("HOST", instance.host.clone());
    let ports = ports(app, instance);
    for (index, port) in ports.iter().enumerate() {
        set(&format!("PORT{index}"), port.number.to_string());
        set(
            &format!("PORT_{}", if port.asked == 0 { port.number } else { port.asked }),
            port.number.to_string(),
        );
        if let Some(name) = &port.name {
            set(&format!("PORT_{}", name.to_uppercase()), port.number.to_string());
        }
    }
    if let Some(first) = ports.first() {
        set("PORT", first.number.to_string());
        set("PORTS", ports.iter().map(|port| port.number.to_string()).collect::<Vec<_>>().join(","));
    }
    for (name, value) in &app.env {
        set(name, value.clone());
    }
    variables
}

/// Upper case, with each run of other characters as one underscore.
fn mangle(key: &str) -> String {
    let mut mangled = String::new();
    for letter in key.chars() {
        if letter.is_ascii_alphanumeric() {
            mangled.push(letter.to_ascii_uppercase());
        } else if !mangled.ends_with('_') {
            mangled.push('_');
        }
    }
    mangled
}

/// A port as the task sees it.
struct Port {
    /// Host port, or the port inside where there is no host port.
    number: u32,
    /// What the definition asked for.
    asked: u32,
    name: Option<String>,
    protocol: String,
    has_host_port: bool,
    labels: Vec<(String, String)>,
}

fn ports(app: &App, instance: &Instance) -> Vec<Port> {
    let given = |index: usize| instance.ports.get(index).copied().unwrap_or(0);
    let labels = |labels: &std::collections::BTreeMap<String, String>| {
        labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    if app.is_host_mode() {
        let definitions = app.port_definitions.iter().flatten().enumerate();
        return definitions
            .map(|(index, port)| Port {
                number: given(index),
                asked: if app.require_ports { port.port } else { 0 },
                name: port.name.clone(),
                protocol: port.protocol.clone(),
                has_host_port: true,
                labels: labels(&port.labels),
            })
            .collect();
    }
    let mappings = app.mappings().iter().enumerate();
    mappings
        .map(|(index, mapping)| {
            let host = given(index);
            Port {
                number: if host > 0 { host } else { mapping.container_port },
                asked: mapping.container_port,
                name: mapping.name.clone(),
                protocol: mapping.protocol.clone(),
                has_host_port: host > 0,
                labels: labels(&mapping.labels),
            }
        })
        .collect()
}

fn discovery(app: &App, instance: &Instance) -> v1::DiscoveryInfo {
    let mut list = Vec::new();
    for port in ports(app, instance) {
        for protocol in port.protocol.split(',') {
            let scope = if port.has_host_port { "host" } else { "container" };
            let own = port.labels.iter().cloned().chain([("network-scope".to_owned(), scope.to_owned())]);
            let labels = own.map(|(key, value)| v1::Label { key, value: Some(value) }).collect();
            list.push(v1::Port {
                number: port.number,
                name: port.name.clone(),
                protocol: Some(protocol.to_owned()),
                labels: Some(v1::Labels { labels }),
                ..Default::default()
            });
        }
    }
    v1::DiscoveryInfo {
        visibility: v1::discovery_info::Visibility::Framework.into(),
        name: Some(ids::reversed(&app.id)),
        ports: Some(v1::Ports { ports: list }),
        ..Default::default()
    }
}

fn container(app: &App, instance: &Instance) -> Option<v1::ContainerInfo> {
    use v1::container_info::docker_info::{Network, PortMapping};

    let container = app.container.as_ref()?;
    let docker = container.docker.as_ref()?;
    let volumes = container.volumes.iter().map(|volume| v1::Volume {
        mode: if volume.mode == "RO" { v1::volume::Mode::Ro } else { v1::volume::Mode::Rw }.into(),
        container_path: volume.container_path.clone(),
        host_path: volume.host_path.clone(),
        ..Default::default()
    });
    let mut mappings = Vec::new();
    for (index, mapping) in app.mappings().iter().enumerate() {
        let host = instance.ports.get(index).copied().unwrap_or(0);
        for protocol in mapping.protocol.split(',').filter(|_| host > 0) {
            let inside = if mapping.container_port == 0 { host } else { mapping.container_port };
            mappings.push(PortMapping {
                host_port: host,
                container_port: inside,
                protocol: Some(protocol.to_owned()),
            });
        }
    }
    let mut parameters: Vec<v1::Parameter> = docker
        .parameters
        .iter()
        .map(|one| v1::Parameter { key: one.key.clone(), value: one.value.clone() })
        .collect();
    parameters.push(v1::Parameter {
        key: "label".to_owned(),
        value: format!("MESOS_TASK_ID={}", instance.task_id),
    });
    let network = if app.is_host_mode() { Network::Host } else { Network::Bridge };
    Some(v1::ContainerInfo {
        r#type: v1::container_info::Type::Docker.into(),
        volumes: volumes.collect(),
        docker: Some(v1::container_info::DockerInfo {
            image: docker.image.clone(),
            network: Some(network.into()),
            port_mappings: mappings,
            privileged: Some(docker.privileged),
            parameters,
            force_pull_image: Some(docker.force_pull_image),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// A check that the agent runs.
fn health(app: &App, check: &HealthCheck, instance: &Instance) -> v1::HealthCheck {
    use v1::health_check::{HttpCheckInfo, TcpCheckInfo, Type};

    let port = check.port.unwrap_or_else(|| {
        let index = check.port_index.unwrap_or(0);
        let inside = app.mappings().get(index).map(|mapping| mapping.container_port).filter(|port| *port > 0);
        inside.or_else(|| instance.ports.get(index).copied()).unwrap_or(0)
    });
    let mut health = v1::HealthCheck {
        delay_seconds: Some(check.delay_seconds),
        interval_seconds: Some(check.interval_seconds),
        timeout_seconds: Some(check.timeout_seconds),
        consecutive_failures: Some(check.max_consecutive_failures),
        grace_period_seconds: Some(check.grace_period_seconds),
        ..Default::default()
    };
    match check.protocol.as_str() {
        "COMMAND" => {
            health.r#type = Some(Type::Command.into());
            let value = check.command.as_ref().map(|command| command.value.clone());
            health.command = Some(v1::CommandInfo { value, ..Default::default() });
        }
        "MESOS_TCP" => {
            health.r#type = Some(Type::Tcp.into());
            health.tcp = Some(TcpCheckInfo { port, ..Default::default() });
        }
        _ => {
            health.r#type = Some(Type::Http.into());
            health.http = Some(HttpCheckInfo { port, path: check.path.clone(), ..Default::default() });
        }
    }
    health
}
