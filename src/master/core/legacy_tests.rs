//! `/state` as tools read it.

use serde_json::{Value, json};

use super::script_tests::{Script, agent_info, framework_info, offers, wire};
use crate::api::peer::{self, from_agent};
use crate::api::v1;
use crate::base::id::FrameworkId;

fn state(script: &Script) -> Value {
    serde_json::from_str(&script.master.legacy_state()).expect("a document")
}

#[test]
fn reserved_ports_and_sets_are_written_once() {
    let mut script = Script::new();
    let agent_info = v1::AgentInfo {
        resources: wire("cpus:1;cpus(eng):2;ports:[1-5];ports(eng):[8-9,20-30];disks:{a};disks(eng):{b}"),
        ..agent_info("a")
    };
    let register = peer::Register { version: "1.11.0".to_owned(), agent_info, capabilities: Vec::new() };
    script.say(1, from_agent::Message::Register(register));
    let slave = &state(&script)["slaves"][0];
    assert_eq!(slave["resources"]["ports"], "[1-5, 8-9, 20-30]");
    assert_eq!(slave["resources"]["disks"], "{a, b}");
    assert_eq!(slave["resources"]["cpus"], 3.0);
    assert_eq!(slave["reserved_resources"]["eng"]["ports"], "[8-9, 20-30]");
}

#[test]
fn tasks_show_their_limits_and_labels() {
    let mut script = Script::new();
    script.agent(1, "a");
    let labels = |key: &str| v1::Labels {
        labels: vec![v1::Label { key: key.to_owned(), value: Some("v".to_owned()) }],
    };
    let info = v1::FrameworkInfo { labels: Some(labels("framework")), ..framework_info(60.0) };
    let effects = script.subscribe(1, info);
    let offer = offers(&effects, 1).pop().expect("an offer");
    let id = FrameworkId::new(&offer.framework_id.value);
    let limits = [("cpus", 2.0), ("mem", f64::INFINITY)];
    let task = v1::TaskInfo {
        name: "t".to_owned(),
        task_id: v1::TaskId { value: "t".to_owned() },
        agent_id: offer.agent_id.clone(),
        resources: wire("cpus:1;mem:64"),
        limits: limits.map(|(name, value)| (name.to_owned(), v1::value::Scalar { value })).into(),
        labels: Some(v1::Labels::default()),
        command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..Default::default()
    };
    script.launch_task(1, &id, &offer, task);
    let update = peer::StatusUpdate {
        framework_id: v1::FrameworkId { value: id.to_string() },
        status: v1::TaskStatus {
            task_id: v1::TaskId { value: "t".to_owned() },
            state: v1::TaskState::TaskRunning.into(),
            labels: Some(labels("status")),
            ..Default::default()
        },
        latest_state: v1::TaskState::TaskRunning.into(),
    };
    script.say(1, from_agent::Message::Update(update));
    let framework = &state(&script)["frameworks"][0];
    assert_eq!(framework["offer_constraints"], json!({}));
    assert_eq!(framework["labels"], json!([{ "key": "framework", "value": "v" }]));
    let task = &framework["tasks"][0];
    assert_eq!(task["limits"], json!({ "cpus": 2.0, "mem": "infinity" }));
    assert_eq!(task["labels"], json!([]));
    assert_eq!(task["statuses"][0]["labels"], json!([{ "key": "status", "value": "v" }]));
}
