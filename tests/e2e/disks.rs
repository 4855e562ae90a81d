//! Disks that fail, are slow or full, and data that is not what was written: against real processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::masters::get;
use crate::nodes::{Node, cli, command, token, wait_voters};
use crate::support::{DEADLINE, now, request, wait_for};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A file that asks for a fault of a node's disk.
fn fault(folder: &Path, wanted: &Value) -> String {
    let path = folder.join("fault.json");
    std::fs::write(&path, json!({ "disk": [wanted] }).to_string()).expect("writable");
    path.display().to_string()
}

/// Creates apps of this size until one is not taken. What was acknowledged.
fn create_until_it_fails(base: &str, prefix: &str, most: usize, bytes: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0..most {
        let id = format!("/{prefix}-{number}");
        let app = json!({
            "id": id, "cmd": "true", "cpus": 0.1, "mem": 1, "instances": 0, "labels": { "x": "y".repeat(bytes) },
        });
        let answer = crate::chaos::http::post(base.trim_start_matches("http://"), "/v2/apps", &app);
        if answer.status() != 201 {
            return acknowledged;
        }
        acknowledged.push(id);
    }
    panic!("{most} apps were taken and nothing failed");
}

fn apps(base: &str) -> Vec<String> {
    let apps = get(base, "/v2/apps").1["apps"].as_array().cloned().unwrap_or_default();
    apps.iter().filter_map(|app| app["id"].as_str().map(str::to_owned)).collect()
}

/// What a node that must not start says.
fn refused(data: &Path) -> String {
    let output = command(data, &[]).output().expect("the program runs");
    assert!(!output.status.success(), "it started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts a node on what a failure left. None: it refused, and said how to go on.
fn start_or_refusal(data: &Path) -> Option<Node> {
    let mut child =
        command(data, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let lines = crate::support::lines_of(&mut child);
    let line = lines.recv_timeout(DEADLINE).unwrap_or_default();
    if let Ok(ready) = serde_json::from_str::<Value>(&line) {
        return Some(Node { child, ready, data: data.to_owned() });
    }
    let output = child.wait_with_output().expect("our own child");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("registry") && said.contains("aside") && said.contains("join again"), "{said}");
    None
}

fn data_in(folder: &TempDir) -> PathBuf {
    folder.path().join("node")
}

#[test]
fn what_the_disk_does_not_confirm_is_not_acknowledged() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = data_in(&folder);
    for kind in ["sync_fails", "no_space", "torn_tail"] {
        let file = fault(folder.path(), &json!({ "store": "registry", "kind": kind, "after": 40 }));
        let begin: &[&str] = if data.exists() { &[] } else { &["--bootstrap"] };
        let mut node = Node::start(&data, &[begin, &["--fault", &file, "--insecure"]].concat());
        let acknowledged = create_until_it_fails(&node.master(), &kind.replace('_', "-"), 200, 10);
        let ended = node.child.wait().expect("it ends by itself");
        assert!(!ended.success(), "{kind}");
        assert_eq!(data.join("ballast").exists(), kind != "no_space", "{kind}");
        // Half of a commit that nobody was told of: either it starts without it, or it says why not.
        let Some(again) = start_or_refusal(&data) else { continue };
        let there = apps(&again.master());
        let missing: Vec<&String> = acknowledged.iter().filter(|app| !there.contains(app)).collect();
        assert!(missing.is_empty(), "{kind}: acknowledged and lost: {missing:?}");
    }
}

#[test]
fn one_disk_that_fails_does_not_stop_three_masters() {
    let folder = tempfile::tempdir().expect("a directory");
    let data: Vec<PathBuf> = (0..3).map(|number| folder.path().join(format!("node-{number}"))).collect();
    let wanted = json!({ "store": "registry", "kind": "sync_fails", "after": 80 });
    let file = fault(folder.path(), &wanted);
    let mut first = Node::start(&data[0], &["--bootstrap", "--fault", &file, "--insecure"]);
    let (peer, token) = (first.peer(), token(&data[0], "master"));
    let join = ["--join", &peer, "--token-file", &token];
    let (second, _third) = (Node::start(&data[1], &join), Node::start(&data[2], &join));
    wait_voters(&second, 3);
    let base = second.master();
    let mut acknowledged = Vec::new();
    wait_for("the first disk to fail", || {
        let id = format!("/app-{}", acknowledged.len());
        let app = json!({ "id": id, "cmd": "true", "cpus": 0.1, "mem": 1, "instances": 0 });
        let answer = crate::chaos::http::post(base.trim_start_matches("http://"), "/v2/apps", &app);
        if answer.status() == 201 {
            acknowledged.push(id);
        }
        first.child.try_wait().expect("our own child")
    });
    let after = json!({ "id": "/after", "cmd": "true", "cpus": 0.1, "mem": 1, "instances": 0 });
    wait_for("the others to go on", || {
        let answer = crate::chaos::http::post(base.trim_start_matches("http://"), "/v2/apps", &after);
        matches!(answer.status(), 201 | 409).then_some(())
    });
    let there = apps(&base);
    let missing: Vec<&String> = acknowledged.iter().filter(|app| !there.contains(app)).collect();
    assert!(!acknowledged.is_empty() && missing.is_empty(), "acknowledged and lost: {missing:?}");
    let again = Node::start(&data[0], &[]);
    std::mem::forget(std::mem::replace(&mut first, again));
    wait_for("its return", || (apps(&first.master()).len() == there.len()).then_some(()));
}

#[test]
fn a_slow_disk_of_the_leader_deposes_nobody() {
    let folder = tempfile::tempdir().expect("a directory");
    let data: Vec<PathBuf> = (0..3).map(|number| folder.path().join(format!("node-{number}"))).collect();
    // Longer than an election timeout, several times.
    let wanted = json!({ "store": "registry", "kind": "sync_slow", "seconds": 1.5, "after": 60, "times": 3 });
    let file = fault(folder.path(), &wanted);
    let first = Node::start(&data[0], &["--bootstrap", "--fault", &file, "--insecure"]);
    let (peer, token) = (first.peer(), token(&data[0], "master"));
    let join = ["--join", &peer, "--token-file", &token];
    let (second, _third) = (Node::start(&data[1], &join), Node::start(&data[2], &join));
    let status = || {
        let (_, said) = cli(&second, &["cluster", "status", "--json"]);
        serde_json::from_str::<Value>(&said).unwrap_or_default()
    };
    wait_voters(&second, 3);
    let before = status();
    let mut slowest = std::time::Duration::ZERO;
    for number in 0..60 {
        let start = now();
        let app =
            json!({ "id": format!("/app-{number}"), "cmd": "true", "cpus": 0.1, "mem": 1, "instances": 0 });
        let (answer, _) = request(&second.master(), "POST", "/v2/apps", &[JSON], app.to_string().as_bytes());
        assert_eq!(answer, 201);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest.as_millis() > 1_000, "the disk was never slow: {slowest:?}");
    assert_eq!(status()["term"], before["term"], "somebody else was elected meanwhile");
}

#[test]
fn what_is_not_what_was_written_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = data_in(&folder);
    let mut node = Node::start(&data, &["--bootstrap"]);
    for number in 0..20 {
        let app =
            json!({ "id": format!("/app-{number}"), "cmd": "true", "cpus": 0.1, "mem": 1, "instances": 0 });
        assert_eq!(request(&node.master(), "POST", "/v2/apps", &[JSON], app.to_string().as_bytes()).0, 201);
    }
    let wanted = apps(&node.master());
    node.kill();
    let db = data.join("registry/db");
    let whole = std::fs::read(&db).expect("readable");
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let (mut refusals, tries) = (0, 12);
    for number in 0..tries {
        let at = used[used.len() * (2 * number + 1) / (2 * tries)];
        let mut flipped = whole.clone();
        flipped[at] ^= 0x20;
        std::fs::write(&db, &flipped).expect("writable");
        match start_or_refusal(&data) {
            // The byte was of no use any more: nothing is lost.
            Some(mut again) => {
                assert_eq!(apps(&again.master()), wanted, "byte {at}");
                again.kill();
                std::mem::forget(again);
            }
            None => refusals += 1,
        }
    }
    assert!(refusals > 0, "no flipped byte was noticed");
    std::fs::write(&db, &whole).expect("writable");
    let mark = data.join("registry/mark");
    let kept = std::fs::read(&mark).expect("readable");
    std::fs::write(&mark, b"nonsense").expect("writable");
    let said = refused(&data);
    assert!(said.contains("mark") && said.contains("damaged") && said.contains("aside"), "{said}");
    std::fs::write(&mark, kept).expect("writable");
    std::mem::forget(node);
    let again = Node::start(&data, &[]);
    assert_eq!(apps(&again.master()), wanted);
}

/// A small file system in memory; dropping it takes it away.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, megabytes: usize) -> Self {
        std::fs::create_dir_all(at).expect("a directory");
        let small = Self(at.to_owned());
        small.run("mount", &["-t", "tmpfs", "-o", &format!("size={megabytes}M"), "tmpfs"]);
        small
    }

    fn grow(&self, megabytes: usize) {
        self.run("mount", &["-o", &format!("remount,size={megabytes}M")]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(&self.0).status().expect("it runs");
        assert!(status.success(), "{program} {arguments:?}");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whatever still has a file open there is about to end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var("MESITA_REQUIRE_ROOT").is_err(), "a small file system needs root");
        eprintln!(
            "SKIPPED: this is not root, so there is no small file system (MESITA_REQUIRE_ROOT=1 makes this fail)"
        );
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let small = Small::mount(&folder.path().join("disk"), 128);
    let data = folder.path().join("disk/node");
    let mut node = Node::start(&data, &["--bootstrap"]);
    assert!(data.join("ballast").exists());
    let mut acknowledged = create_until_it_fails(&node.master(), "app", 5_000, 400_000);
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    // The store may give back what it needed for a moment only: there shall be little left from here on.
    fill_up(&folder.path().join("disk/some"), 2 << 20);
    // Nearly full: what is there can be read and removed, nothing is added, and the node goes on.
    let add = |node: &Node| {
        let app = json!({ "id": "/more", "cmd": "true", "instances": 0 }).to_string();
        let (status, body) = request(&node.master(), "POST", "/v2/apps", &[JSON], app.as_bytes());
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let (status, said) = add(&node);
    assert!(status == 503 && said.contains("nearly full") && said.contains("MiB"), "{status} {said}");
    let subscribe = json!({
        "type": "SUBSCRIBE", "subscribe": { "framework_info": { "user": "", "name": "new" } },
    });
    let (status, said) =
        request(&node.master(), "POST", "/api/v1/scheduler", &[JSON], subscribe.to_string().as_bytes());
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(status == 503 && said.contains("nearly full"), "{status} {said}");
    assert_eq!(sorted(apps(&node.master())), sorted(acknowledged.clone()));
    let remove = |node: &Node, app: &str| {
        crate::chaos::http::send(
            node.master().trim_start_matches("http://"),
            "DELETE",
            &format!("/v2/apps{app}"),
            "",
            "",
            crate::chaos::http::ANSWER,
        )
        .status()
    };
    let first = acknowledged.remove(0);
    assert_eq!(remove(&node, &first), 200);
    // Quite full, and the node ends: what it throws off is enough for the next start.
    fill_up(&folder.path().join("disk/filler"), 0);
    node.kill();
    let again = Node::start(&data, &[]);
    std::mem::forget(std::mem::replace(&mut node, again));
    assert!(!data.join("ballast").exists(), "it was not thrown off");
    assert_eq!(sorted(apps(&node.master())), sorted(acknowledged.clone()));
    // What was thrown off, and what the store gave back at its start, is not there to be filled again.
    let (status, said) = add(&node);
    assert!(status == 503 && said.contains("nearly full"), "{status} {said}");
    small.grow(512);
    let (status, said) = add(&node);
    assert_eq!(status, 201, "{said}");
    assert!(data.join("ballast").exists(), "it did not come back");
    drop(node);
}

fn sorted(mut apps: Vec<String>) -> Vec<String> {
    apps.sort_unstable();
    apps
}

/// Leaves so many bytes on the disk of this file.
fn fill_up(path: &Path, left: u64) {
    let mut file = std::fs::File::create(path).expect("made");
    let free = || {
        let stat = nix::sys::statvfs::statvfs(path).expect("a file system");
        stat.blocks_available().saturating_mul(stat.fragment_size())
    };
    for size in [1 << 20, 4_096] {
        while free() >= left + size as u64
            && std::io::Write::write(&mut file, &vec![0; size]).is_ok_and(|written| written > 0)
        {}
    }
}
