//! The Mesos APIs over HTTP: the example framework, and requests that nobody should send.

use std::process::Command;

use crate::support::{Dev, file, raw, request, wait_for};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn an_agent_that_is_marked_gone_ends_alone() {
    let dev = Dev::start(&["--agents", "2"]);
    let call = |value: &Value| {
        let json = [("Content-Type", "application/json")];
        request(&dev.master(), "POST", "/api/v1", &json, value.to_string().as_bytes()).0
    };
    let app = json!({ "id": "/a", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 1 });
    assert_eq!(dev.send("POST", "/v2/apps", &app).0, 201);
    let task =
        wait_for("the task", || dev.tasks("/a").into_iter().find(|task| task["state"] == "TASK_RUNNING"));
    let gone = |id: &Value| {
        call(&json!({ "type": "MARK_AGENT_GONE", "mark_agent_gone": { "agent_id": { "value": id } } }))
    };
    assert_eq!(gone(&json!("no-such-agent")), 404);
    assert_eq!(gone(&task["slaveId"]), 200);
    assert_eq!(gone(&task["slaveId"]), 200, "it is gone already");
    // The other one takes over, and the cluster goes on.
    wait_for("the replacement", || {
        dev.tasks("/a")
            .into_iter()
            .find(|other| other["state"] == "TASK_RUNNING" && other["slaveId"] != task["slaveId"])
    });
    assert_eq!(dev.get("/state").1["activated_slaves"], 1);
}

#[test]
fn a_framework_that_knows_nothing_but_http() {
    let dev = Dev::start(&[]);
    let output = Command::new("python3")
        .arg(file("examples/framework.py"))
        .args(["--master", &dev.master(), "--timeout", "60"])
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "hello: TASK_FINISHED Command exited with status 0",
        "sleeper: TASK_RUNNING",
        "reconciled sleeper: TASK_RUNNING",
        "sleeper: TASK_KILLED Command terminated with signal SIGTERM",
        "torn down",
    ] {
        assert!(said.contains(line), "{line:?} is missing in:\n{said}");
    }
    // The framework is gone from the master; its tasks are remembered.
    let (status, answer) = dev.send("POST", "/api/v1", &json!({ "type": "GET_FRAMEWORKS" }));
    assert_eq!(status, 200);
    assert_eq!(answer["get_frameworks"]["frameworks"], json!([]));
    assert_eq!(answer["get_frameworks"]["completed_frameworks"][0]["framework_info"]["name"], "example");
}

#[test]
fn bad_requests_get_clean_answers_and_the_master_goes_on() {
    let dev = Dev::start(&[]);
    let base = dev.master();
    let address = base.trim_start_matches("http://").to_owned();
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let scheduler = "/api/v1/scheduler";
    let bodies: [(&str, &[u8]); 9] = [
        ("empty", b""),
        ("truncated", b"{\"type\":\"SUBSCRIBE\""),
        ("no object", b"[]"),
        ("two documents", b"{}{}"),
        ("no UTF-8", b"{\"type\":\"\xff\"}"),
        ("deep", deep.as_bytes()),
        ("no type", b"{}"),
        ("unknown type", b"{\"type\":\"FLY\"}"),
        ("no member", b"{\"type\":\"ACCEPT\",\"framework_id\":{\"value\":\"x\"}}"),
    ];
    for (what, body) in bodies {
        for path in [scheduler, "/master/api/v1/scheduler"] {
            assert_eq!(request(&base, "POST", path, &[JSON], body).0, 400, "{what}");
        }
    }
    assert_eq!(request(&base, "POST", scheduler, &[JSON], b"{\"type\":\"UNKNOWN\"}").0, 501);
    assert_eq!(request(&base, "POST", "/api/v1", &[JSON], b"{\"type\":\"GET_QUOTA\"}").0, 501);
    assert_eq!(request(&base, "GET", scheduler, &[], b"").0, 405);
    assert_eq!(request(&base, "POST", scheduler, &[], b"{}").0, 400, "no content type");
    for other in ["text/plain", "application/recordio", "multipart/form-data; boundary=x"] {
        assert_eq!(request(&base, "POST", scheduler, &[("Content-Type", other)], b"{}").0, 415, "{other}");
    }
    let subscribe =
        json!({ "type": "SUBSCRIBE", "subscribe": { "framework_info": { "user": "", "name": "x" } } })
            .to_string();
    let no_way = [JSON, ("Accept", "text/html")];
    assert_eq!(request(&base, "POST", scheduler, &no_way, subscribe.as_bytes()).0, 406);
    let stream = [JSON, ("Mesos-Stream-Id", "x")];
    assert_eq!(request(&base, "POST", scheduler, &stream, subscribe.as_bytes()).0, 400);
    let unknown = br#"{"type":"TEARDOWN","framework_id":{"value":"nobody"}}"#;
    assert_eq!(request(&base, "POST", scheduler, &stream, unknown).0, 400, "an unknown framework");
    let protobuf = [("Content-Type", "application/x-protobuf")];
    for bytes in [&[0xff_u8; 20][..], &[16, 6, 50, 0], &[50, 200, 1]] {
        assert_eq!(request(&base, "POST", scheduler, &protobuf, bytes).0, 400);
    }
    assert_eq!(request(&base, "POST", scheduler, &[JSON], &vec![b' '; 10 * 1024 * 1024]).0, 413, "10 MB");
    assert_eq!(request(&base, "GET", "/health", &[("Origin", "http://evil.example")], b"").0, 403);
    assert_eq!(
        raw(&address, b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").0,
        403
    );
    for bad in [
        &b"\r\n\r\n"[..],
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET //% HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"\0\0\0\0",
    ] {
        let (status, _) = raw(&address, bad);
        assert!(status == 0 || (400..500).contains(&status), "{bad:?}: {status}");
    }
    assert_eq!(dev.get("/health").0, 200, "the master goes on");
}

#[test]
fn bad_requests_to_v2() {
    let dev = Dev::start(&[]);
    let base = dev.master();
    assert_eq!(request(&base, "POST", "/v2/apps", &[JSON], b"{\"id\":").0, 400);
    assert_eq!(request(&base, "POST", "/v2/apps", &[JSON], b"").0, 400);
    for (body, path) in [
        (json!({ "id": "/a", "cmd": "x", "cpus": "many" }), "/cpus"),
        (json!({ "id": "/a", "cmd": "x", "instances": -1 }), "/instances"),
        (json!({ "id": "/a", "cmd": "x", "env": [] }), "/env"),
    ] {
        let (status, answer) = dev.send("POST", "/v2/apps", &body);
        assert_eq!((status, &answer["message"]), (422, &json!("Invalid JSON")), "{answer}");
        assert_eq!(answer["details"][0]["path"], path, "{answer}");
    }
    let (status, answer) = dev.send("POST", "/v2/apps", &json!({ "id": "/a", "cmd": "x", "cpus": 0 }));
    assert_eq!((status, &answer["message"]), (422, &json!("Object is not valid")), "{answer}");
    assert_eq!(dev.get("/v2/apps/nobody").1["message"], "App '/nobody' does not exist");
    assert_eq!(dev.get("/v2/nothing").0, 404);
    assert_eq!(dev.send("PUT", "/v2/info", &json!({})).0, 405);
    let app = br#"{"id":"/page","cmd":"x"}"#;
    for headers in [&[][..], &[("Content-Type", "text/plain")], &[("Content-Type", "application/x-protobuf")]]
    {
        assert_eq!(request(&base, "POST", "/v2/apps", headers, app).0, 415, "what a foreign page may send");
    }
    let (status, said) = request(&base, "GET", "/v2/apps", &[("Origin", "http://evil.example")], b"");
    assert_eq!(status, 403);
    assert!(serde_json::from_slice::<serde_json::Value>(&said).is_ok_and(|said| said["message"].is_string()));
    // Unknown keys are ignored over the API, doubled slashes tolerated.
    let sleeper = json!({ "id": "sleeper", "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "nonsense": 1 });
    let (status, created) = dev.send("POST", "/v2/apps", &sleeper);
    assert_eq!((status, &created["id"]), (201, &json!("/sleeper")), "{created}");
    assert_eq!(dev.get("/v2/apps//sleeper").0, 200);
    assert_eq!(dev.send("POST", "/v2/apps", &sleeper).0, 409);
    // What GET answers can be sent back and changes nothing.
    wait_for("the deployment to end", || {
        dev.get("/v2/deployments").1.as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let app = dev.get("/v2/apps/sleeper").1["app"].clone();
    let (status, answer) = dev.send("PUT", "/v2/apps/sleeper", &app);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(dev.get("/v2/apps/sleeper").1["app"]["version"], app["version"]);
}

#[test]
fn what_is_advertised_is_told_and_served() {
    let dev = Dev::start(&["--advertise", "node1.example.test", "--dns-addr", "127.0.0.1:0"]);
    let (_, state) = dev.get("/state");
    assert_eq!(state["hostname"], "node1.example.test");
    assert_eq!(state["slaves"][0]["hostname"], "node1.example.test");
    assert_eq!(dev.ready["dns"], json!(null), "not built yet");
    let address = dev.master().trim_start_matches("http://").to_owned();
    let as_host = |host: &str| {
        let head = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw(&address, head.as_bytes()).0
    };
    assert_eq!((as_host("node1.example.test:5050"), as_host("evil.example")), (200, 403));
    let behind = Dev::start(&["--advertise", "proxy.example.test:5099"]);
    let (_, state) = behind.get("/state");
    let leader = &state["leader_info"];
    assert_eq!((&leader["hostname"], &leader["port"]), (&json!("proxy.example.test"), &json!(5099)));
    let wrong = crate::support::run(&["dev", "--advertise", "http://x/"]);
    assert_eq!(wrong.status.code(), Some(2));
}
