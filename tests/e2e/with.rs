//! `mesita with`: a cluster around a command, or around a pipe.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{end, file, lines_of, processes_of, program, request, wait_for};

const RUN_ID: &str = "MESITA_RUN_ID";

/// A run of its own, so that what is left can be counted while other tests run.
fn own(name: &str) -> String {
    format!("{}-{name}", crate::support::own_run_id())
}

fn nothing_is_left(run_id: &str) {
    wait_for("everything to be gone", || processes_of(run_id).is_empty().then_some(()));
    assert_eq!(crate::support::directories_of(run_id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_command_has_a_cluster_and_its_code_is_passed_on() {
    let run_id = own("code");
    let hello = file("testdata/apps/hello.json").display().to_string();
    let script = "echo \"$MESITA_ADDR $MESITA_MARATHON\"; \"$0\" ps -q; exit 7";
    let mesita = env!("CARGO_BIN_EXE_mesita");
    let output = program()
        .env(RUN_ID, &run_id)
        .args(["with", "--masters", "3", "--agents", "2", &hello, "--", "sh", "-c", script, mesita])
        .output()
        .expect("the program runs");
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{said}{told}");
    let mut lines = said.lines();
    let addresses = lines.next().unwrap_or_default();
    assert_eq!(addresses.matches("http://127.0.0.1:").count(), 2, "{said}");
    assert_eq!(lines.collect::<Vec<_>>(), ["/hello"], "it was deployed before the command began");
    nothing_is_left(&run_id);
}

#[test]
fn what_cannot_be_run_says_so() {
    let output = program().args(["with", "--fake", "--", "/no/such/program"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(127));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("/no/such/program cannot be run"), "{told}");
    let output = program().args(["with", "--masters", "0"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let output = program().args(["with", "--resources", "cpus:many"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("--resources") && told.contains("many"), "{told}");
}

/// A cluster around a pipe, and the line that says where it is.
fn around_a_pipe(run_id: &str) -> (Child, Value) {
    let mut child = program()
        .env(RUN_ID, run_id)
        .args(["with"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let line = lines_of(&mut child).recv_timeout(crate::support::DEADLINE).expect("one line");
    let ready = serde_json::from_str(&line).expect("JSON");
    (child, ready)
}

#[test]
fn without_a_command_it_ends_with_its_input() {
    let run_id = own("pipe");
    let (mut child, ready) = around_a_pipe(&run_id);
    let (master, marathon) = (ready["masters"][0].as_str(), ready["marathon"].as_str());
    let (master, marathon) = (master.expect("a URL"), marathon.expect("a URL"));
    assert_eq!(request(master, "GET", "/health", &[], b"").0, 200);
    let app = br#"{ "id": "/sleep", "cmd": "exec sleep 1000", "cpus": 0.1, "mem": 32 }"#;
    let json = ("Content-Type", "application/json");
    assert_eq!(request(marathon, "POST", "/v2/apps", &[json], app).0, 201);
    wait_for("the task", || {
        processes_of(&run_id).iter().any(|line| line.contains("sleep 1000")).then_some(())
    });
    drop(child.stdin.take());
    assert!(child.wait().expect("our own child").success());
    nothing_is_left(&run_id);
}

#[test]
fn it_ends_with_its_parent() {
    let run_id = own("parent");
    // The shell is the parent; the pipe that is its input stays open all the time.
    let mut shell = std::process::Command::new("sh")
        .env(RUN_ID, &run_id)
        .args(["-c", "\"$0\" with <&0 & wait", env!("CARGO_BIN_EXE_mesita")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let input = shell.stdin.take();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
    assert!(line.contains("\"ready\""), "{line}");
    assert!(!processes_of(&run_id).is_empty());
    end(&mut shell);
    nothing_is_left(&run_id);
    drop(input);
}

/// A file with what the README shows as an example of `with`.
fn example(kind: &str, name: &str) -> tempfile::TempDir {
    let text = std::fs::read_to_string(file("README.md")).expect("a README");
    let (_, after) = text.split_once(&format!("<!-- with: {kind} -->")).expect("its example");
    let block = after.split("```").nth(1).expect("a block");
    let (_, body) = block.split_once('\n').expect("its language");
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::write(folder.path().join(name), body).expect("written");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mesita"), folder.path().join("mesita")).expect("a link");
    folder
}

/// The search path with the built program in front.
fn path_with(folder: &tempfile::TempDir) -> std::ffi::OsString {
    let known = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.path().to_owned()).chain(std::env::split_paths(&known));
    std::env::join_paths(folders).expect("a search path")
}

#[test]
fn the_shell_script_of_the_readme_runs() {
    let run_id = own("shell");
    let folder = example("sh", "check.sh");
    let (hello, script) = (file("testdata/apps/hello.json"), folder.path().join("check.sh"));
    let output = program()
        .env(RUN_ID, &run_id)
        .env("PATH", path_with(&folder))
        .args(["with", "--agents", "2"])
        .arg(hello)
        .args(["--", "sh"])
        .arg(script)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    nothing_is_left(&run_id);
}

#[test]
fn the_pytest_file_of_the_readme_runs() {
    let mut look = std::process::Command::new("python3");
    let has_pytest = look.args(["-c", "import pytest"]).stderr(Stdio::null()).status();
    if !has_pytest.is_ok_and(|status| status.success()) {
        assert!(std::env::var("MESITA_REQUIRE_PYTEST").is_err(), "there is no pytest");
        eprintln!("SKIPPED: there is no pytest (MESITA_REQUIRE_PYTEST=1 makes this fail)");
        return;
    }
    let run_id = own("pytest");
    let folder = example("pytest", "test_services.py");
    let output = std::process::Command::new("python3")
        .env(RUN_ID, &run_id)
        .env("PATH", path_with(&folder))
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    nothing_is_left(&run_id);
}
