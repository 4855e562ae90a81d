//! Requests of `/v2`: what is answered at once, and what becomes a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::api::marathon::{App, Detail, Done, Refusal, Request, Response};
use crate::base::time::{Now, Timestamp};
use crate::service::core::{Input, Services, plan};
use crate::service::model::{self, AppEntry, AppVersion, Deployment, Keys, Plan, State, Unreadable};

/// Service ports that are given out.
const SERVICE_PORTS: std::ops::RangeInclusive<u32> = 10_000..=20_000;

/// A change on its way through the registry.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) plan: Plan,
    /// Ids of the created apps whose objects are the answer (POST).
    created: Option<String>,
    /// Tasks that are killed with it.
    pub(super) kill: Vec<String>,
}

pub(super) enum Answer {
    Now(Result<Response, Refusal>),
    Input(Input, Result<Response, Refusal>),
    Propose(Box<Proposal>),
}

fn not_found(id: &str) -> Refusal {
    Refusal::NotFound(format!("App '{id}' does not exist"))
}

/// Answers a request, or says what must be committed first.
pub(super) fn answer(request: Request, state: &State, core: &Services, now: Now) -> Answer {
    match request {
        Request::PutApps { apps, partial, force, create } => change(state, now, apps, partial, force, create)
            .map_or_else(|refusal| Answer::Now(Err(refusal)), Answer::Propose),
        Request::DeleteApp { id } => {
            remove(state, now, id).map_or_else(|refusal| Answer::Now(Err(refusal)), Answer::Propose)
        }
        Request::RestartApp { id, force } => {
            restart(state, now, &id, force).map_or_else(|refusal| Answer::Now(Err(refusal)), Answer::Propose)
        }
        Request::KillTasks { id, tasks, scale, single } => {
            kill(state, core, now, id.as_deref(), tasks, scale, single)
        }
        Request::ResetDelay { id } => match state.apps().contains_key(&id) {
            true => {
                let done = Response { done: Done::Nothing, body: Value::Null, deployment: None };
                Answer::Input(Input::ResetDelay { app_id: id }, Ok(done))
            }
            false => Answer::Now(Err(not_found(&id))),
        },
        read => Answer::Now(query(read, state, core, now)),
    }
}

/// Requests that only read.
fn query(request: Request, state: &State, core: &Services, now: Now) -> Result<Response, Refusal> {
    let find = |id: &str| state.apps().get(id).ok_or_else(|| not_found(id));
    let body = match request {
        Request::ListApps { cmd, id, tasks } => {
            let contains = |text: &str, part: &Option<String>| {
                part.as_ref().is_none_or(|part| text.to_lowercase().contains(&part.to_lowercase()))
            };
            let apps = state.apps().iter().filter(|(own, _)| {
                let text = core.app(own).and_then(|app| app.cmd.clone()).unwrap_or_default();
                contains(own, &id) && contains(&text, &cmd)
            });
            json!({ "apps": apps.map(|(id, entry)| app_info(id, entry, state, core, tasks)).collect::<Vec<_>>() })
        }
        Request::GetApp { id } => json!({ "app": app_info(&id, find(&id)?, state, core, true) }),
        Request::Versions { id } => {
            let entry = find(&id)?;
            let earlier = entry.earlier.iter().rev().map(|version| stamp(version.version_ns));
            let all: Vec<String> = std::iter::once(stamp(entry.current.version_ns)).chain(earlier).collect();
            json!({ "versions": all })
        }
        Request::Version { id, version } => {
            let entry = find(&id)?;
            let wanted =
                entry.earlier.iter().chain([&entry.current]).find(|one| stamp(one.version_ns) == version);
            let wanted =
                wanted.ok_or_else(|| Refusal::NotFound(format!("App '{id}' has no version '{version}'")))?;
            definition(wanted)
        }
        Request::Tasks { id } => {
            if let Some(id) = &id {
                find(id)?;
            }
            json!({ "tasks": core.tasks(id.as_deref()) })
        }
        Request::Deployments => {
            Value::Array(state.deployments().values().map(|one| deployment(one)).collect())
        }
        Request::Queue => queue(state, core, now),
        Request::Info => info(state),
        Request::Leader => {
            return Err(Refusal::NotImplemented("the leader's address is not told yet".to_owned()));
        }
        Request::Explain { id } => {
            find(&id)?;
            json!({ "id": id, "reasons": core.reasons(&id, now.mono) })
        }
        _ => return Err(Refusal::NotImplemented("not built yet".to_owned())),
    };
    Ok(Response::ok(body))
}

/// What waits to be launched.
fn queue(state: &State, core: &Services, now: Now) -> Value {
    let items = core.queue(now.mono).into_iter().map(|(id, count, left, rejects)| {
        json!({
            "app": state.apps().get(&id).map(|entry| definition(&entry.current)),
            "count": count,
            "delay": { "timeLeftSeconds": left, "overdue": left == 0 },
            "since": now.wall.rfc3339_millis(),
            "processedOffersSummary": {
                "processedOffersCount": rejects.len(), "unusedOffersCount": rejects.len(),
                "rejectSummaryLastOffers": [], "rejectSummaryLaunchAttempt": []
            },
        })
    });
    json!({ "queue": items.collect::<Vec<_>>() })
}

fn info(state: &State) -> Value {
    json!({
        "name": "marathon",
        "version": crate::config::MARATHON_VERSION,
        "buildref": format!("mesita {}", env!("CARGO_PKG_VERSION")),
        "elected": true,
        "frameworkId": state.framework_id(),
        "marathon_config": { "framework_name": "marathon", "mesos_role": "*", "checkpoint": true, "ha": true },
        "zookeeper_config": {},
        "http_config": {},
    })
}

fn stamp(nanos: i64) -> String {
    Timestamp::from_nanos(nanos).rfc3339_millis()
}

/// A stored definition as it is shown.
fn definition(version: &AppVersion) -> Value {
    let mut app: Value = serde_json::from_slice(&version.definition).unwrap_or_default();
    if let Some(object) = app.as_object_mut() {
        object.insert("version".to_owned(), json!(stamp(version.version_ns)));
        let info = json!({
            "lastScalingAt": stamp(version.last_scaling_ns),
            "lastConfigChangeAt": stamp(version.last_config_change_ns),
        });
        object.insert("versionInfo".to_owned(), info);
    }
    app
}

fn app_info(id: &str, entry: &AppEntry, state: &State, core: &Services, tasks: bool) -> Value {
    let mut app = definition(&entry.current);
    let counts = core.counts(id);
    let deployments: Vec<Value> = state
        .deployments()
        .values()
        .filter(|deployment| deployment.affected().contains(id))
        .map(|deployment| json!({ "id": deployment.id }))
        .collect();
    if let Some(object) = app.as_object_mut() {
        object.insert("tasksStaged".to_owned(), json!(counts.staged));
        object.insert("tasksRunning".to_owned(), json!(counts.running));
        object.insert("tasksHealthy".to_owned(), json!(counts.healthy));
        object.insert("tasksUnhealthy".to_owned(), json!(counts.unhealthy));
        object.insert("deployments".to_owned(), json!(deployments));
        if let Some(failure) = &entry.last_failure {
            let failure = json!({
                "appId": id, "host": failure.host, "message": failure.message, "slaveId": failure.agent_id,
                "state": failure.state, "taskId": failure.task_id, "timestamp": stamp(failure.time_ns),
                "version": stamp(failure.version_ns),
            });
            object.insert("lastTaskFailure".to_owned(), failure);
        }
        if tasks {
            object.insert("tasks".to_owned(), json!(core.tasks(Some(id))));
        }
    }
    app
}

fn deployment(deployment: &Deployment) -> Value {
    let actions = |step: &Vec<model::Action>| -> Vec<Value> {
        step.iter().map(|action| json!({ "action": action.kind, "app": action.app_id })).collect()
    };
    let steps: Vec<Value> = deployment.steps.iter().map(|step| json!({ "actions": actions(step) })).collect();
    let current = deployment.steps.get(deployment.current).map(actions).unwrap_or_default();
    let current: Vec<Value> = current
        .into_iter()
        .map(|mut action| {
            action["readinessCheckResults"] = json!([]);
            action
        })
        .collect();
    json!({
        "id": deployment.id,
        "version": deployment.version.rfc3339_millis(),
        "affectedApps": deployment.affected(),
        "affectedPods": [],
        "steps": steps,
        "currentActions": current,
        "currentStep": deployment.current + 1,
        "totalSteps": deployment.steps.len(),
    })
}

/// The definitions as they stand.
fn current_apps(state: &State) -> BTreeMap<String, App> {
    let apps = state.apps().iter();
    apps.filter_map(|(id, entry)| Some((id.clone(), serde_json::from_slice(&entry.current.definition).ok()?)))
        .collect()
}

/// A new version: milliseconds, later than every version before.
fn new_version(state: &State, now: Now) -> i64 {
    let millis = now.wall.nanos() / 1_000_000 * 1_000_000;
    let newest = state.apps().values().map(|entry| entry.current.version_ns).max().unwrap_or(0);
    millis.max(newest + 1_000_000)
}

fn id_of_deployment() -> String {
    crate::base::chance::Chance::new(rand::random()).uuid().to_string()
}

fn change(
    state: &State,
    now: Now,
    bodies: Vec<Value>,
    partial: bool,
    force: bool,
    create: bool,
) -> Result<Box<Proposal>, Refusal> {
    let mut all = current_apps(state);
    let version = new_version(state, now);
    let mut changed: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut versions: Vec<AppVersion> = Vec::new();
    let created =
        create.then(|| bodies.first().and_then(|body| body["id"].as_str()).unwrap_or_default().to_owned());
    for body in bodies {
        let object = body.as_object().ok_or_else(|| bad_shape("/", "an app must be an object"))?;
        let stored = object
            .get("id")
            .and_then(Value::as_str)
            .and_then(|id| model::ids::absolute(id).ok())
            .and_then(|id| all.get(&id).cloned());
        let app = read(object, stored.as_ref().filter(|_| partial))?;
        let app = with_service_ports(app, stored.as_ref(), &all)?;
        if create && stored.is_some() {
            return Err(Refusal::Exists(format!("An app with id [{}] already exists.", app.id)));
        }
        let entry = state.apps().get(&app.id);
        if let Some((kind, record)) = compare(&app, stored.as_ref(), entry, version)? {
            changed.insert(app.id.clone(), kind);
            versions.push(record);
        }
        all.insert(app.id.clone(), app);
    }
    model::check_together(&all).map_err(Refusal::Invalid)?;
    let steps = plan(&all, &changed, &[]);
    let plan = Plan {
        deployment_id: id_of_deployment(),
        version: Timestamp::from_nanos(version),
        apps: versions,
        removed: Vec::new(),
        steps,
        force,
        create,
    };
    Ok(Box::new(Proposal { plan, created, kill: Vec::new() }))
}

fn bad_shape(path: &str, error: &str) -> Refusal {
    Refusal::BadShape(vec![Detail { path: path.to_owned(), errors: vec![error.to_owned()] }])
}

/// One app of a request: alone, or in place of parts of the stored one.
fn read(body: &Map<String, Value>, stored: Option<&App>) -> Result<App, Refusal> {
    let mut body = body.clone();
    // What a GET answers can be sent back: its read-only members mean nothing.
    body.shift_remove("version");
    let value = stored.map_or_else(|| Value::Object(body.clone()), |stored| model::merge(stored, &body));
    let app = model::read(&value, Keys::Ignore).map_err(|problem| match problem {
        Unreadable::Shape(details) => Refusal::BadShape(details),
        Unreadable::Invalid(details) => Refusal::Invalid(details),
    })?;
    model::check(&app).map_err(Refusal::Invalid)?;
    Ok(app)
}

/// Gives a number to every service port that is zero: the one it had, or the smallest free one.
fn with_service_ports(
    mut app: App,
    stored: Option<&App>,
    all: &BTreeMap<String, App>,
) -> Result<App, Refusal> {
    let taken: std::collections::BTreeSet<u32> = all
        .values()
        .filter(|other| other.id != app.id)
        .flat_map(App::service_ports)
        .chain(app.service_ports())
        .collect();
    let mut had = stored
        .map(App::service_ports)
        .unwrap_or_default()
        .into_iter()
        .filter(|port| SERVICE_PORTS.contains(port) && !taken.contains(port));
    let mut free = SERVICE_PORTS.filter(|port| !taken.contains(port));
    let mut given = std::collections::BTreeSet::new();
    let host = app.is_host_mode();
    let definitions = app.port_definitions.iter_mut().flatten().map(|port| &mut port.port).filter(|_| host);
    let mappings =
        app.container.iter_mut().filter_map(|container| container.port_mappings.as_mut()).flatten();
    for port in
        definitions.chain(mappings.map(|mapping| &mut mapping.service_port)).filter(|port| **port == 0)
    {
        let next = had.next().or_else(|| free.find(|port| !given.contains(port)));
        *port = next.ok_or_else(|| {
            let error = format!(
                "no service port is free between {} and {}",
                SERVICE_PORTS.start(),
                SERVICE_PORTS.end()
            );
            Refusal::Invalid(vec![Detail { path: "/portDefinitions".to_owned(), errors: vec![error] }])
        })?;
        given.insert(*port);
    }
    Ok(app)
}

/// What kind of change an app is, and its new version; none when nothing changed.
fn compare(
    app: &App,
    stored: Option<&App>,
    entry: Option<&Arc<AppEntry>>,
    version: i64,
) -> Result<Option<(&'static str, AppVersion)>, Refusal> {
    let definition = serde_json::to_vec(app).map_err(|error| Refusal::Unavailable(error.to_string()))?;
    let record = |scaling: i64, config: i64| AppVersion {
        id: app.id.clone(),
        version_ns: version,
        last_scaling_ns: scaling,
        last_config_change_ns: config,
        definition: definition.clone(),
    };
    Ok(match (stored, entry) {
        (Some(stored), Some(_)) if stored == app => None,
        (Some(stored), Some(entry)) if App { instances: app.instances, ..stored.clone() } == *app => {
            Some(("ScaleApplication", record(version, entry.current.last_config_change_ns)))
        }
        (Some(_), Some(_)) => Some(("RestartApplication", record(version, version))),
        _ => Some(("ScaleApplication", record(version, version))),
    })
}

fn remove(state: &State, now: Now, id: String) -> Result<Box<Proposal>, Refusal> {
    if !state.apps().contains_key(&id) {
        return Err(not_found(&id));
    }
    let steps = plan(&current_apps(state), &BTreeMap::new(), std::slice::from_ref(&id));
    let plan = Plan {
        deployment_id: id_of_deployment(),
        version: Timestamp::from_nanos(new_version(state, now)),
        apps: Vec::new(),
        removed: vec![id],
        steps,
        force: true,
        create: false,
    };
    Ok(Box::new(Proposal { plan, created: None, kill: Vec::new() }))
}

fn restart(state: &State, now: Now, id: &str, force: bool) -> Result<Box<Proposal>, Refusal> {
    let entry = state.apps().get(id).ok_or_else(|| not_found(id))?;
    let version = new_version(state, now);
    let record = AppVersion { version_ns: version, last_config_change_ns: version, ..entry.current.clone() };
    let steps = plan(&current_apps(state), &BTreeMap::from([(id.to_owned(), "RestartApplication")]), &[]);
    let plan = Plan {
        deployment_id: id_of_deployment(),
        version: Timestamp::from_nanos(version),
        apps: vec![record],
        removed: Vec::new(),
        steps,
        force,
        create: false,
    };
    Ok(Box::new(Proposal { plan, created: None, kill: Vec::new() }))
}

fn kill(
    state: &State,
    core: &Services,
    now: Now,
    id: Option<&str>,
    wanted: Option<Vec<String>>,
    scale: bool,
    single: bool,
) -> Answer {
    if let Some(id) = id.filter(|id| !state.apps().contains_key(*id)) {
        return Answer::Now(Err(not_found(id)));
    }
    let is_wanted =
        |task: &Value| wanted.as_ref().is_none_or(|ids| ids.iter().any(|id| task["id"] == id.as_str()));
    let tasks: Vec<Value> = core.tasks(id).into_iter().filter(is_wanted).collect();
    if let (true, true, Some(ids)) = (single, tasks.is_empty(), &wanted) {
        return Answer::Now(Err(Refusal::NotFound(format!("Task '{}' does not exist", ids.join(",")))));
    }
    let ids: Vec<String> = tasks.iter().filter_map(|task| task["id"].as_str().map(str::to_owned)).collect();
    if scale {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for task in &tasks {
            *counts.entry(task["appId"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let bodies = counts.into_iter().filter_map(|(id, count)| {
            let instances = u64::from(core.app(&id)?.instances).saturating_sub(count);
            Some(json!({ "id": id, "instances": instances }))
        });
        return match change(state, now, bodies.collect(), true, true, false) {
            Ok(mut proposal) => {
                proposal.kill = ids;
                Answer::Propose(proposal)
            }
            Err(refusal) => Answer::Now(Err(refusal)),
        };
    }
    let body = match tasks.into_iter().next() {
        Some(task) if single => json!({ "task": task }),
        first => {
            json!({ "tasks": first.into_iter().chain(core.tasks(id).into_iter().filter(is_wanted).skip(1)).collect::<Vec<_>>() })
        }
    };
    Answer::Input(Input::Kill { tasks: ids }, Ok(Response::ok(body)))
}

/// The answer to a change that went through the registry.
pub(super) fn planned(proposal: Proposal, reply: model::Reply, core: &Services) -> Result<Response, Refusal> {
    match reply {
        model::Reply::Locked(deployments) => Err(Refusal::Locked(deployments)),
        model::Reply::Exists(id) => Err(Refusal::Exists(format!("An app with id [{id}] already exists."))),
        model::Reply::Missing(id) => Err(not_found(&id)),
        model::Reply::Done => {
            let deployment = proposal.plan.deployment_id.clone();
            let Some(id) = proposal.created else {
                let body =
                    json!({ "version": proposal.plan.version.rfc3339_millis(), "deploymentId": deployment });
                return Ok(Response { done: Done::Ok, body, deployment: Some(deployment) });
            };
            let mut body = proposal.plan.apps.first().map(definition).unwrap_or_default();
            if let Some(object) = body.as_object_mut() {
                for key in ["tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy"] {
                    object.insert(key.to_owned(), json!(0));
                }
                object.insert("deployments".to_owned(), json!([{ "id": deployment }]));
                object.insert("tasks".to_owned(), json!(core.tasks(Some(&id))));
            }
            let id = body["id"].as_str().unwrap_or(&id).to_owned();
            Ok(Response { done: Done::Created(id), body, deployment: Some(deployment) })
        }
    }
}
