//! Pipes, signals and endings: what the command line does when its reader goes, its cluster is its own, or a
//! service does not do as it should.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{
    Dev, directories_of, end, file, own_run_id, processes_of, program, signal_process, wait_for,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const FREE: &str = "127.0.0.1:0";

/// A program that is ended when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

#[test]
fn run_without_a_cluster_starts_its_own() {
    if std::net::TcpStream::connect("127.0.0.1:5050").is_ok() {
        let _ = writeln!(std::io::stderr(), "skipped: something answers on 127.0.0.1:5050");
        return;
    }
    let run_id = own_run_id();
    let ran = program()
        .args(["run", "--", "sh", "-c", "echo hi; exit 3"])
        .env("MESITA_RUN_ID", &run_id)
        .env("XDG_RUNTIME_DIR", "")
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(3), "hi\n"), "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("in one of its own"), "{}", text(&ran.stderr));
    assert_eq!(processes_of(&run_id), Vec::<String>::new());
}

#[test]
fn a_dev_that_nobody_reads_ends_in_order() {
    let run_id = own_run_id();
    let hello = file("testdata/apps/hello.json");
    let child = program()
        .args(["dev", "--master-addr", FREE, "--agent-addr", FREE, "--marathon-addr", FREE])
        .arg(hello)
        .env("MESITA_RUN_ID", &run_id)
        .env("MESITA_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut dev = Running(child);
    let (stdout, stderr) = (dev.0.stdout.take().expect("piped"), dev.0.stderr.take().expect("piped"));
    // The other pipe must not fill up meanwhile.
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        for _ in BufReader::new(stderr).lines() {
            if is_done.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                break;
            }
        }
    });
    let running = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.starts_with("/hello is at http://"));
    assert!(running, "the app runs");
    drop(done);
    reader.join().expect("the reader ends");
    if dev.0.try_wait().expect("our own child").is_none() {
        signal_process(dev.0.id(), "TERM");
    }
    let ended = wait_for("its end", || dev.0.try_wait().expect("our own child"));
    assert_eq!(ended.code(), Some(0));
    assert_eq!(processes_of(&run_id), Vec::<String>::new());
    assert_eq!(directories_of(&run_id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let dev = Dev::start(&[file("testdata/apps/hello.json").to_str().expect("a path")]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let list = program()
        .args(["ps", "--addr", &dev.master()])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    assert_eq!((list.status.code(), text(&list.stderr).as_str()), (Some(0), ""));
}

/// An app file.
fn app(folder: &std::path::Path, id: &str, cmd: &str, more: &str) -> String {
    let path = folder.join("app.json");
    let app = format!(r#"{{"id":"/{id}","cmd":"{cmd}","cpus":0.1,"mem":32{more}}}"#);
    std::fs::write(&path, app).expect("written");
    path.to_str().expect("a path").to_owned()
}

#[test]
fn the_last_words_of_a_crashing_service_are_shown() {
    let folder = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(&[]);
    let file = app(folder.path(), "boom", "echo BOOMTEXT >&2; exit 1", "");
    let deployed = dev.cli(&["deploy", "--no-wait", &file]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let logs = wait_for("the last words", || {
        let logs = text(&dev.cli(&["logs", "boom"]).stdout);
        logs.contains("BOOMTEXT").then_some(logs)
    });
    assert!(logs.lines().all(|line| line.starts_with("boom ") && line.ends_with(" | BOOMTEXT")), "{logs}");
    let json = text(&dev.cli(&["logs", "boom", "--json"]).stdout);
    let line: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&line["event"], &line["line"]), (&Value::from("log"), &Value::from("BOOMTEXT")), "{json}");
    assert_eq!((&line["service"], &line["stream"]), (&Value::from("/boom"), &Value::from("stderr")));
    let instance = line["task"].as_str().expect("an id");
    let logs = text(&dev.cli(&["logs", instance, "--no-prefix"]).stdout);
    assert_eq!(logs, "BOOMTEXT\n", "one that has ended can be named");
}

#[test]
fn a_long_log_is_printed_whole_and_its_tail_alone() {
    let folder = tempfile::tempdir().expect("a directory");
    let cmd = "seq 1 400000; echo last >&2; exec sleep 1000";
    let dev = Dev::start(&[&app(folder.path(), "long", cmd, "")]);
    wait_for("the last line", || {
        text(&dev.cli(&["logs", "long", "--stream", "stderr"]).stdout).contains("last").then_some(())
    });
    let whole = text(&dev.cli(&["logs", "long", "--stream", "stdout", "--no-prefix"]).stdout);
    assert!(whole.lines().eq((1..=400_000).map(|line| line.to_string())), "every line, in order");
    let tail = text(&dev.cli(&["logs", "long", "--stream", "stdout", "--no-prefix", "--tail", "3"]).stdout);
    assert_eq!(tail, "399998\n399999\n400000\n");
    let long =
        text(&dev.cli(&["logs", "long", "--stream", "stdout", "--no-prefix", "--tail", "99999"]).stdout);
    assert_eq!((long.lines().count(), long.lines().next()), (99_999, Some("300002")));
}

#[test]
fn a_log_that_cannot_be_read_harms_no_other() {
    let folder = tempfile::tempdir().expect("a directory");
    let odd = app(folder.path(), "odd", "rm stdout; mkdir stdout; echo odd >&2; exec sleep 1000", "");
    let dev = Dev::start(&[&odd]);
    let logs = wait_for("the other stream", || {
        let logs = dev.cli(&["logs", "odd"]);
        text(&logs.stdout).contains("odd").then_some(logs)
    });
    assert_eq!(logs.status.code(), Some(0), "{}", text(&logs.stderr));
    let ran = dev.cli(&["run", "--", "sh", "-c", "rm stdout; mkdir stdout; exit 4"]);
    assert_eq!(ran.status.code(), Some(4), "{}", text(&ran.stderr));
    assert_eq!(dev.stop("TERM"), Some(0), "the cluster went on");
}

#[test]
fn a_run_that_writes_without_end_is_interrupted() {
    let dev = Dev::start(&[]);
    let child = program()
        .args(["run", "--addr", &dev.master(), "--", "yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut run = Running(child);
    // One line is read, and no other: the pipe is full.
    let mut lines = BufReader::new(run.0.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().and_then(Result::ok).as_deref(), Some("y"));
    signal_process(run.0.id(), "INT");
    wait_for("the task's end", || {
        let (_, state) = dev.get("/state");
        let frameworks = state["frameworks"].as_array().expect("a list");
        let is_gone = |framework: &Value| {
            framework["name"] != "mesita run" || framework["tasks"].as_array().is_some_and(Vec::is_empty)
        };
        frameworks.iter().all(is_gone).then_some(())
    });
    signal_process(run.0.id(), "INT");
    wait_for("its end", || run.0.try_wait().expect("our own child"));
}

#[test]
fn a_run_keeps_no_offer_of_other_agents() {
    let dev = Dev::start(&["--agents", "3"]);
    let child = program()
        .args(["run", "--addr", &dev.master(), "--", "sh", "-c", "echo up; exec sleep 1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut run = Running(child);
    let mut lines = BufReader::new(run.0.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().and_then(Result::ok).as_deref(), Some("up"));
    wait_for("every other offer to go back", || {
        let (_, state) = dev.get("/state");
        let framework =
            state["frameworks"].as_array()?.iter().find(|one| one["name"] == "mesita run")?.clone();
        framework["offers"].as_array()?.is_empty().then_some(())
    });
}

#[test]
fn dev_shows_the_last_words_of_a_crashing_service() {
    let folder = tempfile::tempdir().expect("a directory");
    let child = program()
        .args(["dev", "--master-addr", FREE, "--agent-addr", FREE, "--marathon-addr", FREE])
        .arg(app(folder.path(), "boom", "echo BOOMTEXT >&2; exit 1", ""))
        .env("MESITA_RUN_ID", own_run_id())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut dev = Running(child);
    let stdout = BufReader::new(dev.0.stdout.take().expect("piped"));
    assert!(stdout.lines().map_while(Result::ok).any(|line| line.ends_with(" | BOOMTEXT")));
}

/// A `dev --json` in a runtime directory of its own, and the address that it announces there.
fn announced(runtime: &std::path::Path, arguments: &[&str]) -> (Running, String) {
    let child = program()
        .args(["dev", "--json", "--master-addr", FREE, "--agent-addr", FREE, "--marathon-addr", FREE])
        .args(arguments)
        .env("MESITA_RUN_ID", own_run_id())
        .env("XDG_RUNTIME_DIR", runtime)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let dev = Running(child);
    let address = wait_for("the announcement", || {
        let line = std::fs::read(runtime.join("mesita/dev.json")).ok()?;
        let line: Value = serde_json::from_slice(&line).ok()?;
        line["masters"][0].as_str().map(str::to_owned)
    });
    (dev, address)
}

#[test]
fn a_deployment_that_is_undone_fails() {
    let folder = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(&[]);
    let small = app(folder.path(), "a", "exec sleep 1000", "");
    for _ in 0..2 {
        let deployed = dev.cli(&["deploy", &small]);
        assert_eq!(deployed.status.code(), Some(0), "{}", text(&deployed.stderr));
    }
    let large =
        app(folder.path(), "a", "exec sleep 1001", r#","constraints":[["hostname","LIKE","no-such"]]"#);
    for force in ["false", "true"] {
        let child = program()
            .args(["deploy", "--force", &large, "--addr", &dev.master()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut deploy = Running(child);
        let deployment =
            wait_for("the deployment", || dev.get("/v2/deployments").1[0]["id"].as_str().map(str::to_owned));
        if force == "false" {
            let (status, _) = dev.send("DELETE", &format!("/v2/deployments/{deployment}"), &Value::Null);
            assert_eq!(status, 200);
        } else {
            assert_eq!(dev.send("DELETE", "/v2/apps/a?force=true", &Value::Null).0, 200);
        }
        let mut said = String::new();
        let stderr = deploy.0.stderr.as_mut().expect("piped");
        std::io::Read::read_to_string(stderr, &mut said).expect("text");
        let ended = wait_for("its end", || deploy.0.try_wait().expect("our own child"));
        assert_eq!(ended.code(), Some(5), "{said}");
        assert!(said.contains("/a: it") && said.contains("hint:"), "{said}");
        wait_for("the roll-back", || {
            dev.get("/v2/deployments").1.as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }
}

#[test]
fn only_a_whole_name_stops_or_scales() {
    let dev = Dev::start(&[file("testdata/apps/hello.json").to_str().expect("a path")]);
    for (arguments, code, needle) in [
        (&["stop", "hel"][..], 7, "/hello"),
        (&["scale", "hel", "1"], 7, "/hello"),
        (&["stop", ""], 2, "names no service"),
        (&["stop", "/"], 2, "names no service"),
        (&["scale", "/", "1"], 2, "names no service"),
        (&["logs", ""], 2, "names no service"),
    ] {
        let wrong = dev.cli(arguments);
        let said = text(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(needle) && said.contains("hint:"), "{arguments:?}: {said}");
    }
    assert_eq!(dev.tasks("/hello").len(), 2);
    assert_eq!(dev.cli(&["stop", "hello"]).status.code(), Some(0));
}

#[test]
fn a_dev_whose_apps_fail_says_so_to_machines() {
    let folder = tempfile::tempdir().expect("a directory");
    let large =
        app(folder.path(), "a", "exec sleep 1000", r#","constraints":[["hostname","LIKE","no-such"]]"#);
    let (mut dev, address) = announced(folder.path(), &[&large]);
    wait_for("the deployment", || {
        let (status, _) = crate::support::request(&address, "GET", "/v2/apps/a", &[], b"");
        (status == 200).then_some(())
    });
    let (status, _) = crate::support::request(&address, "DELETE", "/v2/apps/a?force=true", &[], b"");
    assert_eq!(status, 200);
    let stdout = BufReader::new(dev.0.stdout.take().expect("piped"));
    let lines: Vec<String> = stdout.lines().map_while(Result::ok).collect();
    let ended = wait_for("its end", || dev.0.try_wait().expect("our own child"));
    assert_eq!((ended.code(), lines.len()), (Some(5), 1), "{lines:?}");
    let event: Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!((&event["schema"], &event["event"]), (&Value::from(1), &Value::from("failed")));
    assert!(
        event["message"].as_str().is_some_and(|message| message.contains("/a: it was removed")),
        "{event}"
    );
}

#[test]
fn a_runtime_directory_that_cannot_be_written_is_a_warning() {
    let folder = tempfile::NamedTempFile::new().expect("a file");
    let child = program()
        .args(["dev", "--json", "--master-addr", FREE, "--agent-addr", FREE, "--marathon-addr", FREE])
        .env("MESITA_RUN_ID", own_run_id())
        .env("XDG_RUNTIME_DIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut dev = Running(child);
    let mut lines = BufReader::new(dev.0.stdout.take().expect("piped")).lines();
    assert!(lines.next().and_then(Result::ok).is_some_and(|line| line.contains("ready")));
    signal_process(dev.0.id(), "TERM");
    let ended = wait_for("its end", || dev.0.try_wait().expect("our own child"));
    let mut said = String::new();
    std::io::Read::read_to_string(dev.0.stderr.as_mut().expect("piped"), &mut said).expect("text");
    assert_eq!(ended.code(), Some(0), "{said}");
    assert!(said.contains("cannot be written") && said.contains("--addr"), "{said}");
}

#[test]
fn agents_on_ipv6_run_apps_and_show_their_logs() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: there is no IPv6 here");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let app = app(folder.path(), "six", "echo SIX; exec sleep 1000", "");
    let child = program()
        .args(["dev", "--json", "--master-addr", FREE, "--agent-addr", "[::1]:0", "--marathon-addr", FREE])
        .arg(&app)
        .env("MESITA_RUN_ID", own_run_id())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut dev = Running(child);
    let lines = BufReader::new(dev.0.stdout.take().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("\"SIX\"")));
}
