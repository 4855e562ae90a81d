//! Fairness, filters, and books that always agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::{Allocator, Config, FrameworkSpec, Grant};
use crate::base::id::{AgentId, FrameworkId, Role};
use crate::base::time::Mono;
use crate::resources::Resources;

fn parse(text: &str) -> Resources {
    Resources::parse(text).expect("valid resources")
}

fn spec(roles: &[&str]) -> FrameworkSpec {
    FrameworkSpec { roles: roles.iter().map(Role::new).collect(), ..FrameworkSpec::default() }
}

fn at(seconds: u64) -> Mono {
    Mono::from_start(Duration::from_secs(seconds))
}

/// An allocator with agents of equal size and frameworks in roles.
fn cluster(agents: usize, total: &str, frameworks: &[(&str, &[&str])]) -> Allocator {
    let mut allocator = Allocator::new(Config::default(), 1);
    for (name, roles) in frameworks {
        allocator.add_framework(&FrameworkId::new(name), spec(roles), true);
    }
    for number in 0..agents {
        allocator.add_agent(&AgentId::from(format!("S{number}")), &parse(total), &BTreeMap::new());
    }
    allocator
}

fn step(allocator: &mut Allocator, now: Mono) -> Vec<Grant> {
    let grants = allocator.allocate(now);
    allocator.sanity_check();
    grants
}

#[test]
fn a_sole_framework_gets_everything_once() {
    let mut allocator = cluster(3, "cpus:4;mem:1024", &[("f", &["*"])]);
    let grants = step(&mut allocator, at(0));
    assert_eq!(grants.len(), 3);
    assert_eq!(grants[0].resources, parse("cpus:4;mem:1024").allocated_to(&Role::new("*")));
    assert!(step(&mut allocator, at(100)).is_empty());
    assert_eq!(allocator.next_wakeup(), None);
}

/// The example of the DRF paper: 9 cpus and 18 GB; tasks of (1, 4) and (3, 1). Three tasks for the
/// first, two for the second.
#[test]
fn dominant_shares_are_equalised() {
    let mut allocator = Allocator::new(Config::default(), 1);
    let demand = [("a", "cpus:1;mem:4096"), ("b", "cpus:3;mem:1024")];
    for (name, _) in demand {
        allocator.add_framework(&FrameworkId::new(name), spec(&["*"]), true);
    }
    let agent_id = AgentId::new("S0");
    allocator.add_agent(&agent_id, &parse("cpus:9;mem:18432"), &BTreeMap::new());
    let mut launched: BTreeMap<&str, u32> = BTreeMap::new();
    let role = Role::new("*");
    for round in 0..40 {
        for grant in step(&mut allocator, at(round)) {
            let (name, task) =
                demand.iter().find(|(name, _)| *name == grant.framework_id.as_str()).expect("known");
            let task = parse(task).allocated_to(&role);
            let mut rest = grant.resources.clone();
            if rest.subtract(&task).is_ok() {
                *launched.entry(name).or_default() += 1;
            }
            allocator.release(&grant.framework_id, &agent_id, &rest, Some(Duration::ZERO), at(round));
        }
    }
    assert_eq!(launched, BTreeMap::from([("a", 3), ("b", 2)]));
}

#[test]
fn what_one_declines_another_gets_at_once() {
    let mut allocator = cluster(1, "cpus:4;mem:1024", &[("a", &["*"]), ("b", &["*"])]);
    let first = step(&mut allocator, at(0)).remove(0);
    assert_eq!(first.framework_id.as_str(), "a");
    allocator.release(
        &first.framework_id,
        &first.agent_id,
        &first.resources,
        Some(Duration::from_secs(5)),
        at(0),
    );
    let second = step(&mut allocator, at(0)).remove(0);
    assert_eq!(second.framework_id.as_str(), "b");
    allocator.release(
        &second.framework_id,
        &second.agent_id,
        &second.resources,
        Some(Duration::from_secs(5)),
        at(1),
    );
    assert!(step(&mut allocator, at(4)).is_empty());
    assert_eq!(allocator.next_wakeup(), Some(at(5)));
    assert_eq!(step(&mut allocator, at(5))[0].framework_id.as_str(), "a");
}

#[test]
fn a_refusal_of_zero_waits_for_the_interval() {
    let mut allocator = cluster(1, "cpus:4", &[("a", &["*"])]);
    let grant = step(&mut allocator, at(0)).remove(0);
    allocator.release(&grant.framework_id, &grant.agent_id, &grant.resources, Some(Duration::ZERO), at(0));
    assert!(step(&mut allocator, at(0)).is_empty());
    assert_eq!(allocator.next_wakeup(), Some(at(1)));
    assert_eq!(step(&mut allocator, at(1)).len(), 1);
}

#[test]
fn a_filter_lets_more_than_was_refused_pass() {
    let mut allocator = cluster(1, "cpus:4;mem:1024", &[("a", &["*"])]);
    let grant = step(&mut allocator, at(0)).remove(0);
    let half = parse("cpus:2;mem:512").allocated_to(&Role::new("*"));
    let hour = Some(Duration::from_secs(3_600));
    allocator.release(&grant.framework_id, &grant.agent_id, &half, hour, at(0));
    assert!(step(&mut allocator, at(2)).is_empty());
    allocator.release(&grant.framework_id, &grant.agent_id, &half, None, at(3));
    assert_eq!(step(&mut allocator, at(3))[0].resources, grant.resources);
}

#[test]
fn suppress_and_revive() {
    let mut allocator = cluster(2, "cpus:4", &[("a", &["x", "y"])]);
    let id = FrameworkId::new("a");
    allocator.suppress(&id, &BTreeSet::new());
    assert!(step(&mut allocator, at(0)).is_empty());
    assert!(allocator.explain(&id).iter().all(|why| why.reason.contains("suppressed")));
    allocator.revive(&id, &[Role::new("y")].into());
    let grants = step(&mut allocator, at(0));
    assert!(grants.len() == 2 && grants.iter().all(|grant| grant.role.as_str() == "y"));
    for grant in grants {
        allocator.release(&id, &grant.agent_id, &grant.resources, Some(Duration::from_secs(3_600)), at(0));
    }
    assert!(step(&mut allocator, at(9)).is_empty());
    allocator.revive(&id, &BTreeSet::new());
    assert_eq!(step(&mut allocator, at(9)).len(), 2, "reviving forgets filters");
}

#[test]
fn reservations_reach_only_their_roles() {
    let mut allocator = cluster(0, "", &[("web", &["eng/web"]), ("ops", &["ops"])]);
    allocator.add_agent(
        &AgentId::new("S0"),
        &parse("cpus(eng):2;cpus(ops):3;mem(eng):64;mem(ops):64"),
        &BTreeMap::new(),
    );
    let grants = step(&mut allocator, at(0));
    let by_name: BTreeMap<&str, String> =
        grants.iter().map(|grant| (grant.framework_id.as_str(), grant.resources.to_string())).collect();
    assert_eq!(by_name["web"], "cpus(eng):2;mem(eng):64");
    assert_eq!(by_name["ops"], "cpus(ops):3;mem(ops):64");
}

#[test]
fn crumbs_and_gpu_agents_are_not_offered() {
    let mut allocator = cluster(1, "cpus:0.005;mem:8", &[("a", &["*"])]);
    allocator.add_agent(&AgentId::new("G"), &parse("cpus:4;gpus:1"), &BTreeMap::new());
    assert!(step(&mut allocator, at(0)).is_empty());
    let reasons: Vec<String> =
        allocator.explain(&FrameworkId::new("a")).into_iter().map(|why| why.reason).collect();
    assert!(reasons[0].contains("GPU_RESOURCES") && reasons[1].contains("less than"), "{reasons:?}");
}

#[test]
fn roles_compete_before_frameworks() {
    // Three frameworks in one role and one in another: the roles get the same.
    let mut allocator = cluster(8, "cpus:1", &[("a", &["x"]), ("b", &["x"]), ("c", &["x"]), ("d", &["y"])]);
    let grants = step(&mut allocator, at(0));
    let count = |role: &str| grants.iter().filter(|grant| grant.role.as_str() == role).count();
    assert_eq!((count("x"), count("y")), (4, 4));
}

#[test]
fn weights_tilt_the_balance() {
    let mut allocator = cluster(9, "cpus:1", &[("a", &["x"]), ("b", &["y"])]);
    allocator.set_weight(&Role::new("x"), 2.0);
    let grants = step(&mut allocator, at(0));
    assert_eq!(grants.iter().filter(|grant| grant.role.as_str() == "x").count(), 6);
}

#[derive(Clone, Debug)]
enum Step {
    Allocate,
    Release { grant: usize, refuse: Option<u8> },
    AddAgent(u8),
    RemoveAgent(u8),
    ToggleFramework(u8, bool),
    RemoveFramework(u8),
    AddFramework(u8),
    Revive(u8),
    Suppress(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Allocate),
        4 => (any::<usize>(), proptest::option::of(0..9_u8)).prop_map(|(grant, refuse)| Step::Release { grant, refuse }),
        1 => (0..4_u8).prop_map(Step::AddAgent),
        1 => (0..4_u8).prop_map(Step::RemoveAgent),
        1 => (0..3_u8, any::<bool>()).prop_map(|(id, on)| Step::ToggleFramework(id, on)),
        1 => (0..3_u8).prop_map(Step::RemoveFramework),
        1 => (0..3_u8).prop_map(Step::AddFramework),
        1 => (0..3_u8).prop_map(Step::Revive),
        1 => (0..3_u8).prop_map(Step::Suppress),
    ]
}

proptest! {
    #[test]
    fn the_books_always_agree(steps in prop::collection::vec(any_step(), 0..80)) {
        let mut allocator = cluster(2, "cpus:4;mem:256;ports:[1-9]", &[("F0", &["*", "eng"]), ("F1", &["eng/web"])]);
        let mut held: Vec<Grant> = Vec::new();
        let framework = |number: u8| FrameworkId::from(format!("F{number}"));
        for (time, one) in (0..).zip(steps) {
            match one {
                Step::Allocate => held.extend(allocator.allocate(at(time))),
                Step::Release { grant, refuse } => {
                    if !held.is_empty() {
                        let grant = held.swap_remove(grant % held.len());
                        let refuse = refuse.map(|seconds| Duration::from_secs(seconds.into()));
                        allocator.release(&grant.framework_id, &grant.agent_id, &grant.resources, refuse, at(time));
                    }
                }
                Step::AddAgent(number) => {
                    let id = AgentId::from(format!("S{number}"));
                    held.retain(|grant| grant.agent_id != id);
                    allocator.add_agent(&id, &parse("cpus:2;mem:64;cpus(eng):1"), &BTreeMap::new());
                }
                Step::RemoveAgent(number) => {
                    let id = AgentId::from(format!("S{number}"));
                    held.retain(|grant| grant.agent_id != id);
                    allocator.remove_agent(&id);
                }
                Step::ToggleFramework(number, true) => allocator.activate_framework(&framework(number)),
                Step::ToggleFramework(number, false) => allocator.deactivate_framework(&framework(number)),
                Step::RemoveFramework(number) => {
                    held.retain(|grant| grant.framework_id != framework(number));
                    allocator.remove_framework(&framework(number));
                }
                Step::AddFramework(number) => {
                    held.retain(|grant| grant.framework_id != framework(number));
                    allocator.add_framework(&framework(number), spec(&["*"]), true);
                }
                Step::Revive(number) => allocator.revive(&framework(number), &BTreeSet::new()),
                Step::Suppress(number) => allocator.suppress(&framework(number), &BTreeSet::new()),
            }
            allocator.sanity_check();
        }
        // At rest: what is charged is what is held.
        for grant in held {
            let charged = allocator.charged(&grant.framework_id, &grant.agent_id);
            prop_assert!(charged.contains(&grant.resources), "{} of {}", grant.resources, charged);
        }
    }
}
