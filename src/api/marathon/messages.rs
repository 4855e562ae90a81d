//! Requests, answers, refusals.

use serde_json::Value;

/// One request to `/v2`, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `GET /v2/apps`, with filters.
    ListApps {
        /// Part of the command.
        cmd: Option<String>,
        /// Part of the id.
        id: Option<String>,
        /// Whether tasks are embedded.
        tasks: bool,
    },
    /// `GET /v2/apps/{id}`.
    GetApp {
        /// Absolute id.
        id: String,
    },
    /// `POST /v2/apps`, `PUT /v2/apps`, `PUT /v2/apps/{id}`.
    PutApps {
        /// The bodies; `id` is set.
        apps: Vec<Value>,
        /// Fields that a body does not have stay as they are.
        partial: bool,
        /// Replaces deployments that lock one of the apps.
        force: bool,
        /// They must not exist yet.
        create: bool,
    },
    /// `DELETE /v2/apps/{id}`.
    DeleteApp {
        /// Absolute id.
        id: String,
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
    },
    /// `DELETE /v2/apps/{id}/tasks` and `…/tasks/{task}`, `POST /v2/tasks/delete`.
    KillTasks {
        /// Only tasks of this app.
        id: Option<String>,
        /// Only this task or these; none: all of the app.
        tasks: Option<Vec<String>>,
        /// Lower the number of instances by those that are killed.
        scale: bool,
        /// One task was named in the path: the answer is about it alone.
        single: bool,
    },
    /// `GET /v2/deployments`.
    Deployments,
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

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Here is the answer (200).
    Ok,
    /// It was created at this path (201).
    Created(String),
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
