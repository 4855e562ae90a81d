//! Services as the commands see them: everything that the command line asks `/v2` goes through here.

use serde_json::{Value, json};

use super::target::{Target, url_host};
use super::{CliError, Exit};
use crate::client::http::{HttpClient, Reply};

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) id: String,
    pub(super) instances: u64,
    pub(super) running: u64,
    pub(super) staged: u64,
    pub(super) healthy: u64,
    pub(super) unhealthy: u64,
    pub(super) has_checks: bool,
    pub(super) deploying: bool,
    pub(super) ports: Vec<u32>,
    pub(super) version: String,
}

impl Service {
    /// Whether it runs as it should.
    pub(super) fn is_settled(&self) -> bool {
        let healthy = !self.has_checks || self.healthy >= self.instances;
        !self.deploying && self.running == self.instances && healthy
    }

    /// One word for people.
    pub(super) fn status(&self) -> &'static str {
        match self {
            _ if self.deploying => "deploying",
            _ if self.instances == 0 => "suspended",
            _ if self.is_settled() => "running",
            _ if self.unhealthy > 0 => "unhealthy",
            _ => "waiting",
        }
    }

    fn from_json(app: &Value) -> Self {
        let count = |key: &str| app[key].as_u64().unwrap_or_default();
        let definitions = app["portDefinitions"].as_array().map(|list| (list, "port"));
        let mappings = app["container"]["portMappings"].as_array().map(|list| (list, "servicePort"));
        let ports = definitions.or(mappings).map_or_else(Vec::new, |(list, key)| {
            list.iter()
                .filter_map(|port| port[key].as_u64().and_then(|port| u32::try_from(port).ok()))
                .collect()
        });
        Self {
            id: app["id"].as_str().unwrap_or_default().to_owned(),
            instances: count("instances"),
            running: count("tasksRunning"),
            staged: count("tasksStaged"),
            healthy: count("tasksHealthy"),
            unhealthy: count("tasksUnhealthy"),
            has_checks: app["healthChecks"].as_array().is_some_and(|checks| !checks.is_empty()),
            deploying: app["deployments"].as_array().is_some_and(|deployments| !deployments.is_empty()),
            ports,
            version: app["version"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// A change of services that was accepted: a deployment, and what it is to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) deployment: String,
    pub(super) wanted: Vec<(String, Wanted)>,
}

/// What a deployment makes of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is of one of these versions: the new one, or the one before if nothing of it changed.
    Versions(Vec<String>),
    /// It is gone.
    Absent,
}

impl Change {
    fn new(body: &Value, ids: Vec<(String, Option<String>)>) -> Result<Self, CliError> {
        let missing = || {
            CliError::new("the cluster's answer names no deployment")
                .hint("is this really a Marathon or mesita address?")
        };
        let deployment = body["deploymentId"].as_str().map(str::to_owned).ok_or_else(missing)?;
        let version = body["version"].as_str().map(str::to_owned);
        let versions = |before| Wanted::Versions(version.clone().into_iter().chain(before).collect());
        let wanted = ids.into_iter().map(|(id, before)| (id, versions(before))).collect();
        Ok(Self { deployment, wanted })
    }
}

/// What is known of an instance's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Healthy,
    Unhealthy,
    /// It has checks, but no result yet.
    Unknown,
    /// It has no checks.
    Unchecked,
}

impl Health {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
            Self::Unchecked => "-",
        }
    }
}

/// One task of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) task_id: String,
    pub(super) service: String,
    pub(super) state: String,
    pub(super) health: Health,
    pub(super) host: String,
    pub(super) agent_id: String,
    pub(super) ports: Vec<u64>,
    pub(super) staged_at: Option<String>,
    pub(super) started_at: Option<String>,
}

impl Instance {
    pub(super) fn is_running(&self) -> bool {
        self.state == "TASK_RUNNING"
    }

    /// The state without its prefix, in lower case.
    pub(super) fn state_name(&self) -> &str {
        match self.state.as_str() {
            "TASK_STAGING" => "staging",
            "TASK_STARTING" => "starting",
            "TASK_RUNNING" => "running",
            "TASK_KILLING" => "killing",
            "TASK_UNREACHABLE" => "unreachable",
            other => other,
        }
    }

    /// `host:port` for each port.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("{}:{port}", url_host(&self.host))).collect()
    }

    /// Since when it is what it is.
    pub(super) fn since(&self) -> &str {
        self.started_at.as_deref().or(self.staged_at.as_deref()).unwrap_or("-")
    }

    fn from_json(task: &Value, has_checks: bool) -> Self {
        let text = |key: &str| task[key].as_str().map(str::to_owned);
        let results = task["healthCheckResults"].as_array();
        let health = match results {
            Some(results) if !results.is_empty() => {
                if results.iter().all(|result| result["alive"] == true) {
                    Health::Healthy
                } else {
                    Health::Unhealthy
                }
            }
            _ if has_checks => Health::Unknown,
            _ => Health::Unchecked,
        };
        Self {
            task_id: text("id").unwrap_or_default(),
            service: text("appId").unwrap_or_default(),
            state: text("state").unwrap_or_default(),
            health,
            host: text("host").unwrap_or_default(),
            agent_id: text("slaveId").unwrap_or_default(),
            ports: task["ports"]
                .as_array()
                .map_or_else(Vec::new, |ports| ports.iter().filter_map(Value::as_u64).collect()),
            staged_at: text("stagedAt"),
            started_at: text("startedAt"),
        }
    }
}

/// The service API of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Services {
    client: HttpClient,
}

impl Services {
    /// The services of a cluster.
    ///
    /// # Errors
    /// The address cannot be used.
    pub(super) fn new(target: &Target) -> Result<Self, CliError> {
        Ok(Self { client: target.client()? })
    }

    /// Every service.
    pub(super) async fn list(&self) -> Result<Vec<Service>, CliError> {
        let body =
            self.get("/v2/apps?embed=apps.counts&embed=apps.deployments&embed=apps.lastTaskFailure").await?;
        Ok(body["apps"]
            .as_array()
            .map_or_else(Vec::new, |apps| apps.iter().map(Service::from_json).collect()))
    }

    /// One service, if it exists.
    pub(super) async fn find(&self, id: &str) -> Result<Option<Service>, CliError> {
        match self.get(&format!("/v2/apps{id}")).await {
            Ok(body) => Ok(Some(Service::from_json(&body["app"]))),
            Err(error) if error.exit == Exit::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The service with this id or the only one whose id begins so.
    pub(super) async fn named(&self, name: &str) -> Result<Service, CliError> {
        let id = absolute(name);
        refuse_empty(&id, name)?;
        let list = self.list().await?;
        if let Some(service) = list.iter().find(|service| service.id == id) {
            return Ok(service.clone());
        }
        let close: Vec<&Service> = list.iter().filter(|service| service.id.starts_with(&id)).collect();
        match close.as_slice() {
            [service] => Ok((*service).clone()),
            [] => Err(unknown(&id, &list)),
            several => {
                let names: Vec<&str> = several.iter().map(|service| service.id.as_str()).collect();
                Err(CliError::with(Exit::Usage, format!("{id} may mean {}", names.join(" or ")))
                    .hint("type more of the name"))
            }
        }
    }

    /// The service with exactly this id: what changes or removes one does not guess.
    pub(super) async fn exactly(&self, name: &str) -> Result<Service, CliError> {
        let id = absolute(name);
        refuse_empty(&id, name)?;
        let list = self.list().await?;
        match list.iter().find(|service| service.id == id) {
            Some(service) => Ok(service.clone()),
            None => Err(unknown(&id, &list)),
        }
    }

    /// The tasks of a service.
    pub(super) async fn instances(&self, id: &str) -> Result<Vec<Instance>, CliError> {
        let has_checks = self.find(id).await?.is_some_and(|service| service.has_checks);
        let body = match self.get(&format!("/v2/apps{id}/tasks")).await {
            Err(error) if error.exit == Exit::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let tasks = body["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(tasks.iter().map(|task| Instance::from_json(task, has_checks)).collect())
    }

    /// Creates or replaces services as one deployment.
    pub(super) async fn deploy(&self, apps: &[Value], force: bool) -> Result<Change, CliError> {
        let list = self.list().await?;
        let before = |id: &str| {
            let service = list.iter().find(|service| service.id == id);
            service.map(|service| service.version.clone())
        };
        let ids = apps.iter().filter_map(|app| app["id"].as_str());
        let ids = ids.map(|id| (id.to_owned(), before(id))).collect();
        let body = Value::Array(apps.to_vec());
        let path = format!("/v2/apps?partialUpdate=false&force={force}");
        Change::new(&self.check(self.client.put(&path, &body).await?)?, ids)
    }

    /// Sets the number of instances.
    pub(super) async fn scale(
        &self,
        service: &Service,
        instances: u32,
        force: bool,
    ) -> Result<Change, CliError> {
        let path = format!("/v2/apps{}?force={force}", service.id);
        let body = self.check(self.client.put(&path, &json!({ "instances": instances })).await?)?;
        Change::new(&body, vec![(service.id.clone(), Some(service.version.clone()))])
    }

    /// Removes a service.
    pub(super) async fn remove(&self, id: &str) -> Result<Change, CliError> {
        let body = self.check(self.client.delete(&format!("/v2/apps{id}?force=true")).await?)?;
        let change = Change::new(&body, Vec::new())?;
        Ok(Change { wanted: vec![(id.to_owned(), Wanted::Absent)], ..change })
    }

    /// Ids of the running deployments.
    pub(super) async fn deployments(&self) -> Result<Vec<String>, CliError> {
        let body = self.get("/v2/deployments").await?;
        let list = body.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(list.iter().filter_map(|deployment| deployment["id"].as_str().map(str::to_owned)).collect())
    }

    /// Why a service is not as it should be.
    pub(super) async fn explain(&self, id: &str) -> Result<Value, CliError> {
        self.get(&format!("/v2/explain{id}")).await
    }

    /// Id of the framework that runs the services, once it has one.
    pub(super) async fn framework_id(&self) -> Result<Option<String>, CliError> {
        Ok(self.get("/v2/info").await?["frameworkId"].as_str().map(str::to_owned))
    }

    async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.check(self.client.get(path).await?)
    }

    /// The body of a success, or what the service API says is wrong.
    fn check(&self, reply: Reply) -> Result<Value, CliError> {
        if reply.is_success() {
            return Ok(reply.json());
        }
        let body = reply.json();
        let mut message = body["message"].as_str().map_or_else(|| reply.text(), str::to_owned);
        for detail in body["details"].as_array().into_iter().flatten() {
            let errors: Vec<&str> =
                detail["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            message.push_str(&format!(
                "\n  {}: {}",
                detail["path"].as_str().unwrap_or("/"),
                errors.join("; ")
            ));
        }
        if let Some(text) = body["details"].as_str() {
            message.push_str(&format!(": {text}"));
        }
        let error = match reply.status() {
            401 | 403 => CliError::with(Exit::NotAuthorized, message),
            404 => CliError::with(Exit::NotFound, message),
            502 | 503 => CliError::with(Exit::NoLeader, message),
            _ => CliError::new(message),
        };
        Err(if body["deployments"].is_array() {
            error.hint("repeat with --force to replace the running deployment")
        } else {
            error
        })
    }
}

/// Names may be typed without their leading slash.
pub(super) fn absolute(name: &str) -> String {
    format!("/{}", name.trim_matches('/'))
}

/// No name at all is none that something begins with.
fn refuse_empty(id: &str, typed: &str) -> Result<(), CliError> {
    if id.len() > 1 {
        return Ok(());
    }
    Err(CliError::with(Exit::Usage, format!("{typed:?} names no service"))
        .hint("type the name of one; `mesita ps` lists all"))
}

/// There is no such service; the hint says which one may be meant: one that begins so, else the nearest.
fn unknown(id: &str, list: &[Service]) -> CliError {
    let error = CliError::with(Exit::NotFound, format!("no service is called {id}"));
    let distance =
        |service: &&Service| (!service.id.starts_with(id), strsim::damerau_levenshtein(&service.id, id));
    match list.iter().min_by_key(distance) {
        Some(service) => error.hint(format!("the nearest name is {}; `mesita ps` lists all", service.id)),
        None => error.hint("no service is deployed; `mesita deploy FILE` adds one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_settles_when_every_instance_is_healthy() {
        let app = json!({ "id": "/a", "instances": 2, "tasksRunning": 2, "tasksHealthy": 1, "healthChecks": [{}], "deployments": [] });
        let service = Service::from_json(&app);
        assert_eq!((service.is_settled(), service.status()), (false, "waiting"));
        let service = Service { healthy: 2, ..service };
        assert_eq!((service.is_settled(), service.status()), (true, "running"));
        assert!(!Service { deploying: true, ..service }.is_settled());
    }

    #[test]
    fn an_instance_is_unhealthy_when_one_check_fails() {
        let task = json!({ "id": "t", "ports": [1, 2], "host": "h", "healthCheckResults": [{ "alive": true }, { "alive": false }] });
        let instance = Instance::from_json(&task, true);
        assert_eq!(instance.health, Health::Unhealthy);
        assert_eq!(instance.addresses(), ["h:1", "h:2"]);
        assert_eq!(Instance::from_json(&json!({}), true).health, Health::Unknown);
    }
}
