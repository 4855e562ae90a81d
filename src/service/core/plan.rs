//! From a change of apps to the steps of its deployment (Marathon: stop what goes, then one step for
//! each layer of dependencies).

use std::collections::BTreeMap;

use crate::api::marathon::App;
use crate::service::model::{Action, depths};

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
    // Circles are refused before a plan is made; should one be stored, everything goes at once.
    let depths = depths(apps).unwrap_or_default();
    let mut layers: BTreeMap<usize, Vec<Action>> = BTreeMap::new();
    for (id, kind) in changed {
        let depth = depths.get(id.as_str()).copied().unwrap_or(0);
        layers.entry(depth).or_default().push(action(kind, id));
    }
    steps.extend(layers.into_values());
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_goes_stops_first_then_layer_by_layer() {
        let apps = [("/db", json!([])), ("/store", json!(["/db"])), ("/front", json!(["/store"]))];
        let apps: BTreeMap<String, App> = apps
            .into_iter()
            .map(|(id, needs)| {
                let app = serde_json::from_value(json!({ "id": id, "dependencies": needs }));
                (id.to_owned(), app.expect("an app"))
            })
            .collect();
        let changed =
            [("/front", "ScaleApplication"), ("/db", "RestartApplication"), ("/store", "ScaleApplication")];
        let changed = changed.into_iter().map(|(id, kind)| (id.to_owned(), kind)).collect();
        let steps = plan(&apps, &changed, &["/old".to_owned()]);
        let shown: Vec<Vec<(&str, &str)>> = steps
            .iter()
            .map(|step| step.iter().map(|one| (one.kind.as_str(), one.app_id.as_str())).collect())
            .collect();
        assert_eq!(
            shown,
            [
                [("StopApplication", "/old")],
                [("RestartApplication", "/db")],
                [("ScaleApplication", "/store")],
                [("ScaleApplication", "/front")]
            ]
        );
    }
}
