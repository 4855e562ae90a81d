//! Configuration: files, variables and flags, and what programs that were given them do.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::support::{DEADLINE, end, lines_of, own_run_id, program};

/// A machine's, a user's and a project's files.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a directory") };
        fs::create_dir_all(files.path("project")).expect("made");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }

    /// The program where these files are found.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .args(arguments)
            .env_remove("MESITA_LOG")
            .env("MESITA_RUN_ID", own_run_id())
            .env("MESITA_CONFIG_DIR", self.path("system"))
            .env("XDG_CONFIG_HOME", self.path("user"))
            .current_dir(self.path("project"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().expect("the program runs")
    }

    /// What `config show` says of a key: its value and what set it.
    fn shown(&self, command: &mut Command, key: &str) -> (Value, String) {
        let output = command.args(["-o", "json"]).output().expect("the program runs");
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let row = json["keys"].as_array().expect("keys").iter().find(|row| row["key"] == key);
        let row = row.unwrap_or_else(|| panic!("no {key} in {json}"));
        let source = &row["source"];
        let text = |name: &str| source[name].as_str().unwrap_or_default().to_owned();
        let told = match source["kind"].as_str().expect("a kind") {
            "file" => {
                let path = text("path");
                let below = path.strip_prefix(&self.folder.path().display().to_string());
                format!("{}:{}", below.unwrap_or(&path).trim_start_matches('/'), source["line"])
            }
            "env" => text("variable"),
            "flag" => text("flag"),
            kind => kind.to_owned(),
        };
        (row["value"].clone(), told)
    }
}

/// A program that runs until it is dropped, and its ready line.
struct Running {
    child: Child,
    ready: Value,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let line = lines_of(&mut child).recv_timeout(DEADLINE).unwrap_or_default();
        let running = Self { child, ready: serde_json::from_str(&line).unwrap_or_default() };
        assert_eq!(running.ready["event"], "ready", "{line}");
        running
    }

    fn master(&self) -> &str {
        self.ready["masters"][0].as_str().unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[test]
fn what_is_most_particular_counts() {
    let files = Files::new();
    let shown = |command: &mut Command| files.shown(command, "master.addr");
    let show = || files.program(&["config", "show"]);
    let addr = |host: u8| format!("[master]\naddr = \"127.0.0.{host}:0\"\n");
    let value = |host: u8| Value::from(format!("127.0.0.{host}:0"));
    assert_eq!(shown(&mut show()), (Value::from("127.0.0.1:5050"), "default".to_owned()));
    files.write("system/mesita.toml", &addr(2));
    assert_eq!(shown(&mut show()), (value(2), "system/mesita.toml:2".to_owned()));
    // By name, whatever the order on disk is; what is no *.toml does not count.
    files.write("system/conf.d/20-b.toml", &addr(4));
    files.write("system/conf.d/10-a.toml", &addr(3));
    files.write("system/conf.d/30-c.toml.bak", &addr(9));
    files.write("system/conf.d/.40-d.toml", &addr(9));
    assert_eq!(shown(&mut show()), (value(4), "system/conf.d/20-b.toml:2".to_owned()));
    files.write("user/mesita/config.toml", &addr(5));
    assert_eq!(shown(&mut show()), (value(5), "user/mesita/config.toml:2".to_owned()));
    files.write("project/mesita.toml", &format!("# mine\n{}", addr(6)));
    assert_eq!(shown(&mut show()), (value(6), "mesita.toml:3".to_owned()));
    let variable = ("MESITA_MASTER_ADDR", "127.0.0.7:0");
    assert_eq!(shown(show().env(variable.0, variable.1)), (value(7), variable.0.to_owned()));
    let flag = ["--master-addr", "127.0.0.8:0"];
    let told = shown(show().env(variable.0, variable.1).args(flag));
    assert_eq!(told, (value(8), "--master-addr".to_owned()));
    // A file that is named stands in place of the others.
    let named = files.write("named.toml", "advertise = \"x\"\n");
    let told = shown(show().arg("--config").arg(&named));
    assert_eq!(told, (Value::from("127.0.0.1:5050"), "default".to_owned()));
    assert_eq!(
        files.shown(show().arg("--config").arg(&named), "advertise"),
        (Value::from("x"), "named.toml:1".to_owned())
    );
}

#[test]
fn a_cluster_listens_where_the_most_particular_says() {
    let files = Files::new();
    let free = "127.0.0.1:0";
    let project = format!(
        "log.level = \"error\"\n[master]\naddr = \"127.0.0.2:0\"\n[agent]\naddr = \"{free}\"\n[marathon]\naddr = \"{free}\"\n[dev]\nagents = 2\n"
    );
    files.write("project/mesita.toml", &project);
    // What the system says is about the node of this machine.
    files.write("system/mesita.toml", "data_dir = \"/var/lib/mesita\"\nadvertise = \"node1.example.com\"\n");
    let dev = || files.program(&["dev", "--json"]);
    let running = Running::start(&mut dev());
    assert!(running.master().starts_with("http://127.0.0.2:"), "{}", running.ready);
    assert_eq!(running.ready["agents"].as_array().map(Vec::len), Some(2));
    assert_ne!(running.ready["data_dir"], "/var/lib/mesita");
    drop(running);
    let running = Running::start(dev().env("MESITA_MASTER_ADDR", "127.0.0.3:0"));
    assert!(running.master().starts_with("http://127.0.0.3:"), "{}", running.ready);
    drop(running);
    let flags = ["--master-addr", "127.0.0.4:0", "--agents", "1"];
    let running = Running::start(dev().env("MESITA_MASTER_ADDR", "127.0.0.3:0").args(flags));
    assert!(running.master().starts_with("http://127.0.0.4:"), "{}", running.ready);
    assert_eq!(running.ready["agents"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_node_is_what_its_file_says() {
    let files = Files::new();
    let text = |roles: &str, data: &str| {
        let path = files.path(data).display().to_string();
        let addrs = ["master", "agent", "marathon", "peer"]
            .map(|table| format!("[{table}]\naddr = \"127.0.0.2:0\"\n"));
        format!("roles = [{roles}]\ndata_dir = {path:?}\n{}", addrs.concat())
    };
    let file = files.write("node.toml", &text("\"master\"", "one"));
    // Nothing else counts: neither what is broken, nor what would be more particular than the system.
    files.write("project/mesita.toml", "no = such");
    let node = || {
        let mut command = files.program(&["node", "--json", "--bootstrap", "--config"]);
        command.arg(&file);
        command
    };
    let running = Running::start(&mut node());
    assert!(running.master().starts_with("http://127.0.0.2:"), "{}", running.ready);
    let peer = running.ready["peer"].as_str().unwrap_or_default();
    assert!(peer.starts_with("127.0.0.2:"), "{}", running.ready);
    assert_eq!(running.ready["agents"].as_array().map(Vec::len), Some(0));
    assert_eq!(running.ready["data_dir"], files.path("one").display().to_string());
    drop(running);
    let other = files.path("two").display().to_string();
    let running = Running::start(
        node()
            .args(["--roles", "master,agent", "--master-addr", "127.0.0.3:0"])
            .env("MESITA_DATA_DIR", &other),
    );
    assert!(running.master().starts_with("http://127.0.0.3:"), "{}", running.ready);
    assert_eq!(running.ready["agents"].as_array().map(Vec::len), Some(1));
    assert_eq!(running.ready["data_dir"], other);
    drop(running);
    for roles in ["", "slave"] {
        let output = files.program(&["node", "--roles", roles]).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("\"master\", \"agent\""), "{}", said(&output));
    }
    let join = files.write("join.toml", "[join]\naddr = \"127.0.0.1:1\"\ntoken_file = \"/no/such\"\n");
    let join = join.display().to_string();
    let data = files.path("three").display().to_string();
    let refused = |arguments: &[&str]| {
        let output = files.run(&[&["node", "--data-dir", &data, "--config", &join], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    assert!(
        refused(&[]).contains("join.toml:3:14: the join token /no/such cannot be read"),
        "{}",
        refused(&[])
    );
    assert!(
        refused(&["--bootstrap"]).contains("join.toml:2:8 says to join"),
        "{}",
        refused(&["--bootstrap"])
    );
}

#[test]
fn mistakes_are_told_with_their_place() {
    let files = Files::new();
    for (text, wanted) in [
        (
            "[master]\nadr = \"x\"",
            "mesita.toml:2:1: unknown key \"master.adr\"; did you mean \"master.addr\"?",
        ),
        ("stop_grace = 5", "mesita.toml:1:14: stop_grace cannot be 5: write a duration"),
        ("[master]\naddr = \"0.0.0.0:0\"", "mesita.toml:2:8: 0.0.0.0:0 can be reached from other machines"),
        ("[log]\nlevel = \"no=such=filter\"", "mesita.toml:2:9: log.level cannot be"),
        ("[[", "mesita.toml:1:"),
    ] {
        files.write("project/mesita.toml", text);
        let output = files.run(&["dev"]);
        assert_eq!(output.status.code(), Some(2), "{text}: {}", said(&output));
        assert!(
            said(&output).contains(wanted) && said(&output).contains("hint:"),
            "{text}: {}",
            said(&output)
        );
    }
    // Commands that help go on.
    files.write("project/mesita.toml", "[[");
    for arguments in [&["version"][..], &["config", "default"], &["config", "explain", "log"]] {
        let output = files.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    let output = files.run(&["config", "show", "--config", "no-such.toml"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("no-such.toml"), "{}", said(&output));
    // As JSON where a file asks for it.
    files.write("project/mesita.toml", "output = \"json\"");
    let output = files.run(&["ps", "--addr", "https://x"]);
    let error: Value = serde_json::from_slice(&output.stderr).expect("a JSON error");
    assert_eq!(error["error"]["code"], 2);
    let output = files.program(&["ps"]).env("MESITA_OUTPUT", "xml").output().expect("the program runs");
    assert!(output.status.code() == Some(2) && said(&output).contains("MESITA_OUTPUT"), "{}", said(&output));
}

#[test]
fn the_sample_is_a_file_that_means_the_defaults() {
    let files = Files::new();
    let rows = |output: &Output| {
        let json: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)));
        let rows = json["keys"].as_array().expect("keys").clone();
        rows.into_iter().map(|row| (row["key"].clone(), row["value"].clone())).collect::<Vec<_>>()
    };
    let default = rows(&files.run(&["config", "show", "--json"]));
    let sample = files.run(&["config", "default"]).stdout;
    let sample = String::from_utf8(sample).expect("text");
    files.write("project/mesita.toml", &sample);
    assert_eq!(rows(&files.run(&["config", "show", "--json"])), default);
    // With every setting in force, what has a fixed default is that.
    let lines = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        _ => line,
    });
    files.write("project/mesita.toml", &lines.collect::<Vec<_>>().join("\n"));
    let set = rows(&files.run(&["config", "show", "--json"]));
    assert_eq!(set.len(), default.len());
    // Here `--json` itself is what sets `output`.
    for ((key, set), (_, default)) in set.iter().zip(&default).filter(|(_, (_, default))| !default.is_null())
    {
        assert_eq!(set, default, "{key}");
    }
    assert!(set.iter().all(|(_, value)| !value.is_null()), "every key is in the sample");
    let explained = files.run(&["config", "explain", "master.addr"]);
    for part in ["IP:PORT", "127.0.0.1:5050", "MESITA_MASTER_ADDR", "--master-addr", "`dev`"] {
        assert!(said(&explained).contains(part), "{part}: {}", said(&explained));
    }
    let unknown = files.run(&["config", "explain", "master.adr"]);
    assert!(unknown.status.code() == Some(7) && said(&unknown).contains("master.addr"), "{}", said(&unknown));
}

#[test]
fn completion_scripts_are_scripts() {
    let files = Files::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = files.run(&["completion", shell]).stdout;
        let text = String::from_utf8_lossy(&script).into_owned();
        assert!(text.contains("join-token") && text.contains("master-addr"), "{shell}: {text}");
        let json: Value =
            serde_json::from_slice(&files.run(&["completion", shell, "--json"]).stdout).expect("JSON");
        assert_eq!(json["script"], text, "{shell}");
    }
    let script = files.run(&["completion", "bash"]).stdout;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash runs");
    bash.stdin.take().expect("piped").write_all(&script).expect("written");
    assert!(bash.wait().expect("it ends").success(), "bash does not read the script");
    let unknown = files.run(&["completion", "tcsh"]);
    assert_eq!(unknown.status.code(), Some(2));
}
