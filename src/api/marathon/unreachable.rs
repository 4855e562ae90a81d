//! What happens to the tasks of an agent that is out of reach: `"disabled"`, or two ages.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What happens to unreachable tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreachableStrategy {
    /// They are neither replaced nor forgotten.
    Disabled,
    /// They are replaced, and later forgotten.
    Enabled {
        /// Seconds until a replacement is launched.
        inactive_after_seconds: i64,
        /// Seconds until the task is forgotten and killed if it comes back.
        expunge_after_seconds: i64,
    },
}

impl Default for UnreachableStrategy {
    fn default() -> Self {
        Self::Enabled { inactive_after_seconds: 0, expunge_after_seconds: 0 }
    }
}

/// The object form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ages {
    #[serde(default)]
    inactive_after_seconds: i64,
    #[serde(default)]
    expunge_after_seconds: i64,
}

impl Serialize for UnreachableStrategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Disabled => serializer.serialize_str("disabled"),
            Self::Enabled { inactive_after_seconds, expunge_after_seconds } => {
                Ages { inactive_after_seconds, expunge_after_seconds }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for UnreachableStrategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "disabled" => Ok(Self::Disabled),
            value @ Value::Object(_) => {
                let Ages { inactive_after_seconds, expunge_after_seconds } =
                    serde_json::from_value(value).map_err(D::Error::custom)?;
                Ok(Self::Enabled { inactive_after_seconds, expunge_after_seconds })
            }
            other => Err(D::Error::custom(format!(
                "must be \"disabled\" or an object with inactiveAfterSeconds and expungeAfterSeconds, not {other}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::UnreachableStrategy as Strategy;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn both_forms_are_read_and_written() {
        let ages = json!({ "inactiveAfterSeconds": 60, "expungeAfterSeconds": 120 });
        for form in [json!("disabled"), ages] {
            let strategy: Strategy = from_value(form.clone()).expect("a strategy");
            assert_eq!(to_value(strategy).expect("JSON"), form);
        }
        assert_eq!(from_value::<Strategy>(json!({})).ok(), Some(Strategy::default()));
        for bad in [json!("enabled"), json!(3), json!({ "inactiveAfterSeconds": "soon" })] {
            assert!(from_value::<Strategy>(bad.clone()).is_err(), "{bad}");
        }
    }
}
