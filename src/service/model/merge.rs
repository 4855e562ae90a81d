//! Partial updates: each member of the body replaces the stored one as a whole.

use serde_json::{Map, Value};

use super::canonical::without_nulls;
use crate::api::marathon::App;

/// The stored app with the members of a partial update in place of its own.
#[must_use]
pub fn merge(stored: &App, update: &Map<String, Value>) -> Value {
    let mut merged = serde_json::to_value(stored).unwrap_or_default();
    if let Some(object) = merged.as_object_mut() {
        let update = without_nulls(update);
        // The same thing in two spellings: a new one replaces both.
        for (own, other) in
            [("cmd", "args"), ("args", "cmd"), ("ports", "portDefinitions"), ("uris", "fetch")]
        {
            if update.contains_key(own) {
                object.shift_remove(other);
            }
        }
        if let Some(host) = new_network(&update) {
            if !update.contains_key("networks") {
                object.shift_remove("networks");
            }
            drop_ports(object, host);
        }
        object.extend(update);
    }
    merged
}

/// Whether an update that says how its app is networked means the host's network.
fn new_network(update: &Map<String, Value>) -> Option<bool> {
    if let Some(networks) = update.get("networks") {
        return Some(networks.as_array()?.iter().all(|network| network["mode"] == "host"));
    }
    update.get("container")?.get("docker")?.get("network").map(|network| network == "HOST")
}

/// Ports are described in one place for the host's network and in another for all others: stored ones
/// of the wrong place would make the update invalid.
fn drop_ports(stored: &mut Map<String, Value>, host: bool) {
    if !host {
        stored.shift_remove("portDefinitions");
    } else if let Some(container) = stored.get_mut("container").and_then(Value::as_object_mut) {
        container.shift_remove("portMappings");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::model::{Keys, check, read};
    use serde_json::json;

    fn app(value: &Value) -> App {
        let app = read(value, Keys::Ignore).unwrap_or_else(|problem| panic!("{value}: {problem:?}"));
        check(&app).unwrap_or_else(|problem| panic!("{value}: {problem:?}"));
        app
    }

    fn updated(stored: &App, update: &Value) -> App {
        app(&merge(stored, update.as_object().expect("an object")))
    }

    #[test]
    fn a_docker_app_of_old_can_be_updated_with_its_own_definition() {
        let old = |network: &str| {
            json!({ "id": "/web", "instances": 2, "container": { "type": "DOCKER", "docker": {
                "image": "nginx", "network": network,
                "portMappings": [{ "containerPort": 80, "hostPort": 0, "servicePort": 10001 }] } } })
        };
        let stored = app(&old("BRIDGE"));
        assert_eq!(updated(&stored, &old("BRIDGE")), stored);
        let mut host = old("HOST");
        host["container"]["docker"]["portMappings"] = Value::Null;
        let on_host = updated(&stored, &host);
        assert!(on_host.is_host_mode());
        let back = updated(&on_host, &old("BRIDGE"));
        assert_eq!(back, stored, "the ports of the host's network are gone");
    }

    #[test]
    fn an_update_may_change_the_network() {
        let stored = app(&json!({ "id": "/web", "container": { "docker": { "image": "nginx" } } }));
        assert!(stored.is_host_mode() && stored.port_definitions.is_some());
        let bridge = updated(&stored, &json!({ "networks": [{ "mode": "container/bridge" }] }));
        assert_eq!(bridge.mappings().len(), 1);
        let host = updated(&bridge, &json!({ "networks": [{ "mode": "host" }] }));
        assert!(host.mappings().is_empty() && host.port_definitions.is_some());
    }

    #[test]
    fn members_are_replaced_as_a_whole_and_nulls_mean_nothing() {
        let stored = app(&json!({ "id": "/a", "cmd": "x", "env": { "A": "1", "B": "2" }, "instances": 3 }));
        let update = json!({ "args": ["y"], "env": { "A": "3" }, "instances": null });
        let merged = updated(&stored, &update);
        assert_eq!((merged.cmd, merged.args, merged.instances), (None, vec!["y".to_owned()], 3));
        assert_eq!(merged.env.len(), 1);
    }
}
