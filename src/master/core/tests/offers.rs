//! Offers: declined, filtered, suppressed, revived, rescinded.

use std::time::Duration;

use super::support::{CallType, Capability, TestEnv, framework_info};
use crate::api::v1;
use crate::api::v1::scheduler::{call, event};

const ALMOST: Duration = Duration::from_millis(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_declined_offer_comes_again_after_its_time() {
    // What is asked for, and what it means: nothing and nonsense is 5 s, less than the allocation
    // interval is one interval.
    let cases = [
        (None, seconds(5)),
        (Some(-1.0), seconds(5)),
        (Some(f64::NAN), seconds(5)),
        (Some(0.0), seconds(1)),
        (Some(30.0), seconds(30)),
    ];
    for (asked, expected) in cases {
        let mut env = TestEnv::new();
        let (scheduler, _, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
        env.decline(&scheduler, std::slice::from_ref(&offer.id), asked);
        env.silence();
        env.wait(expected - ALMOST);
        env.silence();
        env.wait(ALMOST);
        let again = env.offer(scheduler.conn);
        assert_ne!(again.id, offer.id, "every offer has an id of its own");
        env.silence();
    }
}

#[test]
fn what_one_declines_another_is_offered_at_once() {
    let mut env = TestEnv::new();
    let (first, _, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    let second = env.subscribe(&framework_info(&[]));
    env.silence();
    env.decline(&first, &[offer.id], Some(0.0));
    let offer = env.offer(second.conn);
    env.silence();
    env.decline(&second, &[offer.id], Some(60.0));
    env.silence();
    env.wait(seconds(1));
    env.offer(first.conn);
    env.silence();
}

#[test]
fn an_unknown_offer_is_declined_in_silence() {
    let mut env = TestEnv::new();
    let (scheduler, _, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    let unknown = v1::OfferId { value: "unknown".to_owned() };
    env.decline(&scheduler, &[unknown, offer.id.clone(), offer.id], None);
    env.silence();
}

#[test]
fn revive_forgets_filters_and_suppression() {
    let mut env = TestEnv::new();
    let (scheduler, _, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    env.call(&scheduler, CallType::Suppress, |_| ()).expect("accepted");
    // What was offered before stays valid.
    env.decline(&scheduler, &[offer.id], Some(0.0));
    env.wait(seconds(100));
    env.silence();
    env.call(&scheduler, CallType::Revive, |_| ()).expect("accepted");
    let offer = env.offer(scheduler.conn);
    env.decline(&scheduler, &[offer.id], Some(1e9));
    env.wait(seconds(1_000));
    env.silence();
    env.call(&scheduler, CallType::Revive, |_| ()).expect("accepted");
    env.offer(scheduler.conn);
    env.silence();
}

#[test]
fn a_role_that_is_not_the_frameworks_drops_the_whole_call() {
    let mut env = TestEnv::new();
    let info = v1::FrameworkInfo {
        roles: vec!["a".to_owned(), "b".to_owned()],
        ..framework_info(&[Capability::MultiRole])
    };
    let agent = env.agent("one", "cpus:1;mem:64");
    let scheduler = env.subscribe(&info);
    let offer = env.offer(scheduler.conn);
    let roles = |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>();
    let suppress = |roles| Some(call::Suppress { roles });
    env.call(&scheduler, CallType::Suppress, |call| call.suppress = suppress(roles(&["a", "c"])))
        .expect("accepted");
    env.decline(&scheduler, &[offer.id], Some(0.0));
    env.wait(seconds(1));
    let offer = env.offer(scheduler.conn);
    env.silence();
    env.call(&scheduler, CallType::Suppress, |call| call.suppress = suppress(roles(&["a"])))
        .expect("accepted");
    env.decline(&scheduler, &[offer.id], Some(0.0));
    env.wait(seconds(1));
    let offer = env.offer(scheduler.conn);
    let role = offer.allocation_info.and_then(|info| info.role);
    assert_eq!(role.as_deref(), Some("b"), "offers of {}", agent.id);
    env.silence();
}

#[test]
fn offers_of_an_agent_that_goes_away_are_rescinded() {
    let mut env = TestEnv::new();
    let (scheduler, agent, offer) = env.one_offer(&framework_info(&[]), "cpus:1;mem:64");
    env.handle(crate::master::core::Input::AgentDisconnected { link: agent.link });
    let rescind = env.event(scheduler.conn, event::Type::Rescind).rescind.expect("its member");
    assert_eq!(rescind.offer_id, offer.id);
    env.silence();
    let mut agent = agent;
    env.come_back(&mut agent, &[], &[]);
    env.registered(agent.link);
    env.offer(scheduler.conn);
    env.silence();
}

#[test]
fn offers_of_a_role_that_is_left_are_rescinded() {
    let mut env = TestEnv::new();
    let info = v1::FrameworkInfo { roles: vec!["a".to_owned()], ..framework_info(&[Capability::MultiRole]) };
    env.agent("one", "cpus:1;mem:64");
    let scheduler = env.subscribe(&info);
    let offer = env.offer(scheduler.conn);
    let mut info = super::support::with_id(&info, &scheduler.id);
    info.roles = vec!["b".to_owned()];
    let update = call::UpdateFramework { framework_info: info, ..Default::default() };
    env.call(&scheduler, CallType::UpdateFramework, |call| call.update_framework = Some(update))
        .expect("accepted");
    let rescind = env.event(scheduler.conn, event::Type::Rescind).rescind.expect("its member");
    assert_eq!(rescind.offer_id, offer.id);
    let offer = env.offer(scheduler.conn);
    assert_eq!(offer.allocation_info.and_then(|info| info.role).as_deref(), Some("b"));
    env.silence();
}
