//! The replicated state as this framework has taken it in: definitions read, instances indexed.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::fact::Fact;
use super::state::Services;
use crate::api::marathon::App;
use crate::service::model::{AppEntry, AppVersion, Instance, State};

/// A version of an app, read.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) version_ns: i64,
    pub(super) app: Arc<App>,
}

impl Version {
    /// What is stored was checked before it was proposed: none means damage, and then nothing is done.
    fn read(stored: &AppVersion) -> Option<Self> {
        let app = serde_json::from_slice(&stored.definition).ok()?;
        Some(Self { version_ns: stored.version_ns, app: Arc::new(app) })
    }
}

/// An app's definitions.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) current: Version,
    /// What holds until a deployment comes to the app.
    pub(super) before: Option<Version>,
    /// Instances of versions before this one are of another configuration.
    pub(super) config_ns: i64,
}

/// One difference between two maps: key, value before, value after.
type Change<'a, T> = (&'a String, Option<&'a Arc<T>>, Option<&'a Arc<T>>);

impl Services {
    /// Takes in what was replicated; only what differs costs anything.
    pub(super) fn on_state(&mut self, state: Arc<State>) {
        let old = std::mem::replace(&mut self.state, Arc::clone(&state));
        for (id, _, entry) in changes(old.apps(), state.apps()) {
            self.app_changed(id, entry);
        }
        for (_, before, after) in changes(old.deployments(), state.deployments()) {
            for deployment in [before, after].into_iter().flatten() {
                for id in deployment.affected() {
                    self.mark(id);
                }
                self.stepping.retain(|(id, step)| {
                    *id != deployment.id || after.is_some_and(|after| after.current == *step)
                });
            }
        }
        for (id, before, after) in changes(old.instances(), state.instances()) {
            self.instance_changed(id, before, after);
        }
    }

    /// Something about an app changed: it is looked at when things settle.
    pub(super) fn mark(&mut self, app_id: &str) {
        self.check_steps = true;
        if !self.dirty.contains(app_id) {
            self.dirty.insert(app_id.to_owned());
        }
    }

    fn app_changed(&mut self, id: &str, entry: Option<&Arc<AppEntry>>) {
        self.mark(id);
        let Some(entry) = entry else {
            self.apps.remove(id);
            self.vacant.remove(id);
            self.delays.remove(id);
            self.rejects.remove(id);
            return;
        };
        let old = self.apps.remove(id);
        let known: Vec<Version> =
            old.into_iter().flat_map(|old| [Some(old.current), old.before]).flatten().collect();
        let version = |stored: &AppVersion| {
            let read = known.iter().find(|known| known.version_ns == stored.version_ns).cloned();
            read.or_else(|| Version::read(stored))
        };
        if let Some(current) = version(&entry.current) {
            let before = entry.earlier.last().and_then(version);
            let config_ns = entry.current.last_config_change_ns;
            self.apps.insert(id.to_owned(), Known { current, before, config_ns });
        }
        let config = entry.current.last_config_change_ns;
        if self.delays.get(id).is_some_and(|delay| delay.config_ns != config) {
            self.delays.remove(id);
        }
    }

    fn instance_changed(&mut self, id: &str, before: Option<&Arc<Instance>>, after: Option<&Arc<Instance>>) {
        for instance in [before, after].into_iter().flatten() {
            self.mark(&instance.app_id);
        }
        let mut known = None;
        if let Some(before) = before {
            self.by_task.remove(&before.task_id);
            if let Some(own) = self.facts.get_mut(&before.app_id) {
                known = own.remove(id);
                if own.is_empty() {
                    self.facts.remove(&before.app_id);
                }
            }
        }
        let Some(after) = after else { return };
        self.by_task.insert(after.task_id.clone(), id.to_owned());
        // An instance that was launched again has another task: nothing of the old one holds.
        let fact = match known.filter(|fact| fact.instance.task_id == after.task_id) {
            Some(fact) => Fact { instance: Arc::clone(after), ..fact },
            None => {
                let fact = Fact::new(Arc::clone(after), self.launched_from(after));
                // Of a task that is not launched yet there is nothing to be asked.
                Fact { confirmed: self.is_launching(&after.task_id), ..fact }
            }
        };
        self.facts.entry(after.app_id.clone()).or_default().insert(id.to_owned(), fact);
    }

    /// The definition that an instance was launched from; what comes nearest if it is not kept any
    /// more.
    fn launched_from(&self, instance: &Instance) -> Option<Arc<App>> {
        let known = self.apps.get(&instance.app_id);
        let mut versions = known.into_iter().flat_map(|known| [Some(&known.current), known.before.as_ref()]);
        if let Some(version) =
            versions.find(|one| one.is_some_and(|one| one.version_ns == instance.version_ns))
        {
            return version.map(|version| Arc::clone(&version.app));
        }
        let mut others = self.instances_of(&instance.app_id);
        if let Some((_, fact)) = others.find(|(other, _)| other.version_ns == instance.version_ns) {
            return fact.app.clone();
        }
        let entry = self.state.apps().get(&instance.app_id);
        let earlier = entry
            .and_then(|entry| entry.earlier.iter().find(|version| version.version_ns == instance.version_ns));
        let version = earlier.and_then(Version::read).or_else(|| known.map(|known| known.current.clone()));
        version.map(|version| version.app)
    }

    /// The recorded instances of an app with what is known of them.
    pub(super) fn instances_of<'a>(
        &'a self,
        app_id: &str,
    ) -> impl Iterator<Item = (&'a Arc<Instance>, &'a Fact)> + use<'a> {
        self.facts.get(app_id).into_iter().flat_map(BTreeMap::values).map(|fact| (&fact.instance, fact))
    }

    pub(super) fn fact(&self, instance: &Instance) -> Option<&Fact> {
        self.facts.get(&instance.app_id)?.get(&instance.instance_id)
    }

    pub(super) fn fact_mut(&mut self, instance: &Instance) -> Option<&mut Fact> {
        self.facts.get_mut(&instance.app_id)?.get_mut(&instance.instance_id)
    }

    pub(super) fn instance_of(&self, task_id: &str) -> Option<Arc<Instance>> {
        self.by_task.get(task_id).and_then(|id| self.state.instances().get(id)).cloned()
    }

    /// Whether a task waits for its ACCEPT.
    pub(super) fn is_launching(&self, task_id: &str) -> bool {
        self.launches.values().flat_map(|launch| &launch.tasks).any(|(one, _)| one.task_id == task_id)
    }
}

/// What differs between two maps. Entries that were left alone are the same allocation in both and
/// cost one comparison.
fn changes<'a, T>(
    old: &'a BTreeMap<String, Arc<T>>,
    new: &'a BTreeMap<String, Arc<T>>,
) -> Vec<Change<'a, T>> {
    let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((_, one)), Some((_, other))) if Arc::ptr_eq(one, other) => {
                before.next();
                after.next();
                continue;
            }
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let gone = if order.is_le() { before.next() } else { None };
        let come = if order.is_ge() { after.next() } else { None };
        if let Some((id, _)) = come.or(gone) {
            changes.push((id, gone.map(|(_, value)| value), come.map(|(_, value)| value)));
        }
    }
}
