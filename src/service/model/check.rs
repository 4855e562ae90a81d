//! The rules of an app (Marathon validation). Every broken rule is listed with its place.

use std::collections::BTreeSet;

use super::ids;
use crate::api::marathon::{App, Detail, HealthCheck, UnreachableStrategy};
use crate::resources::Scalar;

/// With this label an app never has more than one instance.
const SINGLE_INSTANCE: &str = "MARATHON_SINGLE_INSTANCE_APP";

/// Checks a canonical app.
///
/// # Errors
/// The rules that it breaks.
pub fn check(app: &App) -> Result<(), Vec<Detail>> {
    let mut details: Vec<Detail> = Vec::new();
    let mut wrong =
        |path: &str, error: String| details.push(Detail { path: path.to_owned(), errors: vec![error] });
    for (path, value, least) in [("/cpus", app.cpus, 0.001), ("/mem", app.mem, 0.0), ("/disk", app.disk, 0.0)]
    {
        if let Err(problem) = Scalar::from_f64(value) {
            wrong(path, problem);
        } else if value < least {
            wrong(path, format!("must be at least {least}"));
        }
    }
    for (path, value, least) in [
        ("/backoffSeconds", app.backoff_seconds, 0.0),
        ("/backoffFactor", app.backoff_factor, 1.0),
        ("/maxLaunchDelaySeconds", app.max_launch_delay_seconds, 0.0),
        ("/taskKillGracePeriodSeconds", app.task_kill_grace_period_seconds.unwrap_or(0.0), 0.0),
    ] {
        if !value.is_finite() || value < least {
            wrong(path, format!("must be a number of at least {least}"));
        }
    }
    if app.gpus > 0 {
        wrong("/gpus", "gpus are not built yet; leave them out".to_owned());
    }
    if app.role != "*" {
        wrong("/role", "roles of apps are not built yet; leave it out".to_owned());
    }
    if !matches!(app.kill_selection.as_str(), "YOUNGEST_FIRST" | "OLDEST_FIRST") {
        wrong("/killSelection", "must be YOUNGEST_FIRST or OLDEST_FIRST".to_owned());
    }
    if !app.executor.is_empty() && app.executor != "//cmd" {
        wrong("/executor", "custom executors are not built yet; leave it out".to_owned());
    }
    check_command(app, &mut wrong);
    check_container(app, &mut wrong);
    check_ports(app, &mut wrong);
    check_port_names(app, &mut wrong);
    check_strategies(app, &mut wrong);
    let agents = app.health_checks.iter().filter(|check| check.protocol.starts_with("MESOS_")).count();
    if agents > 1 {
        wrong("/healthChecks", "an app may have one MESOS_HTTP or MESOS_TCP check".to_owned());
    }
    let mut dependencies = BTreeSet::new();
    if let Some(twin) = app.dependencies.iter().find(|one| !dependencies.insert(one.as_str())) {
        wrong("/dependencies", format!("{twin} is there twice"));
    }
    for (index, health) in app.health_checks.iter().enumerate() {
        check_health(app, index, health, &mut wrong);
    }
    for (index, constraint) in app.constraints.iter().enumerate() {
        if let Err(problem) = check_constraint(constraint) {
            wrong(&format!("/constraints({index})"), problem);
        }
    }
    if let Some(name) = app.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        wrong("/env", format!("{name:?} is no name for a variable"));
    }
    if details.is_empty() { Ok(()) } else { Err(details) }
}

type Wrong<'a> = &'a mut dyn FnMut(&str, String);

fn check_strategies(app: &App, wrong: Wrong<'_>) {
    let upgrade = app.upgrade_strategy;
    for (path, value) in [
        ("/upgradeStrategy/minimumHealthCapacity", upgrade.minimum_health_capacity),
        ("/upgradeStrategy/maximumOverCapacity", upgrade.maximum_over_capacity),
    ] {
        if !(0.0..=1.0).contains(&value) {
            wrong(path, "must be between 0 and 1".to_owned());
        }
    }
    if app.labels.get(SINGLE_INSTANCE).is_some_and(|value| value == "true") {
        if app.instances > 1 {
            wrong("/instances", format!("must be 0 or 1 with the label {SINGLE_INSTANCE}"));
        }
        if (upgrade.minimum_health_capacity, upgrade.maximum_over_capacity) != (0.0, 0.0) {
            let error = format!("both capacities must be 0 with the label {SINGLE_INSTANCE}");
            wrong("/upgradeStrategy", error);
        }
    }
    if let UnreachableStrategy::Enabled { inactive_after_seconds, expunge_after_seconds } =
        app.unreachable_strategy
    {
        for (name, value) in
            [("inactiveAfterSeconds", inactive_after_seconds), ("expungeAfterSeconds", expunge_after_seconds)]
        {
            if value < 0 {
                wrong(&format!("/unreachableStrategy/{name}"), "must be at least 0".to_owned());
            }
        }
        if inactive_after_seconds > expunge_after_seconds {
            let error = "inactiveAfterSeconds must not be more than expungeAfterSeconds";
            wrong("/unreachableStrategy", error.to_owned());
        }
    }
}

fn check_command(app: &App, wrong: Wrong<'_>) {
    match (app.cmd.as_deref(), app.args.is_empty()) {
        (Some(_), false) => wrong("/cmd", "give either cmd or args".to_owned()),
        (Some(cmd), true) if cmd.trim().is_empty() => wrong("/cmd", "must not be empty".to_owned()),
        (None, true) if !app.is_docker() => {
            wrong("/cmd", "an app without an image needs cmd or args".to_owned())
        }
        _ => {}
    }
}

fn check_container(app: &App, wrong: Wrong<'_>) {
    let Some(container) = &app.container else { return };
    match (container.kind.as_str(), &container.docker) {
        ("DOCKER", None) => wrong("/container/docker", "must be given for the type DOCKER".to_owned()),
        ("DOCKER", Some(docker)) if docker.image.trim().is_empty() => {
            wrong("/container/docker/image", "must not be empty".to_owned());
        }
        ("DOCKER", Some(_)) | ("MESOS", None) => {}
        ("MESOS", Some(_)) => wrong("/container/docker", "images need the type DOCKER".to_owned()),
        (other, _) => wrong("/container/type", format!("must be DOCKER or MESOS, not {other:?}")),
    }
    if !app.is_docker() && !container.volumes.is_empty() {
        // Without an image the task sees the host's files as they are.
        wrong("/container/volumes", "volumes need the type DOCKER".to_owned());
    }
    for (index, volume) in container.volumes.iter().enumerate() {
        let path = format!("/container/volumes({index})");
        if volume.host_path.is_none() {
            wrong(&path, "only volumes with a hostPath are built yet".to_owned());
        }
        if !matches!(volume.mode.as_str(), "RO" | "RW") {
            wrong(&format!("{path}/mode"), "must be RO or RW".to_owned());
        }
    }
}

fn check_ports(app: &App, wrong: Wrong<'_>) {
    let [network] = app.networks.as_slice() else {
        return wrong("/networks", "give exactly one network".to_owned());
    };
    match network.mode.as_str() {
        "host" if !app.mappings().is_empty() => {
            wrong("/container/portMappings", "host mode has portDefinitions instead".to_owned());
        }
        "host" => {}
        "container/bridge" if app.is_docker() => {}
        "container/bridge" => {
            wrong("/networks(0)/mode", "bridge mode needs a container of type DOCKER".to_owned())
        }
        "container" => wrong(
            "/networks(0)/mode",
            "container networks are not built yet; use host or container/bridge".to_owned(),
        ),
        other => wrong("/networks(0)/mode", format!("must be host or container/bridge, not {other:?}")),
    }
    if network.mode != "container" && network.name.is_some() {
        wrong("/networks(0)/name", "only container networks have a name".to_owned());
    }
    if network.mode != "host" && app.port_definitions.is_some() {
        wrong(
            "/portDefinitions",
            "only host mode has portDefinitions; use container.portMappings".to_owned(),
        );
    }
    let definitions = app.port_definitions.iter().flatten().map(|port| (port.port, &port.protocol));
    let mappings = app.mappings().iter().flat_map(|mapping| {
        [mapping.container_port, mapping.host_port.unwrap_or(0), mapping.service_port]
            .map(|port| (port, &mapping.protocol))
    });
    let at = if network.mode == "host" { "/portDefinitions" } else { "/container/portMappings" };
    for (port, protocol) in definitions.chain(mappings) {
        if port > 65_535 {
            wrong(at, format!("{port} is not a port; ports end at 65535"));
        }
        if !matches!(protocol.as_str(), "tcp" | "udp" | "udp,tcp") {
            wrong(at, format!("the protocol must be tcp, udp or \"udp,tcp\", not {protocol:?}"));
        }
    }
}

/// Names and numbers that must be there once.
fn check_port_names(app: &App, wrong: Wrong<'_>) {
    let (path, names): (_, Vec<Option<&String>>) = if app.is_host_mode() {
        ("/portDefinitions", app.port_definitions.iter().flatten().map(|port| port.name.as_ref()).collect())
    } else {
        ("/container/portMappings", app.mappings().iter().map(|mapping| mapping.name.as_ref()).collect())
    };
    let mut seen = BTreeSet::new();
    for (index, name) in names.into_iter().enumerate() {
        let Some(name) = name else { continue };
        if !ids::is_label(name) {
            let error = format!("{name:?} may only hold lower-case letters, digits and inner hyphens");
            wrong(&format!("{path}({index})/name"), error);
        }
        if !seen.insert(name) {
            wrong(path, format!("the name {name:?} is there twice"));
        }
    }
    let mut numbers = BTreeSet::new();
    for port in app.port_definitions.iter().flatten().map(|port| port.port).filter(|port| *port > 0) {
        if !numbers.insert(port) {
            wrong("/portDefinitions", format!("the port {port} is there twice"));
        }
    }
}

fn check_health(app: &App, index: usize, health: &HealthCheck, wrong: Wrong<'_>) {
    let path = format!("/healthChecks({index})");
    for (name, value) in [
        ("gracePeriodSeconds", health.grace_period_seconds),
        ("intervalSeconds", health.interval_seconds),
        ("timeoutSeconds", health.timeout_seconds),
        ("delaySeconds", health.delay_seconds),
    ] {
        if !value.is_finite() || value < 0.0 {
            wrong(&format!("{path}/{name}"), "must be a number of at least 0".to_owned());
        }
    }
    match health.protocol.as_str() {
        "HTTP" | "TCP" | "MESOS_HTTP" | "MESOS_TCP" => {
            let ports = app.service_ports().len();
            let used = health.port_index.unwrap_or(0);
            if health.port_index.is_some() && health.port.is_some() {
                wrong(&path, "give either port or portIndex".to_owned());
            } else if health.port.is_none() && used >= ports {
                wrong(
                    &format!("{path}/portIndex"),
                    format!("{used} is not the index of a port; the app has {ports}"),
                );
            }
            if health.port.is_some_and(|port| !(1..=65_535).contains(&port)) {
                wrong(&format!("{path}/port"), "must be between 1 and 65535".to_owned());
            }
        }
        "COMMAND" if health.command.is_some() => {}
        "COMMAND" => wrong(&format!("{path}/command"), "must be given for the protocol COMMAND".to_owned()),
        "HTTPS" | "MESOS_HTTPS" => {
            wrong(&format!("{path}/protocol"), "https checks are not built yet; use HTTP or TCP".to_owned())
        }
        other => wrong(
            &format!("{path}/protocol"),
            format!("{other:?} is none of HTTP, TCP, COMMAND, MESOS_HTTP, MESOS_TCP"),
        ),
    }
}

/// `[field, OPERATOR]` or `[field, OPERATOR, value]`.
fn check_constraint(constraint: &[String]) -> Result<(), String> {
    if let Some(field) = constraint.first().filter(|field| ["@region", "@zone"].contains(&field.as_str())) {
        return Err(format!("{field} is not built yet; give agents an attribute and use its name"));
    }
    let (operator, value) = match constraint {
        [_, operator] => (operator.to_ascii_uppercase(), None),
        [_, operator, value] => (operator.to_ascii_uppercase(), Some(value)),
        _ => return Err("must be [field, operator] or [field, operator, value]".to_owned()),
    };
    match (operator.as_str(), value) {
        ("UNIQUE", None) | ("CLUSTER" | "IS", Some(_)) => Ok(()),
        ("UNIQUE", Some(_)) => Err("UNIQUE takes no value".to_owned()),
        ("LIKE" | "UNLIKE", Some(value)) => match regex::Regex::new(&format!("^(?:{value})$")) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{value:?} is no regular expression: {error}")),
        },
        ("MAX_PER", Some(value)) => {
            value.parse::<u32>().map(drop).map_err(|_| format!("{value:?} is no number"))
        }
        ("GROUP_BY" | "CLUSTER", _) => Err(format!("{operator} without a fixed value is not built yet")),
        ("IS" | "LIKE" | "UNLIKE" | "MAX_PER", None) => Err(format!("{operator} needs a value")),
        _ => Err(format!("{operator:?} is none of UNIQUE, CLUSTER, MAX_PER, LIKE, UNLIKE, IS")),
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::service::model::{Keys, read};
    use serde_json::{Value, json};

    /// Places of what is wrong with an app that has these members beside an id and a command.
    fn problems(members: &Value) -> Vec<String> {
        let mut app = json!({ "id": "/a", "cmd": "x" });
        for (key, value) in members.as_object().expect("an object") {
            app[key] = value.clone();
        }
        let app = read(&app, Keys::Refuse).unwrap_or_else(|problem| panic!("{members}: {problem:?}"));
        check(&app).err().unwrap_or_default().into_iter().map(|detail| detail.path).collect()
    }

    #[test]
    fn every_broken_rule_is_found() {
        let docker = |rest: Value| {
            let mut container = json!({ "type": "DOCKER", "docker": { "image": "x" } });
            for (key, value) in rest.as_object().expect("an object") {
                container[key] = value.clone();
            }
            json!({ "container": container, "networks": [{ "mode": "container/bridge" }] })
        };
        let volume = json!([{ "containerPath": "/x", "hostPath": "/x", "mode": "RO" }]);
        let http = json!({ "protocol": "MESOS_HTTP" });
        let single = json!({ "MARATHON_SINGLE_INSTANCE_APP": "true" });
        let upgrade =
            |least: f64, over: f64| json!({ "minimumHealthCapacity": least, "maximumOverCapacity": over });
        for (members, path) in [
            (json!({ "portDefinitions": [{ "name": "Web" }] }), "/portDefinitions(0)/name"),
            (json!({ "portDefinitions": [{ "name": "a" }, { "name": "a" }] }), "/portDefinitions"),
            (json!({ "portDefinitions": [{ "port": 9 }, { "port": 9 }] }), "/portDefinitions"),
            (docker(json!({ "portMappings": [{ "name": "-a" }] })), "/container/portMappings(0)/name"),
            (
                docker(json!({ "portMappings": [{ "name": "a" }, { "name": "a" }] })),
                "/container/portMappings",
            ),
            (json!({ "healthChecks": [http, http] }), "/healthChecks"),
            (json!({ "healthChecks": [{ "port": 0 }] }), "/healthChecks(0)/port"),
            (json!({ "healthChecks": [{ "port": 65_536 }] }), "/healthChecks(0)/port"),
            (json!({ "networks": [{ "mode": "host", "name": "x" }] }), "/networks(0)/name"),
            (json!({ "labels": single, "instances": 2, "upgradeStrategy": upgrade(0.0, 0.0) }), "/instances"),
            (json!({ "labels": single }), "/upgradeStrategy"),
            (json!({ "upgradeStrategy": upgrade(1.5, 0.0) }), "/upgradeStrategy/minimumHealthCapacity"),
            (json!({ "container": { "type": "MESOS", "volumes": volume } }), "/container/volumes"),
            (json!({ "constraints": [["@zone", "UNIQUE"]] }), "/constraints(0)"),
            (json!({ "constraints": [["@region", "IS", "x"]] }), "/constraints(0)"),
            (json!({ "dependencies": ["b", "/b"] }), "/dependencies"),
            (
                json!({ "unreachableStrategy": { "inactiveAfterSeconds": -1 } }),
                "/unreachableStrategy/inactiveAfterSeconds",
            ),
            (
                json!({ "unreachableStrategy": { "inactiveAfterSeconds": 2, "expungeAfterSeconds": 1 } }),
                "/unreachableStrategy",
            ),
        ] {
            assert_eq!(problems(&members), [path], "{members}");
        }
    }

    #[test]
    fn what_keeps_the_rules_passes() {
        let zero = json!({ "minimumHealthCapacity": 0, "maximumOverCapacity": 0 });
        for members in [
            json!({ "portDefinitions": [{ "name": "web-1" }, { "name": "admin" }, { "port": 0 }, { "port": 0 }] }),
            json!({ "healthChecks": [{ "protocol": "MESOS_TCP" }, { "protocol": "COMMAND", "command": "x" }] }),
            json!({ "labels": { "MARATHON_SINGLE_INSTANCE_APP": "true" }, "upgradeStrategy": zero }),
            json!({ "labels": { "MARATHON_SINGLE_INSTANCE_APP": "false" }, "instances": 2 }),
            json!({ "unreachableStrategy": "disabled" }),
            json!({ "unreachableStrategy": { "inactiveAfterSeconds": 300, "expungeAfterSeconds": 600 } }),
        ] {
            assert_eq!(problems(&members), Vec::<String>::new(), "{members}");
        }
    }
}
