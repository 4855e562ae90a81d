//! Pipes, signals and endings: what the command line does when its reader goes, its cluster is its own, or a
//! service does not do as it should.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

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
