//! Schedulers that come, come back, change their mind and leave.

use super::Input;
use super::io::ReplyId;
use super::script_tests::{
    Script, again, error, events, framework_info, in_roles, offers, replies, task, told,
};
use crate::api::ApiError;
use crate::api::peer::to_agent;
use crate::api::v1::scheduler::{self, call};
use crate::api::v1::{self};
use crate::base::id::FrameworkId;

#[test]
fn a_huge_framework_info_is_refused() {
    let mut script = Script::new();
    let huge = v1::FrameworkInfo { name: "n".repeat(70_000), ..framework_info(60.0) };
    let effects = script.subscribe(1, huge.clone());
    let problem = error(&effects, 1).expect("refused");
    assert!(problem.contains("65536"), "{problem}");
    assert_eq!(script.registry.frameworks().count(), 0);
    let id = script.framework(2, framework_info(60.0));
    let effects = script.update_framework(2, &id, huge);
    assert!(matches!(&replies(&effects)[..], [Err(ApiError::Invalid(_))]), "{effects:?}");
}

#[test]
fn after_a_fail_over_frameworks_have_their_time() {
    let mut script = Script::new();
    // One was connected when the master died; one was away with a short time left.
    let connected = script.framework(1, framework_info(1.0));
    let away = script.framework(2, framework_info(5.0));
    script.hang_up(2);
    let mut script = script.fail_over(100);
    script.pass(89);
    assert!(script.registry.framework(&away).is_some_and(|entry| entry.removed.is_none()));
    script.pass(2);
    assert!(script.registry.framework(&away).is_some_and(|entry| entry.removed.is_some()));
    script.pass(3_600);
    let entry = script.registry.framework(&connected).expect("known");
    assert_eq!(entry.removed, None, "a framework that did not come back yet is on no timer");
}

#[test]
fn the_old_streams_end_does_not_undo_the_new_subscription() {
    let mut script = Script::new();
    let id = script.framework(1, framework_info(0.0));
    script.hold = true;
    script.subscribe(2, again(framework_info(0.0), &id));
    script.hang_up(1);
    script.hold = false;
    let effects = script.commit();
    assert!(events(&effects, 2).iter().any(|event| event.subscribed.is_some()), "{effects:?}");
    let entry = script.registry.framework(&id).expect("known");
    assert_eq!((entry.removed, entry.deadline), (None, None));
    assert!(script.master.legacy_state().contains("\"connected\":true"));
}

#[test]
fn when_both_streams_end_the_framework_is_away() {
    let mut script = Script::new();
    let id = script.framework(1, framework_info(60.0));
    script.hold = true;
    script.subscribe(2, again(framework_info(60.0), &id));
    script.hang_up(1);
    script.hang_up(2);
    script.hold = false;
    script.commit();
    let entry = script.registry.framework(&id).expect("known");
    assert!(entry.removed.is_none() && entry.deadline.is_some());
    script.pass(61);
    assert!(script.registry.framework(&id).is_some_and(|entry| entry.removed.is_some()));
}

#[test]
fn a_connected_framework_has_no_deadline_in_the_registry() {
    let mut script = Script::new();
    let id = script.framework(1, framework_info(60.0));
    script.hold = true;
    // The subscription is on its way when both streams end and a third one comes.
    script.subscribe(2, again(framework_info(60.0), &id));
    script.hang_up(2);
    script.hang_up(1);
    script.subscribe(3, again(framework_info(60.0), &id));
    script.hold = false;
    script.commit();
    assert_eq!(script.registry.framework(&id).and_then(|entry| entry.deadline), None);
    assert!(script.master.legacy_state().contains("\"connected\":true"));
}

#[test]
fn a_role_that_was_left_is_not_offered() {
    let mut script = Script::new();
    script.agent(1, "a");
    let id = script.framework(1, in_roles(&["x", "y"]));
    // Somebody else is in the role that it leaves.
    script.framework(2, in_roles(&["x"]));
    script.update_framework(1, &id, in_roles(&["y"]));
    for _ in 0..5 {
        for offer in offers(&script.pass(2), 1) {
            let role = offer.allocation_info.and_then(|info| info.role);
            assert_eq!(role.as_deref(), Some("y"));
        }
    }
}

#[test]
fn an_update_is_answered_when_it_is_durable() {
    let mut script = Script::new();
    let id = script.framework(1, framework_info(60.0));
    script.hold = true;
    let changed = v1::FrameworkInfo { name: "new".to_owned(), ..framework_info(60.0) };
    let effects = script.update_framework(1, &id, changed);
    assert_eq!(replies(&effects), []);
    assert!(!script.master.legacy_state().contains("\"name\":\"new\""));
    script.hold = false;
    assert_eq!(replies(&script.commit()), [Ok(())]);
    assert!(script.master.legacy_state().contains("\"name\":\"new\""));
}

#[test]
fn an_operators_teardown_is_answered_when_it_is_durable() {
    let mut script = Script::new();
    let id = script.framework(1, framework_info(60.0));
    script.hold = true;
    let effects = script.feed(Input::Teardown { reply: ReplyId(77), framework_id: id.clone() });
    assert_eq!(replies(&effects), []);
    // One that is being removed is not known any more.
    let effects = script.feed(Input::Teardown { reply: ReplyId(78), framework_id: id.clone() });
    assert!(matches!(replies(&effects)[..], [Err(ApiError::Invalid(_))]));
    script.hold = false;
    assert_eq!(replies(&script.commit()), [Ok(())]);
    assert!(script.registry.framework(&id).is_some_and(|entry| entry.removed.is_some()));
}

#[test]
fn an_update_of_a_framework_that_is_removed_meanwhile_fails() {
    let mut script = Script::new();
    let id = script.framework(1, framework_info(60.0));
    script.hold = true;
    let effects = script.feed(Input::Teardown { reply: ReplyId(77), framework_id: id.clone() });
    assert_eq!(replies(&effects), []);
    script.hold = false;
    script.commit();
    let effects = script.update_framework(1, &id, framework_info(60.0));
    assert!(matches!(replies(&effects)[..], [Err(ApiError::Invalid(_))]));
}

#[test]
fn a_principal_cannot_be_dropped() {
    let mut script = Script::new();
    let owned = v1::FrameworkInfo { principal: Some("p".to_owned()), ..framework_info(60.0) };
    let id = script.framework(1, owned);
    let problem = error(&script.subscribe(2, again(framework_info(60.0), &id)), 2);
    assert!(problem.is_some_and(|problem| problem.contains("principal")));
    // Filled in from who authenticated, it is the same.
    let effects = script.subscribe_as(3, again(framework_info(60.0), &id), Some("p"));
    assert_eq!(error(&effects, 3), None);
}

#[test]
fn an_agent_that_forgot_a_framework_is_told_what_it_is() {
    let mut script = Script::new();
    let agent_id = script.agent(1, "a");
    let effects = script.subscribe(1, framework_info(60.0));
    let offer = offers(&effects, 1).pop().expect("an offer");
    let id = FrameworkId::new(&offer.framework_id.value);
    script.launch(1, &id, &offer, "t");
    script.kill(1, &id, "t", None);
    script.unlink(1);
    let effects = script.reregister(2, "a", &agent_id, Vec::new());
    let mut frameworks = told(&effects, 2).into_iter().filter_map(|message| match message {
        to_agent::Message::ReconcileTasks(reconcile) => Some(reconcile.framework),
        to_agent::Message::KillTask(kill) => Some(kill.framework),
        _ => None,
    });
    let both: Vec<_> = frameworks.by_ref().collect();
    assert!(both.len() == 2 && both.iter().all(|framework| framework.is_some()), "{both:?}");
}

#[test]
fn offer_constraints_that_are_not_built_are_refused() {
    let mut script = Script::new();
    let constraints =
        scheduler::OfferConstraints { role_constraints: [("*".to_owned(), Default::default())].into() };
    let subscribe = Box::new(call::Subscribe {
        framework_info: framework_info(60.0),
        offer_constraints: Some(constraints),
        ..Default::default()
    });
    let effects = script.feed(Input::Subscribe {
        conn: super::ConnId(1),
        stream_id: "1".to_owned(),
        subscribe,
        principal: None,
    });
    assert!(error(&effects, 1).is_some_and(|problem| problem.contains("offer_constraints")));
}

#[test]
fn what_tasks_use_shows_on_their_agent() {
    let mut script = Script::new();
    let agent_id = script.agent(1, "a");
    let id = script.framework(1, framework_info(60.0));
    script.unlink(1);
    script.reregister(2, "a", &agent_id, vec![task(&id, "t", &agent_id)]);
    let state = script.master.legacy_state();
    assert!(state.contains(r#""used_resources":{"disk":0.0,"mem":64.0,"gpus":0.0,"cpus":1.0}"#), "{state}");
}
