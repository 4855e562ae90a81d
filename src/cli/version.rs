//! `mesita version`.

use serde_json::{Value, json};

/// The versions: ours, and those that the APIs report.
pub(super) fn version() -> Value {
    json!({
        "schema": 1,
        "mesita": env!("CARGO_PKG_VERSION"),
        "mesos_api": crate::config::MESOS_VERSION,
        "marathon_api": crate::config::MARATHON_VERSION,
    })
}
