//! What is left when most is lost: snapshots, a cluster made from one, and a node that goes on alone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::masters::{get, running, wait_running};
use crate::nodes::{Node, cli, command, found, three, token, wait_leader};
use crate::support::{Dev, program, request, wait_for};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn create(base: &str, app: &Value) {
    let (status, body) = request(base, "POST", "/v2/apps", &[JSON], app.to_string().as_bytes());
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
}

fn sleep(id: &str, instances: usize) -> Value {
    json!({ "id": id, "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 1, "instances": instances })
}

/// What a command that needs no cluster prints, and whether it went well.
fn offline(arguments: &[&str]) -> (bool, String) {
    let output = program().args(arguments).output().expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn two_of_three_are_gone_for_good_and_the_third_goes_on_alone() {
    let (_folder, mut nodes) = three();
    wait_leader(&nodes, &[0, 1, 2]);
    let base = nodes[0].master();
    create(&base, &sleep("/sleep", 3));
    let tasks = wait_running(&base, "/sleep", 3);
    let data = nodes[1].data.clone();
    let recover = ["cluster", "recover", "--from-this-node", "--data-dir", text(&data)];
    // While it runs, nothing is touched.
    let (went_well, said) = offline(&[&recover[..], &["--yes"]].concat());
    assert!(!went_well && said.contains("in use by another process"), "{said}");
    for node in &mut nodes {
        node.kill();
    }
    // Each step says what it would do before it does it.
    let (went_well, said) = offline(&["cluster", "recover", "--data-dir", text(&data)]);
    assert!(!went_well && said.contains("--dry-run"), "{said}");
    let (went_well, said) = offline(&recover);
    assert!(!went_well && said.contains("--yes"), "{said}");
    let (went_well, said) = offline(&[&recover[..], &["--dry-run"]].concat());
    assert!(went_well && said.contains("/sleep") && said.contains("nothing was changed"), "{said}");
    assert_eq!(said.matches("leaves for good").count(), 2, "{said}");
    let (went_well, said) = offline(&[&recover[..], &["--yes", "--json"]].concat());
    assert!(went_well, "{said}");
    let report: Value = serde_json::from_str(&said).expect("a document");
    assert!(Path::new(report["before"].as_str().expect("a path")).is_dir(), "{report}");
    // It leads alone, at another address, with everything, and its task still runs.
    let again = Node::start(&data, &[]);
    std::mem::forget(std::mem::replace(&mut nodes[1], again));
    let base = nodes[1].master();
    let here = wait_for("the app on the node that is left", || {
        let tasks = running(&base, "/sleep");
        (!tasks.is_empty()).then_some(tasks)
    });
    assert!(here.is_subset(&tasks), "what ran here was started again: {here:?} {tasks:?}");
    create(&base, &sleep("/after", 1));
    wait_running(&base, "/after", 1);
    // The others are refused; with an empty directory they join again.
    let output = command(&nodes[0].data, &["--join", &nodes[1].peer()]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("removed from the cluster"), "{said}");
    let (_, token) = cli(&nodes[1], &["cluster", "join-token"]);
    let fresh = nodes[0].data.with_file_name("fresh");
    let joined = Node::start(&fresh, &["--join", &nodes[1].peer(), "--token", &token]);
    assert_eq!(get(&joined.master(), "/v2/apps").1["apps"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_cluster_is_saved_looked_into_and_made_anew() {
    let (folder, data, mut first) = found();
    create(&first.master(), &sleep("/sleep", 2));
    wait_running(&first.master(), "/sleep", 2);
    let file = folder.path().join("saved.mesita");
    let (went_well, said) = cli(&first, &["cluster", "snapshot", "save", text(&file)]);
    assert!(went_well, "{said}");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a key");
    let (went_well, said) = offline(&["cluster", "snapshot", "inspect", text(&file), "--json"]);
    let inspected: Value = serde_json::from_str(&said).expect("a document");
    assert!(went_well && inspected["apps"] == json!(["/sleep"]), "{said}");
    // Something that comes later is not in it.
    create(&first.master(), &sleep("/later", 1));
    wait_running(&first.master(), "/later", 1);
    first.kill();

    let restored = folder.path().join("restored");
    let restore = ["cluster", "restore", text(&file), "--data-dir"];
    let (went_well, said) = offline(&[&restore[..], &[text(&restored), "--dry-run"]].concat());
    assert!(went_well && said.contains("/sleep") && !restored.exists(), "{said}");
    let (went_well, said) = offline(&[&restore[..], &[text(&restored)]].concat());
    assert!(!went_well && said.contains("--yes") && !restored.exists(), "{said}");
    let (went_well, said) = offline(&[&restore[..], &[text(&data[0]), "--yes"]].concat());
    assert!(!went_well && said.contains("not empty"), "{said}");
    let (went_well, said) = offline(&[&restore[..], &[text(&restored), "--yes"]].concat());
    assert!(went_well, "{said}");
    let mut again = Node::start(&restored, &[]);
    let base = again.master();
    let apps = get(&base, "/v2/apps").1;
    assert_eq!(apps["apps"].as_array().map(Vec::len), Some(1), "{apps}");
    // What the old node's agent still runs counts until it is given up; then the new one runs it.
    let known = get(&base, "/v2/apps/sleep").1["app"]["instances"].clone();
    assert_eq!(known, 2);
    // The old agent's certificate is still good: the authority is the same.
    let agent_token = {
        let (_, token) = cli(&again, &["cluster", "join-token", "--role", "agent"]);
        token
    };
    assert_eq!(
        agent_token.rsplit_once('-').map(|(pin, _)| pin.to_owned()),
        std::fs::read_to_string(token(&data[0], "agent"))
            .ok()
            .and_then(|old| old.trim().rsplit_once('-').map(|(pin, _)| pin.to_owned())),
        "another authority"
    );
    again.kill();
}

#[test]
fn what_is_no_snapshot_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("file");
    let dev = Dev::start(&[]);
    let saved = dev.cli(&["cluster", "snapshot", "save", text(&file)]);
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let good = std::fs::read(&file).expect("readable");
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let mut newer = good.clone();
    newer[15] = 9;
    for (bytes, why) in [
        (&b"nonsense"[..], "no snapshot"),
        (&damaged, "damaged"),
        (&newer, "newer mesita"),
        (&[], "no snapshot"),
    ] {
        std::fs::write(&file, bytes).expect("writable");
        let target = folder.path().join("target");
        let (went_well, said) =
            offline(&["cluster", "restore", text(&file), "--data-dir", text(&target), "--yes"]);
        assert!(!went_well && said.contains(why) && said.contains(text(&file)), "{said}");
        assert!(!target.exists(), "something was made of it");
    }
    // A cluster without peers is restored for `dev`.
    std::fs::write(&file, &good).expect("writable");
    let target = folder.path().join("target");
    let (went_well, said) =
        offline(&["cluster", "restore", text(&file), "--data-dir", text(&target), "--yes"]);
    assert!(went_well && said.contains("mesita dev"), "{said}");
    drop(dev);
    let again = Dev::start(&["--data-dir", text(&target)]);
    assert_eq!(again.get("/v2/apps").0, 200);
}

#[test]
fn a_node_writes_snapshots_by_itself() {
    let (_folder, data, first) = found();
    create(&first.master(), &sleep("/sleep", 1));
    let written = wait_for("a snapshot", || {
        let mut entries = std::fs::read_dir(data[0].join("snapshots")).ok()?;
        let path = entries.next()?.ok()?.path();
        // It has its name when it is whole.
        (path.extension()? == "mesita").then_some(path)
    });
    let (went_well, said) = offline(&["cluster", "snapshot", "inspect", text(&written)]);
    assert!(went_well && said.contains("cluster "), "{said}");
}
