//! The Docker engine of the machine, spoken to directly, and an image made from busybox.
//!
//! Without an engine the docker tests say that they are skipped, and why; with
//! `MESITA_REQUIRE_DOCKER=1` they fail instead.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{DEADLINE, split_answer};

const SOCKET: &str = "/var/run/docker.sock";
const BUSYBOX: &str = "/bin/busybox";
/// Programs that the image has.
const PROGRAMS: [&str; 12] =
    ["sh", "cat", "echo", "httpd", "id", "ls", "mkdir", "seq", "sleep", "tail", "touch", "true"];

/// An image that is removed with this value.
pub(crate) struct Image {
    pub(crate) name: String,
}

impl Image {
    /// Imports the image, or says that the test is skipped.
    pub(crate) fn make() -> Option<Self> {
        match import() {
            Ok(image) => Some(image),
            Err(problem) if std::env::var_os("MESITA_REQUIRE_DOCKER").is_some() => {
                panic!("docker tests are required and cannot run: {problem}");
            }
            Err(problem) => {
                eprintln!("SKIPPED: {problem}");
                None
            }
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        engine("DELETE", &format!("/images/{}?force=true", self.name), b"");
    }
}

fn import() -> Result<Image, String> {
    if !Path::new(BUSYBOX).exists() {
        return Err(format!("{BUSYBOX} is missing (Debian package busybox-static)"));
    }
    UnixStream::connect(SOCKET).map_err(|error| format!("no Docker engine at {SOCKET}: {error}"))?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let bin = folder.path().join("bin");
    for directory in ["bin", "tmp", "www"] {
        std::fs::create_dir(folder.path().join(directory)).map_err(|error| error.to_string())?;
    }
    std::fs::copy(BUSYBOX, bin.join("busybox")).map_err(|error| error.to_string())?;
    for program in PROGRAMS {
        std::os::unix::fs::symlink("busybox", bin.join(program)).map_err(|error| error.to_string())?;
    }
    let tar = Command::new("tar").arg("-C").arg(folder.path()).args(["-c", "."]).output();
    let tar = tar.map_err(|error| format!("tar: {error}"))?.stdout;
    let unique = folder.path().file_name().map(|name| name.to_string_lossy().to_lowercase());
    let name = format!("mesita-test{}", unique.unwrap_or_default().replace('.', "-"));
    let (status, answer) = engine("POST", &format!("/images/create?fromSrc=-&repo={name}&tag=latest"), &tar);
    if status == 200 { Ok(Image { name }) } else { Err(format!("the import failed: {answer}")) }
}

/// One request to the engine.
pub(crate) fn engine(method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let mut stream = UnixStream::connect(SOCKET).expect("an engine");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    let (status, body) = split_answer(&answer);
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body))))
}

/// Every container of a run, running or not, as the engine lists them.
pub(crate) fn containers_of(run_id: &str) -> Vec<Value> {
    let filters = json!({ "label": [format!("MESITA_RUN_ID={run_id}")] }).to_string();
    let escaped = filters.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
    let (status, list) = engine("GET", &format!("/containers/json?all=true&filters={escaped}"), b"");
    assert_eq!(status, 200, "{list}");
    list.as_array().cloned().unwrap_or_default()
}

/// Everything that the engine knows of a container.
pub(crate) fn inspect(container: &Value) -> Value {
    let id = container["Id"].as_str().expect("an id");
    engine("GET", &format!("/containers/{id}/json"), b"").1
}

/// Removes what a run left.
pub(crate) fn remove_containers_of(run_id: &str) {
    for container in containers_of(run_id) {
        let id = container["Id"].as_str().expect("an id");
        engine("DELETE", &format!("/containers/{id}?force=true&v=true"), b"");
    }
}
