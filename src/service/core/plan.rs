//! From a change of apps to the steps of its deployment (Marathon: stop what goes, then one step for
//! each layer of dependencies).

use std::collections::{BTreeMap, BTreeSet};

use crate::api::marathon::App;
use crate::service::model::Action;

/// The steps of a change. `apps` are all apps as they will be, `changed` those that differ with the
/// kind of their action, `removed` those that go.
#[must_use]
pub fn plan(
    apps: &BTreeMap<String, App>,
    changed: &BTreeMap<String, &'static str>,
    removed: &[String],
) -> Vec<Vec<Action>> {
    let action = |kind: &str, app_id: &String| Action { kind: kind.to_owned(), app_id: app_id.clone() };
    let mut steps: Vec<Vec<Action>> = Vec::new();
    if !removed.is_empty() {
        steps.push(removed.iter().map(|id| action("StopApplication", id)).collect());
    }
    let mut layers: BTreeMap<usize, Vec<Action>> = BTreeMap::new();
    for (id, kind) in changed {
        layers.entry(depth(id, apps, &mut BTreeSet::new())).or_default().push(action(kind, id));
    }
    steps.extend(layers.into_values());
    steps
}

/// Length of the longest chain of dependencies below an app; a cycle ends it.
fn depth(id: &str, apps: &BTreeMap<String, App>, seen: &mut BTreeSet<String>) -> usize {
    if !seen.insert(id.to_owned()) {
        return 0;
    }
    let Some(app) = apps.get(id) else { return 0 };
    let below = app.dependencies.iter().flat_map(|dependency| {
        // A dependency on a group is one on every app under it.
        let group = format!("{}/", dependency.trim_end_matches('/'));
        apps.keys().filter(move |other| *other == dependency || other.starts_with(&group))
    });
    let deepest = below.filter(|other| *other != id).map(|other| depth(other, apps, seen) + 1).max();
    seen.remove(id);
    deepest.unwrap_or(0)
}
