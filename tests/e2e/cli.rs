//! The command line: output forms, exit codes, errors that name the thing and the remedy.

use crate::support::{Dev, file, program, run, wait_for};
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn version_in_every_form() {
    let plain = run(&["version"]);
    assert!(text(&plain.stdout).starts_with(concat!("mesita ", env!("CARGO_PKG_VERSION"))));
    let json: Value = serde_json::from_slice(&run(&["version", "--json"]).stdout).expect("JSON");
    assert_eq!((&json["schema"], &json["mesos_api"]), (&Value::from(1), &Value::from("1.11.0")));
    assert_eq!(text(&run(&["version", "-q"]).stdout).trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn usage_errors_name_the_nearest() {
    let wrong = run(&["deplyo"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("deploy"), "{}", text(&wrong.stderr));
    let wrong = run(&["dev", "--agent-resources", "cpus:many"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("cpus"), "{}", text(&wrong.stderr));
}

#[test]
fn without_a_cluster_the_hint_says_what_to_type() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let wrong = program().args(["ps", "--addr", &address]).output().expect("it runs");
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong.stderr);
    assert!(said.contains(&address) && said.contains("hint:") && said.contains("mesita dev"), "{said}");
    let json = program().args(["ps", "--json", "--addr", &address]).output().expect("it runs");
    let error: Value = serde_json::from_slice(&json.stderr).expect("a JSON error");
    assert_eq!(error["error"]["code"], 1);
}

#[test]
fn bad_files_are_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a directory");
    for (content, needle) in [
        (r#"{"id":"/a","cmd":"x","instnaces":2}"#, "did you mean \"instances\""),
        (r#"{"id":"/a","cmd":"x","cpus":"many"}"#, "/cpus"),
        (r#"{"id":"/a","cmd":"x","cpus":-1}"#, "/cpus"),
        (r#"{"id":"/a","cmd":"x","mem":1e300}"#, "/mem"),
        (r#"{"id":"/A b","cmd":"x"}"#, "lower-case"),
        (r#"{"id":"/a"}"#, "needs cmd or args"),
        (
            r#"{"id":"/a","cmd":"x","healthChecks":[{"protocol":"HTTP","portIndex":7}]}"#,
            "/healthChecks(0)/portIndex",
        ),
        (r#"{"id":"/a","cmd":"x","secrets":{"a":{"source":"b"}}}"#, "not built yet"),
        (r#"{"id":"/a","cmd":"x""#, "EOF"),
        ("[]", "no app"),
        (r#"[{"id":"/a","cmd":"x"},{"id":"/a","cmd":"y"}]"#, "twice"),
    ] {
        let path = folder.path().join("app.json");
        std::fs::write(&path, content).expect("written");
        let wrong = run(&["dev", path.to_str().expect("a path")]);
        let said = text(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(2), "{content}: {said}");
        assert!(said.contains(needle) && said.contains("app.json"), "{content}: {said}");
    }
    let missing = run(&["dev", "no/such/file.json"]);
    assert!(missing.status.code() == Some(2) && text(&missing.stderr).contains("no/such/file.json"));
}

#[test]
fn run_passes_the_command_s_own_code_on() {
    let dev = Dev::start(&[]);
    let ran = dev.cli(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(ran.status.code(), Some(7), "{}", text(&ran.stderr));
    assert_eq!(text(&ran.stdout), "out\n");
    assert!(text(&ran.stderr).contains("err\n"));
    let ran = dev.cli(&["run", "--env", "WHO=me", "--", "sh", "-c", "echo $WHO $HOME; kill -9 $$"]);
    assert_eq!(ran.status.code(), Some(137), "{}", text(&ran.stderr));
    assert_eq!(text(&ran.stdout), "me\n", "nothing of the agent's environment is inherited");
    let ran = dev.cli(&["run", "--", "no-such-command-here"]);
    assert_eq!(ran.status.code(), Some(127), "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("\"no-such-command-here\" was not found"), "{}", text(&ran.stderr));
    let ran = dev.cli(&["run", "--", "/etc/passwd"]);
    assert_eq!(ran.status.code(), Some(126), "{}", text(&ran.stderr));
    let ran = dev.cli(&["run", "--cpus", "4000", "--timeout", "1s", "--", "true"]);
    assert_eq!(ran.status.code(), Some(125), "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("cpus:4000"), "{}", text(&ran.stderr));
}

#[test]
fn lists_logs_and_names() {
    let dev = Dev::start(&[file("testdata/apps/hello.json").to_str().expect("a path")]);
    let list = text(&dev.cli(&["ps"]).stdout);
    assert!(list.contains("SERVICE") && list.contains("/hello") && list.contains("2/2"), "{list}");
    assert_eq!(text(&dev.cli(&["ps", "-q"]).stdout), "/hello\n");
    let json: Value = serde_json::from_slice(&dev.cli(&["ps", "hello", "--json"]).stdout).expect("JSON");
    assert_eq!(json["instances"].as_array().map(Vec::len), Some(2));
    let logs = wait_for("log lines of both instances", || {
        let logs = text(&dev.cli(&["logs", "hello"]).stdout);
        (logs.lines().count() >= 2).then_some(logs)
    });
    assert!(logs.lines().all(|line| line.starts_with("hello ") && line.contains(" | ")), "{logs}");
    let wrong = dev.cli(&["ps", "helo-x"]);
    assert_eq!(wrong.status.code(), Some(7));
    assert!(text(&wrong.stderr).contains("/hello"), "{}", text(&wrong.stderr));
}

#[test]
fn a_taken_port_that_was_asked_for_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let wrong = run(&["dev", "--marathon-addr", &address]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong.stderr);
    assert!(said.contains(&address) && said.contains("--marathon-addr"), "{said}");
}
