//! What is forgotten, and when.

use super::script_tests::{Script, agent_info, framework_info, offers};
use crate::api::v1;
use crate::base::id::{AgentId, FrameworkId};
use crate::base::time::Timestamp;
use crate::registry::core::{Change, Command, State, VERSION};

const DAY: u64 = 24 * 3_600;

fn apply(state: &mut State, seconds: u64, change: Change) {
    let time = Timestamp::from_nanos(i64::try_from(seconds).expect("soon") * 1_000_000_000);
    state.apply(Command { time, change });
}

/// A registry with agents that are unreachable since these times.
fn registry(version: u32, since: impl IntoIterator<Item = u64>) -> State {
    let mut state = State::default();
    apply(&mut state, 0, Change::RaiseVersion(version));
    for (number, seconds) in since.into_iter().enumerate() {
        let id = Some(v1::AgentId { value: format!("S{number:06}") });
        let info = std::sync::Arc::new(v1::AgentInfo { id, ..agent_info("a") });
        apply(&mut state, seconds, Change::AdmitAgent { info, node: None });
        apply(&mut state, seconds, Change::MarkUnreachable { agent_id: format!("S{number:06}").into() });
    }
    state
}

#[test]
fn agents_are_forgotten_after_two_weeks() {
    let mut script = Script::on(registry(VERSION, [0, 10 * DAY]), 13 * DAY);
    script.feed(super::Input::Tick);
    assert_eq!(script.registry.agents().count(), 2);
    let due = script.master.next_deadline().expect("it is looked again").since_start().as_secs();
    assert!(due <= 13 * DAY + 900, "{due}");
    script.jump(DAY);
    script.feed(super::Input::Tick);
    assert_eq!(script.registry.agents().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["S000001"]);
    assert!(script.master.legacy_state().contains("\"unreachable_slaves\":1"));
}

#[test]
fn a_registry_of_an_earlier_version_is_left_alone() {
    let mut script = Script::on(registry(1, [0]), 100 * DAY);
    script.feed(super::Input::Tick);
    assert_eq!(script.registry.agents().count(), 1);
}

#[test]
fn of_too_many_agents_the_oldest_go() {
    let count = super::forget::MAX_AGENTS + 1_500;
    let mut script = Script::on(registry(VERSION, std::iter::repeat_n(5, count)), 10);
    script.feed(super::Input::Tick);
    assert_eq!(script.registry.agents().count(), count - 1_000);
    script.jump(1);
    script.feed(super::Input::Tick);
    assert_eq!(script.registry.agents().count(), super::forget::MAX_AGENTS);
}

#[test]
fn the_tasks_of_a_forgotten_agent_go_with_it() {
    let mut script = Script::on(registry(VERSION, []), 0);
    let agent_id = script.agent(1, "a");
    let effects = script.subscribe(1, framework_info(60.0));
    let offer = offers(&effects, 1).pop().expect("an offer");
    let id = FrameworkId::new(&offer.framework_id.value);
    script.launch(1, &id, &offer, "t");
    script.pass(12);
    assert!(!script.master.legacy_state().contains("\"unreachable_tasks\":[]"));
    for _ in 0..3 {
        script.jump(15 * DAY);
        script.feed(super::Input::Tick);
    }
    assert!(script.registry.agent(&AgentId::new(&agent_id)).is_none());
    assert!(script.master.legacy_state().contains("\"unreachable_tasks\":[]"));
}

#[test]
fn a_framework_remembers_a_bounded_number_of_unreachable_tasks() {
    let mut script = Script::new();
    let effects = script.subscribe(1, framework_info(60.0));
    assert!(offers(&effects, 1).is_empty());
    let id = super::script_tests::events(&effects, 1)
        .into_iter()
        .find_map(|event| event.subscribed)
        .map(|subscribed| FrameworkId::new(&subscribed.framework_id.value))
        .expect("subscribed");
    let agent_id = script.agent(1, "a");
    let limit = super::forget::MAX_UNREACHABLE_TASKS;
    for (round, link) in [(0, 2), (1, 3)] {
        let mut tasks = Vec::new();
        for number in 0..600 {
            let mut one = super::script_tests::task(&id, &format!("t{round}-{number}"), &agent_id);
            one.resources.clear();
            tasks.push(one);
        }
        script.reregister(link, "a", &format!("old{round}"), tasks);
        script.pass(12);
    }
    let state: serde_json::Value = serde_json::from_str(&script.master.legacy_state()).expect("a document");
    let unreachable = state["frameworks"][0]["unreachable_tasks"].as_array().expect("a list");
    assert_eq!(unreachable.len(), limit);
    let older = unreachable.iter().filter(|task| task["id"].as_str().is_some_and(|id| id.starts_with("t0")));
    assert_eq!(older.count(), limit - 600, "the newer ones stay");
}

#[test]
fn removed_frameworks_are_bounded_as_in_the_registry() {
    let mut removed = super::forget::Removed::default();
    for number in 0..3_000 {
        removed.insert(FrameworkId::from(format!("f{number}")));
    }
    assert!(removed.contains(&FrameworkId::from("f2999")) && !removed.contains(&FrameworkId::from("f0")));
}
