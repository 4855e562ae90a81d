//! Containers whose node is gone for good.

use std::collections::HashMap;
use std::path::Path;

use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};

use super::engine::{Engine, explain, is_absent, is_conflict};
use super::labels;
use crate::os::owner::{self, Owner};

/// A container that nobody will find again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its name.
    pub container: String,
    /// Its task.
    pub task: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Containers that were, or would be, removed.
    pub orphans: Vec<Orphan>,
    /// Why none were looked for: no engine answers.
    pub without_engine: Option<String>,
    /// What could not be removed, and why.
    pub problems: Vec<String>,
}

/// Finds containers of nodes with temporary data directories that ended without ending them, and removes them
/// unless `dry_run`. With a data directory: those of its node, also where it might have come back to them, but not
/// where tasks outlive their node. What belongs to another machine, to another container or to the time before the
/// last start of the system is left alone.
///
/// # Errors
/// The engine does not list them.
pub async fn reap(of: Option<&Path>, dry_run: bool) -> Result<Reaped, String> {
    let mut reaped = Reaped::default();
    let engine = Engine::default();
    let client = match engine.client().await {
        Ok(client) => client,
        Err(problem) => return Ok(Reaped { without_engine: Some(problem), ..reaped }),
    };
    let filters = HashMap::from([("label", vec![labels::OWNER])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = client.list_containers(Some(options)).await.map_err(|error| explain(&error))?;
    let here = owner::place();
    for container in found {
        let labels = container.labels.unwrap_or_default();
        let is_ours = labels.get(labels::PLACE).is_some_and(|place| *place == here);
        let is_gone = labels.get(labels::OWNER).map(Path::new).is_some_and(|path| {
            let is_meant = match of {
                Some(of) => of == path,
                None => labels.contains_key(labels::TEMPORARY),
            };
            is_meant && owner::look(path, &here) == Owner::Gone
        });
        let (Some(id), true, true) = (container.id, is_ours, is_gone) else { continue };
        let names = container.names.unwrap_or_default();
        let name = names.first().map_or(id.as_str(), |name| name.trim_start_matches('/')).to_owned();
        if !dry_run {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            match client.remove_container(&id, Some(options)).await {
                Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                    reaped.problems.push(format!("the container {name} stays: {}", explain(&error)));
                    continue;
                }
                _ => {}
            }
        }
        let task = labels.get(labels::TASK).cloned().unwrap_or_default();
        reaped.orphans.push(Orphan { container: name, task });
    }
    Ok(reaped)
}
