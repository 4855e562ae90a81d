//! The table of keys, what files may say, and which source counts.

use std::net::SocketAddr;
use std::time::Duration;

use super::settings::Settings;
use super::*;

fn layers(files: &[(Layer, &str, &str)]) -> Layers {
    let mut layers = Layers::default();
    for (layer, path, text) in files {
        layers.add_file(*layer, path, text).unwrap_or_else(|problem| panic!("{problem}"));
    }
    layers
}

fn problem(text: &str) -> Problem {
    Layers::default().add_file(Layer::Project, "f.toml", text).expect_err(text)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn names_variables_and_flags_are_unique_and_defaults_are_allowed() {
    let (mut seen, mut flags) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for key in KEYS {
        assert!(seen.insert(key.name) && seen.insert(key.variable), "{} is there twice", key.name);
        assert!(key.flag.is_none_or(|flag| flags.insert(flag)), "{} has another's flag", key.name);
        assert!(key.variable.starts_with("MESITA_"), "{}", key.variable);
        assert!(key.example().is_some(), "{}: its own example is refused", key.name);
        assert!(
            !key.meaning.ends_with('.') && key.default_text(For::Node).trim() == key.default_text(For::Node)
        );
        assert!(find(key.name).is_some_and(|found| std::ptr::eq(found, *key)));
    }
}

#[test]
fn what_the_table_says_of_defaults_is_what_nodes_have() {
    for command in [For::Node, For::Dev] {
        let mut all = Layers::default();
        for key in KEYS.iter().filter(|key| key.is_for(command)) {
            if let Some(value) = key.default_value(command) {
                all.add_flag(key, value, key.name);
            }
        }
        let (set, unset) = (all.effective(command), Settings::none(command));
        let (set, unset) = (node_config(&set).expect("valid"), node_config(&unset).expect("valid"));
        assert_eq!(set, unset, "{command:?}");
    }
    let dev = node_config(&Settings::none(For::Dev)).expect("valid");
    assert_eq!(dev, NodeConfig::local());
}

#[test]
fn the_sample_sets_nothing_and_uncommented_sets_the_defaults() {
    let none = layers(&[(Layer::Named, "sample", &sample())]);
    assert_eq!(none.effective(For::Node), Settings::none(For::Node));
    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let lines = sample();
    let lines: Vec<&str> =
        lines.lines().map(|line| if is_setting(line) { &line[1..] } else { line }).collect();
    let all = layers(&[(Layer::Named, "sample", &lines.join("\n"))]);
    for command in [For::Node, For::Dev] {
        let settings = all.effective(command);
        for key in KEYS.iter().filter(|key| key.is_for(command)) {
            let set = settings.set(key).map(|setting| setting.value.clone());
            assert!(set.is_some(), "{} is not in the sample", key.name);
            if let Some(default) = key.default_value(command) {
                assert_eq!(set, Some(default), "{}", key.name);
            }
        }
    }
}

#[test]
fn the_most_particular_layer_counts() {
    let file = |addr: &str| format!("addr = \"{addr}\"");
    let mut all = layers(&[
        // The order in which they are found does not matter.
        (Layer::Project, "project", &file("project:1")),
        (Layer::User, "user", &file("user:1")),
        (Layer::System, "a", &file("system-a:1")),
        (Layer::System, "b", &file("system-b:1")),
    ]);
    let addr = |layers: &Layers| layers.effective(For::Dev).text(&ADDR);
    assert_eq!(addr(&all).as_deref(), Some("project:1"));
    all.add_environment(|name| (name == "MESITA_ADDR").then(|| "env:1".to_owned())).expect("valid");
    assert_eq!(addr(&all).as_deref(), Some("env:1"));
    all.add_flag(&ADDR, Value::Text("flag:1".to_owned()), "addr");
    all.add_environment(|name| (name == "MESITA_ADDR").then(|| "env:2".to_owned())).expect("valid");
    assert_eq!(addr(&all).as_deref(), Some("flag:1"));
    assert_eq!(all.effective(For::Node).source(&ADDR), Some(&Source::Flag("addr")));
    let user = layers(&[(Layer::User, "user", &file("user:1")), (Layer::System, "a", &file("system-a:1"))]);
    assert_eq!(addr(&user).as_deref(), Some("user:1"));
    // Of two files of the system the later one counts.
    let system =
        layers(&[(Layer::System, "a", &file("system-a:1")), (Layer::System, "b", &file("system-b:1"))]);
    assert_eq!(addr(&system).as_deref(), Some("system-b:1"));
    assert_eq!(addr(&Layers::default()), None);
}

#[test]
fn an_empty_variable_is_none() {
    let mut all = Layers::default();
    all.add_environment(|_| Some(String::new())).expect("nothing is set");
    assert_eq!(all.effective(For::Node), Settings::none(For::Node));
}

#[test]
fn dev_leaves_to_the_node_of_this_machine_what_is_its_own() {
    let text = "roles = [\"agent\"]\ndata_dir = \"/var/lib/m\"\ninsecure = true\nstop_grace = \"1s\"\n[master]\naddr = \"10.0.0.1:5050\"\n[dev]\nagents = 2";
    let all = layers(&[(Layer::System, "/etc/mesita/mesita.toml", text)]);
    let dev = node_config(&all.effective(For::Dev)).expect("valid");
    let expected = NodeConfig { agents: 2, stop_grace: Duration::from_secs(1), ..NodeConfig::local() };
    assert_eq!(dev, expected);
    let node = node_config(&all.effective(For::Node)).expect("valid");
    assert_eq!((node.masters, node.agents), (0, 1));
    assert_eq!(node.data_dir, DataDir::At("/var/lib/m".into()));
    assert_eq!(node.master, Listen { address: address("10.0.0.1:5050"), required: true });
    // The project's file is the developer's own.
    let own = layers(&[(Layer::Project, "mesita.toml", text)]);
    let dev = node_config(&own.effective(For::Dev)).expect("valid");
    assert_eq!((dev.master.address, dev.masters), (address("10.0.0.1:5050"), 1));
}

#[test]
fn every_key_of_a_node_reaches_it() {
    let text = r#"
        roles = ["agent", "master", "agent"]
        data_dir = "/data"
        advertise = "node1.example.com:5055"
        hostnames = ["a.example.com", "b.example.com"]
        insecure = true
        stop_grace = "1m"
        [master]
        addr = "0.0.0.0:1"
        election_timeout = "2s"
        agent_unreachable_after = "75s"
        agent_reregister_timeout = "5m"
        [agent]
        addr = "127.0.0.1:2"
        resources = "cpus:2;mem:64"
        attributes = "rack:r1"
        [marathon]
        addr = "127.0.0.1:3"
        [peer]
        addr = "0.0.0.0:4"
        [snapshots]
        every = "2h"
        keep = 3
    "#;
    let all = layers(&[(Layer::Named, "f", text)]);
    let settings = all.effective(For::Node);
    assert_eq!(settings.address(&PEER_ADDR), Some(address("0.0.0.0:4")));
    let required = |text: &str| Listen { address: address(text), required: true };
    let wanted = NodeConfig {
        master: required("0.0.0.0:1"),
        agent: required("127.0.0.1:2"),
        marathon: required("127.0.0.1:3"),
        hostnames: vec!["a.example.com".to_owned(), "b.example.com".to_owned()],
        advertise: Some(Advertise { host: "node1.example.com".to_owned(), port: Some(5055) }),
        data_dir: DataDir::At("/data".into()),
        masters: 1,
        agents: 1,
        agent_resources: Some(crate::resources::Resources::parse("cpus:2;mem:64").expect("valid")),
        agent_attributes: crate::resources::attributes::parse("rack:r1").expect("valid"),
        election_timeout: Duration::from_secs(2),
        agent_unreachable_after: Duration::from_secs(75),
        agent_reregister_timeout: Duration::from_secs(300),
        stop_grace: Duration::from_secs(60),
        stop_deadline: Duration::from_secs(80),
        snapshots: Some(Snapshots { every: Duration::from_secs(7_200), keep: 3 }),
        ..NodeConfig::local()
    };
    assert_eq!(node_config(&settings).expect("valid"), wanted);
}

#[test]
fn a_name_that_is_told_may_have_a_port() {
    let own = |host: &str, port| Some(Advertise { host: host.to_owned(), port });
    for (text, wanted) in [
        ("node1", own("node1", None)),
        ("node1.example.com:5050", own("node1.example.com", Some(5050))),
        ("10.0.0.1:80", own("10.0.0.1", Some(80))),
        ("::1", own("::1", None)),
        ("fd00::1:5050", own("fd00::1:5050", None)),
        ("[fd00::1]:5050", own("fd00::1", Some(5050))),
        ("[fd00::1]", None),
        ("node1:", None),
        (":5050", None),
        ("", None),
    ] {
        assert_eq!(Advertise::parse(text), wanted, "{text}");
    }
    let text = "advertise = \"node1:5050\"\n[dev]\nmasters = 3";
    let all = layers(&[(Layer::Project, "mesita.toml", text)]);
    let problem = node_config(&all.effective(For::Dev)).expect_err("which of them is it?").to_string();
    assert!(problem.contains("advertise") && problem.contains("one master"), "{problem}");
}

#[test]
fn unknown_keys_are_told_with_their_place_and_the_nearest() {
    for (text, place, key, nearest) in [
        ("outptu = \"json\"", "f.toml:1:1", "outptu", "output"),
        ("# é\n\n[master]\n  adr = \"x\"", "f.toml:4:3", "master.adr", "master.addr"),
        ("[mastr]\naddr = \"x\"", "f.toml:1:2", "mastr", "master"),
        ("master.election = \"1s\"", "f.toml:1:8", "master.election", "marathon.addr"),
        (
            "agent_unreachable_after = \"1s\"",
            "f.toml:1:1",
            "agent_unreachable_after",
            "master.agent_unreachable_after",
        ),
        ("[agent]\nstop_grace = \"1s\"", "f.toml:2:1", "agent.stop_grace", "stop_grace"),
        ("data-dir = \"/x\"", "f.toml:1:1", "data-dir", "data_dir"),
    ] {
        let Problem::UnknownKey { place: at, key: named, nearest: meant } = problem(text) else {
            panic!("{text}: another problem")
        };
        assert_eq!((at.to_string().as_str(), named.as_str()), (place, key), "{text}");
        if key != "master.election" {
            assert_eq!(meant, nearest, "{text}");
        }
    }
    // Of two mistakes the first one is told.
    assert!(problem("zz = 1\naa = 1").to_string().starts_with("f.toml:1:1: unknown key \"zz\""));
}

#[test]
fn wrong_values_are_told_with_their_place_and_what_is_allowed() {
    for (text, place, key, allowed) in [
        ("output = \"xml\"", "f.toml:1:10", "output", "\"table\" or \"json\""),
        ("output = 1", "f.toml:1:10", "output", "\"table\""),
        ("insecure = \"yes\"", "f.toml:1:12", "insecure", "true or false"),
        ("stop_grace = 10", "f.toml:1:14", "stop_grace", "a duration from \"0s\" to \"1d\""),
        ("stop_grace = \"2d\"", "f.toml:1:14", "stop_grace", "to \"1d\""),
        ("[master]\nelection_timeout = \"99ms\"", "f.toml:2:20", "master.election_timeout", "from \"100ms\""),
        ("[master]\naddr = \"localhost:1\"", "f.toml:2:8", "master.addr", "IP:PORT"),
        ("[master]\naddr = \"127.0.0.1:99999\"", "f.toml:2:8", "master.addr", "IP:PORT"),
        ("[master.addr]\nx = 1", "f.toml:1:1", "master.addr", "IP:PORT"),
        ("roles = []", "f.toml:1:9", "roles", "a list of one or more of \"master\", \"agent\""),
        ("roles = [\"master\", \"slave\"]", "f.toml:1:9", "roles", "\"agent\""),
        ("roles = \"master\"", "f.toml:1:9", "roles", "a list"),
        ("roles = [1]", "f.toml:1:9", "roles", "a list"),
        ("hostnames = [\"a b\"]", "f.toml:1:13", "hostnames", "host names"),
        ("advertise = \"http://x\"", "f.toml:1:13", "advertise", "HOST or HOST:PORT"),
        ("advertise = \"x:0\"", "f.toml:1:13", "advertise", "HOST or HOST:PORT"),
        ("advertise = \"x:70000\"", "f.toml:1:13", "advertise", "HOST or HOST:PORT"),
        ("data_dir = \"\"", "f.toml:1:12", "data_dir", "a directory"),
        ("addr = \"http://me:secret@x\"", "f.toml:1:8", "addr", "without a password"),
        ("[join]\naddr = \"10.0.0.1\"", "f.toml:2:8", "join.addr", "HOST:PORT"),
        ("[agent]\nresources = \"cpus:many\"", "f.toml:2:13", "agent.resources", "cpus"),
        ("[agent]\nattributes = \"rack\"", "f.toml:2:14", "agent.attributes", "no colon"),
        ("[dev]\nmasters = 8", "f.toml:2:11", "dev.masters", "from 1 to 7"),
        ("[dev]\nmasters = -1", "f.toml:2:11", "dev.masters", "from 1 to 7"),
        ("[dev]\nagents = 1.5", "f.toml:2:10", "dev.agents", "a whole number"),
        ("[log]\nlevel = 2020-01-01", "f.toml:2:9", "log.level", "as text"),
    ] {
        let problem = problem(text);
        let Problem::Value { from, key: named, .. } = &problem else { panic!("{text}: {problem}") };
        assert_eq!((from.to_string().as_str(), *named), (place, key), "{text}");
        let said = problem.to_string();
        assert!(said.contains(allowed) && said.contains(key), "{text}: {said}");
        assert!(problem.hint().is_some_and(|hint| hint.ends_with(key)));
    }
}

#[test]
fn what_is_no_table_and_what_is_no_toml() {
    let said = problem("log = \"debug\"").to_string();
    assert_eq!(said, "f.toml:1:7: log is a table, as [log]; \"debug\" is none");
    for (text, place) in [
        ("addr = ", "f.toml:1:"),
        ("\n[log\nlevel = \"x\"", "f.toml:2:"),
        ("addr = \"a\"\naddr = \"b\"", "f.toml:2:"),
    ] {
        let problem = problem(text);
        assert!(matches!(problem, Problem::Syntax { .. }), "{text}: {problem}");
        assert!(problem.to_string().starts_with(place), "{text}: {problem}");
    }
}

#[test]
fn a_wrong_variable_is_told_by_its_name() {
    let wrong = |name: &str| (name == "MESITA_ROLES").then(|| "master,slave".to_owned());
    let problem = Layers::default().add_environment(wrong).expect_err("no such role");
    let said = problem.to_string();
    assert!(said.starts_with("MESITA_ROLES: roles cannot be \"master,slave\": write a list"), "{said}");
}

#[test]
fn an_open_address_needs_leave_and_says_who_asked_for_it() {
    let text = "\n[marathon]\naddr = \"0.0.0.0:8080\"";
    let all = layers(&[(Layer::Project, "f.toml", text)]);
    let problem = node_config(&all.effective(For::Node)).expect_err("open");
    assert!(problem.to_string().starts_with("f.toml:3:8: 0.0.0.0:8080 can be reached"), "{problem}");
    // The listener of other nodes is never without TLS.
    let all = layers(&[(Layer::Project, "f.toml", "[peer]\naddr = \"0.0.0.0:5052\"")]);
    assert!(node_config(&all.effective(For::Node)).is_ok());
}

#[test]
fn typed_values_and_written_ones_are_the_same() {
    for (key, typed, written) in [
        (&ROLES, "master, agent", "[\"master\", \"agent\"]"),
        (&INSECURE, "true", "true"),
        (&DEV_AGENTS, "3", "3"),
        (&STOP_GRACE, "90s", "\"1m30s\""),
        (&AGENT_ATTRIBUTES, "a:b\\\"c", "\"a:b\\\\\\\"c\""),
    ] {
        let value = key.read(&Raw::Typed(typed)).expect(typed);
        assert_eq!(value.toml(), written);
        let text = match key.split() {
            (Some(table), name) => format!("[{table}]\n{name} = {written}"),
            (None, name) => format!("{name} = {written}"),
        };
        let all = layers(&[(Layer::Named, "f", &text)]);
        let settings = all.effective(if key.users == Users::Dev { For::Dev } else { For::Node });
        assert_eq!(settings.value(key), Some(value));
    }
}
