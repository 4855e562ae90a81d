//! From a request to its answer, at once or by way of the registry.

use serde_json::{Value, json};

use super::{cancel, change, kill, read, show};
use crate::api::marathon::{Done, Refusal, Request, Response};
use crate::base::time::{Now, Timestamp};
use crate::service::core::{Input, Services};
use crate::service::model::{self, Command, State};

/// What requests are answered from.
#[derive(Clone, Copy)]
pub(in crate::service::run) struct World<'a> {
    pub(in crate::service::run) state: &'a State,
    pub(in crate::service::run) core: &'a Services,
    pub(in crate::service::run) now: Now,
    /// `host:port` at which this member answers `/v2`.
    pub(in crate::service::run) address: &'a str,
}

/// A change on its way through the registry.
#[derive(Clone, Debug)]
pub(in crate::service::run) struct Proposal {
    pub(in crate::service::run) command: Command,
    /// The deployment that it starts, or ends.
    pub(in crate::service::run) deployment_id: String,
    /// Tasks that are killed when it is recorded.
    pub(in crate::service::run) kill: Vec<String>,
    pub(super) version: Timestamp,
    pub(super) says: Says,
}

/// The answer to a change that was recorded.
#[derive(Clone, Debug)]
pub(super) enum Says {
    /// The version and the deployment.
    Deployment,
    /// The same, and where the new app is.
    CreatedAt(String),
    /// The new app itself (POST).
    App(Value),
    /// Nothing: a deployment stops half-way.
    Cancelled,
}

pub(in crate::service::run) enum Answer {
    Now(Result<Response, Refusal>),
    Input(Input, Result<Response, Refusal>),
    Propose(Box<Proposal>),
}

impl From<Result<Box<Proposal>, Refusal>> for Answer {
    fn from(result: Result<Box<Proposal>, Refusal>) -> Self {
        result.map_or_else(|refusal| Self::Now(Err(refusal)), Self::Propose)
    }
}

pub(super) fn not_found(id: &str) -> Refusal {
    Refusal::NotFound(format!("App '{id}' does not exist"))
}

/// Answers a request, or says what must be committed first.
pub(in crate::service::run) fn answer(request: Request, world: World<'_>) -> Answer {
    match request {
        Request::PutApps { apps, mode, single, force } => {
            change::put(world, apps, mode, single, force).into()
        }
        Request::DeleteApp { id, force } => change::remove(world, &id, force).into(),
        Request::RestartApp { id, force } => change::restart(world, &id, force).into(),
        Request::CancelDeployment { id, force } => cancel::cancel(world, &id, force).into(),
        Request::KillTasks { id, host, tasks, scale, force, single } => {
            let named = kill::Named { id: id.as_deref(), host: host.as_deref(), tasks };
            kill::kill(world, &named, single, scale.then_some(force))
        }
        Request::ResetDelay { id } => {
            if !world.core.queue(world.now.mono).iter().any(|(waiting, ..)| *waiting == id) {
                let refusal = Refusal::NotFound(format!("App '{id}' is not in the queue"));
                return Answer::Now(Err(refusal));
            }
            Answer::Input(Input::ResetDelay { app_id: id }, Ok(Response::empty(Done::Nothing)))
        }
        other => Answer::Now(read::read(other, world)),
    }
}

/// The answer to a change that went through the registry.
pub(in crate::service::run) fn planned(proposal: Proposal, reply: model::Reply) -> Result<Response, Refusal> {
    match reply {
        model::Reply::Locked(deployments) => return Err(Refusal::Locked(deployments)),
        model::Reply::Exists(id) => return Err(show::exists(&id)),
        model::Reply::Missing(id) => return Err(not_found(&id)),
        model::Reply::Done => {}
    }
    let deployment = proposal.deployment_id;
    let plan = json!({ "version": proposal.version.rfc3339_millis(), "deploymentId": deployment });
    let (done, body) = match proposal.says {
        Says::Deployment => (Done::Ok, plan),
        Says::CreatedAt(id) => (Done::Created(id), plan),
        Says::App(app) => {
            let id = app["id"].as_str().unwrap_or_default().to_owned();
            (Done::Created(id), show::created(app, &deployment))
        }
        Says::Cancelled => return Ok(Response::empty(Done::Accepted)),
    };
    Ok(Response { done, body, deployment: Some(deployment) })
}
