//! Process tasks that outlive their agent: a launcher that is found again, or what follows when it is not.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mesita::agent::core::container::{
    ContainerEvent, Exit, Kind, LaunchSpec, Signal, Survivor, SurvivorState,
};
use mesita::api::v1;
use mesita::config::{DataDir, NodeConfig};
use mesita::containerizer::{Containerizer, Process, ProcessConfig};
use mesita::node::Node;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::{
    DEADLINE, POLL, lines_of, now, own_run_id, processes_of, request, signal_process, wait_for,
};

/// A directory of sandboxes and a launcher, and an end for whatever runs there.
struct House {
    folder: tempfile::TempDir,
    runtime: Runtime,
    /// Below the folder.
    launcher: PathBuf,
}

/// A containerizer and what it reports.
struct Agent {
    process: Process,
    events: UnboundedReceiver<ContainerEvent>,
}

impl House {
    fn new() -> Self {
        Self::with_launcher_in("launcher")
    }

    fn with_launcher_in(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("mesita-outliving-").tempdir().expect("a directory");
        let launcher = folder.path().join(name);
        Self { folder, runtime: Runtime::new().expect("a runtime"), launcher }
    }

    fn agent(&self) -> Agent {
        let (sender, events) = tokio::sync::mpsc::unbounded_channel();
        let launcher_path = env!("CARGO_BIN_EXE_mesita").into();
        let config = ProcessConfig { launcher_path, outlive: Some(self.launcher.clone()) };
        let process = self.runtime.block_on(Process::start(config, sender)).expect("a launcher");
        Agent { process, events }
    }

    /// A task, and where what belongs to it is.
    fn spec(&self, name: &str, command: &str) -> LaunchSpec {
        let sandbox = self.folder.path().join(name);
        let environment = vec![
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("MESITA_RUN_ID".to_owned(), own_run_id()),
            ("MESOS_DIRECTORY".to_owned(), sandbox.display().to_string()),
        ];
        LaunchSpec {
            container_id: name.into(),
            agent_id: "agent".into(),
            framework_id: "framework".into(),
            executor_id: name.into(),
            task_id: name.into(),
            kind: Kind::Process,
            command: v1::CommandInfo { value: Some(command.to_owned()), ..Default::default() },
            container: None,
            environment,
            user: None,
            sandbox,
            cpus_milli: 100,
            mem_milli: 32_000,
            cpus_limit_milli: None,
            mem_limit_milli: None,
            ports: Vec::new(),
        }
    }

    fn launch(&self, agent: &Agent, spec: &LaunchSpec) -> u32 {
        let started = self.runtime.block_on(agent.process.launch(spec.clone())).expect("started");
        started.pid.expect("a process id")
    }

    fn recover(&self, agent: &Agent, known: &[&LaunchSpec]) -> Vec<Survivor> {
        let known = known.iter().map(|spec| (*spec).clone()).collect();
        self.runtime.block_on(agent.process.recover(Some("agent".into()), known)).expect("recovered")
    }

    fn next(&self, agent: &mut Agent) -> (String, Exit) {
        let event =
            self.runtime.block_on(async { tokio::time::timeout(DEADLINE, agent.events.recv()).await });
        let ContainerEvent::Exited { container_id, exit, .. } = event.expect("in time").expect("an event");
        (container_id.to_string(), exit)
    }

    fn launcher_pid(&self) -> u32 {
        fs::read_to_string(self.launcher.join("lock")).expect("a lock").parse().expect("a process id")
    }

    fn exits(&self) -> String {
        fs::read_to_string(self.launcher.join("exits")).expect("a file")
    }

    fn open(&self, name: &str) {
        fs::write(self.folder.path().join(name), "").expect("written");
    }

    /// Processes that sleep in a sandbox.
    fn sleeping(&self, name: &str) -> usize {
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let folder = self.folder.path().join(name).display().to_string();
        let here = entries.filter(|entry| {
            let directory = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            directory.display().to_string() == folder && command.starts_with(b"sleep")
        });
        here.count()
    }

    /// A command that ends with `code` when the file `gate` is there.
    fn gated(&self, gate: &str, code: i32) -> String {
        let gate = self.folder.path().join(gate).display().to_string();
        format!("echo before; while [ ! -e {gate} ]; do sleep 0.02; done; echo after; exit {code}")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        clear(self.folder.path(), &self.launcher);
    }
}

/// Ends what runs below a directory, after a test that went well and after one that failed.
pub(crate) fn clear(folder: &Path, launcher: &Path) {
    let kill = |signal: &str, pid: &str| Command::new("kill").args([signal, pid]).status();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let here = entries
        .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|at| at.starts_with(folder)));
    let here = here.filter_map(|entry| entry.file_name().into_string().ok());
    for pid in here.filter(|pid| !processes_in(launcher).iter().any(|one| one.to_string() == *pid)) {
        // It may have ended.
        let _ = kill("-KILL", &pid);
    }
    let launchers = processes_in(launcher);
    for signal in ["-TERM", "-KILL"] {
        for pid in &launchers {
            let _ = kill(signal, &pid.to_string());
        }
        let start = now();
        while !processes_in(launcher).is_empty() && start.elapsed() < DEADLINE / 10 {
            std::thread::park_timeout(POLL);
        }
        if processes_in(launcher).is_empty() {
            break;
        }
    }
    // A launcher that was killed leaves it behind.
    let _ = fs::remove_dir(fs::read_to_string(launcher.join("cgroup")).unwrap_or_default());
}

/// Launchers that serve a directory.
fn processes_in(launcher: &Path) -> Vec<u32> {
    let wanted = launcher.display().to_string();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes())
    })
    .collect()
}

fn running(survivors: &[Survivor]) -> Option<u32> {
    match survivors {
        [Survivor { state: SurvivorState::Running(started), .. }] => started.pid,
        _ => None,
    }
}

fn ended(survivors: &[Survivor]) -> Option<Exit> {
    match survivors {
        [Survivor { state: SurvivorState::Ended { exit, .. }, .. }] => Some(*exit),
        _ => None,
    }
}

/// One frame of the protocol.
fn say(stream: &mut UnixStream, message: &Value) {
    let body = message.to_string();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length, body.as_bytes()].concat()).expect("written");
}

fn hear(stream: &mut UnixStream) -> Value {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a frame");
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("short")];
    stream.read_exact(&mut body).expect("a frame");
    serde_json::from_slice(&body).expect("JSON")
}

#[test]
fn a_task_outlives_its_agent_and_its_end_is_exact() {
    let house = House::new();
    let first = house.agent();
    let spec = house.spec("task", &house.gated("gate", 7));
    let pid = house.launch(&first, &spec);
    let launcher = house.launcher_pid();
    drop(first);

    let mut second = house.agent();
    let survivors = house.recover(&second, &[&spec]);
    assert_eq!(running(&survivors), Some(pid), "{survivors:?}");
    assert_eq!(house.launcher_pid(), launcher, "the same launcher");
    house.open("gate");
    assert_eq!(house.next(&mut second), ("task".to_owned(), Exit::Code(7)));
    assert_eq!(fs::read_to_string(spec.sandbox.join("stdout")).expect("a log"), "before\nafter\n");

    // What is not acknowledged is told again; what is acknowledged takes no room.
    drop(second);
    let third = house.agent();
    assert_eq!(ended(&house.recover(&third, &[&spec])), Some(Exit::Code(7)));
    assert_ne!(house.exits(), "");
    house.runtime.block_on(third.process.forget("task".into())).expect("forgotten");
    wait_for("the end to be forgotten", || house.exits().is_empty().then_some(()));
    drop(third);
    let fourth = house.agent();
    assert_eq!(ended(&house.recover(&fourth, &[&spec])), Some(Exit::Lost));
}

#[test]
fn a_task_that_ended_while_nobody_was_there_reports_its_code_and_all_its_output() {
    let house = House::new();
    let first = house.agent();
    let lines = "for i in $(seq 1000); do echo line $i; done; kill -9 $$";
    let gate = house.folder.path().join("gate").display().to_string();
    let killed = house.spec("killed", &format!("while [ ! -e {gate} ]; do sleep 0.02; done; {lines}"));
    let failed = house.spec("failed", &house.gated("gate", 200));
    let kept = house.spec("kept", &house.gated("never", 0));
    for spec in [&killed, &failed, &kept] {
        house.launch(&first, spec);
    }
    drop(first);
    house.open("gate");
    wait_for("both ends", || (house.exits().lines().count() == 2).then_some(()));

    let mut second = house.agent();
    let mut found: Vec<(String, SurvivorState)> = house
        .recover(&second, &[&killed, &failed])
        .into_iter()
        .map(|survivor| (survivor.container_id.to_string(), survivor.state))
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let exits: Vec<Exit> = found
        .iter()
        .filter_map(|(_, state)| match state {
            SurvivorState::Ended { exit, .. } => Some(*exit),
            SurvivorState::Running(_) => None,
        })
        .collect();
    assert_eq!(exits, [Exit::Code(200), Exit::Signal(9)], "{found:?}");
    let output = fs::read_to_string(killed.sandbox.join("stdout")).expect("a log");
    assert_eq!((output.lines().count(), output.lines().last()), (1000, Some("line 1000")));

    // A task that the agent does not know is nobody's: it is ended, and leaves no record.
    wait_for("the third task to end", || processes_of(&own_run_id()).is_empty().then_some(()));
    for id in ["killed", "failed"] {
        house.runtime.block_on(second.process.forget(id.into())).expect("forgotten");
    }
    wait_for("every end to be forgotten", || house.exits().is_empty().then_some(()));
    assert!(second.events.try_recv().is_err(), "nobody asked about it");
}

#[test]
fn a_launcher_that_is_killed_takes_its_tasks_along_and_they_are_lost() {
    let house = House::new();
    let mut agent = house.agent();
    // Sessions of their own, no environment: a control group or what was written down finds them.
    let command = "setsid env -i sleep 6660 & env -i sleep 6661 & exec sleep 6662";
    let spec = house.spec("task", command);
    house.launch(&agent, &spec);
    wait_for("three processes", || (house.sleeping("task") == 3).then_some(()));
    let launcher = house.launcher_pid();
    signal_process(launcher, "KILL");
    assert_eq!(house.next(&mut agent), ("task".to_owned(), Exit::Lost));
    assert_eq!(house.sleeping("task"), 0, "they end before anybody hears of it");

    // There is another one, and it works.
    assert_ne!(house.launcher_pid(), launcher);
    let again = house.spec("again", "exit 3");
    house.launch(&agent, &again);
    assert_eq!(house.next(&mut agent), ("again".to_owned(), Exit::Code(3)));

    // The same while no agent is there: its ends are kept, the rest is lost.
    let lost = house.spec("lost", "exec sleep 6663");
    house.launch(&agent, &lost);
    drop(agent);
    signal_process(house.launcher_pid(), "KILL");
    let agent = house.agent();
    let survivors = house.recover(&agent, &[&again, &lost]);
    assert_eq!(ended(&survivors[..1]), Some(Exit::Code(3)));
    assert_eq!(ended(&survivors[1..]), Some(Exit::Lost));
    assert_eq!(processes_of(&own_run_id()), Vec::<String>::new());
}

#[test]
fn without_control_groups_processes_are_found_by_what_was_written_down() {
    let house = House::new();
    fs::create_dir(&house.launcher).expect("made");
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_mesita"));
    launcher.args(["launcher", "--outlive"]).arg(&house.launcher).arg("--no-cgroup");
    let mut launcher = launcher.stdout(Stdio::piped()).spawn().expect("the program starts");
    assert_eq!(lines_of(&mut launcher).recv_timeout(DEADLINE).as_deref(), Ok("ready"));
    let mut agent = house.agent();
    assert_eq!(house.launcher_pid(), launcher.id(), "no other one was started");
    let spec = house.spec("task", "setsid env -i sleep 6670 & env -i sleep 6671 & exec sleep 6672");
    house.launch(&agent, &spec);
    wait_for("three processes", || (house.sleeping("task") == 3).then_some(()));
    // Only the one with a session of its own is in the group of no task.
    let written = || fs::read_to_string(house.launcher.join("tasks")).expect("a file");
    wait_for("it to be written down", || written().contains("\"id\":\"\"").then_some(()));
    launcher.kill().expect("killed");
    launcher.wait().expect("our own child");
    assert_eq!(house.next(&mut agent), ("task".to_owned(), Exit::Lost));
    assert_eq!(house.sleeping("task"), 0, "they end before anybody hears of it");
}

#[test]
fn one_launcher_for_a_directory_and_none_when_there_is_nothing_to_do() {
    let house = House::new();
    fs::create_dir(&house.launcher).expect("made");
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesita"));
        command.args(["launcher", "--outlive"]).arg(&house.launcher).args(["--idle-end-ms", "1"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().expect("the program starts")
    };
    // Without anything to do it ends by itself, and is no error.
    assert!(start().wait().expect("our own child").success());

    let agent = house.agent();
    let refused = start().wait_with_output().expect("our own child");
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "another launcher serves here\n");

    // With a task, and then with an end that nobody took note of, it stays; asked to end it does so in order.
    let spec = house.spec("task", &house.gated("gate", 5));
    house.launch(&agent, &spec);
    let launcher = house.launcher_pid();
    drop(agent);
    signal_process(launcher, "TERM");
    house.open("gate");
    wait_for("the launcher's end", || processes_in(&house.launcher).is_empty().then_some(()));
    let agent = house.agent();
    assert_eq!(ended(&house.recover(&agent, &[&spec])), Some(Exit::Code(5)));
}

#[test]
fn a_later_agent_drives_an_earlier_launcher() {
    let house = House::new();
    let agent = house.agent();
    let spec = house.spec("task", &house.gated("gate", 0));
    house.launch(&agent, &spec);
    drop(agent);
    let folder = fs::File::open(&house.launcher).expect("a directory");
    let path = format!("/proc/self/fd/{}/socket", folder.as_raw_fd());
    let mut later = UnixStream::connect(&path).expect("connected");
    later.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    assert!(hear(&mut later)["Hello"]["version"].as_u64().is_some_and(|version| version >= 2));
    say(&mut later, &json!({ "Freeze": { "id": "task" } }));
    assert!(hear(&mut later)["Unknown"]["problem"].as_str().is_some_and(|text| text.contains("Freeze")));
    say(&mut later, &json!("List"));
    let told = hear(&mut later);
    assert_eq!(told["Tasks"]["live"][0]["id"], "task", "{told}");
    assert_eq!(told["Tasks"]["ended"], json!([]));

    // The newest agent is the one that counts; the one before finds its way back when it is wanted.
    let mut agent = house.agent();
    assert_eq!(later.read(&mut [0]).expect("the end"), 0);
    assert!(running(&house.recover(&agent, &[&spec])).is_some());
    let stranger = UnixStream::connect(&path).expect("connected");
    house.open("gate");
    assert_eq!(house.next(&mut agent), ("task".to_owned(), Exit::Code(0)));
    drop(stranger);

    // An end that it was told of and took no note of yet is not forgotten on the way.
    let mut stranger = UnixStream::connect(&path).expect("connected");
    wait_for("it to be back", || stranger.read_to_end(&mut Vec::new()).ok());
    house.launch(&agent, &house.spec("next", "exit 4"));
    assert_eq!(house.next(&mut agent), ("next".to_owned(), Exit::Code(4)));
    assert!(house.exits().contains("\"task\""), "{}", house.exits());
    assert_eq!(processes_in(&house.launcher).len(), 1);
}

#[test]
fn the_directory_may_lie_deep_and_is_nobody_elses() {
    use std::os::unix::fs::PermissionsExt;

    let house = House::with_launcher_in(&["a-long-name-of-a-directory"; 6].join("/"));
    assert!(house.launcher.as_os_str().len() > 150);
    let mut agent = house.agent();
    let mode = fs::metadata(&house.launcher).expect("a directory").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let spec = house.spec("task", "exec sleep 6664");
    house.launch(&agent, &spec);
    house.runtime.block_on(agent.process.signal("task".into(), Signal::Term)).expect("signalled");
    assert_eq!(house.next(&mut agent), ("task".to_owned(), Exit::Signal(15)));
    house.runtime.block_on(agent.process.destroy_all(DEADLINE)).expect("ended");
    wait_for("the launcher's end", || processes_in(&house.launcher).is_empty().then_some(()));
}

#[test]
fn an_agent_whose_tasks_end_with_it_ends_those_of_one_that_left_them() {
    let house = House::new();
    let agent = house.agent();
    let spec = house.spec("task", "setsid sleep 6680 & exec sleep 6681");
    house.launch(&agent, &spec);
    wait_for("two processes", || (house.sleeping("task") == 2).then_some(()));
    drop(agent);
    let program = || PathBuf::from(env!("CARGO_BIN_EXE_mesita"));
    let end = || house.runtime.block_on(Process::end_outliving(program(), &house.launcher));
    end().expect("ended");
    assert_eq!(house.sleeping("task"), 0);
    assert!(!house.launcher.exists());
    end().expect("there is nothing to do");
    wait_for("the launcher's end", || processes_in(&house.launcher).is_empty().then_some(()));
}

/// A node in this process that leaves its tasks running.
async fn node(data: &Path) -> Node {
    marked_node(data, own_run_id()).await
}

async fn marked_node(data: &Path, run_id: String) -> Node {
    let mut config = NodeConfig::local().on_free_ports();
    config.data_dir = DataDir::At(data.to_owned());
    config.launcher_path = Some(env!("CARGO_BIN_EXE_mesita").into());
    config.run_id = Some(run_id);
    config.tasks_outlive = true;
    Node::start(config).await.expect("a node")
}

fn ask(node: &Node, method: &str, path: &str, body: &Value) -> Value {
    ask_at(&format!("http://{}", node.addresses().masters[0]), method, path, body)
}

fn ask_at(base: &str, method: &str, path: &str, body: &Value) -> Value {
    let json = [("Content-Type", "application/json")];
    let (_, answer) = request(base, method, path, &json, body.to_string().as_bytes());
    serde_json::from_slice(&answer).unwrap_or(Value::Null)
}

/// The only task of the app, if it runs.
fn running_task(node: &Node) -> Option<String> {
    running_task_at(&format!("http://{}", node.addresses().masters[0]))
}

fn running_task_at(base: &str) -> Option<String> {
    let answer = ask_at(base, "GET", "/v2/apps/s/tasks", &Value::Null);
    let [task] = answer["tasks"].as_array()?.as_slice() else { return None };
    (task["state"] == "TASK_RUNNING").then(|| task["id"].as_str().map(ToOwned::to_owned))?
}

#[test]
fn a_node_that_starts_again_finds_its_tasks_running() {
    let folder = tempfile::Builder::new().prefix("mesita-outliving-").tempdir().expect("a directory");
    let launcher = folder.path().canonicalize().expect("a path").join("agent-0/notes/launcher");
    let _end = End(folder.path().to_owned(), launcher.clone());
    let runtime = Runtime::new().expect("a runtime");
    let first = runtime.block_on(node(folder.path()));
    let app = json!({ "id": "/s", "cmd": "echo started; exec sleep 6665", "cpus": 0.1, "mem": 32 });
    ask(&first, "POST", "/v2/apps", &app);
    let task = wait_for("the task to run", || running_task(&first));
    let process = wait_for("its process", || match processes_of(&own_run_id()).as_slice() {
        [only] if only.contains("sleep 6665") => Some(only.clone()),
        _ => None,
    });
    runtime.block_on(first.stop(std::future::pending())).expect("stopped");
    assert_eq!(processes_of(&own_run_id()), std::slice::from_ref(&process), "it goes on");

    let second = runtime.block_on(node(folder.path()));
    assert_eq!(wait_for("the same task to run", || running_task(&second)), task);
    assert_eq!(processes_of(&own_run_id()), [process], "it was never started again");
    ask(&second, "DELETE", &format!("/v2/apps/s/tasks/{task}?scale=true"), &Value::Null);
    wait_for("its end", || processes_of(&own_run_id()).is_empty().then_some(()));
    wait_for("everybody to hear of it", || {
        let app = ask(&second, "GET", "/v2/apps/s", &Value::Null);
        (app["app"]["instances"] == 0 && app["app"]["tasksRunning"] == 0).then_some(())
    });
    wait_for("its end to be forgotten", || {
        fs::read_to_string(launcher.join("exits")).expect("a file").is_empty().then_some(())
    });
    runtime.block_on(second.stop(std::future::pending())).expect("stopped");
}

#[test]
fn a_node_whose_launcher_is_killed_reports_its_tasks_and_starts_others() {
    let folder = tempfile::Builder::new().prefix("mesita-outliving-").tempdir().expect("a directory");
    let launcher = folder.path().canonicalize().expect("a path").join("agent-0/notes/launcher");
    let _end = End(folder.path().to_owned(), launcher.clone());
    let runtime = Runtime::new().expect("a runtime");
    let node = runtime.block_on(node(folder.path()));
    let cmd = "setsid sleep 6690 & exec sleep 6691";
    let app = json!({ "id": "/s", "cmd": cmd, "cpus": 0.1, "mem": 32, "backoffSeconds": 0 });
    ask(&node, "POST", "/v2/apps", &app);
    let task = wait_for("the task to run", || running_task(&node));
    wait_for("its processes", || (processes_of(&own_run_id()).len() == 2).then_some(()));
    let before = processes_of(&own_run_id());
    let pid = fs::read_to_string(launcher.join("lock")).expect("a lock").parse().expect("a process id");
    signal_process(pid, "KILL");
    let another = |found: &String| *found != task;
    wait_for("another task to run", || running_task(&node).filter(another));
    let now = wait_for("its processes", || Some(processes_of(&own_run_id())).filter(|now| now.len() == 2));
    assert!(now.iter().all(|line| !before.contains(line)), "{now:?}");
    let failure =
        &ask(&node, "GET", "/v2/apps/s?embed=app.lastTaskFailure", &Value::Null)["app"]["lastTaskFailure"];
    assert_eq!((&failure["taskId"], &failure["state"]), (&json!(task), &json!("TASK_FAILED")), "{failure}");
    ask(&node, "DELETE", "/v2/apps/s", &Value::Null);
    wait_for("its end", || processes_of(&own_run_id()).is_empty().then_some(()));
    runtime.block_on(node.stop(std::future::pending())).expect("stopped");
}

#[test]
#[ignore = "it is the node that the next test kills"]
fn the_node_that_is_killed() {
    let Some(data) = std::env::var_os("MESITA_TEST_NODE") else { return };
    let run_id = std::env::var("MESITA_TEST_RUN").expect("a run id");
    Runtime::new().expect("a runtime").block_on(async {
        let node = marked_node(Path::new(&data), run_id).await;
        writeln!(std::io::stdout(), "master={}", node.addresses().masters[0]).expect("written");
        std::future::pending::<()>().await;
    });
}

#[test]
fn tasks_of_a_node_that_is_killed_go_on_and_their_ends_are_exact() {
    let folder = tempfile::Builder::new().prefix("mesita-outliving-").tempdir().expect("a directory");
    let data = folder.path().canonicalize().expect("a path");
    let launcher = data.join("agent-0/notes/launcher");
    let _end = End(data.clone(), launcher.clone());
    let first = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "outliving::the_node_that_is_killed", "--ignored", "--nocapture"])
        .env("MESITA_TEST_NODE", &data)
        .env("MESITA_TEST_RUN", own_run_id())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut first = Killed(first);
    let lines = lines_of(&mut first.0);
    let base = wait_for("the node", || {
        let line = lines.recv_timeout(DEADLINE).expect("a line");
        line.split_once("master=").map(|(_, address)| format!("http://{address}"))
    });
    let gate = data.join("gate").display().to_string();
    let ending = format!("while [ ! -e {gate} ]; do sleep 0.02; done; exit 77");
    for (id, cmd) in [("/s", "exec sleep 6695"), ("/ending", ending.as_str())] {
        let app = json!({ "id": id, "cmd": cmd, "cpus": 0.1, "mem": 32, "backoffSeconds": 0 });
        ask_at(&base, "POST", "/v2/apps", &app);
    }
    let task = wait_for("a task to run", || running_task_at(&base));
    wait_for("the other one to run", || {
        let app = ask_at(&base, "GET", "/v2/apps/ending", &Value::Null);
        (app["app"]["tasksRunning"] == 1).then_some(())
    });
    let sleeping = || {
        let mut found = processes_of(&own_run_id());
        found.retain(|line| line.contains("sleep 6695"));
        found
    };
    let process = sleeping();
    drop(first);
    fs::write(&gate, "").expect("written");
    wait_for("the end to be written down", || {
        let exits = fs::read_to_string(launcher.join("exits")).expect("a file");
        (exits.lines().count() == 1).then_some(())
    });

    let runtime = Runtime::new().expect("a runtime");
    let second = runtime.block_on(node(&data));
    assert_eq!(wait_for("the same task to run", || running_task(&second)), task);
    assert_eq!((sleeping(), process.len()), (process, 1), "it was never started again");
    wait_for("the exact end of the other one", || {
        let app = ask(&second, "GET", "/v2/apps/ending?embed=app.lastTaskFailure", &Value::Null);
        let message = app["app"]["lastTaskFailure"]["message"].as_str()?.to_owned();
        message.contains("status 77").then_some(())
    });
    for id in ["s", "ending"] {
        ask(&second, "DELETE", &format!("/v2/apps/{id}"), &Value::Null);
    }
    wait_for("every end", || processes_of(&own_run_id()).is_empty().then_some(()));
    runtime.block_on(second.stop(std::future::pending())).expect("stopped");
}

/// A process that is killed with this value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("our own child");
    }
}

/// Ends what runs below a directory for a launcher, however a test ends.
struct End(PathBuf, PathBuf);

impl Drop for End {
    fn drop(&mut self) {
        clear(&self.0, &self.1);
    }
}
