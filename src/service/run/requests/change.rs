//! Changes of apps: created, updated, rolled back, restarted, removed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::answer::{Proposal, Says, World, not_found};
use super::{ports, show};
use crate::api::marathon::{App, Detail, Mode, Refusal};
use crate::base::time::{Now, Timestamp};
use crate::service::core::plan;
use crate::service::model::{
    self, AppEntry, AppVersion, Command, Keys, Plan, State, Unreadable, check_together, ids,
};

/// A change while it is put together.
pub(super) struct Draft<'a> {
    state: &'a State,
    /// Every app as it will be.
    apps: BTreeMap<String, App>,
    version: i64,
    /// The actions of what changes.
    actions: BTreeMap<String, &'static str>,
    versions: Vec<AppVersion>,
    removed: Vec<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State, now: Now) -> Self {
        let stored = state.apps().iter();
        let apps = stored
            .filter_map(|(id, entry)| {
                Some((id.clone(), serde_json::from_slice(&entry.current.definition).ok()?))
            })
            .collect();
        // Milliseconds, as they are shown, and later than every version before.
        let millis = now.wall.nanos() / 1_000_000 * 1_000_000;
        let newest = state.apps().values().map(|entry| entry.current.version_ns).max().unwrap_or(0);
        let version = millis.max(newest + 1_000_000);
        let (actions, versions, removed) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { state, apps, version, actions, versions, removed }
    }

    /// Puts an app in the place of the one with its id.
    pub(super) fn put(&mut self, app: App) -> Result<(), Refusal> {
        let stored = self.apps.get(&app.id);
        let entry = self.state.apps().get(&app.id);
        let version = self.version;
        let (action, config) = match (stored, entry) {
            (Some(stored), Some(_)) if *stored == app => return Ok(()),
            (Some(stored), Some(entry)) if App { instances: app.instances, ..stored.clone() } == app => {
                ("ScaleApplication", entry.current.last_config_change_ns)
            }
            // Without instances there is nothing to restart.
            (Some(_), Some(_)) if app.instances > 0 => ("RestartApplication", version),
            _ => ("ScaleApplication", version),
        };
        let definition = serde_json::to_vec(&app)
            .map_err(|error| Refusal::Unavailable(format!("{} cannot be stored: {error}", app.id)))?;
        let record = AppVersion {
            id: app.id.clone(),
            version_ns: version,
            last_scaling_ns: version,
            last_config_change_ns: config,
            definition,
        };
        self.record(action, record);
        self.apps.insert(app.id.clone(), app);
        Ok(())
    }

    /// A new version whose definition is the stored one; instances since `config` are of it.
    pub(super) fn repeat(&mut self, action: &'static str, entry: &AppEntry, config: Option<i64>) {
        let version_ns = self.version;
        let last_config_change_ns = config.unwrap_or(version_ns);
        self.record(action, AppVersion { version_ns, last_config_change_ns, ..entry.current.clone() });
    }

    fn record(&mut self, action: &'static str, version: AppVersion) {
        self.actions.insert(version.id.clone(), action);
        self.versions.push(version);
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.apps.remove(id);
        self.removed.push(id.to_owned());
    }

    /// The change as it is proposed.
    pub(super) fn finish(self, force: bool, says: Says) -> Result<Box<Proposal>, Refusal> {
        if !self.versions.is_empty() {
            check_together(&self.apps).map_err(Refusal::Invalid)?;
        }
        let steps = plan(&self.apps, &self.actions, &self.removed);
        let deployment_id = crate::base::chance::Chance::new(rand::random()).uuid().to_string();
        let version = Timestamp::from_nanos(self.version);
        let plan = Plan {
            deployment_id: deployment_id.clone(),
            version,
            apps: self.versions,
            removed: self.removed,
            steps,
            force,
            create: matches!(says, Says::App(_)),
        };
        let command = Command::Put(Box::new(plan));
        Ok(Box::new(Proposal { command, deployment_id, kill: Vec::new(), version, says }))
    }
}

/// POST, PUT and PATCH of apps, all of them as one deployment.
pub(super) fn put(
    world: World<'_>,
    bodies: Vec<Value>,
    mode: Mode,
    single: bool,
    force: bool,
) -> Result<Box<Proposal>, Refusal> {
    let mut draft = Draft::new(world.state, world.now);
    let mut says = Says::Deployment;
    let mut given = BTreeSet::new();
    for body in bodies {
        let object = body.as_object().ok_or_else(|| bad_shape("/", "an app must be an object"))?;
        let id = object.get("id").and_then(Value::as_str).and_then(|id| ids::absolute(id).ok());
        let stored = id.as_ref().and_then(|id| draft.apps.get(id)).cloned();
        let app = match (&id, stored.as_ref(), mode) {
            (Some(id), Some(_), Mode::Create) => return Err(show::exists(id)),
            (Some(id), None, Mode::Patch) => return Err(not_found(id)),
            (Some(id), _, Mode::Update | Mode::Patch) if is_rollback(object) => {
                rollback(world.state, id, &object["version"])?
            }
            (_, stored, Mode::Update | Mode::Patch) => read(object, stored)?,
            (_, _, Mode::Create | Mode::Replace) => read(object, None)?,
        };
        if !given.insert(app.id.clone()) {
            return Err(Refusal::BadRequest(format!("the app {} is there twice; give it once", app.id)));
        }
        let app = ports::assigned(app, stored.as_ref(), &draft.apps)?;
        if single && stored.is_none() {
            says = Says::CreatedAt(app.id.clone());
        }
        let id = app.id.clone();
        draft.put(app)?;
        if mode == Mode::Create {
            says = Says::App(
                draft.versions.iter().find(|one| one.id == id).map(show::definition).unwrap_or_default(),
            );
        }
    }
    draft.finish(force, says)
}

/// `{"version": …}`, with nothing but an id beside it, means an earlier version; in any other body the
/// version is what a GET has shown, and means nothing.
fn is_rollback(body: &Map<String, Value>) -> bool {
    body.get("version").is_some_and(|version| !version.is_null())
        && body.iter().all(|(key, value)| ["id", "version"].contains(&key.as_str()) || value.is_null())
}

fn rollback(state: &State, id: &str, version: &Value) -> Result<App, Refusal> {
    let text = version.as_str().ok_or_else(|| bad_shape("/version", "must be a text"))?;
    Timestamp::parse_rfc3339(text)
        .map_err(|problem| bad_shape("/version", &format!("{text:?} is no date and time: {problem}")))?;
    let entry = state.apps().get(id).ok_or_else(|| not_found(id))?;
    let found = version_of(entry, text).ok_or_else(|| no_version(id, text))?;
    // What is stored was written by this program.
    serde_json::from_slice(&found.definition)
        .map_err(|error| Refusal::Unavailable(format!("version {text} of {id} cannot be read: {error}")))
}

/// The version with this time, in whichever form it is written.
pub(super) fn version_of<'a>(entry: &'a AppEntry, text: &str) -> Option<&'a AppVersion> {
    let wanted = Timestamp::parse_rfc3339(text).ok()?.rfc3339_millis();
    entry.earlier.iter().chain([&entry.current]).find(|one| show::stamp(one.version_ns) == wanted)
}

pub(super) fn no_version(id: &str, version: &str) -> Refusal {
    Refusal::NotFound(format!("App '{id}' has no version '{version}'"))
}

pub(super) fn bad_shape(path: &str, error: &str) -> Refusal {
    Refusal::BadShape(vec![Detail { path: path.to_owned(), errors: vec![error.to_owned()] }])
}

/// One app of a request: alone, or in place of parts of the stored one.
fn read(body: &Map<String, Value>, stored: Option<&App>) -> Result<App, Refusal> {
    let mut body = body.clone();
    // What a GET answers can be sent back: its read-only members mean nothing.
    body.shift_remove("version");
    let value = stored.map_or_else(|| Value::Object(body.clone()), |stored| model::merge(stored, &body));
    let app = model::read(&value, Keys::Ignore).map_err(|problem| match problem {
        Unreadable::Shape(details) => Refusal::BadShape(details),
        Unreadable::Invalid(details) => Refusal::Invalid(details),
    })?;
    model::check(&app).map_err(Refusal::Invalid)?;
    Ok(app)
}

pub(super) fn remove(world: World<'_>, id: &str, force: bool) -> Result<Box<Proposal>, Refusal> {
    if !world.state.apps().contains_key(id) {
        return Err(not_found(id));
    }
    let mut draft = Draft::new(world.state, world.now);
    draft.remove(id);
    draft.finish(force, Says::Deployment)
}

pub(super) fn restart(world: World<'_>, id: &str, force: bool) -> Result<Box<Proposal>, Refusal> {
    let entry = world.state.apps().get(id).ok_or_else(|| not_found(id))?;
    let mut draft = Draft::new(world.state, world.now);
    draft.repeat("RestartApplication", entry, None);
    draft.finish(force, Says::Deployment)
}
