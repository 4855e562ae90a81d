//! Requests, answers, refusals.

use serde_json::Value;

use super::selector::Selector;

/// How the bodies of a change relate to what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// POST: whole definitions of apps that must not exist yet.
    Create,
    /// PUT with `partialUpdate=false`: whole definitions.
    Replace,
    /// PUT: fields that a body does not have stay as they are; an app that does not exist is created.
    Update,
    /// PATCH: as PUT, but the apps must exist.
    Patch,
}

/// `status` of `GET /v2/tasks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// Runs.
    Running,
    /// On its way.
    Staging,
}

/// Members of an app that are shown on demand (`embed`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embed {
    /// `apps.tasks`.
    pub tasks: bool,
    /// `apps.lastTaskFailure`.
    pub last_failure: bool,
    /// `apps.readiness`.
    pub readiness: bool,
    /// `apps.taskStats`.
    pub stats: bool,
}

/// One request to `/v2`, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `GET /v2/apps`, with filters.
    ListApps {
        /// Part of the command.
        cmd: Option<String>,
        /// Part of the id.
        id: Option<String>,
        /// What the labels must satisfy.
        labels: Vec<Selector>,
        /// What is shown beside the definitions.
        embed: Embed,
    },
    /// `GET /v2/apps/{group}/*`.
    GroupApps {
        /// Absolute path of the group, `/` for all.
        group: String,
        /// What is shown beside the definitions.
        embed: Embed,
    },
    /// `GET /v2/apps/{id}`.
    GetApp {
        /// Absolute id.
        id: String,
        /// What is shown beside what is always shown.
        embed: Embed,
    },
    /// `POST /v2/apps`, PUT and PATCH of `/v2/apps` and `/v2/apps/{id}`.
    PutApps {
        /// The bodies; `id` is set.
        apps: Vec<Value>,
        /// How they relate to what is stored.
        mode: Mode,
        /// The app was named in the path: creating it has an answer of its own.
        single: bool,
        /// Replaces deployments that lock one of the apps.
        force: bool,
    },
    /// `DELETE /v2/apps/{id}`.
    DeleteApp {
        /// Absolute id.
        id: String,
        /// Replaces deployments that lock the app.
        force: bool,
    },
    /// `POST /v2/apps/{id}/restart`.
    RestartApp {
        /// Absolute id.
        id: String,
        /// Replaces deployments that lock the app.
        force: bool,
    },
    /// `GET /v2/apps/{id}/versions`.
    Versions {
        /// Absolute id.
        id: String,
    },
    /// `GET /v2/apps/{id}/versions/{version}`.
    Version {
        /// Absolute id.
        id: String,
        /// Timestamp.
        version: String,
    },
    /// `GET /v2/apps/{id}/tasks`, or `GET /v2/tasks` without an id.
    Tasks {
        /// Absolute id.
        id: Option<String>,
        /// Only tasks in one of these; none: all.
        status: Vec<TaskStatus>,
    },
    /// `GET /v2/apps/{group}/*/tasks`.
    GroupTasks {
        /// Absolute path of the group, `/` for all.
        group: String,
    },
    /// `DELETE /v2/apps/{id}/tasks` and `…/tasks/{task}`, `POST /v2/tasks/delete`.
    KillTasks {
        /// Only tasks of this app.
        id: Option<String>,
        /// Only tasks on this host.
        host: Option<String>,
        /// Only this task or these; none: all of the app.
        tasks: Option<Vec<String>>,
        /// Lower the number of instances by those that are killed.
        scale: bool,
        /// With `scale`: replaces deployments that lock one of the apps.
        force: bool,
        /// One task was named in the path: the answer is about it alone.
        single: bool,
    },
    /// `GET /v2/deployments`.
    Deployments,
    /// `DELETE /v2/deployments/{id}`.
    CancelDeployment {
        /// The deployment.
        id: String,
        /// Stop half-way instead of going back.
        force: bool,
    },
    /// `GET /v2/queue`.
    Queue,
    /// `DELETE /v2/queue/{id}/delay`.
    ResetDelay {
        /// Absolute id.
        id: String,
    },
    /// `GET /v2/info`.
    Info,
    /// `GET /v2/leader`.
    Leader,
    /// `GET /v2/explain/{id}`: why an app is not as it should be (ours).
    Explain {
        /// Absolute id.
        id: String,
    },
}

impl Request {
    /// Whether its answer depends on changes that were asked for before.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(
            self,
            Self::PutApps { .. }
                | Self::DeleteApp { .. }
                | Self::RestartApp { .. }
                | Self::CancelDeployment { .. }
                | Self::KillTasks { scale: true, .. }
        )
    }

    /// Whether it adds to what is stored.
    #[must_use]
    pub fn is_addition(&self) -> bool {
        matches!(self, Self::PutApps { .. } | Self::RestartApp { .. })
    }

    /// Whether its answer depends on what the tasks do.
    #[must_use]
    pub fn is_about_tasks(&self) -> bool {
        matches!(
            self,
            Self::ListApps { .. }
                | Self::GroupApps { .. }
                | Self::GetApp { .. }
                | Self::Tasks { .. }
                | Self::GroupTasks { .. }
                | Self::KillTasks { .. }
                | Self::Queue
                | Self::Explain { .. }
        )
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Here is the answer (200).
    Ok,
    /// It was created at this path (201).
    Created(String),
    /// It is on its way, nothing to say (202).
    Accepted,
    /// Done, nothing to say (204).
    Nothing,
}

/// What `/v2` answers when it does what it was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// What was done.
    pub done: Done,
    /// The document.
    pub body: Value,
    /// The deployment that this started.
    pub deployment: Option<String>,
}

impl Response {
    /// A document.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self { done: Done::Ok, body, deployment: None }
    }

    /// Done, without a document.
    #[must_use]
    pub fn empty(done: Done) -> Self {
        Self { done, body: Value::Null, deployment: None }
    }
}

/// What is wrong at one place of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// `/healthChecks(0)/portIndex`.
    pub path: String,
    /// What is wrong there.
    pub errors: Vec<String>,
}

/// What `/v2` answers when it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is no JSON (400).
    BadJson(String),
    /// The JSON has another shape than was expected (422).
    BadShape(Vec<Detail>),
    /// The object breaks a rule (422).
    Invalid(Vec<Detail>),
    /// The request makes no sense (400).
    BadRequest(String),
    /// What was named does not exist (404).
    NotFound(String),
    /// It exists already (409).
    Exists(String),
    /// A deployment works on it (409).
    Locked(Vec<String>),
    /// Not built yet (501).
    NotImplemented(String),
    /// Not now (503).
    Unavailable(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadShape(details) | Self::Invalid(details) => {
                let details: Vec<String> = details
                    .iter()
                    .map(|detail| format!("{} {}", detail.path, detail.errors.join(", ")).trim().to_owned())
                    .collect();
                f.write_str(&details.join("; "))
            }
            Self::Locked(deployments) => {
                write!(f, "a deployment works on it: {}", deployments.join(", "))
            }
            Self::BadJson(text)
            | Self::BadRequest(text)
            | Self::NotFound(text)
            | Self::Exists(text)
            | Self::NotImplemented(text)
            | Self::Unavailable(text) => f.write_str(text),
        }
    }
}
