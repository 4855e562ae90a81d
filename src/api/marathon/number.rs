//! Numbers as Marathon writes them: a whole one without a fraction (`300`, not `300.0`), because
//! typed clients read seconds into integers.

use serde::Serializer;

/// Whole numbers up to here are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) fn write<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
        let whole = *value as i64;
        serializer.serialize_i64(whole)
    } else {
        serializer.serialize_f64(*value)
    }
}

pub(super) fn write_some<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => write(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use crate::api::marathon::App;
    use serde_json::{Value, json};

    #[test]
    fn whole_numbers_have_no_fraction() {
        let given = json!({
            "id": "/a", "cpus": 0.1, "mem": 32.0, "disk": 0, "backoffSeconds": 1.0, "backoffFactor": 1.15,
            "maxLaunchDelaySeconds": 300, "taskKillGracePeriodSeconds": 5.0,
            "upgradeStrategy": { "minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.5 },
            "healthChecks": [{ "intervalSeconds": 2.5 }],
        });
        let app: App = serde_json::from_value(given).expect("an app");
        let shown = serde_json::to_value(&app).expect("JSON");
        for (path, text) in [
            ("/cpus", "0.1"),
            ("/mem", "32"),
            ("/disk", "0"),
            ("/backoffSeconds", "1"),
            ("/backoffFactor", "1.15"),
            ("/maxLaunchDelaySeconds", "300"),
            ("/taskKillGracePeriodSeconds", "5"),
            ("/upgradeStrategy/minimumHealthCapacity", "1"),
            ("/upgradeStrategy/maximumOverCapacity", "0.5"),
            ("/healthChecks/0/gracePeriodSeconds", "300"),
            ("/healthChecks/0/intervalSeconds", "2.5"),
            ("/healthChecks/0/timeoutSeconds", "20"),
            ("/healthChecks/0/delaySeconds", "15"),
        ] {
            assert_eq!(shown.pointer(path).map(Value::to_string).as_deref(), Some(text), "{path}");
        }
        let again: App = serde_json::from_value(shown).expect("an app");
        assert_eq!(again, app, "what is written reads back");
    }
}
