//! Cancelling a deployment: it stops half-way, or another one undoes it.

use super::answer::{Proposal, Says, World};
use super::change::Draft;
use crate::api::marathon::Refusal;
use crate::base::time::Timestamp;
use crate::service::model::Command;

pub(super) fn cancel(world: World<'_>, id: &str, force: bool) -> Result<Box<Proposal>, Refusal> {
    let deployment = world
        .state
        .deployments()
        .get(id)
        .ok_or_else(|| Refusal::NotFound(format!("Deployment '{id}' does not exist")))?;
    if force {
        return Ok(Box::new(Proposal {
            command: Command::Finish { deployment_id: id.to_owned() },
            deployment_id: id.to_owned(),
            kill: Vec::new(),
            version: Timestamp::default(),
            says: Says::Cancelled,
        }));
    }
    let mut draft = Draft::new(world.state, world.now);
    for app in deployment.affected() {
        let Some(entry) = world.state.apps().get(app) else {
            return Err(Refusal::BadRequest(format!(
                "the deployment removes {app}, whose definition is not kept; stop it with ?force=true and create the app again"
            )));
        };
        match entry.earlier.last() {
            // A later deployment changed it: that stays.
            _ if entry.current.version_ns != deployment.version.nanos() => {}
            None => draft.remove(app),
            // After a restart the instances of before and after are all of the same definition.
            Some(before) if before.definition == entry.current.definition => {
                draft.repeat("ScaleApplication", entry, Some(before.last_config_change_ns));
            }
            // What is stored was written by this program.
            Some(before) => draft.put(serde_json::from_slice(&before.definition).map_err(|error| {
                Refusal::Unavailable(format!("the version of {app} before cannot be read: {error}"))
            })?)?,
        }
    }
    draft.finish(true, Says::Deployment)
}
