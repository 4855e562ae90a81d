//! Tasks that are refused, by what is wrong with them.

use super::script_tests::{Script, events, framework_info, offers, wire};
use crate::api::v1;
use crate::api::v1::TaskState as State;
use crate::base::id::FrameworkId;

/// Launches a task on 4 cpus, 1 GB and some ports; the error, if it is refused.
fn launch(change: impl FnOnce(&mut v1::TaskInfo)) -> Option<String> {
    let mut script = Script::new();
    let mut info = super::script_tests::agent_info("a");
    info.resources = wire("cpus:4;mem:1024;ports:[1-65535]");
    let register = crate::api::peer::Register {
        version: "1.11.0".to_owned(),
        agent_info: info,
        capabilities: Vec::new(),
    };
    script.say(1, crate::api::peer::from_agent::Message::Register(register));
    let effects = script.subscribe(1, framework_info(60.0));
    let offer = offers(&effects, 1).pop().expect("an offer");
    let id = FrameworkId::new(&offer.framework_id.value);
    let mut task = v1::TaskInfo {
        name: "t".to_owned(),
        task_id: v1::TaskId { value: "t".to_owned() },
        agent_id: offer.agent_id.clone(),
        resources: wire("cpus:1;mem:64"),
        command: Some(v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() }),
        ..Default::default()
    };
    change(&mut task);
    let effects = script.launch_task(1, &id, &offer, task);
    let status =
        events(&effects, 1).into_iter().find_map(|event| event.update).map(|update| update.status)?;
    assert_eq!(status.state(), State::TaskError);
    status.message
}

fn ports(ranges: impl IntoIterator<Item = (u64, u64)>) -> v1::Resource {
    let range = ranges.into_iter().map(|(begin, end)| v1::value::Range { begin, end }).collect();
    v1::Resource {
        name: "ports".to_owned(),
        r#type: v1::value::Type::Ranges.into(),
        ranges: Some(v1::value::Ranges { range }),
        ..Default::default()
    }
}

#[test]
fn a_task_has_a_bounded_number_of_resources() {
    assert_eq!(launch(|_| {}), None);
    let many =
        |count: u64| launch(move |task| task.resources.extend((1..=count).map(|port| ports([(port, port)]))));
    assert_eq!(many(900), None);
    let problem = many(4_000).expect("refused");
    assert!(problem.contains("4002 resources") && problem.contains("1000"), "{problem}");
    let problem = launch(|task| task.resources.push(ports((1..=20_000).map(|at| (2 * at, 2 * at)))));
    assert!(problem.is_some_and(|problem| problem.contains("20000") && problem.contains("10000")));
}

#[test]
fn the_same_port_twice_is_refused() {
    let problem = launch(|task| task.resources.extend([ports([(5, 9)]), ports([(1, 2), (9, 12)])]));
    assert!(problem.is_some_and(|problem| problem.contains("twice")));
    assert_eq!(launch(|task| task.resources.extend([ports([(5, 9)]), ports([(1, 4)])])), None);
}

#[test]
fn checks_are_looked_at_as_closely_as_health_checks() {
    use v1::check_info::{Command, Http, Tcp, Type};

    let refused = |check: v1::CheckInfo| launch(move |task| task.check = Some(check));
    let of = |kind: Type| v1::CheckInfo { r#type: Some(kind.into()), ..Default::default() };
    let http = |port: u32, path: Option<&str>| v1::CheckInfo {
        http: Some(Http { port, path: path.map(str::to_owned) }),
        ..of(Type::Http)
    };
    assert_eq!(refused(http(80, Some("/ready"))), None);
    assert!(refused(http(0, None)).is_some_and(|problem| problem.contains("port")));
    assert!(refused(http(80, Some("ready"))).is_some_and(|problem| problem.contains("slash")));
    let tcp = |port| v1::CheckInfo { tcp: Some(Tcp { port }), ..of(Type::Tcp) };
    assert_eq!(refused(tcp(80)), None);
    assert!(refused(tcp(70_000)).is_some_and(|problem| problem.contains("70000")));
    let command = |command| v1::CheckInfo { command: Some(Command { command }), ..of(Type::Command) };
    let given = v1::CommandInfo { value: Some("true".to_owned()), ..Default::default() };
    assert_eq!(refused(command(given.clone())), None);
    assert!(refused(command(v1::CommandInfo::default())).is_some_and(|problem| problem.contains("value")));
    let variable = v1::environment::Variable { name: "a=b".to_owned(), ..Default::default() };
    let environment = Some(v1::Environment { variables: vec![variable] });
    assert!(refused(command(v1::CommandInfo { environment, ..given })).is_some());
}
