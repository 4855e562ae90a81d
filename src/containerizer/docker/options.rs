//! From a launch to what the engine is told (Mesos docker executor, the mapping to `docker run`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use bollard::models::{ContainerCreateBody, HostConfig, PortBinding};

use super::labels::{self, DataOwner};
use super::parameters;
use crate::agent::core::container::{LaunchSpec, UNLIMITED};
use crate::api::v1;
use crate::api::v1::container_info::DockerInfo;
use crate::api::v1::container_info::docker_info::Network;

/// Where a container sees its sandbox.
pub(super) const SANDBOX: &str = "/mnt/mesos/sandbox";
/// Least memory of a container in bytes (Mesos: 32 MB).
const LEAST_MEMORY: i64 = 32 * 1024 * 1024;
/// Scheduling period in microseconds that quotas refer to.
const CPU_PERIOD: i64 = 100_000;
/// Least quota in microseconds of a period.
const LEAST_QUOTA: i64 = 1_000;
/// Processes and threads of a container at the most: a fork bomb must not end the host.
const PIDS: i64 = 4_096;
/// What Docker would allow and nearly nothing needs; `cap-add` gives it back.
const DROPPED: [&str; 3] = ["AUDIT_WRITE", "MKNOD", "NET_RAW"];
/// Host paths that would give a container the whole host.
const FORBIDDEN: [&str; 3] = ["/", "/var/run/docker.sock", "/run/docker.sock"];

/// The name of a container.
pub(super) fn name_of(container_id: &str) -> String {
    format!("mesos-{container_id}")
}

/// Everything that the engine is told of a new container. Published ports are bound to `publish`.
///
/// # Errors
/// The description contradicts itself or asks for what is not allowed.
pub(super) fn body(
    spec: &LaunchSpec,
    publish: IpAddr,
    owner: &DataOwner,
    run_id: Option<&str>,
) -> Result<ContainerCreateBody, String> {
    let container = spec.container.as_ref().ok_or("the task has no container")?;
    let docker = docker_info(spec)?;
    check_image(&docker.image)?;
    let (network, network_name) = network(docker, container)?;
    if container.hostname.is_some() && network == Network::Host {
        return Err("a hostname cannot be set with the host network".to_owned());
    }
    let privileged = docker.privileged.unwrap_or(false);
    let mut host = HostConfig {
        network_mode: Some(network_name),
        port_bindings: Some(port_bindings(docker, network, spec, publish)?),
        binds: Some(binds(container, &spec.sandbox)?),
        privileged: Some(privileged),
        pids_limit: Some(PIDS),
        volume_driver: volume_driver(container)?,
        ..HostConfig::default()
    };
    if !privileged {
        host.cap_drop = Some(DROPPED.map(str::to_owned).to_vec());
        host.security_opt = Some(vec!["no-new-privileges".to_owned()]);
    }
    limits(spec, &mut host);
    let (entrypoint, cmd) = command(&spec.command)?;
    let exposed = docker.port_mappings.iter().map(container_port).collect::<Result<Vec<_>, _>>()?;
    let mut body = ContainerCreateBody {
        image: Some(docker.image.clone()),
        hostname: container.hostname.clone(),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        entrypoint,
        cmd,
        exposed_ports: Some(exposed),
        labels: Some(labels::of(spec, owner, run_id)),
        ..ContainerCreateBody::default()
    };
    for parameter in &docker.parameters {
        parameters::apply(&parameter.key, &parameter.value, &mut body, &mut host)?;
    }
    body.host_config = Some(host);
    Ok(body)
}

/// The part of the description that is Docker's.
pub(super) fn docker_info(spec: &LaunchSpec) -> Result<&DockerInfo, String> {
    let docker = spec.container.as_ref().and_then(|container| container.docker.as_ref());
    docker.ok_or_else(|| "the container has no 'docker' part; give it an image".to_owned())
}

/// An image's name becomes part of a path of the engine's API: nothing in it may change that path.
pub(super) fn check_image(image: &str) -> Result<(), String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-/:@+".contains(letter);
    let good = !image.is_empty()
        && image.len() <= 512
        && image.starts_with(|first: char| first.is_ascii_alphanumeric())
        && image.chars().all(allowed)
        && image.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if good {
        Ok(())
    } else {
        Err(format!("{image:?} is no image reference; write it as name:tag or registry/name:tag"))
    }
}

fn network(docker: &DockerInfo, container: &v1::ContainerInfo) -> Result<(Network, String), String> {
    let network = match docker.network.map(Network::try_from) {
        None => Network::Host,
        Some(Ok(network)) => network,
        Some(Err(_)) => return Err("the network is of a kind that is not known".to_owned()),
    };
    let name = match network {
        Network::Host => "host".to_owned(),
        Network::Bridge => "bridge".to_owned(),
        Network::None => "none".to_owned(),
        Network::User => match container.network_infos.as_slice() {
            [v1::NetworkInfo { name: Some(name), .. }] if is_name(name) => name.clone(),
            [v1::NetworkInfo { name: Some(name), .. }] => {
                return Err(format!("{name:?} is no name of a network"));
            }
            _ => return Err("a user network needs exactly one network_infos with a name".to_owned()),
        },
    };
    Ok((network, name))
}

/// Names of networks and volumes (Docker's own rule).
fn is_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

/// `80/tcp` of a mapping.
fn container_port(mapping: &v1::container_info::docker_info::PortMapping) -> Result<String, String> {
    let protocol = mapping.protocol.as_deref().unwrap_or("tcp").to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("the protocol {protocol:?} of a port mapping is none of tcp, udp, sctp"));
    }
    if !(1..=65_535).contains(&mapping.container_port) {
        return Err(format!("{} is no port of a container", mapping.container_port));
    }
    Ok(format!("{}/{protocol}", mapping.container_port))
}

fn port_bindings(
    docker: &DockerInfo,
    network: Network,
    spec: &LaunchSpec,
    publish: IpAddr,
) -> Result<HashMap<String, Option<Vec<PortBinding>>>, String> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    if !docker.port_mappings.is_empty() && !matches!(network, Network::Bridge | Network::User) {
        return Err("port mappings need the network BRIDGE or USER".to_owned());
    }
    for mapping in &docker.port_mappings {
        let host = u64::from(mapping.host_port);
        if !spec.ports.iter().any(|(begin, end)| (*begin..=*end).contains(&host)) {
            return Err(format!("the host port {host} is not among the task's resources"));
        }
        let binding = PortBinding { host_ip: Some(publish.to_string()), host_port: Some(host.to_string()) };
        bindings.entry(container_port(mapping)?).or_default().get_or_insert_default().push(binding);
    }
    Ok(bindings)
}

/// The sandbox and the volumes, as `source:path:mode`.
fn binds(container: &v1::ContainerInfo, sandbox: &Path) -> Result<Vec<String>, String> {
    let mut binds = vec![format!("{}:{SANDBOX}:rw", sandbox.display())];
    for volume in &container.volumes {
        if let Some(source) = source_of(volume, sandbox)? {
            let inside = &volume.container_path;
            let relative_host = volume.host_path.as_deref().is_some_and(|path| !path.starts_with('/'));
            let inside = match inside.starts_with('/') {
                true => inside.clone(),
                false if relative_host => {
                    return Err(format!(
                        "the volume {inside:?} has two relative paths; one must be absolute"
                    ));
                }
                false => format!("{SANDBOX}/{inside}"),
            };
            if source.contains(':') || inside.contains(':') {
                return Err(format!("the paths of the volume {inside:?} must not contain a colon"));
            }
            let mode = if volume.mode == i32::from(v1::volume::Mode::Ro) { "ro" } else { "rw" };
            binds.push(format!("{source}:{inside}:{mode}"));
        }
    }
    Ok(binds)
}

/// Host path or volume name; none for a kind of volume that docker tasks do not have.
fn source_of(volume: &v1::Volume, sandbox: &Path) -> Result<Option<String>, String> {
    if let Some(path) = &volume.host_path {
        let below_sandbox = Path::new(path);
        let plain = below_sandbox.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        if !plain {
            return Err(format!("the host path {path:?} of a volume must not contain '..'"));
        }
        let normal = below_sandbox.components().collect::<std::path::PathBuf>();
        if FORBIDDEN.iter().any(|forbidden| normal == Path::new(forbidden)) {
            return Err(format!(
                "the host path {path:?} would give the container the whole host; mount a directory below it"
            ));
        }
        return Ok(Some(if below_sandbox.is_absolute() {
            path.clone()
        } else {
            sandbox.join(below_sandbox).display().to_string()
        }));
    }
    let docker = volume.source.as_ref().and_then(|source| source.docker_volume.as_ref());
    match (docker, &volume.source) {
        (Some(docker), _) if is_name(&docker.name) => Ok(Some(docker.name.clone())),
        (Some(docker), _) => Err(format!("{:?} is no name of a volume", docker.name)),
        (None, Some(_)) => Ok(None),
        (None, None) => Err(format!("the volume {:?} has no source", volume.container_path)),
    }
}

/// The one driver of all docker volumes.
fn volume_driver(container: &v1::ContainerInfo) -> Result<Option<String>, String> {
    let drivers = container
        .volumes
        .iter()
        .filter_map(|volume| volume.source.as_ref()?.docker_volume.as_ref()?.driver.as_ref());
    let mut only: Option<&String> = None;
    for driver in drivers {
        if only.is_some_and(|other| other != driver) {
            return Err("the volumes of a task must share one driver".to_owned());
        }
        only = Some(driver);
    }
    Ok(only.cloned())
}

fn limits(spec: &LaunchSpec, host: &mut HostConfig) {
    host.cpu_shares = Some((spec.cpus_milli.saturating_mul(1_024) / 1_000).max(2));
    if let Some(limit) = spec.cpus_limit_milli.filter(|limit| *limit != UNLIMITED) {
        host.cpu_period = Some(CPU_PERIOD);
        host.cpu_quota = Some((limit.saturating_mul(CPU_PERIOD) / 1_000).max(LEAST_QUOTA));
    }
    let bytes = |milli: i64| (milli.saturating_mul(1_024) / 1_000).saturating_mul(1_024).max(LEAST_MEMORY);
    match spec.mem_limit_milli {
        None => host.memory = Some(bytes(spec.mem_milli)),
        Some(limit) => {
            host.memory = (limit != UNLIMITED).then(|| bytes(limit));
            host.memory_reservation = Some(bytes(spec.mem_milli));
        }
    }
}

/// Entry point and arguments.
type Command = (Option<Vec<String>>, Option<Vec<String>>);

/// A shell command replaces the image's entry point; anything else follows it.
fn command(command: &v1::CommandInfo) -> Result<Command, String> {
    if command.shell.unwrap_or(true) {
        let value = command.value.clone().ok_or(
            "a shell command needs a value; set 'shell' to false to run what the image runs by itself",
        )?;
        return Ok((Some(vec!["/bin/sh".to_owned()]), Some(vec!["-c".to_owned(), value])));
    }
    let words: Vec<String> = command.value.iter().chain(&command.arguments).cloned().collect();
    Ok((None, (!words.is_empty()).then_some(words)))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
