//! What was committed, against what happens to the tasks of services.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checker::within;
use crate::api::marathon::App;
use crate::base::id::TaskId;
use crate::base::time::Mono;
use crate::registry::core::Change;
use crate::service::model::{Command, Plan};

/// How long the loss of an agent may make tasks superfluous that were started in its place.
const AFTER_LOSS: Duration = Duration::from_secs(180);
/// How long a launch may be on its way through the log, while the app is asked to have fewer.
const CROSSES: Duration = Duration::from_secs(10);
/// How long an end may take until the services hear of it.
const NEWS: Duration = Duration::from_secs(60);

/// A deployment under way.
#[derive(Debug)]
struct Deployment {
    since: Mono,
    /// Apps of each step.
    steps: Vec<Vec<String>>,
    /// Instances that an app should have, and those that ran when it began or had ended just before.
    wanted: BTreeMap<String, (u64, u64)>,
    /// How many had been started until then.
    started: BTreeMap<String, u64>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The app of each task that was recorded, and when it first was.
    apps: BTreeMap<String, (String, Mono)>,
    /// Instances that each app should have, by what is committed.
    wanted: BTreeMap<String, u64>,
    /// When an app was last asked to have fewer.
    lessened: BTreeMap<String, Mono>,
    /// When an agent was last lost, or said to be.
    loss: Option<Mono>,
    running: BTreeMap<String, u64>,
    started: BTreeMap<String, u64>,
    ends: Vec<(Mono, String)>,
    deployments: BTreeMap<String, Deployment>,
}

impl History {
    pub(super) fn lost_agent(&mut self, now: Mono) {
        self.loss = Some(now);
    }

    /// A command is committed. What should not be is answered.
    pub(super) fn committed(&mut self, change: &Change, now: Mono) -> Option<String> {
        match change {
            Change::MarkUnreachable { .. } | Change::MarkGone { .. } | Change::RemoveAgent { .. } => {
                self.loss = Some(now);
            }
            Change::Service(Command::Intent(instance)) => {
                self.apps.entry(instance.task_id.clone()).or_insert_with(|| (instance.app_id.clone(), now));
            }
            Change::Service(Command::Put(plan)) => self.put(plan, now),
            Change::Service(Command::Step { deployment_id, step }) => {
                return self.stepped(deployment_id, usize::try_from(*step).unwrap_or(0), now);
            }
            Change::Service(Command::Finish { deployment_id }) => {
                let problem = self.stepped(deployment_id, usize::MAX, now);
                self.deployments.remove(deployment_id);
                return problem;
            }
            _ => {}
        }
        None
    }

    /// A line about a command, for those who look for what went wrong.
    pub(super) fn line(change: &Change) -> Option<String> {
        match change {
            Change::MarkUnreachable { agent_id } => Some(format!("{agent_id} is unreachable")),
            Change::MarkGone { agent_id } => Some(format!("{agent_id} is gone")),
            Change::Service(Command::Intent(one)) => Some(format!("{} on {}", one.task_id, one.agent_id)),
            Change::Service(Command::Put(plan)) => {
                let wanted = plan.apps.iter().map(|version| {
                    let app = serde_json::from_slice::<App>(&version.definition);
                    format!("{} × {}", version.id, app.map_or(0, |app| app.instances))
                });
                Some(format!("{}: {}", plan.deployment_id, wanted.collect::<Vec<_>>().join(", ")))
            }
            Change::Service(Command::Forget { instance_id }) => Some(format!("{instance_id} is over")),
            Change::Service(Command::Finish { deployment_id }) => Some(format!("{deployment_id} is done")),
            _ => None,
        }
    }

    fn put(&mut self, plan: &Plan, now: Mono) {
        let mut deployment = Deployment {
            since: now,
            steps: Vec::new(),
            wanted: BTreeMap::new(),
            started: self.started.clone(),
        };
        for action in &plan.steps {
            deployment.steps.push(action.iter().map(|action| action.app_id.clone()).collect());
        }
        self.ends.retain(|(at, _)| within(*at, now, NEWS));
        for version in &plan.apps {
            let Ok(app) = serde_json::from_slice::<App>(&version.definition) else { continue };
            let wanted = u64::from(app.instances);
            if self.wanted.insert(version.id.clone(), wanted).is_some_and(|before| before > wanted) {
                self.lessened.insert(version.id.clone(), now);
            }
            let ended = self.ends.iter().filter(|(_, app)| *app == version.id).count() as u64;
            let running = self.running.get(&version.id).copied().unwrap_or(0);
            deployment.wanted.insert(version.id.clone(), (wanted, running + ended));
        }
        // It takes the place of those that change one of its apps; what they had not come to happens now.
        let (wanted, lessened) = (&deployment.wanted, &mut self.lessened);
        self.deployments.retain(|_, other| {
            let is_replaced = other.wanted.keys().any(|app| wanted.contains_key(app));
            if is_replaced {
                lessen(lessened, other, usize::MAX, now);
            }
            !is_replaced
        });
        self.deployments.insert(plan.deployment_id.clone(), deployment);
    }

    /// Everything before this step must have been done.
    fn stepped(&mut self, id: &str, step: usize, now: Mono) -> Option<String> {
        let deployment = self.deployments.get(id)?;
        lessen(&mut self.lessened, deployment, step.saturating_add(1), now);
        for app in deployment.steps.iter().take(step).flatten() {
            let Some((wanted, before)) = deployment.wanted.get(app) else { continue };
            let count = |started: &BTreeMap<String, u64>| started.get(app).copied().unwrap_or(0);
            let seen = before + count(&self.started) - count(&deployment.started);
            if seen < *wanted {
                return Some(format!("{id} goes on, but of {app} only {seen} of {wanted} ever ran"));
            }
        }
        None
    }

    pub(super) fn started(&mut self, task: &TaskId) {
        if let Some((app, _)) = self.apps.get(task.as_str()) {
            *self.running.entry(app.clone()).or_default() += 1;
            *self.started.entry(app.clone()).or_default() += 1;
        }
    }

    pub(super) fn ended(&mut self, task: &TaskId, now: Mono) {
        if let Some((app, _)) = self.apps.get(task.as_str()) {
            let running = self.running.entry(app.clone()).or_default();
            *running = running.saturating_sub(1);
            self.ends.push((now, app.clone()));
        }
    }

    /// A task of a service is asked to end: answered if nothing explains it. Explanations are that fewer were
    /// wanted since it was planned, and that an agent was lost (it was started in the place of another, which
    /// came back).
    pub(super) fn killed(&self, task: &TaskId, now: Mono) -> Option<String> {
        let (app, planned) = self.apps.get(task.as_str())?;
        let was_lessened =
            self.lessened.get(app).is_some_and(|at| at >= planned || within(*at, *planned, CROSSES));
        let was_lost = self.loss.is_some_and(|at| at >= *planned || within(at, *planned, AFTER_LOSS));
        if was_lessened || was_lost {
            return None;
        }
        let age = now.since(*planned);
        Some(format!("the task {task} of {app} is killed after {age:?}, and nothing explains it"))
    }
}

/// Until its step comes an app runs as before: only then are there fewer.
fn lessen(lessened: &mut BTreeMap<String, Mono>, deployment: &Deployment, steps: usize, now: Mono) {
    for app in deployment.steps.iter().take(steps).flatten() {
        if let Some(at) = lessened.get_mut(app).filter(|at| **at >= deployment.since) {
            *at = now;
        }
    }
}
