//! Nodes that are processes of their own: three masters with an agent each, over mutual TLS.
//!
//! `MESITA_NODE_KILLS` sets how often the leader is killed (the default keeps the suite short).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::masters::{get, running, wait_running};
use crate::outliving::clear;
use crate::support::{end, lines_of, program, request, signal_process, wait_for};

const JSON: (&str, &str) = ("Content-Type", "application/json");
/// Kills of a short run.
const KILLS: usize = 3;

/// A node; dropping it ends it and the tasks that it left.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) ready: Value,
    pub(crate) data: PathBuf,
}

impl Node {
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut child = command(data, arguments).stdout(Stdio::piped()).spawn().expect("the program starts");
        let lines = lines_of(&mut child);
        let line = lines.recv_timeout(std::time::Duration::from_secs(30)).unwrap_or_default();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let node = Self { child, ready, data: data.to_owned() };
        assert_eq!(node.ready["event"], "ready", "{line}");
        node
    }

    pub(crate) fn master(&self) -> String {
        self.ready["masters"][0].as_str().expect("an address").to_owned()
    }

    pub(crate) fn peer(&self) -> String {
        self.ready["peer"].as_str().expect("an address").to_owned()
    }

    pub(crate) fn kill(&mut self) {
        signal_process(self.child.id(), "KILL");
        self.child.wait().expect("it ended");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        end(&mut self.child);
        clear(&self.data, &self.data.join("agent-0/notes/launcher"));
    }
}

pub(crate) fn command(data: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = program();
    command.args(["node", "--json", "--data-dir"]).arg(data).args(arguments).stdin(Stdio::null());
    for flag in ["--master-addr", "--agent-addr", "--marathon-addr", "--peer-addr"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    command.args(["--agent-resources", "cpus:2;mem:1024;disk:1024;ports:[31000-31009]"]);
    command
}

pub(crate) fn token(first: &Path, role: &str) -> String {
    first.join(format!("identity/secrets/join-token-{role}")).display().to_string()
}

/// Directories for nodes, and the first of them running.
pub(crate) fn found() -> (TempDir, Vec<PathBuf>, Node) {
    let folder = tempfile::tempdir().expect("a directory");
    let data: Vec<PathBuf> = (0..3).map(|number| folder.path().join(format!("node-{number}"))).collect();
    let first = Node::start(&data[0], &["--bootstrap"]);
    (folder, data, first)
}

pub(crate) fn three() -> (TempDir, Vec<Node>) {
    let (folder, data, first) = found();
    let (peer, token) = (first.peer(), token(&data[0], "master"));
    let join = ["--join", &peer, "--token-file", &token];
    let (second, third) = (Node::start(&data[1], &join), Node::start(&data[2], &join));
    let nodes = vec![first, second, third];
    wait_voters(&nodes[0], 3);
    (folder, nodes)
}

/// One that is still learning does not count: two voters stand no loss at all.
pub(crate) fn wait_voters(asked: &Node, count: usize) {
    wait_for("every master to vote", || {
        let masters = masters_of(asked);
        (masters.iter().filter(|master| master["role"] != "learner").count() == count).then_some(())
    });
}

/// The node that leads, once all agents that run have come to it.
pub(crate) fn wait_leader(nodes: &[Node], among: &[usize]) -> usize {
    wait_for("a leader with its agents", || {
        let body = json!({ "type": "GET_AGENTS" }).to_string();
        let answers = among.iter().map(|number| {
            let (status, answer) =
                request(&nodes[*number].master(), "POST", "/api/v1", &[JSON], body.as_bytes());
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            let agents = answer["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
            let active = agents.iter().filter(|agent| agent["active"] == true).count();
            status == 200 && active >= among.len()
        });
        let answers: Vec<bool> = answers.collect();
        if answers.contains(&false) {
            return None;
        }
        let leader = get(&nodes[among[0]].master(), "/state").1["leader"].as_str()?.to_owned();
        let leads =
            |number: &&usize| leader.ends_with(nodes[**number].master().trim_start_matches("http://"));
        among.iter().find(leads).copied()
    })
}

#[test]
fn whichever_node_is_killed_the_cluster_goes_on() {
    let kills = std::env::var("MESITA_NODE_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(KILLS);
    let (_folder, mut nodes) = three();
    let base = nodes[2].master();
    let app = json!({ "id": "/sleep", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 1, "instances": 3 });
    assert_eq!(request(&base, "POST", "/v2/apps", &[JSON], app.to_string().as_bytes()).0, 201);
    let mut tasks = wait_running(&base, "/sleep", 3);
    for round in 0..kills {
        let leader = wait_leader(&nodes, &[0, 1, 2]);
        nodes[leader].kill();
        let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
        let next = wait_leader(&nodes, &others);
        assert_ne!(next, leader);
        // The one that does not lead is asked: it asks the leader.
        let asked = others.into_iter().find(|number| *number != next).expect("two are left");
        let base = nodes[asked].master();
        let wanted = 4 + round;
        let scale = json!({ "instances": wanted }).to_string();
        let scaled = wait_for("the new leader to take a change", || {
            let (status, body) = request(&base, "PUT", "/v2/apps/sleep", &[JSON], scale.as_bytes());
            (status == 200).then_some(body)
        });
        assert!(String::from_utf8_lossy(&scaled).contains("deploymentId"));
        let data = nodes[leader].data.clone();
        // Same identity, other addresses; its tasks have outlived it.
        nodes[leader].ready = Value::Null;
        let again = Node::start(&data, &[]);
        let old = std::mem::replace(&mut nodes[leader], again);
        std::mem::forget(old);
        wait_leader(&nodes, &[0, 1, 2]);
        let more = wait_running(&nodes[leader].master(), "/sleep", wanted);
        assert!(more.is_superset(&tasks), "a task was restarted or lost: {tasks:?} {more:?}");
        tasks = more;
    }
}

#[test]
fn all_started_again_at_other_addresses_find_each_other_through_one() {
    let (_folder, mut nodes) = three();
    let app = json!({ "id": "/sleep", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 1, "instances": 3 });
    wait_leader(&nodes, &[0, 1, 2]);
    assert_eq!(request(&nodes[0].master(), "POST", "/v2/apps", &[JSON], app.to_string().as_bytes()).0, 201);
    let tasks = wait_running(&nodes[0].master(), "/sleep", 3);
    for node in &mut nodes {
        node.kill();
    }
    // Port 0 gives each another address, and what is on record leads nowhere.
    let again = Node::start(&nodes[0].data.clone(), &[]);
    std::mem::forget(std::mem::replace(&mut nodes[0], again));
    let peer = nodes[0].peer();
    for node in &mut nodes[1..] {
        let again = Node::start(&node.data.clone(), &["--join", &peer]);
        std::mem::forget(std::mem::replace(node, again));
    }
    wait_leader(&nodes, &[0, 1, 2]);
    assert_eq!(wait_running(&nodes[2].master(), "/sleep", 3), tasks);
}

#[test]
fn agents_leave_a_leader_that_was_stopped() {
    let (folder, nodes) = three();
    // One more that has no master: it has to ask.
    let join = ["--join", &nodes[0].peer(), "--token-file", &token(&nodes[0].data, "agent")];
    let _away = agent_node(&folder.path().join("away"), &join);
    let leader = wait_leader(&nodes, &[0, 1, 2]);
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let began = crate::support::now();
    signal_process(nodes[leader].child.id(), "STOP");
    let next = wait_leader(&nodes, &others);
    wait_for("the agent without a master", || {
        agent_nodes_of(&nodes[next]).iter().any(|node| node["is_alive"] == true).then_some(())
    });
    let took = began.elapsed();
    signal_process(nodes[leader].child.id(), "CONT");
    assert_ne!(next, leader);
    // An election, not the ten seconds after which a silent connection is given up.
    assert!(took.as_secs() < 7, "it took {took:?}");
    wait_leader(&nodes, &[0, 1, 2]);
}

#[test]
fn a_planned_stop_hands_the_leadership_over_and_leaves_tasks_running() {
    let (_folder, mut nodes) = three();
    let leader = wait_leader(&nodes, &[0, 1, 2]);
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let app = json!({ "id": "/sleep", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 1, "instances": 3 });
    let base = nodes[others[0]].master();
    assert_eq!(request(&base, "POST", "/v2/apps", &[JSON], app.to_string().as_bytes()).0, 201);
    let tasks = wait_running(&base, "/sleep", 3);
    signal_process(nodes[leader].child.id(), "TERM");
    let ended = nodes[leader].child.wait().expect("it ends");
    assert_eq!(ended.code(), Some(0));
    wait_leader(&nodes, &others);
    let again = Node::start(&nodes[leader].data.clone(), &[]);
    std::mem::forget(std::mem::replace(&mut nodes[leader], again));
    wait_leader(&nodes, &[0, 1, 2]);
    assert_eq!(wait_running(&base, "/sleep", 3), tasks);
    assert_eq!(running(&nodes[leader].master(), "/sleep"), tasks);
}

/// The agents that the masters know, by their ids; and whether each is active.
fn agents_of(node: &Node) -> BTreeMap<String, bool> {
    let body = json!({ "type": "GET_AGENTS" }).to_string();
    let (status, answer) = request(&node.master(), "POST", "/api/v1", &[JSON], body.as_bytes());
    assert_eq!(status, 200);
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let agents = answer["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
    let pair = |agent: &Value| {
        let id = agent["agent_info"]["id"]["value"].as_str().expect("an id").to_owned();
        (id, agent["active"] == true)
    };
    agents.iter().map(pair).collect()
}

#[test]
fn a_node_that_is_drained_leaves_its_tasks_to_the_others_and_comes_back() {
    let (_folder, mut nodes) = three();
    // The one that leads: its agent leaves its own master.
    let leader = wait_leader(&nodes, &[0, 1, 2]);
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let before = agents_of(&nodes[others[0]]);
    let base = nodes[others[0]].master();
    let app = json!({
        "id": "/sleep", "cmd": "echo $$ > pid; exec sleep 1000", "cpus": 0.1, "mem": 1, "instances": 3,
    });
    assert_eq!(request(&base, "POST", "/v2/apps", &[JSON], app.to_string().as_bytes()).0, 201);
    wait_running(&base, "/sleep", 3);
    // More until one is on the leader's agent, as offers come in any order.
    let mut instances = 3;
    while pids_of_tasks(&nodes[leader].data).is_empty() {
        instances += 1;
        let more = json!({ "instances": instances }).to_string();
        assert_eq!(request(&base, "PUT", "/v2/apps/sleep", &[JSON], more.as_bytes()).0, 200);
        wait_running(&base, "/sleep", instances);
    }
    let pids = pids_of_tasks(&nodes[leader].data);
    signal_process(nodes[leader].child.id(), "USR1");
    let ended = nodes[leader].child.wait().expect("it ends");
    assert_eq!(ended.code(), Some(0));
    assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()), "{pids:?} go on");
    // Its tasks ended before it left, and the services have others for them.
    wait_leader(&nodes, &others);
    let known = agents_of(&nodes[others[0]]);
    let left: Vec<&String> = before.keys().filter(|id| !known.contains_key(*id)).collect();
    assert_eq!((known.len(), left.len()), (2, 1), "{before:?} became {known:?}");
    let tasks = wait_running(&base, "/sleep", instances);
    let again = Node::start(&nodes[leader].data.clone(), &[]);
    std::mem::forget(std::mem::replace(&mut nodes[leader], again));
    wait_leader(&nodes, &[0, 1, 2]);
    assert_eq!(agents_of(&nodes[leader]), before, "it is back under its id");
    assert_eq!(running(&base, "/sleep"), tasks);
}

#[test]
fn a_service_manager_is_told_of_start_and_stop() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a limit");
    let heard = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("told in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let data = folder.path().join("node");
    let mut command = command(&data, &["--bootstrap"]);
    let child = command.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).spawn().expect("it starts");
    let node = Node { child, ready: Value::Null, data };
    assert_eq!(heard(), "READY=1");
    signal_process(node.child.id(), "TERM");
    assert_eq!(heard(), "STOPPING=1");
}

#[test]
fn who_may_not_join_is_told_why() {
    let (_folder, data, first) = found();
    let peer = first.peer();
    let refused = |data: &Path, arguments: &[&str]| {
        let output = command(data, arguments).output().expect("the program runs");
        assert!(!output.status.success(), "{arguments:?} was let in");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!data.join("identity/identity.pem").exists() || data.starts_with(&first.data), "{said}");
        said
    };
    let said = refused(&data[1], &[]);
    assert!(said.contains("--bootstrap") && said.contains("--join"), "{said}");
    let said = refused(&data[1], &["--join", &peer]);
    assert!(said.contains("MESITA_JOIN_TOKEN"), "{said}");
    let said = refused(&data[1], &["--join", &peer, "--token", "nonsense"]);
    assert!(said.contains("token"), "{said}");
    let said = refused(&data[1], &["--join", &peer, "--token-file", &token(&data[0], "agent")]);
    assert!(said.contains("for agents"), "{said}");
    let good = std::fs::read_to_string(token(&data[0], "master")).expect("readable");
    let (known, secret) = good.trim().rsplit_once('-').expect("three parts");
    let wrong: String = secret.chars().rev().collect();
    let said = refused(&data[1], &["--join", &peer, "--token", &format!("{known}-{wrong}")]);
    assert!(said.contains("not known") || said.contains("token"), "{said}");
    // A token of another cluster: its authority is not this one's.
    let (_other_folder, other_data, _other) = found();
    let said = refused(&data[1], &["--join", &peer, "--token-file", &token(&other_data[0], "master")]);
    assert!(said.contains("trust") || said.contains("authority"), "{said}");
    // Nor does a node of this cluster join that one with the same directory.
    let join = ["--join", &peer, "--token-file", &token(&data[0], "master")];
    let output = command(&other_data[0], &join).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("another cluster's"), "{said}");
    clocks_and_ids_are_checked(&peer, good.trim());
    let said = refused(&data[0], &["--bootstrap"]);
    assert!(said.contains("without --bootstrap") || said.contains("lock"), "{said}");
    // After all that, the right token is good.
    let second = Node::start(&data[1], &["--join", &peer, "--token-file", &token(&data[0], "master")]);
    let seen: BTreeSet<u16> =
        [&first, &second].iter().map(|node| get(&node.master(), "/v2/apps").0).collect();
    assert_eq!(seen, BTreeSet::from([200]));
}

/// What only a program that is made for it would send.
fn clocks_and_ids_are_checked(peer: &str, token: &str) {
    use mesita::base::clock::SystemClock;
    use mesita::base::id::NodeId;
    use mesita::base::time::{Clock as _, Timestamp};
    use mesita::peer::wire::{Hello, JoinRequest, KeyRequest, Role, Token, join};

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let token = Token::parse(token).expect("a token");
    let ask = |id: u64, knows: u32, now: Timestamp| {
        let hello = Hello {
            node_id: NodeId::new(id).expect("not zero"),
            cluster_id: String::new(),
            version: "0.1.0".to_owned(),
            max_command_version: knows,
            // Nobody is there: it never votes.
            peer_address: "127.0.0.1:9".to_owned(),
            apis: std::collections::BTreeMap::new(),
        };
        let request = JoinRequest { role: Role::Master, hello, key: KeyRequest::generate().expect("a key") };
        runtime.block_on(join(peer, &token, request, now)).map(drop).map_err(|error| error.to_string())
    };
    let now = SystemClock::new().now().wall;
    let minutes = |count: i64| Timestamp::from_nanos(now.nanos() + count * 60_000_000_000);
    for off in [-10, 10] {
        let error = ask(77, 99, minutes(off)).expect_err("its clock is off");
        assert!(error.contains("the clock of this node is"), "{error}");
    }
    let error = ask(77, 1, now).expect_err("it is too old");
    assert!(error.contains("upgrade"), "{error}");
}

/// What a command of the program prints, and whether it went well.
pub(crate) fn cli(node: &Node, arguments: &[&str]) -> (bool, String) {
    let output =
        program().args(arguments).args(["--addr", &node.master()]).output().expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
}

fn masters_of(node: &Node) -> Vec<Value> {
    let (_, said) = cli(node, &["cluster", "status", "--json"]);
    let status: Value = serde_json::from_str(&said).unwrap_or_default();
    status["masters"].as_array().cloned().unwrap_or_default()
}

#[test]
fn the_cluster_is_seen_joined_and_left_from_the_command_line() {
    let (_folder, data, first) = found();
    let once = ["cluster", "join-token", "--once"];
    let (went_well, token) = cli(&first, &once);
    assert!(went_well && token.starts_with("mesita-1-"), "{token}");
    let peer = first.peer();
    let second = Node::start(&data[1], &["--join", &peer, "--token", &token]);
    wait_for("the second to vote", || {
        let roles: Vec<Value> = masters_of(&second).iter().map(|master| master["role"].clone()).collect();
        (roles.len() == 2 && !roles.contains(&json!("learner"))).then_some(())
    });
    // Used, and expired.
    for (token, why) in
        [(token, "was used"), (cli(&first, &["cluster", "join-token", "--expires", "0s"]).1, "expired")]
    {
        let output = command(&data[2], &["--join", &peer, "--token", &token]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
    let (_, token) = cli(&second, &once);
    let mut third = Node::start(&data[2], &["--join", &second.peer(), "--token", &token]);
    let voters = |node: &Node, count: usize| {
        wait_for(&format!("{count} voters"), || {
            let masters = masters_of(node);
            let voting = masters.iter().filter(|master| master["role"] != "learner").count();
            (masters.len() == count && voting == count).then_some(masters)
        })
    };
    let masters = voters(&second, 3);
    assert_eq!(masters.iter().filter(|master| master["role"] == "leader").count(), 1);
    assert!(masters.iter().all(|master| master["is_alive"] == true), "{masters:?}");
    // One task on each.
    let app = json!({
        "id": "/sleep", "cmd": "echo $$ > pid; exec sleep 1000", "cpus": 1.5, "mem": 1, "instances": 3,
    });
    assert_eq!(request(&second.master(), "POST", "/v2/apps", &[JSON], app.to_string().as_bytes()).0, 201);
    wait_running(&second.master(), "/sleep", 3);
    let pid = pid_of_task(&data[2]);
    // The third leaves for good, and ends what it runs.
    let its =
        masters.iter().find(|master| master["peer_address"] == json!(third.peer())).expect("it is there");
    let id = its["id"].as_str().expect("an id").to_owned();
    let (went_well, said) = cli(&first, &["cluster", "remove", &id]);
    assert!(!went_well && said.contains("--yes"), "{said}");
    let (went_well, said) = cli(&first, &["cluster", "remove", "00000000000000aa", "--yes"]);
    assert!(!went_well && said.contains("no node"), "{said}");
    let (went_well, said) = cli(&first, &["cluster", "remove", &id, "--yes"]);
    assert!(went_well, "{said}");
    voters(&first, 2);
    let ended = third.child.wait().expect("it ends by itself");
    assert!(!ended.success());
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "its task goes on");
    let output = command(&data[2], &[]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("removed from the cluster"), "{said}");
    voters(&second, 2);
}

/// A node that has an agent only.
fn agent_node(data: &Path, arguments: &[&str]) -> Node {
    let node = Node::start(data, &[&["--roles", "agent"], arguments].concat());
    assert_eq!(node.ready["masters"], json!([]));
    assert_eq!((&node.ready["marathon"], &node.ready["peer"]), (&Value::Null, &Value::Null));
    node
}

/// What the tasks of a node wrote into their sandboxes.
fn pids_of_tasks(data: &Path) -> Vec<u32> {
    let found = std::process::Command::new("find").arg(data).args(["-name", "pid", "-type", "f"]).output();
    let found = String::from_utf8(found.expect("find runs").stdout).expect("paths");
    // One that has just begun has an empty file.
    let pid = |path: &str| std::fs::read_to_string(path).expect("readable").trim().parse().ok();
    found.lines().filter_map(pid).collect()
}

/// The only task of a node.
fn pid_of_task(data: &Path) -> u32 {
    pids_of_tasks(data)[0]
}

fn agent_nodes_of(node: &Node) -> Vec<Value> {
    let (_, said) = cli(node, &["cluster", "status", "--json"]);
    let status: Value = serde_json::from_str(&said).unwrap_or_default();
    status["agent_nodes"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_node_with_an_agent_only_joins_works_comes_back_and_is_removed() {
    let (_folder, data, first) = found();
    let peer = first.peer();
    // It needs a token for agents, and cannot begin a cluster.
    for (arguments, why) in [
        (vec!["--join", &peer, "--token-file", &token(&data[0], "master")], "for masters"),
        (vec!["--bootstrap"], "role master"),
    ] {
        let output = command(&data[1], &[&["--roles", "agent"], &arguments[..]].concat()).output();
        let output = output.expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
    let mut away = agent_node(&data[1], &["--join", &peer, "--token-file", &token(&data[0], "agent")]);
    let known =
        wait_for("its agent", || agent_nodes_of(&first).into_iter().find(|node| node["is_alive"] == true));
    // Both agents run tasks.
    let app = json!({
        "id": "/sleep", "cmd": "echo $$ > pid; exec sleep 1000", "cpus": 1.5, "mem": 1, "instances": 2,
    });
    let base = first.master();
    assert_eq!(request(&base, "POST", "/v2/apps", &[JSON], app.to_string().as_bytes()).0, 201);
    let tasks = wait_running(&base, "/sleep", 2);
    // Killed and started again, it finds the masters by itself, and its task goes on.
    away.kill();
    let again = agent_node(&data[1], &[]);
    std::mem::forget(std::mem::replace(&mut away, again));
    wait_for("its return", || {
        let nodes = agent_nodes_of(&first);
        (nodes.len() == 1 && nodes[0]["is_alive"] == true && nodes[0]["id"] == known["id"]).then_some(())
    });
    assert_eq!(running(&base, "/sleep"), tasks);
    // Another role is refused for this directory.
    away.kill();
    let output = command(&data[1], &["--roles", "master"]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("joined as agent"), "{said}");
    let again = agent_node(&data[1], &[]);
    std::mem::forget(std::mem::replace(&mut away, again));
    wait_for("its return", || {
        agent_nodes_of(&first).iter().any(|node| node["is_alive"] == true).then_some(())
    });
    // Removed, it ends with its task, which is started again when there is room.
    let pid = pid_of_task(&data[1]);
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let (went_well, said) =
        cli(&first, &["cluster", "remove", known["id"].as_str().expect("an id"), "--yes"]);
    assert!(went_well, "{said}");
    let ended = away.child.wait().expect("it ends by itself");
    assert!(!ended.success());
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "its task goes on");
    assert_eq!(agent_nodes_of(&first), Vec::<Value>::new());
    let output = command(&data[1], &["--roles", "agent"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("removed from the cluster"), "{said}");
    wait_running(&base, "/sleep", 1);
}
