//! Faults that a test of mesita itself asks for, in a file:
//!
//! ```json
//! { "disk": [{ "store": "registry", "kind": "sync_fails", "after": 20, "times": 1 }] }
//! ```
//!
//! Kinds: `sync_fails`, `sync_slow` (with `seconds`), `no_space`, `torn_tail`, `flipped_byte`. Without `times`
//! a fault lasts.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::StartError;
use crate::storage::{Fault, FaultKind, Faults};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    disk: Vec<WantedFault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedFault {
    store: String,
    kind: Kind,
    #[serde(default)]
    after: u64,
    #[serde(default)]
    times: Option<u64>,
    #[serde(default)]
    seconds: f64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    SyncFails,
    SyncSlow,
    NoSpace,
    TornTail,
    FlippedByte,
}

/// The faults of a file; without one, none.
pub(super) fn read(path: Option<&Path>) -> Result<Faults, StartError> {
    let faults = Faults::default();
    let Some(path) = path else { return Ok(faults) };
    let failed = |problem: String| StartError::Faults { path: path.to_owned(), problem };
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let wanted: Wanted = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    for WantedFault { store, kind, after, times, seconds } in wanted.disk {
        let kind = match kind {
            Kind::SyncFails => FaultKind::SyncFails,
            Kind::SyncSlow => {
                let slow = Duration::try_from_secs_f64(seconds).map_err(|error| failed(error.to_string()))?;
                FaultKind::SyncSlow(slow)
            }
            Kind::NoSpace => FaultKind::NoSpace,
            Kind::TornTail => FaultKind::TornTail,
            Kind::FlippedByte => FaultKind::FlippedByte,
        };
        tracing::warn!(?kind, store, after, "THIS NODE HAS FAULTS ON REQUEST: it is for tests only");
        faults.arm(&store, Fault { kind, after, times });
    }
    Ok(faults)
}
