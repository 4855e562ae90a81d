//! The replicated part: commands that the registry carries for the service framework, and the state
//! that they make. Definitions are opaque here: no float is ever compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message as _;

use crate::api::service as wire;
use crate::base::time::Timestamp;

pub use wire::{Action, AppVersion, Attribute, Failure, Instance};

/// Earlier versions of an app that are kept.
const MAX_VERSIONS: usize = 50;

/// One app with its history.
#[derive(Clone, Debug, PartialEq)]
pub struct AppEntry {
    /// What should run.
    pub current: AppVersion,
    /// What should have run before, newest last.
    pub earlier: Vec<AppVersion>,
    /// The last failed task.
    pub last_failure: Option<Failure>,
}

/// A change of apps on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub version: Timestamp,
    /// What is done, step by step.
    pub steps: Vec<Vec<Action>>,
    /// The step that runs.
    pub current: usize,
}

impl Deployment {
    /// The apps that it locks.
    #[must_use]
    pub fn affected(&self) -> BTreeSet<&str> {
        self.steps.iter().flatten().map(|action| action.app_id.as_str()).collect()
    }
}

/// A change of apps.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Id of the deployment.
    pub deployment_id: String,
    /// When it was made.
    pub version: Timestamp,
    /// New and changed apps.
    pub apps: Vec<AppVersion>,
    /// Apps that go.
    pub removed: Vec<String>,
    /// What is done, step by step.
    pub steps: Vec<Vec<Action>>,
    /// Replaces deployments that lock one of the apps.
    pub force: bool,
    /// The apps must not exist yet.
    pub create: bool,
}

/// One replicated command of the service framework.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Changes apps.
    Put(Box<Plan>),
    /// A step of a deployment begins.
    Step {
        /// The deployment.
        deployment_id: String,
        /// Its step.
        step: u32,
    },
    /// A deployment is done.
    Finish {
        /// The deployment.
        deployment_id: String,
    },
    /// An instance is about to be launched.
    Intent(Box<Instance>),
    /// An instance is over.
    Forget {
        /// The instance.
        instance_id: String,
    },
    /// A task failed.
    Failed {
        /// Its app.
        app_id: String,
        /// How.
        failure: Box<Failure>,
    },
    /// The framework's id.
    Framework {
        /// The id.
        id: String,
    },
}

/// What applying a command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// Deployments work on one of the apps.
    Locked(Vec<String>),
    /// An app exists already.
    Exists(String),
    /// An app does not exist (any more).
    Missing(String),
}

/// The replicated state of the service framework.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    framework_id: Option<String>,
    apps: BTreeMap<String, Arc<AppEntry>>,
    deployments: BTreeMap<String, Arc<Deployment>>,
    instances: BTreeMap<String, Arc<Instance>>,
}

impl State {
    /// The framework's id, once it has one.
    #[must_use]
    pub fn framework_id(&self) -> Option<&str> {
        self.framework_id.as_deref()
    }

    /// The apps by id.
    #[must_use]
    pub fn apps(&self) -> &BTreeMap<String, Arc<AppEntry>> {
        &self.apps
    }

    /// The running deployments by id.
    #[must_use]
    pub fn deployments(&self) -> &BTreeMap<String, Arc<Deployment>> {
        &self.deployments
    }

    /// The instances by id.
    #[must_use]
    pub fn instances(&self) -> &BTreeMap<String, Arc<Instance>> {
        &self.instances
    }

    /// Applies a command that was proposed at `time`.
    pub fn apply(&mut self, command: Command, _time: Timestamp) -> Reply {
        match command {
            Command::Put(plan) => return self.put(*plan),
            Command::Step { deployment_id, step } => {
                if let Some(deployment) = self.deployments.get_mut(&deployment_id) {
                    Arc::make_mut(deployment).current = usize::try_from(step).unwrap_or(usize::MAX);
                }
            }
            Command::Finish { deployment_id } => {
                self.deployments.remove(&deployment_id);
            }
            Command::Intent(instance) => {
                if !self.apps.contains_key(&instance.app_id) {
                    return Reply::Missing(instance.app_id);
                }
                self.instances.insert(instance.instance_id.clone(), Arc::new(*instance));
            }
            Command::Forget { instance_id } => {
                self.instances.remove(&instance_id);
            }
            Command::Failed { app_id, failure } => {
                if let Some(app) = self.apps.get_mut(&app_id) {
                    Arc::make_mut(app).last_failure = Some(*failure);
                }
            }
            Command::Framework { id } => self.framework_id = Some(id),
        }
        Reply::Done
    }

    fn put(&mut self, plan: Plan) -> Reply {
        let touched: BTreeSet<&str> = plan
            .apps
            .iter()
            .map(|app| app.id.as_str())
            .chain(plan.removed.iter().map(String::as_str))
            .collect();
        if plan.create
            && let Some(twin) = touched.iter().find(|id| self.apps.contains_key(**id))
        {
            return Reply::Exists((*twin).to_owned());
        }
        if let Some(missing) = plan.removed.iter().find(|id| !self.apps.contains_key(*id)) {
            return Reply::Missing(missing.clone());
        }
        let conflicts: Vec<String> = self
            .deployments
            .values()
            .filter(|deployment| !deployment.affected().is_disjoint(&touched))
            .map(|deployment| deployment.id.clone())
            .collect();
        if !conflicts.is_empty() && !plan.force {
            return Reply::Locked(conflicts);
        }
        for id in conflicts {
            self.deployments.remove(&id);
        }
        for id in &plan.removed {
            self.apps.remove(id);
        }
        for app in plan.apps {
            self.put_app(app);
        }
        if !plan.steps.is_empty() {
            let deployment = Deployment {
                id: plan.deployment_id.clone(),
                version: plan.version,
                steps: plan.steps,
                current: 0,
            };
            self.deployments.insert(plan.deployment_id, Arc::new(deployment));
        }
        Reply::Done
    }

    fn put_app(&mut self, version: AppVersion) {
        match self.apps.get_mut(&version.id) {
            Some(entry) => {
                let entry = Arc::make_mut(entry);
                let old = std::mem::replace(&mut entry.current, version);
                entry.earlier.push(old);
                if entry.earlier.len() > MAX_VERSIONS {
                    entry.earlier.remove(0);
                }
            }
            None => {
                let id = version.id.clone();
                self.apps.insert(
                    id,
                    Arc::new(AppEntry { current: version, earlier: Vec::new(), last_failure: None }),
                );
            }
        }
    }

    /// Protobuf bytes of the whole state.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let apps = self.apps.values().map(|entry| wire::App {
            current: entry.current.clone(),
            earlier: entry.earlier.clone(),
            last_failure: entry.last_failure.clone(),
        });
        let deployments = self.deployments.values().map(|deployment| wire::Deployment {
            id: deployment.id.clone(),
            version_ns: deployment.version.nanos(),
            steps: steps_to_wire(&deployment.steps),
            current_step: u32::try_from(deployment.current).unwrap_or(u32::MAX),
            affected: Vec::new(),
        });
        let state = wire::State {
            framework_id: self.framework_id.clone(),
            apps: apps.collect(),
            deployments: deployments.collect(),
            instances: self.instances.values().map(|instance| (**instance).clone()).collect(),
        };
        state.encode_to_vec()
    }

    /// Reads what [`State::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are no state that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let state = wire::State::decode(bytes).map_err(|error| error.to_string())?;
        let apps = state.apps.into_iter().map(|app| {
            let entry =
                AppEntry { current: app.current, earlier: app.earlier, last_failure: app.last_failure };
            (entry.current.id.clone(), Arc::new(entry))
        });
        let deployments = state.deployments.into_iter().map(|deployment| {
            let id = deployment.id.clone();
            let deployment = Deployment {
                id: deployment.id,
                version: Timestamp::from_nanos(deployment.version_ns),
                steps: steps_from_wire(deployment.steps),
                current: usize::try_from(deployment.current_step).unwrap_or(usize::MAX),
            };
            (id, Arc::new(deployment))
        });
        let instances =
            state.instances.into_iter().map(|instance| (instance.instance_id.clone(), Arc::new(instance)));
        Ok(Self {
            framework_id: state.framework_id,
            apps: apps.collect(),
            deployments: deployments.collect(),
            instances: instances.collect(),
        })
    }
}

fn steps_to_wire(steps: &[Vec<Action>]) -> Vec<wire::Step> {
    steps.iter().map(|actions| wire::Step { actions: actions.clone() }).collect()
}

fn steps_from_wire(steps: Vec<wire::Step>) -> Vec<Vec<Action>> {
    steps.into_iter().map(|step| step.actions).collect()
}

impl Command {
    /// Protobuf bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        use wire::command::Command as Wire;

        let command = match self.clone() {
            Self::Put(plan) => Wire::PutPlan(wire::PutPlan {
                deployment_id: plan.deployment_id,
                version_ns: plan.version.nanos(),
                apps: plan.apps,
                removed: plan.removed,
                steps: steps_to_wire(&plan.steps),
                force: plan.force,
                create: plan.create,
            }),
            Self::Step { deployment_id, step } => {
                Wire::DeploymentStep(wire::DeploymentStep { deployment_id, step })
            }
            Self::Finish { deployment_id } => {
                Wire::FinishDeployment(wire::FinishDeployment { deployment_id })
            }
            Self::Intent(instance) => Wire::RecordIntent(wire::RecordIntent { instance: *instance }),
            Self::Forget { instance_id } => Wire::ForgetInstance(wire::ForgetInstance { instance_id }),
            Self::Failed { app_id, failure } => {
                Wire::RecordFailure(wire::RecordFailure { app_id, failure: *failure })
            }
            Self::Framework { id } => Wire::SetFrameworkId(wire::SetFrameworkId { framework_id: id }),
        };
        wire::Command { command: Some(command) }.encode_to_vec()
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are no command that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        use wire::command::Command as Wire;

        let message = wire::Command::decode(bytes).map_err(|error| error.to_string())?;
        Ok(match message.command.ok_or("a service command of a later version")? {
            Wire::PutPlan(put) => Self::Put(Box::new(Plan {
                deployment_id: put.deployment_id,
                version: Timestamp::from_nanos(put.version_ns),
                apps: put.apps,
                removed: put.removed,
                steps: steps_from_wire(put.steps),
                force: put.force,
                create: put.create,
            })),
            Wire::DeploymentStep(step) => Self::Step { deployment_id: step.deployment_id, step: step.step },
            Wire::FinishDeployment(finish) => Self::Finish { deployment_id: finish.deployment_id },
            Wire::RecordIntent(record) => Self::Intent(Box::new(record.instance)),
            Wire::ForgetInstance(forget) => Self::Forget { instance_id: forget.instance_id },
            Wire::RecordFailure(record) => {
                Self::Failed { app_id: record.app_id, failure: Box::new(record.failure) }
            }
            Wire::SetFrameworkId(set) => Self::Framework { id: set.framework_id },
        })
    }
}
