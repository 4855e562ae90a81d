//! Kills of tasks, which are replaced unless their app becomes smaller at the same time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::{Answer, World, not_found};
use super::change;
use crate::api::marathon::{Mode, Refusal, Response};
use crate::service::core::Input;
use crate::service::model::ids;

/// The tasks that a request means.
pub(super) struct Named<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) host: Option<&'a str>,
    /// None: all.
    pub(super) tasks: Option<Vec<String>>,
}

/// Kills what is named. `scale` is there if the apps become smaller by it, and says whether that
/// replaces deployments that lock them.
pub(super) fn kill(world: World<'_>, named: &Named<'_>, single: bool, scale: Option<bool>) -> Answer {
    let tasks = match find(world, named) {
        Ok(tasks) => tasks,
        Err(refusal) => return Answer::Now(Err(refusal)),
    };
    if let (true, true, Some(ids)) = (single, tasks.is_empty(), &named.tasks) {
        return Answer::Now(Err(Refusal::NotFound(format!("Task '{}' does not exist", ids.join(",")))));
    }
    let ids: Vec<String> = tasks.iter().filter_map(|task| task["id"].as_str().map(str::to_owned)).collect();
    if let Some(force) = scale {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for task in &tasks {
            *counts.entry(task["appId"].as_str().unwrap_or_default()).or_default() += 1;
        }
        let bodies = counts.into_iter().filter_map(|(id, count)| {
            let instances = u64::from(world.core.app(id)?.instances).saturating_sub(count);
            Some(json!({ "id": id, "instances": instances }))
        });
        let proposal = change::put(world, bodies.collect(), Mode::Update, false, force);
        return proposal
            .map(|mut proposal| {
                proposal.kill = ids;
                proposal
            })
            .into();
    }
    let body = match tasks.first() {
        Some(task) if single => json!({ "task": task }),
        _ => json!({ "tasks": tasks }),
    };
    Answer::Input(Input::Kill { tasks: ids }, Ok(Response::ok(body)))
}

/// The running tasks that are meant. A task id of an earlier launch, or the instance's own id, means
/// the instance's present task.
fn find(world: World<'_>, named: &Named<'_>) -> Result<Vec<Value>, Refusal> {
    if let Some(id) = named.id.filter(|id| !world.state.apps().contains_key(*id)) {
        return Err(not_found(id));
    }
    let instances: Option<Vec<&str>> = named
        .tasks
        .as_ref()
        .map(|ids| ids.iter().map(|id| ids::instance_of(id).map_err(Refusal::BadRequest)).collect())
        .transpose()?;
    let instance =
        |task: &Value| task["id"].as_str().and_then(|id| ids::instance_of(id).ok()).map(str::to_owned);
    let is_meant = |task: &Value| {
        let by_id = instances
            .as_ref()
            .is_none_or(|wanted| instance(task).is_some_and(|instance| wanted.contains(&instance.as_str())));
        by_id && named.host.is_none_or(|host| task["host"] == host)
    };
    Ok(world.core.tasks(named.id).into_iter().filter(is_meant).collect())
}
