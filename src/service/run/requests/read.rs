//! Requests that only read.

use serde_json::{Value, json};

use super::answer::{World, not_found};
use super::{change, queue, show};
use crate::api::marathon::{Embed, Refusal, Request, Response, TaskStatus};

pub(super) fn read(request: Request, world: World<'_>) -> Result<Response, Refusal> {
    let find = |id: &str| world.state.apps().get(id).ok_or_else(|| not_found(id));
    let body = match request {
        Request::ListApps { cmd, id, labels, embed } => {
            let contains = |text: &str, part: &Option<String>| {
                part.as_ref().is_none_or(|part| text.to_lowercase().contains(&part.to_lowercase()))
            };
            let apps = apps(world, embed, |own| {
                let Some(app) = world.core.app(own) else { return false };
                contains(own, &id)
                    && contains(app.cmd.as_deref().unwrap_or_default(), &cmd)
                    && labels.iter().all(|selector| selector.accepts(&app.labels))
            });
            json!({ "apps": apps })
        }
        Request::GroupApps { group, embed } => json!({ "*": apps(world, embed, below(world, &group)?) }),
        Request::GetApp { id, embed } => {
            let embed = Embed { tasks: true, last_failure: true, ..embed };
            json!({ "app": show::app(&id, find(&id)?, world, embed) })
        }
        Request::Versions { id } => {
            let entry = find(&id)?;
            let all = std::iter::once(&entry.current).chain(entry.earlier.iter().rev());
            json!({ "versions": all.map(|one| show::stamp(one.version_ns)).collect::<Vec<_>>() })
        }
        Request::Version { id, version } => {
            let found = change::version_of(find(&id)?, &version);
            show::definition(found.ok_or_else(|| change::no_version(&id, &version))?)
        }
        Request::Tasks { id, status } => {
            if let Some(id) = &id {
                find(id)?;
            }
            let mut tasks = world.core.tasks(id.as_deref());
            tasks.retain(|task| status.is_empty() || status.iter().any(|status| is_in(task, *status)));
            json!({ "tasks": tasks })
        }
        Request::GroupTasks { group } => {
            let is_below = below(world, &group)?;
            let ids = world.state.apps().keys().filter(|id| is_below(id));
            json!({ "tasks": ids.flat_map(|id| world.core.tasks(Some(id))).collect::<Vec<_>>() })
        }
        Request::Deployments => Value::Array(
            world.state.deployments().values().map(|one| show::deployment(one, world.state)).collect(),
        ),
        Request::Queue => queue::queue(world),
        Request::Info => show::info(world),
        Request::Leader => json!({ "leader": world.address }),
        Request::Explain { id } => {
            find(&id)?;
            json!({ "id": id, "reasons": world.core.reasons(&id, world.now.mono) })
        }
        _ => return Err(Refusal::NotImplemented("not built yet".to_owned())),
    };
    Ok(Response::ok(body))
}

fn apps(world: World<'_>, embed: Embed, is_wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let apps = world.state.apps().iter().filter(|(id, _)| is_wanted(id));
    apps.map(|(id, entry)| show::app(id, entry, world, embed)).collect()
}

/// Whether an app is below a group, which must exist: the root, or the path of some app.
fn below(world: World<'_>, group: &str) -> Result<impl Fn(&str) -> bool + use<>, Refusal> {
    let prefix = format!("{}/", group.trim_end_matches('/'));
    let is_below = move |id: &str| id.starts_with(&prefix);
    if group != "/" && !world.state.apps().keys().any(|id| is_below(id)) {
        return Err(Refusal::NotFound(format!("Group '{group}' does not exist")));
    }
    Ok(is_below)
}

fn is_in(task: &Value, status: TaskStatus) -> bool {
    match (status, task["state"].as_str()) {
        (TaskStatus::Running, Some(state)) => state == "TASK_RUNNING",
        (TaskStatus::Staging, Some(state)) => matches!(state, "TASK_STAGING" | "TASK_STARTING"),
        (_, None) => false,
    }
}
