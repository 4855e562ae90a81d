//! Documents of `/v2`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::World;
use super::stats;
use crate::api::marathon::{Embed, Refusal};
use crate::base::time::Timestamp;
use crate::service::model::{Action, AppEntry, AppVersion, Deployment, State};

pub(super) fn stamp(nanos: i64) -> String {
    Timestamp::from_nanos(nanos).rfc3339_millis()
}

pub(super) fn exists(id: &str) -> Refusal {
    Refusal::Exists(format!("An app with id [{id}] already exists."))
}

/// A stored definition as it is shown.
pub(super) fn definition(version: &AppVersion) -> Value {
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

/// A new app, of which nothing runs yet.
pub(super) fn created(mut app: Value, deployment: &str) -> Value {
    if let Some(object) = app.as_object_mut() {
        for key in ["tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy"] {
            object.insert(key.to_owned(), json!(0));
        }
        object.insert("deployments".to_owned(), json!([{ "id": deployment }]));
        object.insert("tasks".to_owned(), json!([]));
    }
    app
}

pub(super) fn app(id: &str, entry: &AppEntry, world: World<'_>, embed: Embed) -> Value {
    let mut app = definition(&entry.current);
    let Some(object) = app.as_object_mut() else { return app };
    let counts = world.core.counts(id);
    for (key, count) in [
        ("tasksStaged", counts.staged),
        ("tasksRunning", counts.running),
        ("tasksHealthy", counts.healthy),
        ("tasksUnhealthy", counts.unhealthy),
    ] {
        object.insert(key.to_owned(), json!(count));
    }
    let deployments = world.state.deployments().values().filter(|one| one.affected().contains(id));
    let deployments: Vec<Value> = deployments.map(|one| json!({ "id": one.id })).collect();
    object.insert("deployments".to_owned(), json!(deployments));
    if let Some(failure) = entry.last_failure.as_ref().filter(|_| embed.last_failure) {
        let mut shown = json!({
            "appId": id, "host": failure.host, "message": failure.message, "state": failure.state,
            "taskId": failure.task_id, "timestamp": stamp(failure.time_ns),
            "version": stamp(failure.version_ns),
        });
        if let Some(agent) = &failure.agent_id {
            shown["slaveId"] = json!(agent);
        }
        object.insert("lastTaskFailure".to_owned(), shown);
    }
    if embed.readiness {
        object.insert("readinessCheckResults".to_owned(), json!([]));
    }
    if embed.tasks || embed.stats {
        let tasks = world.core.tasks(Some(id));
        if embed.stats {
            let stats = stats::stats(&tasks, &entry.current, world.now.wall);
            object.insert("taskStats".to_owned(), stats);
        }
        if embed.tasks {
            object.insert("tasks".to_owned(), json!(tasks));
        }
    }
    app
}

/// A deployment. Marathon has a step in which new apps are started with no instances; here nothing is
/// done for it, so it is only shown, as one that is over.
pub(super) fn deployment(deployment: &Deployment, state: &State) -> Value {
    let shown = |step: &[Action]| -> Vec<Value> {
        step.iter().map(|action| json!({ "action": action.kind, "app": action.app_id })).collect()
    };
    let is_new = |id: &&str| {
        let made_here = |entry: &Arc<AppEntry>| {
            entry.earlier.is_empty() && entry.current.version_ns == deployment.version.nanos()
        };
        state.apps().get(*id).is_some_and(made_here)
    };
    let started: Vec<Value> = deployment
        .affected()
        .into_iter()
        .filter(is_new)
        .map(|id| json!({ "action": "StartApplication", "app": id }))
        .collect();
    let mut steps: Vec<Vec<Value>> = deployment.steps.iter().map(|step| shown(step)).collect();
    let mut current = steps.get(deployment.current).cloned().unwrap_or_default();
    for action in &mut current {
        action["readinessCheckResults"] = json!([]);
    }
    let mut number = deployment.current + 1;
    if !started.is_empty() {
        let stops = steps.iter().take_while(|step| step.iter().all(|one| one["action"] == "StopApplication"));
        let place = stops.count();
        number += usize::from(deployment.current >= place);
        steps.insert(place, started);
    }
    json!({
        "id": deployment.id,
        "version": deployment.version.rfc3339_millis(),
        "affectedApps": deployment.affected(),
        "affectedPods": [],
        "steps": steps.iter().map(|actions| json!({ "actions": actions })).collect::<Vec<_>>(),
        "currentActions": current,
        "currentStep": number,
        "totalSteps": steps.len(),
    })
}

pub(super) fn info(world: World<'_>) -> Value {
    let (host, port) = world.address.rsplit_once(':').unwrap_or((world.address, ""));
    let mut info = json!({
        "name": "marathon",
        "version": crate::config::MARATHON_VERSION,
        "buildref": format!("mesita {}", env!("CARGO_PKG_VERSION")),
        "elected": true,
        "leader": world.address,
        "marathon_config": {
            "framework_name": "marathon", "mesos_role": "*", "checkpoint": true, "ha": true,
            "hostname": host.trim_matches(['[', ']']),
        },
        "zookeeper_config": {},
        "http_config": { "http_port": port.parse::<u16>().ok() },
    });
    if let Some(id) = world.state.framework_id() {
        info["frameworkId"] = json!(id);
    }
    info
}
