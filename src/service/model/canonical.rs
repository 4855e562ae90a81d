//! From what people write to the canonical app: legacy spellings, read-only members, nulls.

use serde_json::{Map, Value, json};

use super::ids;
use crate::api::marathon::{App, Detail};

/// What happens to keys that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// They are ignored, as Marathon does.
    Ignore,
    /// They are errors with the nearest match: a file is written by a person.
    Refuse,
}

const APP: &[&str] = &[
    "id",
    "cmd",
    "args",
    "user",
    "env",
    "labels",
    "instances",
    "cpus",
    "mem",
    "disk",
    "gpus",
    "executor",
    "container",
    "networks",
    "portDefinitions",
    "requirePorts",
    "fetch",
    "constraints",
    "healthChecks",
    "upgradeStrategy",
    "unreachableStrategy",
    "killSelection",
    "backoffSeconds",
    "backoffFactor",
    "maxLaunchDelaySeconds",
    "taskKillGracePeriodSeconds",
    "dependencies",
    "role",
    "ports",
    "uris",
];
/// Read-only or without a meaning here; tolerated in any input.
const TOLERATED: &[&str] = &[
    "version",
    "versionInfo",
    "tasks",
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "deployments",
    "lastTaskFailure",
    "readinessCheckResults",
    "taskStats",
    "storeUrls",
    "taskRateLimit",
];
/// Known to Marathon, not built yet: refused, so that nobody relies on them.
const LATER: &[&str] = &[
    "secrets",
    "residency",
    "readinessChecks",
    "resourceLimits",
    "executorResources",
    "check",
    "tty",
    "acceptedResourceRoles",
    "ipAddress",
];
const CONTAINER: &[&str] = &["type", "docker", "volumes", "portMappings"];
const DOCKER: &[&str] = &["image", "forcePullImage", "privileged", "parameters", "network", "portMappings"];
const MAPPING: &[&str] = &["containerPort", "hostPort", "servicePort", "protocol", "name", "labels"];
const PORT: &[&str] = &["port", "protocol", "name", "labels"];
const HEALTH: &[&str] = &[
    "protocol",
    "path",
    "portIndex",
    "port",
    "command",
    "gracePeriodSeconds",
    "intervalSeconds",
    "timeoutSeconds",
    "maxConsecutiveFailures",
    "ignoreHttp1xx",
    "delaySeconds",
];

fn detail(path: impl Into<String>, error: impl Into<String>) -> Vec<Detail> {
    vec![Detail { path: path.into(), errors: vec![error.into()] }]
}

/// Reads an app.
///
/// # Errors
/// It has another shape than an app, or an unknown key where those are refused.
pub fn read(value: &Value, keys: Keys) -> Result<App, Vec<Detail>> {
    let Some(object) = value.as_object() else { return Err(detail("/", "an app must be an object")) };
    let mut object = without_nulls(object);
    if keys == Keys::Refuse {
        refuse_unknown(&object)?;
    }
    if let Some(key) = LATER.iter().find(|key| object.get(**key).is_some_and(|value| !is_empty(value))) {
        return Err(detail(format!("/{key}"), format!("{key} is not built yet; leave it out")));
    }
    rewrite_legacy(&mut object)?;
    let text = object.get("id").and_then(Value::as_str).unwrap_or_default();
    let id = ids::absolute(text).map_err(|problem| detail("/id", problem))?;
    object.insert("id".to_owned(), json!(id));
    defaults(&mut object);
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let path =
            error.path().to_string().replace('.', "/").replace('[', "(").replace(']', ")").replace("/(", "(");
        detail(format!("/{}", path.trim_start_matches("./")), error.into_inner().to_string())
    })
}

/// The stored app with the members of a partial update in place of its own.
#[must_use]
pub fn merge(stored: &App, update: &Map<String, Value>) -> Value {
    let mut merged = serde_json::to_value(stored).unwrap_or_default();
    if let Some(object) = merged.as_object_mut() {
        // The command is one thing in two spellings: a new one replaces both.
        let update = without_nulls(update);
        for (own, other) in [("cmd", "args"), ("args", "cmd")] {
            if update.contains_key(own) {
                object.shift_remove(other);
            }
        }
        for (own, other) in [("ports", "portDefinitions"), ("uris", "fetch")] {
            if update.contains_key(own) {
                object.shift_remove(other);
            }
        }
        object.extend(update);
    }
    merged
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

fn without_nulls(object: &Map<String, Value>) -> Map<String, Value> {
    let clean = |value: &Value| match value {
        Value::Object(inner) => Value::Object(without_nulls(inner)),
        Value::Array(list) => Value::Array(
            list.iter()
                .map(|item| {
                    item.as_object().map_or_else(|| item.clone(), |inner| Value::Object(without_nulls(inner)))
                })
                .collect(),
        ),
        other => other.clone(),
    };
    object
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), clean(value)))
        .collect()
}

fn refuse_unknown(app: &Map<String, Value>) -> Result<(), Vec<Detail>> {
    let known: Vec<&str> = [APP, TOLERATED, LATER].concat();
    unknown_in("", app, &known)?;
    let Some(container) = app.get("container").and_then(Value::as_object) else {
        return unknown_in_lists(app);
    };
    unknown_in("/container", container, CONTAINER)?;
    if let Some(docker) = container.get("docker").and_then(Value::as_object) {
        unknown_in("/container/docker", docker, DOCKER)?;
        each("/container/docker/portMappings", docker.get("portMappings"), MAPPING)?;
    }
    each("/container/portMappings", container.get("portMappings"), MAPPING)?;
    unknown_in_lists(app)
}

fn unknown_in_lists(app: &Map<String, Value>) -> Result<(), Vec<Detail>> {
    each("/portDefinitions", app.get("portDefinitions"), PORT)?;
    each("/healthChecks", app.get("healthChecks"), HEALTH)
}

fn each(path: &str, list: Option<&Value>, known: &[&str]) -> Result<(), Vec<Detail>> {
    for (index, item) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        if let Some(object) = item.as_object() {
            unknown_in(&format!("{path}({index})"), object, known)?;
        }
    }
    Ok(())
}

fn unknown_in(path: &str, object: &Map<String, Value>, known: &[&str]) -> Result<(), Vec<Detail>> {
    let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let nearest =
        known.iter().min_by_key(|other| strsim::damerau_levenshtein(other, key)).copied().unwrap_or_default();
    Err(detail(format!("{path}/{key}"), format!("unknown key {key:?}; did you mean {nearest:?}?")))
}

/// `ports`, `uris`, `container.docker.network`, `container.docker.portMappings`, a command as text.
fn rewrite_legacy(app: &mut Map<String, Value>) -> Result<(), Vec<Detail>> {
    if let Some(ports) = app.shift_remove("ports")
        && !app.contains_key("portDefinitions")
    {
        let list = ports.as_array().cloned().ok_or_else(|| detail("/ports", "must be a list of numbers"))?;
        let definitions: Vec<Value> =
            list.iter().map(|port| json!({ "port": port, "protocol": "tcp" })).collect();
        app.insert("portDefinitions".to_owned(), json!(definitions));
    }
    if let Some(uris) = app.shift_remove("uris")
        && !is_empty(&uris)
    {
        if app.contains_key("fetch") {
            return Err(detail("/uris", "give either uris or fetch"));
        }
        let archives = [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".tgz", ".tbz2", ".txz", ".zip"];
        let list = uris.as_array().cloned().ok_or_else(|| detail("/uris", "must be a list of texts"))?;
        let fetch = list.iter().map(|uri| {
            let text = uri.as_str().unwrap_or_default();
            json!({ "uri": uri, "extract": archives.iter().any(|suffix| text.ends_with(suffix)) })
        });
        app.insert("fetch".to_owned(), fetch.collect());
    }
    for check in app.get_mut("healthChecks").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(command) = check.get_mut("command")
            && command.is_string()
        {
            *command = json!({ "value": command.take() });
        }
    }
    rewrite_docker(app)
}

fn rewrite_docker(app: &mut Map<String, Value>) -> Result<(), Vec<Detail>> {
    let Some(container) = app.get_mut("container").and_then(Value::as_object_mut) else { return Ok(()) };
    let Some(docker) = container.get_mut("docker").and_then(Value::as_object_mut) else { return Ok(()) };
    let network = docker.shift_remove("network");
    if let Some(mappings) = docker.shift_remove("portMappings") {
        container.entry("portMappings").or_insert(mappings);
    }
    let Some(network) = network else { return Ok(()) };
    let mode = match network.as_str() {
        Some("HOST") => "host",
        Some("BRIDGE") => "container/bridge",
        other => {
            let given = other.unwrap_or("(no text)");
            return Err(detail(
                "/container/docker/network",
                format!("{given} is not built yet; use HOST or BRIDGE"),
            ));
        }
    };
    if app.contains_key("networks") {
        return Err(detail("/networks", "give either networks or container.docker.network"));
    }
    app.insert("networks".to_owned(), json!([{ "mode": mode }]));
    Ok(())
}

/// Ports that nobody named, and mappings' host ports.
fn defaults(app: &mut Map<String, Value>) {
    let host = app
        .get("networks")
        .and_then(Value::as_array)
        .is_none_or(|networks| networks.iter().all(|network| network["mode"] == "host"));
    if host {
        app.entry("portDefinitions").or_insert_with(|| json!([{ "port": 0, "name": "default" }]));
        return;
    }
    app.insert("requirePorts".to_owned(), json!(false));
    let bridge = app["networks"]
        .as_array()
        .is_some_and(|networks| networks.iter().any(|network| network["mode"] == "container/bridge"));
    if let Some(container) =
        app.entry("container").or_insert_with(|| json!({ "type": "MESOS" })).as_object_mut()
    {
        let mappings = container
            .entry("portMappings")
            .or_insert_with(|| json!([{ "containerPort": 0, "name": "default" }]));
        for mapping in mappings.as_array_mut().into_iter().flatten().filter(|_| bridge) {
            if let Some(object) = mapping.as_object_mut() {
                object.entry("hostPort").or_insert(json!(0));
            }
        }
    }
}
