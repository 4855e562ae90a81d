//! Inputs of the Mesos API that nobody should send, one after another against one cluster: each gets a
//! clean answer, nothing is booked for it, and the cluster goes on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{DEADLINE, request, wait_for};
use mesita::api::v1::scheduler;
use mesita::{Cluster, api};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const SCHEDULER: &str = "/api/v1/scheduler";

fn cluster() -> (tokio::runtime::Runtime, Cluster) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = runtime.block_on(Cluster::builder().agents(1).start()).expect("a cluster");
    (runtime, cluster)
}

/// A subscribed scheduler that reads its events one by one.
struct Scheduler {
    base: String,
    events: BufReader<TcpStream>,
    stream_id: String,
    framework_id: String,
    /// What was read of the next record.
    unread: Vec<u8>,
    /// An offer that no call has used yet.
    held: Option<Value>,
}

impl Scheduler {
    fn subscribe(base: &str, framework_info: &Value) -> Self {
        let address = base.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut call = json!({ "type": "SUBSCRIBE", "subscribe": { "framework_info": framework_info } });
        if let Some(id) = framework_info.get("id") {
            call["framework_id"] = id.clone();
        }
        let body = call.to_string();
        write!(
            stream,
            "POST {SCHEDULER} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("written");
        let mut events = BufReader::new(stream);
        let mut stream_id = String::new();
        loop {
            let mut line = String::new();
            events.read_line(&mut line).expect("a header");
            if let Some(id) = line.to_lowercase().strip_prefix("mesos-stream-id: ") {
                stream_id = id.trim().to_owned();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut scheduler = Self {
            base: base.to_owned(),
            events,
            stream_id,
            framework_id: String::new(),
            unread: Vec::new(),
            held: None,
        };
        let first = scheduler.event();
        scheduler.framework_id =
            first["subscribed"]["framework_id"]["value"].as_str().unwrap_or_default().to_owned();
        assert!(!scheduler.framework_id.is_empty(), "{first}");
        scheduler
    }

    /// The next event: a record is `LENGTH\nJSON`, wherever chunks begin and end.
    fn event(&mut self) -> Value {
        let record = loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let length: usize =
                    String::from_utf8_lossy(&self.unread[..end]).parse().expect("a record's length");
                if self.unread.len() > end + length {
                    let record = self.unread[end + 1..=end + length].to_vec();
                    self.unread.drain(..=end + length);
                    break record;
                }
            }
            let mut size = String::new();
            self.events.read_line(&mut size).expect("a chunk");
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
            let mut chunk = vec![0; size + 2];
            self.events.read_exact(&mut chunk).expect("a chunk");
            self.unread.extend_from_slice(&chunk[..size]);
        };
        let event: Value = serde_json::from_slice(&record).expect("JSON");
        let status = &event["update"]["status"];
        if let Some(uuid) = status.get("uuid") {
            let acknowledge =
                json!({ "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": uuid });
            assert_eq!(self.call(json!({ "type": "ACKNOWLEDGE", "acknowledge": acknowledge })).0, 202);
        }
        event
    }

    /// The next event of a type; others are passed over.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let event = self.event();
            if event["type"] == kind {
                return event;
            }
        }
    }

    fn call(&self, mut call: Value) -> (u16, String) {
        if call.get("framework_id").is_none() {
            call["framework_id"] = json!({ "value": self.framework_id });
        }
        self.bytes(JSON.1, call.to_string().as_bytes())
    }

    fn bytes(&self, content_type: &str, body: &[u8]) -> (u16, String) {
        let headers = [("Content-Type", content_type), ("Mesos-Stream-Id", self.stream_id.as_str())];
        let (status, body) = request(&self.base, "POST", SCHEDULER, &headers, body);
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// An offer that can be used: the one that is held, or a new one. Filters are forgotten first.
    fn offer(&mut self) -> Value {
        if let Some(held) = self.held.take() {
            return held;
        }
        assert_eq!(self.call(json!({ "type": "REVIVE" })).0, 202);
        self.next("OFFERS")["offers"]["offers"][0].clone()
    }

    /// Launches one task on a fresh offer and answers the first update.
    fn launch(&mut self, fill: impl FnOnce(&mut Value)) -> Value {
        let offer = self.offer();
        let mut task = task(&offer);
        fill(&mut task);
        let (status, said) = self.call(accept(&offer, &[task]));
        assert_eq!(status, 202, "{said}");
        self.next("UPDATE")["update"]["status"].clone()
    }
}

fn scalar(name: &str, value: f64) -> Value {
    json!({ "name": name, "type": "SCALAR", "scalar": { "value": value } })
}

fn task(offer: &Value) -> Value {
    json!({
        "name": "t", "task_id": { "value": "t" }, "agent_id": offer["agent_id"],
        "command": { "value": "true" }, "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
    })
}

fn accept(offer: &Value, tasks: &[Value]) -> Value {
    json!({ "type": "ACCEPT", "accept": {
        "offer_ids": [offer["id"]],
        "operations": [{ "type": "LAUNCH", "launch": { "task_infos": tasks } }],
    } })
}

fn framework_info() -> Value {
    json!({ "user": "", "name": "x", "capabilities": [{ "type": "PARTITION_AWARE" }] })
}

/// Nothing is allocated, and the cluster answers.
fn assert_at_rest(base: &str) {
    wait_for("nothing allocated", || {
        let (status, body) = request(base, "POST", "/api/v1", &[JSON], br#"{"type":"GET_AGENTS"}"#);
        assert_eq!(status, 200);
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        let agent = &answer["get_agents"]["agents"][0];
        let used = agent["allocated_resources"].as_array().cloned().unwrap_or_default();
        let any = used.iter().any(|one| one["scalar"]["value"].as_f64().is_some_and(|value| value != 0.0));
        (!any).then_some(())
    });
}

#[test]
fn tasks_that_ask_for_nonsense() {
    let (_runtime, cluster) = cluster();
    let base = cluster.master_url();
    let mut scheduler = Scheduler::subscribe(&base, &framework_info());
    let resources = |list: Value| move |task: &mut Value| task["resources"] = list;
    for (list, needle) in [
        (json!([scalar("cpus", -1.0)]), "cpus"),
        (json!([scalar("cpus", 1e300)]), "cpus"),
        (json!([scalar("cpus", 4_000.0)]), "more than available"),
        (json!([scalar("cpus", 1e-9)]), "cpus"),
        (json!([]), "no resources"),
        (
            json!([{ "name": "ports", "type": "RANGES", "ranges": { "range": [{ "begin": 1, "end": 2 }] } }]),
            "more than available",
        ),
        (
            json!([{ "name": "ports", "type": "RANGES", "ranges": { "range": [{ "begin": 9, "end": 2 }] } }]),
            "ports",
        ),
        (json!([{ "name": "x", "type": "TEXT", "text": { "value": "y" } }]), "x"),
        (json!([{ "name": "s", "type": "SET", "set": { "item": ["a", "a"] } }]), "s"),
    ] {
        let status = scheduler.launch(resources(list.clone()));
        assert_eq!(
            (&status["state"], &status["reason"]),
            (&json!("TASK_ERROR"), &json!("REASON_TASK_INVALID")),
            "{list}"
        );
        let said = status["message"].as_str().unwrap_or_default();
        assert!(said.contains(needle), "{list}: {said}");
    }
    for id in ["", "../x", "a/b", "a\u{0}b", "a\nb", &"x".repeat(5_000)] {
        let status = scheduler.launch(|task| task["task_id"]["value"] = json!(id));
        assert_eq!(status["state"], "TASK_ERROR", "{id:?}: {status}");
    }
    // Two tasks of one id in one ACCEPT: the second is the error.
    let offer = scheduler.offer();
    let twice = [task(&offer), task(&offer)];
    assert_eq!(scheduler.call(accept(&offer, &twice)).0, 202);
    let mut states: Vec<Value> =
        (0..3).map(|_| scheduler.next("UPDATE")["update"]["status"]["state"].clone()).collect();
    states.sort_by_key(Value::to_string);
    assert_eq!(states, ["TASK_ERROR", "TASK_RUNNING", "TASK_STARTING"]);
    let kill = json!({ "type": "KILL", "kill": { "task_id": { "value": "t" } } });
    assert_eq!(scheduler.call(kill).0, 202);
    // The same offer again, an offer of nobody, the same offer twice.
    for ids in [vec![offer["id"].clone()], vec![json!({ "value": "nobody" })], vec![offer["id"].clone(); 2]] {
        let mut again = accept(&offer, &[task(&offer)]);
        again["accept"]["offer_ids"] = json!(ids);
        again["accept"]["operations"][0]["launch"]["task_infos"][0]["task_id"]["value"] = json!("late");
        assert_eq!(scheduler.call(again).0, 202);
        let status = loop {
            let status = scheduler.next("UPDATE")["update"]["status"].clone();
            if status["task_id"]["value"] == "late" {
                break status;
            }
        };
        assert_eq!(
            (&status["state"], &status["reason"]),
            (&json!("TASK_DROPPED"), &json!("REASON_INVALID_OFFERS"))
        );
    }
    assert_eq!(scheduler.call(json!({ "type": "TEARDOWN" })).0, 202);
    assert_at_rest(&base);
}

#[test]
fn not_a_number_in_protobuf() {
    use api::v1::{self, value};
    use prost::Message;

    let (_runtime, cluster) = cluster();
    let base = cluster.master_url();
    let mut scheduler = Scheduler::subscribe(&base, &framework_info());
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5] {
        let offer = scheduler.offer();
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let resource = |value| v1::Resource {
            name: "cpus".to_owned(),
            r#type: value::Type::Scalar.into(),
            scalar: Some(value::Scalar { value }),
            ..Default::default()
        };
        let info = v1::TaskInfo {
            name: "t".to_owned(),
            task_id: v1::TaskId { value: "t".to_owned() },
            agent_id: v1::AgentId { value: text(&offer["agent_id"]) },
            command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
            resources: vec![resource(number)],
            ..Default::default()
        };
        let operation = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos: vec![info] }),
            ..Default::default()
        };
        let call = scheduler::Call {
            framework_id: Some(v1::FrameworkId { value: scheduler.framework_id.clone() }),
            r#type: Some(scheduler::call::Type::Accept.into()),
            accept: Some(scheduler::call::Accept {
                offer_ids: vec![v1::OfferId { value: text(&offer["id"]) }],
                operations: vec![operation],
                filters: Some(v1::Filters { refuse_seconds: Some(number) }),
            }),
            ..Default::default()
        };
        assert_eq!(scheduler.bytes("application/x-protobuf", &call.encode_to_vec()).0, 202);
        let status = scheduler.next("UPDATE")["update"]["status"].clone();
        assert_eq!(status["state"], "TASK_ERROR", "{number}");
    }
    assert_at_rest(&base);
}

#[test]
fn one_framework_two_schedulers() {
    let (_runtime, cluster) = cluster();
    let base = cluster.master_url();
    let mut info = framework_info();
    info["failover_timeout"] = json!(60.0);
    let mut old = Scheduler::subscribe(&base, &info);
    info["id"] = json!({ "value": old.framework_id });
    let new = Scheduler::subscribe(&base, &info);
    assert_eq!(new.framework_id, old.framework_id);
    let said = old.next("ERROR");
    assert_eq!(said["error"]["message"], "Framework failed over");
    let (status, said) = old.call(json!({ "type": "REVIVE" }));
    assert_eq!(status, 400, "the old stream is not the framework's any more: {said}");
    assert_eq!(new.call(json!({ "type": "REVIVE" })).0, 202);
    // A call without a stream's id says what it lacks.
    let revive = json!({ "type": "REVIVE", "framework_id": info["id"] }).to_string();
    let (status, said) = request(&base, "POST", SCHEDULER, &[JSON], revive.as_bytes());
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&said).contains("Mesos-Stream-Id"));
    // An id that was torn down is refused.
    assert_eq!(new.call(json!({ "type": "TEARDOWN" })).0, 202);
    wait_for("the removed framework to be refused", || {
        let body = json!({ "type": "SUBSCRIBE", "framework_id": info["id"],
            "subscribe": { "framework_info": info } });
        let (status, answer) =
            request(&base, "POST", SCHEDULER, &[JSON, ("Accept", JSON.1)], body.to_string().as_bytes());
        (status == 200 && String::from_utf8_lossy(&answer).contains("removed")).then_some(())
    });
}

/// A call in which nearly every enum of the API stands somewhere.
fn full_accept(offer: &Value) -> Value {
    let mut task = task(offer);
    task["command"]["environment"] = json!({ "variables": [{ "name": "A", "type": "VALUE", "value": "b" }] });
    task["container"] = json!({
        "type": "DOCKER",
        "docker": { "image": "x", "network": "BRIDGE" },
        "volumes": [{ "mode": "RW", "container_path": "/x", "host_path": "/y",
            "source": { "type": "HOST_PATH", "host_path": { "path": "/y", "mount_propagation": { "mode": "HOST_TO_CONTAINER" } } } }],
        "network_infos": [{ "ip_addresses": [{ "protocol": "IPv4" }] }],
        "linux_info": { "capability_info": { "capabilities": ["CHOWN"] }, "ipc_mode": "PRIVATE" },
        "rlimit_info": { "rlimits": [{ "type": "RLMT_CORE" }] },
        "mesos": { "image": { "type": "DOCKER", "docker": { "name": "x" } } },
    });
    task["health_check"] = json!({ "type": "HTTP", "http": { "port": 80, "protocol": "IPv4" } });
    task["check"] = json!({ "type": "COMMAND", "command": { "command": { "value": "true" } } });
    task["discovery"] =
        json!({ "visibility": "CLUSTER", "ports": { "ports": [{ "number": 1, "visibility": "EXTERNAL" }] } });
    task["resources"][0]["reservations"] = json!([{ "type": "DYNAMIC", "role": "x" }]);
    task["resources"][1]["disk"] = json!({ "source": { "type": "PATH", "path": { "root": "/x" } },
        "volume": { "mode": "RO", "container_path": "x" } });
    task["executor"] =
        json!({ "type": "CUSTOM", "executor_id": { "value": "e" }, "command": { "value": "x" } });
    let mut call = accept(offer, &[task]);
    let operations = [
        json!({ "type": "RESERVE", "id": { "value": "o" }, "reserve": { "resources": [scalar("cpus", 1.0)] } }),
        json!({ "type": "CREATE_DISK", "create_disk": { "source": scalar("disk", 1.0), "target_type": "MOUNT" } }),
        json!({ "type": "LAUNCH_GROUP", "launch_group": { "executor": { "type": "DEFAULT", "executor_id": { "value": "e" } },
            "task_group": { "tasks": [] } } }),
    ];
    call["accept"]["operations"].as_array_mut().expect("a list").extend(operations);
    call
}

/// Paths of everything in a document that is spelt like an enum's value.
fn enums(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(key, inner)| enums(inner, &format!("{path}/{key}"), found));
        }
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(index, inner)| enums(inner, &format!("{path}/{index}"), found));
        }
        Value::String(text)
            if text.len() > 1 && text.starts_with(|first: char| first.is_ascii_uppercase()) =>
        {
            found.push(path.to_owned());
        }
        _ => {}
    }
}

#[test]
fn every_enum_at_every_depth_takes_any_value() {
    let (_runtime, cluster) = cluster();
    let base = cluster.master_url();
    let mut scheduler = Scheduler::subscribe(&base, &framework_info());
    let mut paths = Vec::new();
    enums(&full_accept(&json!({ "id": { "value": "o" }, "agent_id": { "value": "a" } })), "", &mut paths);
    assert!(paths.len() > 25, "{paths:?}");
    for path in &paths {
        for other in [json!("UNKNOWN"), json!("FLY"), json!(7), json!(-1), json!(null), json!("")] {
            let offer = scheduler.offer();
            let mut call = full_accept(&offer);
            *call.pointer_mut(path).expect("it was found") = other.clone();
            let kind = call["type"].clone();
            let (status, said) = scheduler.call(call);
            assert!([202, 400, 501].contains(&status), "{path} = {other}: {status} {said}");
            if status != 202 || kind != "ACCEPT" {
                scheduler.held = Some(offer);
            }
        }
    }
    // The same as numbers of a later version, in the binary form of whole events and calls.
    use prost::Message;
    let call: scheduler::Call =
        api::json::from_slice(full_accept(&scheduler.offer()).to_string().as_bytes()).expect("valid");
    let bytes = call.encode_to_vec();
    for at in 0..bytes.len() {
        for other in [0x00, 0x7f, 0xff] {
            let mut bent = bytes.clone();
            bent[at] = other;
            let (status, said) = scheduler.bytes("application/x-protobuf", &bent);
            assert!((200..600).contains(&status) && status != 500, "byte {at} = {other}: {status} {said}");
        }
    }
    assert_eq!(scheduler.call(json!({ "type": "TEARDOWN" })).0, 202);
    assert_at_rest(&base);
}

#[test]
fn calls_of_others_and_other_times() {
    let (_runtime, cluster) = cluster();
    let base = cluster.master_url();
    let mut one = Scheduler::subscribe(&base, &framework_info());
    let two = Scheduler::subscribe(&base, &framework_info());
    assert_eq!(two.call(json!({ "type": "SUPPRESS" })).0, 202);
    // Another's stream, another's offer, another's task.
    let body = json!({ "type": "REVIVE", "framework_id": { "value": two.framework_id } }).to_string();
    assert_eq!(one.bytes(JSON.1, body.as_bytes()).0, 400, "a stream of another framework");
    let status = one.launch(|task| task["task_id"]["value"] = json!("mine"));
    assert_eq!(status["state"], "TASK_STARTING");
    let kill = json!({ "type": "KILL", "kill": { "task_id": { "value": "mine" } } });
    assert_eq!(two.call(kill).0, 202, "unknown there: reconciled, not killed");
    for filters in [json!(1e300), json!(-5), json!("NaN"), json!(null)] {
        let offer = one.offer();
        let decline = json!({ "type": "DECLINE", "decline": { "offer_ids": [offer["id"]], "filters": { "refuse_seconds": filters } } });
        let (status, said) = one.call(decline);
        assert!(status == 202 || status == 400, "{filters}: {status} {said}");
        one.held = (status != 202).then_some(offer);
    }
    // Acknowledgements of nothing, with a uuid that is none.
    for uuid in ["", "AA==", "AAAAAAAAAAAAAAAAAAAAAA=="] {
        let acknowledge = json!({ "type": "ACKNOWLEDGE", "acknowledge": {
            "agent_id": { "value": "a" }, "task_id": { "value": "t" }, "uuid": uuid } });
        let (status, said) = one.call(acknowledge);
        assert!(status == 202 || status == 400, "{uuid}: {status} {said}");
    }
    let many: Vec<Value> =
        (0..10_000).map(|number| json!({ "task_id": { "value": number.to_string() } })).collect();
    assert_eq!(one.call(json!({ "type": "RECONCILE", "reconcile": { "tasks": many } })).0, 202);
    for number in 0..10_000 {
        let status = one.next("UPDATE")["update"]["status"].clone();
        if number > 100 {
            assert_eq!(status["reason"], "REASON_RECONCILIATION");
        }
    }
    for (info, needle) in [
        (json!({ "user": "", "name": "x", "failover_timeout": -1e300 }), "failover_timeout"),
        (json!({ "user": "", "name": "x", "role": ".." }), "role"),
        (json!({ "user": "", "name": "x", "roles": ["a"] }), "MULTI_ROLE"),
        (json!({ "user": "", "name": "x", "id": { "value": "../x" } }), "slash"),
        (json!({ "user": "", "name": "x", "id": { "value": "i".repeat(300) } }), "255"),
        (json!({ "user": "", "name": "x", "id": { "value": "i".repeat(1 << 20) } }), "65536"),
    ] {
        let body = json!({ "type": "SUBSCRIBE", "framework_id": info["id"], "subscribe": { "framework_info": info } });
        let (status, answer) =
            request(&base, "POST", SCHEDULER, &[JSON, ("Accept", JSON.1)], body.to_string().as_bytes());
        let said = String::from_utf8_lossy(&answer).into_owned();
        assert!(status == 400 || said.contains("ERROR"), "{status} {said}");
        assert!(said.contains(needle), "{said}");
    }
}
