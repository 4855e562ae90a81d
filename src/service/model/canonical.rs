//! From what people write to the canonical app: unknown keys, read-only members, nulls, defaults.

use serde_json::{Map, Value, json};

use super::{ids, legacy};
use crate::api::marathon::{App, Detail};
use crate::base::nearest::nearest;

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
const LATER: &[&str] =
    &["secrets", "residency", "readinessChecks", "resourceLimits", "executorResources", "check", "ipAddress"];
/// Not built, except for the values that change nothing.
const MEANINGLESS: &[&str] = &["tty", "acceptedResourceRoles"];
const CONTAINER: &[&str] = &["type", "docker", "volumes", "portMappings"];
const DOCKER: &[&str] = &["image", "forcePullImage", "privileged", "parameters", "network", "portMappings"];
const MAPPING: &[&str] =
    &["containerPort", "hostPort", "servicePort", "protocol", "name", "labels", "networkNames"];
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
    "ipProtocol",
];

/// Why a document is no app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It has another shape than an app.
    Shape(Vec<Detail>),
    /// It has the shape, and says what cannot be.
    Invalid(Vec<Detail>),
}

impl Unreadable {
    /// What is wrong, by place.
    #[must_use]
    pub fn details(&self) -> &[Detail] {
        match self {
            Self::Shape(details) | Self::Invalid(details) => details,
        }
    }

    pub(super) fn shape(path: impl Into<String>, error: impl Into<String>) -> Self {
        Self::Shape(vec![Detail { path: path.into(), errors: vec![error.into()] }])
    }

    pub(super) fn invalid(path: impl Into<String>, error: impl Into<String>) -> Self {
        Self::Invalid(vec![Detail { path: path.into(), errors: vec![error.into()] }])
    }
}

/// Reads an app.
///
/// # Errors
/// It has another shape than an app, or an unknown key where those are refused.
pub fn read(value: &Value, keys: Keys) -> Result<App, Unreadable> {
    let Some(object) = value.as_object() else {
        return Err(Unreadable::shape("/", "an app must be an object"));
    };
    let mut object = without_nulls(object);
    if keys == Keys::Refuse {
        refuse_unknown(&object)?;
    }
    let text = object.get("id").ok_or_else(|| Unreadable::shape("/id", "must be given"))?;
    let text = text.as_str().ok_or_else(|| Unreadable::shape("/id", "must be a text"))?;
    let id = ids::absolute(text).map_err(|problem| Unreadable::invalid("/id", problem))?;
    refuse_unbuilt(&mut object)?;
    legacy::rewrite(&mut object)?;
    resolve_dependencies(&mut object, &id)?;
    object.insert("id".to_owned(), json!(id));
    defaults(&mut object);
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let path =
            error.path().to_string().replace('.', "/").replace('[', "(").replace(']', ")").replace("/(", "(");
        Unreadable::shape(format!("/{}", path.trim_start_matches("./")), error.into_inner().to_string())
    })
}

/// Features that are not built must not be lost in silence: people would rely on them.
fn refuse_unbuilt(app: &mut Map<String, Value>) -> Result<(), Unreadable> {
    if let Some(key) = LATER.iter().find(|key| app.get(**key).is_some_and(|value| !is_empty(value))) {
        return Err(Unreadable::invalid(format!("/{key}"), format!("{key} is not built yet; leave it out")));
    }
    if app.shift_remove("tty").is_some_and(|tty| tty != false) {
        return Err(Unreadable::invalid("/tty", "terminals are not built yet; leave it out or false"));
    }
    if app
        .shift_remove("acceptedResourceRoles")
        .is_some_and(|roles| !is_empty(&roles) && roles != json!(["*"]))
    {
        let error = "only the role * is offered yet; leave it out or give [\"*\"]";
        return Err(Unreadable::invalid("/acceptedResourceRoles", error));
    }
    let list = |path: &str| app_list(app, path);
    for (path, key, is_fine, error) in UNBUILT {
        for (index, item) in list(path).iter().enumerate() {
            if item.get(key).is_some_and(|value| !is_fine(value)) {
                return Err(Unreadable::invalid(format!("{path}({index})/{key}"), *error));
            }
        }
    }
    Ok(())
}

/// A member of the items of a list, the values that change nothing, and what is said of others.
type Unbuilt = (&'static str, &'static str, fn(&Value) -> bool, &'static str);

const UNBUILT: &[Unbuilt] = &[
    (
        "/container/portMappings",
        "networkNames",
        is_empty,
        "container networks are not built yet; leave it out",
    ),
    (
        "/container/docker/portMappings",
        "networkNames",
        is_empty,
        "container networks are not built yet; leave it out",
    ),
    ("/networks", "labels", is_empty, "networks of the modes host and container/bridge have no labels"),
    ("/healthChecks", "ipProtocol", |value| value == "IPv4", "only IPv4 is built yet; leave it out"),
];

fn app_list<'a>(app: &'a Map<String, Value>, path: &str) -> &'a [Value] {
    let mut steps = path.split('/').skip(1);
    let first = steps.next().and_then(|key| app.get(key));
    let found = steps.fold(first, |value, key| value.and_then(|value| value.get(key)));
    found.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Dependencies as absolute paths; relative ones start at the app's group.
fn resolve_dependencies(app: &mut Map<String, Value>, id: &str) -> Result<(), Unreadable> {
    let list = app.get_mut("dependencies").and_then(Value::as_array_mut);
    for (index, dependency) in list.into_iter().flatten().enumerate() {
        let path = || format!("/dependencies({index})");
        let text = dependency
            .as_str()
            .ok_or_else(|| Unreadable::shape(path(), "must be the id of an app or group"))?;
        let absolute =
            ids::resolve(text, ids::parent(id)).map_err(|problem| Unreadable::invalid(path(), problem))?;
        *dependency = json!(absolute);
    }
    Ok(())
}

pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

pub(super) fn without_nulls(object: &Map<String, Value>) -> Map<String, Value> {
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

fn refuse_unknown(app: &Map<String, Value>) -> Result<(), Unreadable> {
    let known: Vec<&str> = [APP, TOLERATED, LATER, MEANINGLESS].concat();
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

fn unknown_in_lists(app: &Map<String, Value>) -> Result<(), Unreadable> {
    each("/portDefinitions", app.get("portDefinitions"), PORT)?;
    each("/healthChecks", app.get("healthChecks"), HEALTH)
}

fn each(path: &str, list: Option<&Value>, known: &[&str]) -> Result<(), Unreadable> {
    for (index, item) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        if let Some(object) = item.as_object() {
            unknown_in(&format!("{path}({index})"), object, known)?;
        }
    }
    Ok(())
}

fn unknown_in(path: &str, object: &Map<String, Value>, known: &[&str]) -> Result<(), Unreadable> {
    let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let nearest = nearest(key, known.iter().copied()).unwrap_or_default();
    Err(Unreadable::shape(format!("{path}/{key}"), format!("unknown key {key:?}; did you mean {nearest:?}?")))
}

/// Ports that nobody named, and mappings' host ports.
fn defaults(app: &mut Map<String, Value>) {
    if app.get("networks").is_some_and(is_empty) {
        app.shift_remove("networks");
    }
    check_paths(app);
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

/// The path of a check that asks over HTTP starts with a slash.
fn check_paths(app: &mut Map<String, Value>) {
    for check in app.get_mut("healthChecks").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::String(path)) = check.get_mut("path")
            && !path.starts_with('/')
        {
            path.insert(0, '/');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(value: &Value) -> App {
        read(value, Keys::Refuse).unwrap_or_else(|problem| panic!("{value}: {problem:?}"))
    }

    #[test]
    fn what_a_marathon_shows_is_read() {
        let exported = app(&json!({
            "id": "/web", "cmd": "x", "args": null, "acceptedResourceRoles": ["*"], "tty": false,
            "ipAddress": null, "residency": null, "secrets": {}, "readinessChecks": [], "executor": "",
            "backoffFactor": 1.15, "backoffSeconds": 1, "role": "*", "gpus": 0, "killSelection": "YOUNGEST_FIRST",
            "container": { "type": "DOCKER", "volumes": [], "docker": { "image": "x", "forcePullImage": false,
                "privileged": false, "parameters": [] }, "portMappings": [{ "containerPort": 80, "hostPort": 0,
                "servicePort": 10000, "protocol": "tcp", "name": "web", "labels": {}, "networkNames": [] }] },
            "networks": [{ "mode": "container/bridge", "labels": {} }],
            "healthChecks": [{ "protocol": "HTTP", "path": "/", "portIndex": 0, "ipProtocol": "IPv4" }],
            "unreachableStrategy": { "inactiveAfterSeconds": 0, "expungeAfterSeconds": 0 },
            "version": "2020-01-01T00:00:00.000Z", "versionInfo": {},
        }));
        assert_eq!(exported.mappings().len(), 1);
        let old = app(&json!({
            "id": "/web", "ports": [10000], "uris": ["http://x/a.tgz"], "fetch": [{ "uri": "http://x/a.tgz" }],
            "container": { "type": "DOCKER", "docker": { "image": "x", "network": "BRIDGE", "portMappings":
                [{ "containerPort": 80, "hostPort": 0, "servicePort": 10000, "protocol": "tcp" }] } },
        }));
        assert_eq!((old.port_definitions.as_ref(), old.fetch.len()), (None, 1));
        assert!(app(&json!({ "id": "/a", "networks": [] })).is_host_mode());
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (member, value, path) in [
            ("acceptedResourceRoles", json!(["slave_public"]), "/acceptedResourceRoles"),
            ("tty", json!(true), "/tty"),
            ("secrets", json!({ "a": { "source": "b" } }), "/secrets"),
            ("networks", json!([{ "mode": "host", "labels": { "a": "b" } }]), "/networks(0)/labels"),
            ("healthChecks", json!([{}, { "ipProtocol": "IPv6" }]), "/healthChecks(1)/ipProtocol"),
            (
                "container",
                json!({ "portMappings": [{ "networkNames": ["x"] }] }),
                "/container/portMappings(0)/networkNames",
            ),
        ] {
            let mut body = json!({ "id": "/a", "cmd": "x" });
            body[member] = value;
            let problem = read(&body, Keys::Ignore).expect_err(path);
            assert!(matches!(problem, Unreadable::Invalid(_)), "{problem:?}");
            assert_eq!(problem.details()[0].path, path);
        }
    }

    #[test]
    fn shape_and_sense_are_two_things() {
        for (body, is_shape) in [
            (json!([]), true),
            (json!({ "cmd": "x" }), true),
            (json!({ "id": 7 }), true),
            (json!({ "id": "/a", "cpus": "many" }), true),
            (json!({ "id": "/a", "ports": 3 }), true),
            (json!({ "id": "/a", "dependencies": [1] }), true),
            (json!({ "id": "/A" }), false),
            (json!({ "id": "/a", "dependencies": ["/B"] }), false),
            (json!({ "id": "/a", "uris": ["x"], "fetch": [{ "uri": "y" }] }), false),
        ] {
            let problem = read(&body, Keys::Ignore).expect_err("no app");
            assert_eq!(matches!(problem, Unreadable::Shape(_)), is_shape, "{body}: {problem:?}");
        }
    }

    #[test]
    fn the_path_of_a_check_starts_with_a_slash() {
        let checks = json!([{ "path": "" }, { "path": "health" }, { "path": "/ok" }, {}]);
        let app = app(&json!({ "id": "/a", "cmd": "x", "healthChecks": checks }));
        let paths: Vec<Option<&str>> = app.health_checks.iter().map(|check| check.path.as_deref()).collect();
        assert_eq!(paths, [Some("/"), Some("/health"), Some("/ok"), None]);
    }

    #[test]
    fn dependencies_become_absolute() {
        let app = app(&json!({ "id": "/shop/front", "dependencies": ["db", "../mail", "/x//y"] }));
        assert_eq!(app.dependencies, ["/shop/db", "/mail", "/x/y"]);
    }
}
