//! What a restart must not lose.

use prost::Message as _;
use serde_json::json;

use super::script_tests::{Script, app, seconds};
use crate::api::v1::TaskState::TaskRunning;
use crate::service::model::Instance;

#[test]
fn a_restart_shows_what_was_known() {
    let (mut script, _) = Script::running(&[app("/a", 1, json!({}))]);
    let before = script.core.tasks(Some("/a"));
    assert_eq!(before[0]["state"], "TASK_RUNNING");
    script.wait(seconds(100));
    script.new_term();
    assert!(!script.core.is_confirmed());
    assert_eq!(script.core.tasks(Some("/a"))[0]["state"], "TASK_RUNNING");
    assert_eq!(script.core.tasks(Some("/a"))[0]["startedAt"], before[0]["startedAt"]);
    script.subscribe();
    let task = script.tasks().remove(0);
    script.update(&task, TaskRunning);
    script.commit();
    assert!(script.core.is_confirmed());
    assert_eq!(script.core.tasks(Some("/a"))[0]["startedAt"], before[0]["startedAt"]);
}

#[test]
fn instances_of_an_earlier_version_decode() {
    // As version 0.1 wrote it: neither a start nor attributes.
    let old = b"\x0a\x01i\x12\x02/a\x18\x05\x22\x01t\x2a\x01g\x32\x01h\x38\x07\x40\x09\x48\x01";
    let instance = Instance::decode(&old[..]).expect("old bytes");
    assert_eq!((instance.started_ns, instance.attributes.len()), (None, 0));
    assert_eq!((instance.task_id.as_str(), instance.ports, instance.incarnation), ("t", vec![7], 1));
}
