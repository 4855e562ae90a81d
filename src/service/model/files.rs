//! App files: one app, an array of apps, or a group with apps.

use serde_json::Value;

use super::{Keys, check, read};
use crate::api::marathon::Detail;

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
    Ok(apps)
}

fn collect(document: &Value, group: &str, apps: &mut Vec<Value>) -> Result<(), String> {
    if let Some(list) = document.as_array() {
        return list.iter().try_for_each(|item| collect(item, group, apps));
    }
    let is_group = document.get("apps").is_some() || document.get("groups").is_some();
    if !is_group {
        let mut value = document.clone();
        if let Some(id) = document["id"].as_str().filter(|id| !id.starts_with('/')) {
            value["id"] = Value::from(format!("{group}/{id}"));
        }
        let app = read(&value, Keys::Refuse).and_then(|app| check(&app).map(|()| app));
        let app = app.map_err(|details| describe(&document["id"], &details))?;
        apps.push(serde_json::to_value(app).map_err(|error| error.to_string())?);
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
