//! The mapping against what Apache Mesos really answered, and rule by rule.

use serde_json::{Value, json};

use super::{Json, from_slice, to_string};
use crate::api::v1::{self, agent, master, scheduler};

fn capture(name: &str) -> String {
    let path = format!("{}/testdata/mesos/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a capture")
}

/// Reads a captured document as a message and writes it again: nothing may change.
fn survives<M: Json>(text: &str) {
    let message: M = from_slice(text.as_bytes()).expect("a message of Mesos");
    let written: Value = serde_json::from_str(&to_string(&message)).expect("our own JSON");
    let original: Value = serde_json::from_str(text).expect("their JSON");
    assert_same(&original, &written, "");
}

/// Equality that points at the first difference.
fn assert_same(theirs: &Value, ours: &Value, path: &str) {
    match (theirs, ours) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = |map: &serde_json::Map<String, Value>| {
                map.keys().cloned().collect::<std::collections::BTreeSet<_>>()
            };
            let mut expected = keys(left);
            if path.ends_with("agent_info") {
                // Mesos writes this one although its published v1 schema does not have it.
                expected.remove("checkpoint");
            }
            assert_eq!(expected, keys(right), "keys at {path}");
            for (key, value) in left.iter().filter(|(key, _)| expected.contains(*key)) {
                assert_same(value, &right[key], &format!("{path}.{key}"));
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            assert_eq!(left.len(), right.len(), "length at {path}");
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                assert_same(left, right, &format!("{path}[{index}]"));
            }
        }
        (left, right) => assert_eq!(left, right, "at {path}"),
    }
}

#[test]
fn answers_of_apache_mesos_survive() {
    for name in [
        "master.get_agents",
        "master.get_executors",
        "master.get_frameworks",
        "master.get_frameworks.completed",
        "master.get_master",
        "master.get_roles",
        "master.get_state",
        "master.get_tasks",
        "master.get_version",
    ] {
        survives::<master::Response>(&capture(&format!("{name}.json")));
    }
    survives::<agent::Response>(&capture("agent.get_agent.json"));
    survives::<agent::Response>(&capture("agent.get_state.json"));
    for line in capture("scheduler.events.jsonl").lines() {
        survives::<scheduler::Event>(line);
    }
}

fn read<M: Json>(value: &Value) -> Result<M, String> {
    from_slice(value.to_string().as_bytes()).map_err(|error: super::JsonError| error.to_string())
}

#[test]
fn defaults_are_written_unless_deprecated() {
    let command: v1::CommandInfo = read(&json!({})).expect("valid");
    assert_eq!(to_string(&command), r#"{"shell":true}"#);
    let filters = v1::Filters::default();
    assert_eq!(to_string(&filters), r#"{"refuse_seconds":5.0}"#);
    let framework: v1::FrameworkInfo = read(&json!({ "user": "u", "name": "n" })).expect("valid");
    let written: Value = serde_json::from_str(&to_string(&framework)).expect("JSON");
    assert_eq!(written, json!({ "user": "u", "name": "n", "failover_timeout": 0.0, "checkpoint": false }));
}

#[test]
fn leniency_of_mesos() {
    let filters: v1::Filters = read(&json!({ "refuse_seconds": "3" })).expect("a number as a string");
    assert_eq!(filters.refuse_seconds, Some(3.0));
    let filters: v1::Filters = read(&json!({ "refuse_seconds": "-Infinity" })).expect("infinity as a string");
    assert_eq!(filters.refuse_seconds, Some(f64::NEG_INFINITY));
    let command: v1::CommandInfo =
        read(&json!({ "shell": "false", "arguments": "one", "nonsense": [[1]] })).expect("valid");
    assert_eq!((command.shell, command.arguments), (Some(false), vec!["one".to_owned()]));
    let command: v1::CommandInfo = read(&json!({ "shell": null })).expect("null is unset");
    assert_eq!(command.shell, None);
    let call: scheduler::Call = read(&json!({ "type": "FLY" })).expect("an unknown enum name is dropped");
    assert_eq!(call.r#type, None);
    let time: v1::TimeInfo = read(&json!({ "nanoseconds": 3.0 })).expect("a whole float");
    assert_eq!(time.nanoseconds, 3);
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    for (value, needle) in [
        (json!({ "type": 3 }), "`type` must be the name"),
        (json!({ "accept": { "offer_ids": [{}] } }), "`accept.offer_ids[0].value` is missing"),
        (json!({ "accept": [] }), "`accept` must be one value"),
        (
            json!({ "acknowledge": { "agent_id": { "value": "a" }, "task_id": { "value": "t" }, "uuid": "?" } }),
            "base64",
        ),
        (
            json!({ "subscribe": { "framework_info": { "user": 1, "name": "n" } } }),
            "`subscribe.framework_info.user` must be a string",
        ),
        (json!({ "accept": { "filters": { "refuse_seconds": true } } }), "must be a number"),
        (json!({ "accept": { "filters": { "refuse_seconds": "1x" } } }), "must be a number"),
        (json!({ "accept": { "filters": { "refuse_seconds": "nan" } } }), "must be a number"),
    ] {
        let error = read::<scheduler::Call>(&value).expect_err("invalid");
        assert!(error.contains(needle), "{value}: {error}");
    }
    let resource = json!({ "name": "cpus", "type": "GAS" });
    let error = read::<v1::Resource>(&resource).expect_err("an unknown required enum");
    assert!(error.contains("`type` has the unknown value \"GAS\""), "{error}");
    for bad in [
        json!({ "nanoseconds": 1.5 }),
        json!({ "nanoseconds": "1x" }),
        json!({ "nanoseconds": 1e30 }),
        json!({ "nanoseconds": true }),
    ] {
        assert!(read::<v1::TimeInfo>(&bad).is_err(), "{bad}");
    }
}

#[test]
fn numbers_are_exact() {
    let range: v1::value::Range = read(&json!({ "begin": 0, "end": u64::MAX })).expect("valid");
    assert_eq!(to_string(&range), r#"{"begin":0,"end":18446744073709551615}"#);
    let time = v1::TimeInfo { nanoseconds: i64::MIN };
    assert_eq!(to_string(&time), r#"{"nanoseconds":-9223372036854775808}"#);
    let scalar = v1::value::Scalar { value: 1e300 };
    assert_eq!(
        read::<v1::value::Scalar>(&serde_json::from_str(&to_string(&scalar)).expect("JSON")),
        Ok(scalar)
    );
}

#[test]
fn no_json_object_no_message() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_unknown = format!("{{\"x\":{deep}}}");
    for bad in [
        "",
        "  ",
        "[]",
        "3",
        "{",
        "{} {}",
        "{}x",
        "{\"type\":NaN}",
        "\u{feff}{}",
        deep.as_str(),
        deep_unknown.as_str(),
    ] {
        assert!(from_slice::<scheduler::Call>(bad.as_bytes()).is_err(), "{:.20}", bad);
    }
    assert!(from_slice::<scheduler::Call>(b"{\"type\":\"\xff\"}").is_err());
    assert!(from_slice::<scheduler::Call>(br#"{"type":"\ud800"}"#).is_err(), "a lone surrogate");
}

#[test]
fn unknown_enum_numbers_are_not_written() {
    let call = scheduler::Call { r#type: Some(4_711), ..Default::default() };
    assert_eq!(to_string(&call), "{}");
}

#[test]
fn a_plain_duration() {
    let drain: master::call::DrainAgent =
        read(&json!({ "agent_id": { "value": "a" }, "max_grace_period": { "seconds": 3 } })).expect("valid");
    let written: Value = serde_json::from_str(&to_string(&drain)).expect("JSON");
    assert_eq!(written["max_grace_period"], json!({ "seconds": 3 }));
}

#[test]
fn maps_and_alternatives() {
    let constraint = json!({
        "role_constraints": { "eng": { "groups": [{ "attribute_constraints": [
            { "selector": { "attribute_name": "rack" }, "predicate": { "text_equals": { "value": "r1" } } },
            { "selector": { "pseudoattribute_type": "HOSTNAME" }, "predicate": { "exists": {} } }
        ] }] } }
    });
    let read: scheduler::OfferConstraints = read(&constraint).expect("valid");
    let written: Value = serde_json::from_str(&to_string(&read)).expect("JSON");
    assert_eq!(written, constraint);
}
