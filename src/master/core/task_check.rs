//! What makes a task invalid (Mesos scheduler API, LAUNCH). The first rule that is broken decides;
//! its message names the thing.

use super::accept::Pool;
use crate::api::v1;
use crate::api::v1::task_status::Reason;
use crate::base::id::Role;
use crate::resources::Resources;

/// Most resources of a task: one of each kind and reservation, and some ports.
const MAX_RESOURCES: usize = 1_000;
/// Most ranges and items in all of them together.
const MAX_PARTS: usize = 10_000;

/// Why a task does not run.
pub(super) struct Rejection {
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// Fills in what may be left out: the allocation of resources, the type of a health check.
pub(super) fn complete(task: &mut v1::TaskInfo, role: &Role) {
    for resource in &mut task.resources {
        resource
            .allocation_info
            .get_or_insert_with(|| v1::resource::AllocationInfo { role: Some(role.to_string()) });
    }
    if let Some(check) = &mut task.health_check
        && check.r#type.is_none()
    {
        use v1::health_check::Type;

        check.r#type = match (&check.command, &check.http) {
            (Some(_), None) => Some(Type::Command.into()),
            (None, Some(_)) => Some(Type::Http.into()),
            _ => None,
        };
    }
}

/// Checks a task against the offers; answers its resources.
pub(super) fn check(task: &v1::TaskInfo, pool: &Pool) -> Result<Resources, String> {
    if task.agent_id.value != pool.agent_id.as_str() {
        return Err(format!(
            "Task uses invalid agent {} while agent {} is expected",
            task.agent_id.value, pool.agent_id
        ));
    }
    non_negative(task.kill_policy.and_then(|policy| policy.grace_period), "kill_policy.grace_period")?;
    non_negative(task.max_completion_time, "max_completion_time")?;
    task.check.as_ref().map_or(Ok(()), check_info)?;
    task.health_check.as_ref().map_or(Ok(()), health_check)?;
    let resources = resources(task, pool)?;
    environment(task.command.as_ref().and_then(|command| command.environment.as_ref()))?;
    task.container.as_ref().map_or(Ok(()), container)?;
    limits(task, &resources)?;
    match (&task.command, &task.executor) {
        (Some(_), None) => {}
        (None, Some(_)) => {
            return Err("custom executors are not built yet: give the task a command".to_owned());
        }
        _ => {
            return Err(
                "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
                    .to_owned(),
            );
        }
    }
    if !pool.left.contains(&resources) {
        return Err(format!(
            "Total resources {resources} required by task is more than available {}",
            pool.left
        ));
    }
    Ok(resources)
}

fn non_negative(duration: Option<v1::DurationInfo>, name: &str) -> Result<(), String> {
    match duration {
        Some(duration) if duration.nanoseconds < 0 => Err(format!("'{name}' must be non-negative")),
        _ => Ok(()),
    }
}

fn seconds(value: Option<f64>, name: &str) -> Result<(), String> {
    match value {
        Some(value) if value.is_nan() || value < 0.0 => {
            Err(format!("'{name}' must be non-negative, not {value}"))
        }
        _ => Ok(()),
    }
}

fn check_info(check: &v1::CheckInfo) -> Result<(), String> {
    use v1::check_info::Type;

    const LACKS: &str = "CheckInfo lacks the member of its type";
    match check.r#type.map(Type::try_from) {
        Some(Ok(Type::Command)) => command("CheckInfo", &check.command.as_ref().ok_or(LACKS)?.command)?,
        Some(Ok(Type::Http)) => {
            let http = check.http.as_ref().ok_or(LACKS)?;
            path("CheckInfo", http.path.as_deref())?;
            port("CheckInfo", http.port)?;
        }
        Some(Ok(Type::Tcp)) => port("CheckInfo", check.tcp.as_ref().ok_or(LACKS)?.port)?,
        Some(Ok(Type::Unknown) | Err(_)) | None => {
            return Err("CheckInfo must specify a known 'type'".to_owned());
        }
    }
    seconds(check.delay_seconds, "check.delay_seconds")?;
    seconds(check.interval_seconds, "check.interval_seconds")?;
    seconds(check.timeout_seconds, "check.timeout_seconds")
}

fn health_check(check: &v1::HealthCheck) -> Result<(), String> {
    use v1::health_check::Type;

    match check.r#type.map(Type::try_from) {
        Some(Ok(Type::Command)) => {
            let given = check.command.as_ref().ok_or("HealthCheck lacks 'command', as its type says")?;
            command("HealthCheck", given)?;
        }
        Some(Ok(Type::Http)) => {
            let http = check.http.as_ref().ok_or("HealthCheck lacks 'http', as its type says")?;
            if http.scheme.as_deref().is_some_and(|scheme| scheme != "http" && scheme != "https") {
                return Err("HealthCheck: 'http.scheme' must be http or https".to_owned());
            }
            path("HealthCheck", http.path.as_deref())?;
            port("HealthCheck", http.port)?;
        }
        Some(Ok(Type::Tcp)) => {
            let tcp = check.tcp.as_ref().ok_or("HealthCheck lacks 'tcp', as its type says")?;
            port("HealthCheck", tcp.port)?;
        }
        Some(Ok(Type::Unknown) | Err(_)) | None => {
            return Err("HealthCheck must specify a known 'type'".to_owned());
        }
    }
    seconds(check.delay_seconds, "health_check.delay_seconds")?;
    seconds(check.interval_seconds, "health_check.interval_seconds")?;
    seconds(check.timeout_seconds, "health_check.timeout_seconds")?;
    seconds(check.grace_period_seconds, "health_check.grace_period_seconds")
}

fn command(what: &str, command: &v1::CommandInfo) -> Result<(), String> {
    if command.value.is_none() {
        return Err(format!("{what}: the command lacks a 'value'"));
    }
    environment(command.environment.as_ref())
}

fn path(what: &str, path: Option<&str>) -> Result<(), String> {
    match path {
        Some(path) if !path.starts_with('/') => {
            Err(format!("{what}: 'http.path' must start with a slash, not be {path:?}"))
        }
        _ => Ok(()),
    }
}

fn port(what: &str, port: u32) -> Result<(), String> {
    if (1..=65_535).contains(&port) { Ok(()) } else { Err(format!("{what}: {port} is not a port")) }
}

/// Ranges and items that all resources of a task have.
fn parts(task: &v1::TaskInfo) -> usize {
    let of = |resource: &v1::Resource| {
        let ranges = resource.ranges.as_ref().map_or(0, |ranges| ranges.range.len());
        ranges + resource.set.as_ref().map_or(0, |set| set.item.len())
    };
    task.resources.iter().map(of).sum()
}

fn resources(task: &v1::TaskInfo, pool: &Pool) -> Result<Resources, String> {
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    let (count, parts) = (task.resources.len(), parts(task));
    if count > MAX_RESOURCES || parts > MAX_PARTS {
        return Err(format!(
            "Task has {count} resources with {parts} ranges and items; at most {MAX_RESOURCES} with {MAX_PARTS} are taken"
        ));
    }
    let resources = Resources::from_wire_apart(&task.resources)
        .map_err(|error| format!("Task uses invalid resources: {error}"))?;
    if resources.milli("gpus") % 1_000 != 0 {
        return Err("Task uses invalid resources: 'gpus' must be a whole number".to_owned());
    }
    if resources.allocation_roles().into_iter().any(|role| role != pool.role) {
        return Err(format!("Task uses resources that are not allocated to the offers' role {}", pool.role));
    }
    let revocable = resources.revocable();
    let plain = resources.nonrevocable();
    if let Some(name) = revocable.names().intersection(&plain.names()).next() {
        return Err(format!("Task mixes revocable and non-revocable {name}"));
    }
    Ok(resources)
}

fn environment(environment: Option<&v1::Environment>) -> Result<(), String> {
    use v1::environment::variable::Type;

    for variable in environment.iter().flat_map(|environment| &environment.variables) {
        let name = &variable.name;
        let wrong = |problem: &str| Err(format!("Environment variable '{name}' {problem}"));
        if name.is_empty() || name.contains(['=', '\0']) {
            return wrong("has an invalid name");
        }
        match variable.r#type.map_or(Ok(Type::Value), Type::try_from) {
            Ok(Type::Value) if variable.secret.is_some() => {
                return wrong("of type VALUE must not have a secret");
            }
            Ok(Type::Value) if variable.value.is_none() => return wrong("of type VALUE must have a value"),
            Ok(Type::Value) if variable.value.as_ref().is_some_and(|value| value.contains('\0')) => {
                return wrong("has a NUL in its value");
            }
            Ok(Type::Value) => {}
            Ok(Type::Secret) => return wrong("is a secret; secrets are not built yet"),
            Ok(Type::Unknown) | Err(_) => return wrong("has an unknown type"),
        }
    }
    Ok(())
}

fn container(container: &v1::ContainerInfo) -> Result<(), String> {
    for volume in &container.volumes {
        let given = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err("Only one of 'host_path', 'image' and 'source' of a volume must be set".to_owned());
        }
    }
    match v1::container_info::Type::try_from(container.r#type) {
        Ok(v1::container_info::Type::Docker) => {
            let docker = container
                .docker
                .as_ref()
                .ok_or("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo")?;
            if docker.parameters.iter().any(|parameter| parameter.key == "name") {
                return Err("Parameter in DockerInfo must not be 'name'".to_owned());
            }
            Ok(())
        }
        Ok(v1::container_info::Type::Mesos) => Ok(()),
        Err(_) => Err("ContainerInfo has no known 'type'".to_owned()),
    }
}

/// Limits name `cpus` and `mem` only, and are no less than the request.
fn limits(task: &v1::TaskInfo, resources: &Resources) -> Result<(), String> {
    for (name, limit) in &task.limits {
        if name != "cpus" && name != "mem" {
            return Err(format!("Limits may only be set for cpus and mem, not {name}"));
        }
        let request = crate::resources::Scalar::from_milli(resources.milli(name)).to_f64();
        if request == 0.0 {
            return Err(format!("A limit of {name} needs a request of {name}"));
        }
        if limit.value.is_nan() || limit.value < request {
            return Err(format!("The limit {} of {name} is less than the request {request}", limit.value));
        }
    }
    Ok(())
}
