//! Launches, one word after another.

use std::time::Duration;

use serde_json::json;

use super::model::{Model, Wish, app};
use crate::api::v1::TaskState;
use crate::api::v1::scheduler::call::Type as CallType;
use crate::service::core::Input;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A subscribed framework with one app, and nothing else to do.
fn with_app(instances: u32, more: &serde_json::Value) -> Model {
    let mut model = Model::new(2);
    model.wish(Wish::Put(app("/a", instances, more)), false);
    assert!(model.commit());
    assert!(model.subscribing);
    model.subscribe();
    model.deliver(1);
    assert!(model.commit(), "the framework's id is recorded");
    model.calls.clear();
    model
}

fn calls(model: &mut Model) -> Vec<CallType> {
    std::mem::take(&mut model.calls)
}

#[test]
fn an_empty_cluster_shows_no_framework() {
    let mut model = Model::new(1);
    model.handle(Input::Tick);
    assert!(!model.subscribing);
}

#[test]
fn an_offer_is_accepted_when_every_intent_is_recorded() {
    let mut model = with_app(2, &json!({}));
    model.offer(0);
    model.deliver(1);
    assert_eq!(calls(&mut model), [CallType::Suppress], "nothing more is wanted meanwhile");
    model.commit();
    assert_eq!(calls(&mut model), []);
    model.commit();
    assert_eq!(calls(&mut model), [CallType::Accept]);
    assert_eq!(model.tasks.len(), 2);
    model.come_to_rest();
    model.check_rest();
}

#[test]
fn what_does_not_fit_is_declined() {
    let mut model = with_app(1, &json!({ "cpus": 100 }));
    model.offer(0);
    model.deliver(1);
    assert_eq!(calls(&mut model), [CallType::Decline]);
    let reasons = model.services.reasons("/a", model.now.mono);
    assert!(reasons.iter().any(|reason| reason.contains("InsufficientCpus")), "{reasons:?}");
    // A configuration that may fit is worth asking again at once.
    model.wish(Wish::Put(app("/a", 1, &json!({ "cpus": 1 }))), true);
    model.commit();
    assert_eq!(calls(&mut model), [CallType::Revive]);
}

#[test]
fn a_second_offer_before_the_end_is_recorded_launches_nothing_more() {
    let mut model = with_app(1, &json!({ "backoffSeconds": 0 }));
    model.offer(0);
    model.deliver(1);
    while model.commit() {}
    let task = model.tasks.keys().next().cloned().expect("a task");
    model.advance(&task, TaskState::TaskFailed);
    model.deliver(1);
    // Its end is on its way into the replicated state; the place is filled once.
    model.suppressed = false;
    model.offer(0);
    model.offer(1);
    model.deliver(2);
    model.come_to_rest();
    model.check_rest();
}

#[test]
fn what_is_about_to_be_launched_is_not_asked_for() {
    let mut model = with_app(2, &json!({}));
    model.offer(0);
    model.deliver(1);
    // The first of two intents is recorded when the connection breaks and comes back.
    model.commit();
    model.disconnect();
    model.subscribe();
    model.deliver(1);
    assert_eq!(calls(&mut model).iter().filter(|call| **call == CallType::Reconcile).count(), 0);
    model.come_to_rest();
    model.check_rest();
}

#[test]
fn a_failed_launch_waits_without_spinning() {
    let mut model = with_app(1, &json!({ "backoffSeconds": 10, "backoffFactor": 2 }));
    for delay in [10, 20, 40] {
        model.offer(0);
        model.deliver(1);
        while model.commit() {}
        let task = model.tasks.keys().next().cloned().expect("a task");
        model.advance(&task, TaskState::TaskFailed);
        model.deliver(1);
        while model.commit() {}
        assert!(model.suppressed);
        model.wait(seconds(delay) - Duration::from_millis(1));
        assert!(model.suppressed);
        model.wait(Duration::from_millis(1));
        assert!(!model.suppressed, "after {delay} s");
        // No offer comes for a long time: nothing is due meanwhile.
        model.wait(seconds(600));
    }
    model.handle(Input::ResetDelay { app_id: "/a".to_owned() });
    model.come_to_rest();
    model.check_rest();
}

#[test]
fn a_kill_is_repeated_until_the_task_has_ended() {
    let mut model = with_app(1, &json!({}));
    model.come_to_rest();
    let task = model.tasks.keys().next().cloned().expect("a task");
    calls(&mut model);
    model.handle(Input::Kill { tasks: vec![task.clone()] });
    model.wait(seconds(29));
    assert_eq!(calls(&mut model), [CallType::Kill]);
    model.wait(seconds(1));
    assert_eq!(calls(&mut model), [CallType::Kill]);
    model.come_to_rest();
    model.check_rest();
    assert!(!model.tasks.contains_key(&task), "another one runs in its place");
}

#[test]
fn a_task_that_nobody_wants_is_killed() {
    let mut model = with_app(1, &json!({}));
    model.come_to_rest();
    model.wish(Wish::Remove("/a".to_owned()), true);
    model.come_to_rest();
    model.check_rest();
    assert!(model.tasks.is_empty());
    assert!(model.state.instances().is_empty());
}

#[test]
fn after_a_new_subscription_every_task_is_asked_about() {
    let mut model = with_app(2, &json!({}));
    model.come_to_rest();
    model.disconnect();
    // There is a pause between two subscriptions.
    model.wait(seconds(1));
    model.subscribe();
    calls(&mut model);
    model.deliver(1);
    // About each, and once for all that it knows.
    assert_eq!(calls(&mut model), [CallType::Reconcile, CallType::Reconcile, CallType::Suppress]);
    // No answer for a while: asked again.
    model.events.clear();
    model.wait(seconds(2));
    assert_eq!(calls(&mut model), [CallType::Reconcile]);
    model.deliver(2);
    model.wait(seconds(50));
    assert_eq!(calls(&mut model), []);
    // Agents have come back by now: once more for all of them.
    model.wait(seconds(10));
    assert!(calls(&mut model).iter().all(|kind| *kind == CallType::Reconcile));
    model.check_rest();
}
