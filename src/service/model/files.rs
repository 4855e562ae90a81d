//! App files: one app, an array of apps, or a group with apps.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Keys, check, check_together, read};
use crate::api::marathon::{App, Detail};

/// The apps of a file in canonical form.
///
/// # Errors
/// The text is no JSON, or an app in it is not valid; the text names the place.
pub fn parse(text: &str) -> Result<Vec<Value>, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut apps = Vec::new();
    collect(&document, "", &mut apps)?;
    if apps.is_empty() {
        return Err("there is no app in this file".to_owned());
    }
    let together: BTreeMap<String, App> = apps.iter().map(|app| (app.id.clone(), app.clone())).collect();
    check_together(&together).map_err(|details| {
        let errors: Vec<String> = details.into_iter().flat_map(|detail| detail.errors).collect();
        errors.join("; ")
    })?;
    apps.into_iter().map(|app| serde_json::to_value(app).map_err(|error| error.to_string())).collect()
}

fn collect(document: &Value, group: &str, apps: &mut Vec<App>) -> Result<(), String> {
    if let Some(list) = document.as_array() {
        return list.iter().try_for_each(|item| collect(item, group, apps));
    }
    let is_group = document.get("apps").is_some() || document.get("groups").is_some();
    if !is_group {
        let mut value = document.clone();
        if let Some(id) = document["id"].as_str().filter(|id| !id.starts_with('/')) {
            value["id"] = Value::from(format!("{group}/{id}"));
        }
        let app =
            read(&value, Keys::Refuse).map_err(|problem| describe(&document["id"], problem.details()))?;
        check(&app).map_err(|details| describe(&document["id"], &details))?;
        apps.push(app);
        return Ok(());
    }
    if let Some(key) = document.as_object().and_then(|object| {
        object.keys().find(|key| !["id", "apps", "groups", "version"].contains(&key.as_str()))
    }) {
        return Err(format!("unknown key {key:?} in a group; a group has id, apps and groups"));
    }
    let own = document["id"].as_str().unwrap_or_default();
    let path =
        if own.starts_with('/') { own.trim_end_matches('/').to_owned() } else { format!("{group}/{own}") };
    for key in ["apps", "groups"] {
        for item in document[key].as_array().into_iter().flatten() {
            collect(item, path.trim_end_matches('/'), apps)?;
        }
    }
    Ok(())
}

fn describe(id: &Value, details: &[Detail]) -> String {
    let name = id.as_str().unwrap_or("(without an id)");
    let lines: Vec<String> =
        details.iter().map(|detail| format!("{}: {}", detail.path, detail.errors.join("; "))).collect();
    format!("in the app {name}: {}", lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dependencies_of_a_group_are_relative_to_it() {
        let text = r#"{ "id": "/shop", "apps": [{ "id": "db", "cmd": "x" },
            { "id": "front", "cmd": "x", "dependencies": ["db", "../cache", "/mail"] }] }"#;
        let apps = parse(text).expect("two apps");
        let dependencies: Vec<&str> =
            apps[1]["dependencies"].as_array().into_iter().flatten().filter_map(|one| one.as_str()).collect();
        assert_eq!(dependencies, ["/shop/db", "/cache", "/mail"]);
    }

    #[test]
    fn apps_that_wait_for_each_other_are_refused() {
        let text = r#"[{ "id": "/a", "cmd": "x", "dependencies": ["b"] }, { "id": "/b", "cmd": "x", "dependencies": ["a"] }]"#;
        let problem = parse(text).expect_err("a circle");
        assert!(problem.contains("/a -> /b -> /a"), "{problem}");
    }
}
