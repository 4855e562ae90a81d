//! Agents whose links fall silent, break, come back, or come twice.

use super::io::Effect;
use super::script_tests::{
    Script, agent_info, framework_info, kills, offers, registered, states, task, told, wire,
};
use crate::api::peer::{self, from_agent, to_agent};
use crate::api::v1::{AgentId as AgentIdMessage, TaskState as State};
use crate::base::id::AgentId;
use crate::registry::core::Standing;

fn standing(script: &Script, id: &str) -> Option<Standing> {
    script.registry.agent(&AgentId::new(id)).map(|entry| entry.standing)
}

fn pong(script: &mut Script, link: u64) -> Vec<Effect> {
    script.say(link, from_agent::Message::Pong(peer::Pong {}))
}

#[test]
fn an_agent_is_lost_after_unanswered_pings() {
    let mut script = Script::new();
    let id = script.agent(1, "a");
    let effects = script.pass(9);
    assert!(told(&effects, 1).contains(&to_agent::Message::Ping(peer::Ping {})), "{effects:?}");
    assert_eq!(standing(&script, &id), Some(Standing::Admitted));
    script.pass(3);
    assert_eq!(standing(&script, &id), Some(Standing::Unreachable));
}

#[test]
fn an_agent_that_answers_is_not_lost() {
    let mut script = Script::new();
    let id = script.agent(1, "a");
    for _ in 0..40 {
        let effects = script.pass(1);
        if !told(&effects, 1).is_empty() {
            pong(&mut script, 1);
        }
    }
    assert_eq!(standing(&script, &id), Some(Standing::Admitted));
}

#[test]
fn a_pause_of_the_master_loses_no_agent() {
    let mut script = Script::new();
    let id = script.agent(1, "a");
    let away = script.agent(2, "b");
    script.unlink(2);
    script.jump(60);
    script.feed(super::Input::Tick);
    assert_eq!(standing(&script, &id), Some(Standing::Admitted));
    assert_eq!(standing(&script, &away), Some(Standing::Admitted), "it could not come back meanwhile");
    script.pass(12);
    assert_eq!(standing(&script, &id), Some(Standing::Unreachable), "silence still counts after it");
    assert_eq!(standing(&script, &away), Some(Standing::Unreachable));
}

#[test]
fn an_answer_before_the_commit_keeps_the_agent() {
    let mut script = Script::new();
    let id = script.agent(1, "a");
    let framework_id = script.framework(1, framework_info(60.0));
    let offer = script.pass(1);
    let offer = offers(&offer, 1).pop().or_else(|| {
        script.hang_up(1);
        let info = super::script_tests::again(framework_info(60.0), &framework_id);
        offers(&script.subscribe(1, info), 1).pop()
    });
    script.launch(1, &framework_id, &offer.expect("an offer"), "t");
    script.hold = true;
    script.pass(12);
    assert_eq!(script.waiting.len(), 1, "one marking waits");
    pong(&mut script, 1);
    script.hold = false;
    let effects = script.commit();
    assert_eq!(states(&effects, 1), [], "the task is not lost");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Unlink { .. })), "{effects:?}");
    assert_eq!(standing(&script, &id), Some(Standing::Admitted));
}

#[test]
fn a_task_that_runs_elsewhere_is_killed_where_it_returns() {
    let mut script = Script::new();
    let old = script.agent(1, "a");
    let framework_id = script.framework(1, framework_info(60.0));
    // A later master: the agent `old` is away, its task is started again on `new`.
    let mut script = script.fail_over(100);
    let new = script.agent(2, "b");
    let info = super::script_tests::again(framework_info(60.0), &framework_id);
    let offer = offers(&script.subscribe(3, info), 3).pop().expect("an offer");
    script.launch(3, &framework_id, &offer, "t");
    script.update(2, &framework_id, "t", State::TaskRunning);

    let mut brought = task(&framework_id, "t", &old);
    brought.name = "the older one".to_owned();
    let effects = script.reregister(4, "a", &old, vec![brought]);
    assert_eq!(kills(&effects, 4).len(), 1, "{effects:?}");
    let offered: String = offers(&effects, 3).iter().map(cpus).collect();
    assert_eq!(offered, "3", "what the stray uses is not offered");
    let state = script.master.legacy_state();
    let used = r#""used_resources":{"disk":0.0,"mem":64.0,"gpus":0.0,"cpus":1.0}"#;
    assert_eq!(state.matches(used).count(), 3, "it shows on both agents and the framework: {state}");

    // Its end reaches nobody but the agent, which is told to forget it.
    let effects = script.update(4, &framework_id, "t", State::TaskKilled);
    assert_eq!(states(&effects, 3), []);
    assert!(matches!(told(&effects, 4)[..], [to_agent::Message::Acknowledge(_)]), "{effects:?}");
    let tasks = script.master.legacy_state();
    assert!(tasks.contains(&format!("\"slave_id\":\"{new}\"")) && tasks.contains("TASK_RUNNING"), "{tasks}");
}

#[test]
fn a_dead_stray_frees_nothing_of_the_living_task() {
    let mut script = Script::new();
    let old = script.agent(1, "a");
    let framework_id = script.framework(1, framework_info(60.0));
    let mut script = script.fail_over(100);
    script.agent(2, "b");
    let info = super::script_tests::again(framework_info(60.0), &framework_id);
    let offer = offers(&script.subscribe(3, info), 3).pop().expect("an offer");
    script.launch(3, &framework_id, &offer, "t");
    script.update(2, &framework_id, "t", State::TaskRunning);
    let mut brought = task(&framework_id, "t", &old);
    brought.state = State::TaskFailed.into();
    let effects = script.reregister(4, "a", &old, vec![brought]);
    assert_eq!(kills(&effects, 4).len(), 0);
    let tasks = script.master.legacy_state();
    assert!(tasks.contains("TASK_RUNNING") && !tasks.contains("TASK_FAILED"), "{tasks}");
}

fn cpus(offer: &crate::api::v1::Offer) -> String {
    let cpus = offer.resources.iter().filter(|resource| resource.name == "cpus");
    cpus.filter_map(|resource| Some(resource.scalar.as_ref()?.value.to_string())).collect()
}

#[test]
fn a_kill_is_repeated_until_the_task_has_ended() {
    let mut script = Script::new();
    let id = script.agent(1, "a");
    let framework_id = {
        let effects = script.subscribe(1, framework_info(60.0));
        let offer = offers(&effects, 1).pop().expect("an offer");
        let framework_id = crate::base::id::FrameworkId::new(&offer.framework_id.value);
        script.launch(1, &framework_id, &offer, "t");
        framework_id
    };
    let effects = script.kill(1, &framework_id, "t", Some(5));
    assert_eq!(kills(&effects, 1).len(), 1);
    // The link broke before the agent heard of it.
    for link in [2, 3] {
        script.unlink(link - 1);
        let effects = script.reregister(link, "a", &id, vec![task(&framework_id, "t", &id)]);
        let kills = kills(&effects, link);
        assert_eq!(kills.len(), 1, "link {link}: {effects:?}");
        let grace = kills[0].kill_policy.and_then(|policy| policy.grace_period);
        assert_eq!(grace.map(|grace| grace.nanoseconds), Some(5), "with its policy");
    }
    script.update(3, &framework_id, "t", State::TaskKilled);
    script.unlink(3);
    let mut ended = task(&framework_id, "t", &id);
    ended.state = State::TaskKilled.into();
    let effects = script.reregister(4, "a", &id, vec![ended]);
    assert_eq!(kills(&effects, 4).len(), 0, "it has ended");
}

#[test]
fn a_registration_whose_link_died_is_no_agent() {
    let mut script = Script::new();
    script.hold = true;
    script.register(1, "a");
    script.unlink(1);
    script.hold = false;
    let effects = script.commit();
    assert_eq!(registered(&effects, 1), None);
    assert_eq!(script.registry.agents().count(), 0, "nobody knows the id: it is removed again");
    assert!(!script.master.legacy_state().contains("\"hostname\":\"a\""));
}

#[test]
fn a_return_whose_link_died_is_an_agent_that_is_away() {
    let mut script = Script::new();
    let id = script.agent(1, "a");
    script.subscribe(1, framework_info(60.0));
    script.pass(12);
    assert_eq!(standing(&script, &id), Some(Standing::Unreachable));
    script.hold = true;
    script.reregister(2, "a", &id, Vec::new());
    script.unlink(2);
    script.hold = false;
    let effects = script.commit();
    assert!(offers(&effects, 1).is_empty(), "nothing of it is offered");
    assert!(script.master.legacy_state().contains("\"activated_slaves\":0"));
    script.pass(11);
    assert_eq!(standing(&script, &id), Some(Standing::Unreachable), "the usual time runs");
}

#[test]
fn a_late_commit_does_not_replace_a_living_link() {
    let mut script = Script::new();
    let id = script.agent(1, "a");
    script.hold = true;
    // It told of more memory, lost the link, and came back as it was before.
    let mut more = agent_info("a");
    (more.id, more.resources) = (Some(AgentIdMessage { value: id.clone() }), wire("cpus:4;mem:2048"));
    let reregister =
        peer::Reregister { version: "1.11.0".to_owned(), agent_info: more, ..Default::default() };
    script.say(2, from_agent::Message::Reregister(reregister));
    script.unlink(2);
    let effects = script.reregister(3, "a", &id, Vec::new());
    assert_eq!(registered(&effects, 3), Some(id));
    script.hold = false;
    script.commit();
    assert!(script.master.legacy_state().contains("\"activated_slaves\":1"));
}

#[test]
fn the_same_address_without_an_id_is_the_same_agent() {
    let mut script = Script::new();
    let id = script.agent(1, "a");
    // Connected: it gets its id again.
    let effects = script.register(2, "a");
    assert_eq!(registered(&effects, 2), Some(id.clone()));
    assert_eq!(script.registry.agents().count(), 1);
    // Disconnected: it is removed first, and its tasks are lost.
    let effects = script.subscribe(1, framework_info(60.0));
    let offer = offers(&effects, 1).pop().expect("an offer");
    let framework_id = crate::base::id::FrameworkId::new(&offer.framework_id.value);
    script.launch(1, &framework_id, &offer, "t");
    script.unlink(2);
    let effects = script.register(3, "a");
    assert_eq!(states(&effects, 1), [("t".to_owned(), State::TaskLost)]);
    let new = registered(&effects, 3).expect("a new id");
    assert_ne!(new, id);
    assert_eq!(script.registry.agents().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), [new]);
}
