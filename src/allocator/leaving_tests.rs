//! Roles that frameworks leave and take up again, and filters that must not pile up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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

fn id(name: &str) -> FrameworkId {
    FrameworkId::new(name)
}

fn add_agent(allocator: &mut Allocator, name: &str) {
    allocator.add_agent(&AgentId::new(name), &parse("cpus:8"), &BTreeMap::new());
}

fn allocate(allocator: &mut Allocator, now: Mono) -> Vec<Grant> {
    let grants = allocator.allocate(now);
    allocator.sanity_check();
    grants
}

#[test]
fn a_role_that_was_left_is_not_offered_although_others_are_in_it() {
    let mut allocator = Allocator::new(Config::default(), 1);
    allocator.add_framework(&id("a"), spec(&["x"]), true);
    allocator.add_framework(&id("b"), spec(&["x"]), false);
    add_agent(&mut allocator, "S0");
    let grant = allocate(&mut allocator, at(0)).remove(0);
    allocator.update_framework(&id("a"), spec(&["y"]));
    allocator.suppress(&id("a"), &[Role::new("y")].into());
    // What it had in the role comes back.
    allocator.release(&grant.framework_id, &grant.agent_id, &grant.resources, None, at(1));
    assert_eq!(allocate(&mut allocator, at(2)), [], "nobody is left who wants it");
    // Nor does a framework that is gone stand in anybody's way.
    allocator.remove_framework(&id("a"));
    allocator.activate_framework(&id("b"));
    assert_eq!(allocate(&mut allocator, at(3)).remove(0).framework_id, id("b"));
}

/// What a role's shares look like to the others: the order in which roles are served.
fn order(allocator: &Allocator) -> Vec<String> {
    allocator.roles.in_order().iter().map(ToString::to_string).collect()
}

#[test]
fn taking_a_role_up_again_counts_its_tasks_once() {
    let mut allocator = Allocator::new(Config::default(), 1);
    let mine = |text: &str, role: &str| parse(text).allocated_to(&Role::new(role));
    add_agent(&mut allocator, "S0");
    allocator.add_framework(&id("a"), spec(&["eng/x"]), false);
    allocator.add_framework(&id("b"), spec(&["eng/x", "eng"]), false);
    allocator.add_framework(&id("c"), spec(&["ops"]), false);
    allocator.charge(&id("a"), &AgentId::new("S0"), &mine("cpus:2", "eng/x"));
    allocator.charge(&id("c"), &AgentId::new("S0"), &mine("cpus:3", "ops"));
    assert_eq!(order(&allocator), ["eng", "eng/x", "ops"]);
    // Others keep the role in the tree meanwhile.
    allocator.update_framework(&id("a"), spec(&["other"]));
    allocator.update_framework(&id("a"), spec(&["eng/x"]));
    assert_eq!(order(&allocator), ["eng", "eng/x", "ops"], "still two against three");
    // Nobody does, and its parent stays.
    allocator.update_framework(&id("b"), spec(&["eng"]));
    allocator.update_framework(&id("a"), spec(&["other"]));
    allocator.update_framework(&id("a"), spec(&["eng/x"]));
    assert_eq!(order(&allocator), ["eng", "eng/x", "ops"]);
    // A task that ends frees the whole of its share.
    allocator.release(&id("a"), &AgentId::new("S0"), &mine("cpus:2", "eng/x"), None, at(1));
    allocator.charge(&id("b"), &AgentId::new("S0"), &mine("cpus:1", "eng"));
    allocator.release(&id("c"), &AgentId::new("S0"), &mine("cpus:1", "ops"), None, at(1));
    assert_eq!(order(&allocator), ["eng/x", "eng", "ops"]);
}

#[test]
fn filters_and_their_ends_do_not_pile_up() {
    let mut allocator = Allocator::new(Config::default(), 1);
    allocator.add_framework(&id("a"), spec(&["*"]), true);
    add_agent(&mut allocator, "S0");
    let year = Some(Duration::from_secs(31_536_000));
    for second in 0..500 {
        let grant = allocate(&mut allocator, at(second)).remove(0);
        allocator.release(&grant.framework_id, &grant.agent_id, &grant.resources, year, at(second));
        allocator.revive(&id("a"), &BTreeSet::new());
    }
    assert!(allocator.expiries.len() <= 1, "{} ends are remembered", allocator.expiries.len());
    // The same, declined piece by piece without a revival.
    let grant = allocate(&mut allocator, at(500)).remove(0);
    let crumb = parse("cpus:0.001").allocated_to(&Role::new("*"));
    for _ in 0..5_000 {
        allocator.release(&grant.framework_id, &grant.agent_id, &crumb, year, at(500));
    }
    let mut growing = grant.resources.clone();
    for _ in 0..5_000 {
        growing.subtract(&crumb).expect("contained");
    }
    for part in 2..400_i64 {
        let milli = f64::from(i32::try_from(part).expect("small")) / 1_000.0;
        let piece = parse(&format!("cpus:{milli}")).allocated_to(&Role::new("*"));
        if growing.subtract(&piece).is_err() {
            break;
        }
        let refuse = Some(Duration::from_secs(40_000 - u64::try_from(part).expect("positive")));
        allocator.release(&grant.framework_id, &grant.agent_id, &piece, refuse, at(501));
    }
    let agent = &allocator.agents[&grant.agent_id];
    let filters: usize = agent.filters.values().map(Vec::len).sum();
    assert!(filters <= 32, "{filters} filters");
    assert!(allocator.expiries.len() <= 1);
}

#[test]
fn after_one_filter_ends_the_next_one_still_does() {
    let mut allocator = Allocator::new(Config::default(), 1);
    allocator.add_framework(&id("a"), spec(&["*"]), true);
    add_agent(&mut allocator, "S0");
    let grant = allocate(&mut allocator, at(0)).remove(0);
    let half = parse("cpus:4").allocated_to(&Role::new("*"));
    // The whole is refused for long, the half for a while.
    allocator.release(&id("a"), &grant.agent_id, &half, Some(Duration::from_secs(10)), at(0));
    assert_eq!(allocator.next_wakeup().map(|_| ()), Some(()));
    assert_eq!(allocate(&mut allocator, at(0)), []);
    assert_eq!(allocator.next_wakeup(), Some(at(10)));
    let again = allocate(&mut allocator, at(10)).remove(0);
    allocator.release(&id("a"), &grant.agent_id, &again.resources, Some(Duration::from_secs(5)), at(10));
    allocator.release(&id("a"), &grant.agent_id, &half, Some(Duration::from_secs(20)), at(10));
    assert_eq!(allocate(&mut allocator, at(15)).len(), 1, "eight are more than the four that were refused");
    assert_eq!(allocator.next_wakeup(), Some(at(30)));
    assert_eq!(allocate(&mut allocator, at(30)), []);
    assert_eq!(allocator.next_wakeup(), None);
}
