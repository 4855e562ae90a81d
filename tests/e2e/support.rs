//! What the end-to-end tests share: a real `mesita dev` on free ports, and a small HTTP client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// The built program.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesita"));
    command.env_remove("MESITA_ADDR").env_remove("XDG_RUNTIME_DIR").env("MESITA_LOG", "warn");
    // Whatever this machine and this user have configured.
    for variable in ["MESITA_CONFIG_DIR", "XDG_CONFIG_HOME"] {
        command.env(variable, file("tests/no-configuration"));
    }
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    program().args(arguments).stdin(Stdio::null()).output().expect("the program runs")
}

/// A file of the repository.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A `mesita dev` of our own; dropping it kills it.
pub(crate) struct Dev {
    child: Child,
    pub(crate) ready: Value,
    /// Unique to this cluster; everything that it starts carries it.
    pub(crate) run_id: String,
}

/// What a program prints, line by line, whether anybody takes the lines or not.
pub(crate) fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let stdout = child.stdout.take().expect("piped");
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The test may be over.
            let _ = sender.send(line);
        }
    });
    lines
}

/// A run id of the calling test's own.
pub(crate) fn own_run_id() -> String {
    let run = std::env::var("MESITA_RUN_ID").unwrap_or_else(|_| "test".to_owned());
    format!("{run}-{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')', ' '], "")
}

impl Dev {
    /// Starts a cluster on free ports and waits until it says that it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let run_id = own_run_id();
        let free = "127.0.0.1:0";
        let mut child = program()
            .args(["dev", "--json", "--master-addr", free, "--agent-addr", free, "--marathon-addr", free])
            .args(arguments)
            .env("MESITA_RUN_ID", &run_id)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // Only the first line is of interest; the rest is read all the same.
        let lines = lines_of(&mut child);
        let Ok(line) = lines.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            panic!("no ready line within {DEADLINE:?}");
        };
        let ready: Value = serde_json::from_str(&line).expect("a JSON line");
        assert_eq!(ready["event"], "ready", "{line}");
        Self { child, ready, run_id }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn master(&self) -> String {
        self.ready["masters"][0].as_str().expect("a URL").to_owned()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = request(&self.master(), "GET", path, &[], b"");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let json = [("Content-Type", "application/json")];
        let (status, body) = request(&self.master(), method, path, &json, body.to_string().as_bytes());
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The program with this cluster as its target.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        program()
            .args(arguments)
            .env("MESITA_ADDR", self.master())
            .stdin(Stdio::null())
            .output()
            .expect("the program runs")
    }

    /// Tasks of an app.
    pub(crate) fn tasks(&self, app: &str) -> Vec<Value> {
        self.get(&format!("/v2/apps{app}/tasks")).1["tasks"].as_array().cloned().unwrap_or_default()
    }

    /// Ends the program with a signal and answers its exit code.
    pub(crate) fn stop(mut self, signal: &str) -> Option<i32> {
        signal_process(self.child.id(), signal);
        wait_for("the program's end", || self.child.try_wait().expect("our own child")).code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a program of ours in a hurry, but so that it can tidy up; one that does not is killed.
pub(crate) fn end(child: &mut Child) {
    // The second signal asks for haste.
    for _ in 0..2 {
        if matches!(child.try_wait(), Ok(None)) {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
        }
    }
    let start = now();
    while matches!(child.try_wait(), Ok(None)) && start.elapsed() < DEADLINE / 4 {
        std::thread::park_timeout(POLL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

pub(crate) fn signal_process(pid: u32, signal: &str) {
    let sent =
        Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().expect("kill runs");
    assert!(sent.success(), "kill -{signal} {pid}");
}

/// Processes that carry a run id in their environment, without this one.
pub(crate) fn processes_of(run_id: &str) -> Vec<String> {
    let wanted = format!("MESITA_RUN_ID={run_id}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if pid != std::process::id()
            && environment.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())
        {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if !command.is_empty() {
                found.push(format!("{pid} {}", String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
    }
    found
}

/// Temporary directories of a run.
pub(crate) fn directories_of(run_id: &str) -> Vec<PathBuf> {
    let prefix = format!("mesita-{run_id}-");
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("a temporary directory").flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a test waits in real time, for a real program")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits until a condition holds; says what was waited for when it never does.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::park_timeout(POLL);
    }
}

/// One HTTP/1.1 request on a connection of its own.
pub(crate) fn request(
    base: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    split_answer(&exchange(base, method, path, headers, body))
}

/// As [`request`], with the whole answer.
pub(crate) fn exchange(
    base: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let address = base.trim_start_matches("http://");
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    send_bytes(address, &[head.as_bytes(), body].concat())
}

/// Sends bytes and reads the answer: status and body (chunks joined).
pub(crate) fn raw(address: &str, bytes: &[u8]) -> (u16, Vec<u8>) {
    split_answer(&send_bytes(address, bytes))
}

fn send_bytes(address: &str, bytes: &[u8]) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(address) else { return Vec::new() };
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    // A server that refuses early may close before everything is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Status and body (chunks joined) of an HTTP/1.1 answer.
pub(crate) fn split_answer(answer: &[u8]) -> (u16, Vec<u8>) {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.get(end + 4..).unwrap_or_default();
    let chunked = head.contains("transfer-encoding: chunked");
    (status, if chunked { unchunk(body) } else { body.to_vec() })
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut joined = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&body[..end]).trim(), 16).unwrap_or(0);
        if size == 0 || body.len() < end + 2 + size {
            break;
        }
        joined.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = body.get(end + 4 + size..).unwrap_or_default();
    }
    joined
}
