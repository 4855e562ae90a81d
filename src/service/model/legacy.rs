//! Spellings of earlier versions of Marathon.

use serde_json::{Map, Value, json};

use super::Unreadable;
use super::canonical::is_empty;

/// Files with these endings were unpacked when they were named in `uris`.
const ARCHIVES: &[&str] = &[".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".tgz", ".tbz2", ".txz", ".zip"];

/// `ports`, `uris`, `container.docker.network`, `container.docker.portMappings`, a command as text.
pub(super) fn rewrite(app: &mut Map<String, Value>) -> Result<(), Unreadable> {
    rewrite_docker(app)?;
    rewrite_ports(app)?;
    rewrite_uris(app)?;
    for check in app.get_mut("healthChecks").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(command) = check.get_mut("command")
            && command.is_string()
        {
            *command = json!({ "value": command.take() });
        }
    }
    Ok(())
}

fn rewrite_ports(app: &mut Map<String, Value>) -> Result<(), Unreadable> {
    let Some(ports) = app.shift_remove("ports").filter(|_| !app.contains_key("portDefinitions")) else {
        return Ok(());
    };
    let wrong = || Unreadable::shape("/ports", "must be a list of numbers");
    let list = ports.as_array().ok_or_else(wrong)?;
    // Old servers showed the service ports of mappings here too.
    let mappings = app.get("container").and_then(|container| container.get("portMappings"));
    let shown = mappings.and_then(Value::as_array).map(|mappings| {
        mappings
            .iter()
            .map(|mapping| mapping.get("servicePort").cloned().unwrap_or_else(|| json!(0)))
            .collect::<Vec<_>>()
    });
    if !list.is_empty() && shown.as_ref() == Some(list) {
        return Ok(());
    }
    let definitions: Vec<Value> =
        list.iter().map(|port| json!({ "port": port, "protocol": "tcp" })).collect();
    app.insert("portDefinitions".to_owned(), json!(definitions));
    Ok(())
}

fn rewrite_uris(app: &mut Map<String, Value>) -> Result<(), Unreadable> {
    let Some(uris) = app.shift_remove("uris").filter(|uris| !is_empty(uris)) else { return Ok(()) };
    let wrong = || Unreadable::shape("/uris", "must be a list of texts");
    let list: Option<Vec<&str>> = uris.as_array().ok_or_else(wrong)?.iter().map(Value::as_str).collect();
    let list = list.ok_or_else(wrong)?;
    if let Some(fetch) = app.get("fetch").filter(|fetch| !is_empty(fetch)) {
        // Servers between 0.15 and 1.4 showed both.
        let same = fetch.as_array().is_some_and(|fetch| {
            fetch
                .iter()
                .map(|one| one.get("uri").and_then(Value::as_str))
                .eq(list.iter().map(|uri| Some(*uri)))
        });
        return if same { Ok(()) } else { Err(Unreadable::invalid("/uris", "give either uris or fetch")) };
    }
    let fetch = list
        .iter()
        .map(|uri| json!({ "uri": uri, "extract": ARCHIVES.iter().any(|ending| uri.ends_with(ending)) }));
    app.insert("fetch".to_owned(), fetch.collect());
    Ok(())
}

fn rewrite_docker(app: &mut Map<String, Value>) -> Result<(), Unreadable> {
    let Some(container) = app.get_mut("container").and_then(Value::as_object_mut) else { return Ok(()) };
    let Some(docker) = container.get_mut("docker").and_then(Value::as_object_mut) else { return Ok(()) };
    let network = docker.shift_remove("network");
    if let Some(mappings) = docker.shift_remove("portMappings") {
        container.entry("portMappings").or_insert(mappings);
    }
    let Some(network) = network else { return Ok(()) };
    let mode = match network.as_str() {
        Some("HOST") => "host",
        Some("BRIDGE") => "container/bridge",
        other => {
            let given = other.unwrap_or("(no text)");
            return Err(Unreadable::invalid(
                "/container/docker/network",
                format!("{given} is not built yet; use HOST or BRIDGE"),
            ));
        }
    };
    if app.contains_key("networks") {
        return Err(Unreadable::invalid("/networks", "give either networks or container.docker.network"));
    }
    app.insert("networks".to_owned(), json!([{ "mode": mode }]));
    Ok(())
}
