//! Commands survive their encoding, snapshots their restoring; what does not fit is refused.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Authority, Change, Command, MasterEntry, Reply, Standing, State, TokenEntry, VERSION};
use crate::api::v1;
use crate::base::id::{AgentId, FrameworkId, NodeId};
use crate::base::time::Timestamp;

fn agent(number: u8) -> Arc<v1::AgentInfo> {
    let id = Some(v1::AgentId { value: format!("S{number}") });
    Arc::new(v1::AgentInfo { hostname: "h".into(), id, ..Default::default() })
}

fn framework(number: u8) -> Arc<v1::FrameworkInfo> {
    let id = Some(v1::FrameworkId { value: format!("F{number}") });
    Arc::new(v1::FrameworkInfo { name: "f".into(), id, ..Default::default() })
}

fn agent_ids() -> impl Strategy<Value = AgentId> + Clone {
    (0..4_u8).prop_map(|number| AgentId::from(format!("S{number}")))
}

fn any_change() -> impl Strategy<Value = Change> {
    let agent_id = agent_ids();
    let framework_id = (0..4_u8).prop_map(|number| FrameworkId::from(format!("F{number}")));
    prop_oneof![
        ("[a-z]{1,4}", 3..=VERSION)
            .prop_map(|(cluster_id, version)| Change::CreateCluster { cluster_id, version }),
        (0..4_u8, some_node()).prop_map(|(number, node)| Change::AdmitAgent { info: agent(number), node }),
        (0..4_u8, some_node()).prop_map(|(number, node)| Change::UpdateAgent { info: agent(number), node }),
        agent_id.clone().prop_map(|agent_id| Change::RemoveAgent { agent_id }),
        agent_id.clone().prop_map(|agent_id| Change::MarkUnreachable { agent_id }),
        (0..4_u8, some_node()).prop_map(|(number, node)| Change::MarkReachable { info: agent(number), node }),
        agent_id.prop_map(|agent_id| Change::MarkGone { agent_id }),
        prop::collection::vec(agent_ids(), 0..3).prop_map(|agent_ids| Change::ForgetAgents { agent_ids }),
        (0..4_u8).prop_map(|number| Change::AddFramework { info: framework(number) }),
        (framework_id.clone(), proptest::option::of(0..9_i64)).prop_map(|(framework_id, deadline)| {
            Change::SetFrameworkDeadline { framework_id, deadline: deadline.map(Timestamp::from_nanos) }
        }),
        framework_id.prop_map(|framework_id| Change::RemoveFramework { framework_id }),
        (0..3_u32).prop_map(Change::RaiseVersion),
        prop::collection::vec((1..5_u64, "[a-z]{0,3}"), 0..3).prop_map(|masters| Change::PutMasters {
            masters: masters.into_iter().map(|(id, text)| (node(id), master(&text))).collect()
        }),
        (1..5_u64).prop_map(|id| Change::RemoveMaster { id: node(id) }),
        (1..5_u64).prop_map(|id| Change::RemoveNode { id: node(id) }),
        "[a-z]{1,4}".prop_map(|key| Change::SetAuthority(Authority { certificate: "c".into(), key })),
        (0..3_u8, any::<bool>(), any::<bool>(), proptest::option::of(0..40_i64)).prop_map(
            |(digest, for_masters, once, expires)| Change::PutToken {
                digest: vec![digest],
                entry: token(for_masters, once, expires),
            }
        ),
        (0..3_u8).prop_map(|digest| Change::SpendToken { digest: vec![digest] }),
    ]
}

fn some_node() -> impl Strategy<Value = Option<NodeId>> {
    proptest::option::of((1..5_u64).prop_map(node))
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

fn master(text: &str) -> MasterEntry {
    MasterEntry { peer_address: text.to_owned(), max_command_version: 3, ..Default::default() }
}

fn token(for_masters: bool, once: bool, expires: Option<i64>) -> TokenEntry {
    TokenEntry { for_masters, expires: expires.map(Timestamp::from_nanos), once, spent: false }
}

#[test]
fn a_removed_master_stays_out_and_the_last_one_stays() {
    let mut state = State::default();
    let masters = vec![(node(1), master("a:1")), (node(2), master("b:1"))];
    assert_eq!(apply(&mut state, Change::PutMasters { masters }), Reply::Done);
    assert_eq!(apply(&mut state, Change::RemoveMaster { id: node(1) }), Reply::Done);
    assert!(state.is_removed_node(node(1)) && state.master(node(1)).is_none());
    let again = vec![(node(1), master("a:1")), (node(3), master("c:1"))];
    assert!(matches!(apply(&mut state, Change::PutMasters { masters: again }), Reply::Refused(_)));
    assert!(state.master(node(3)).is_none(), "a part of a refused change was done");
    assert!(matches!(apply(&mut state, Change::RemoveMaster { id: node(9) }), Reply::Refused(_)));
    assert!(matches!(apply(&mut state, Change::RemoveMaster { id: node(2) }), Reply::Refused(_)));
    assert_eq!(State::restore(&state.snapshot()), Ok(state));
}

#[test]
fn a_removed_node_takes_its_agents_with_it() {
    let mut state = State::default();
    let admit = |number: u8, id: u64| Change::AdmitAgent { info: agent(number), node: Some(node(id)) };
    assert_eq!(apply(&mut state, admit(1, 7)), Reply::Done);
    assert_eq!(apply(&mut state, admit(2, 8)), Reply::Done);
    assert!(matches!(apply(&mut state, Change::RemoveNode { id: node(9) }), Reply::Refused(_)), "unknown");
    assert_eq!(apply(&mut state, Change::RemoveNode { id: node(7) }), Reply::Done);
    let standing = |state: &State, id: &str| state.agent(&AgentId::new(id)).map(|entry| entry.standing);
    assert_eq!(standing(&state, "S1"), Some(Standing::Gone));
    assert_eq!(standing(&state, "S2"), Some(Standing::Admitted));
    assert!(state.is_removed_node(node(7)) && !state.is_removed_node(node(8)));
    assert!(matches!(apply(&mut state, admit(3, 7)), Reply::Refused(_)), "it is refused under any id");
    let back = Change::MarkReachable { info: agent(3), node: Some(node(7)) };
    assert!(matches!(apply(&mut state, back), Reply::Refused(_)));
    assert_eq!(State::restore(&state.snapshot()), Ok(state.clone()));
    // A master is a node, and the last one stays, with its agents.
    let masters = vec![(node(8), master("b:1"))];
    assert_eq!(apply(&mut state, Change::PutMasters { masters }), Reply::Done);
    assert!(matches!(apply(&mut state, Change::RemoveNode { id: node(8) }), Reply::Refused(_)));
    assert_eq!(standing(&state, "S2"), Some(Standing::Admitted));
}

#[test]
fn a_cluster_that_an_older_version_named_begins_with_its_version() {
    use prost::Message as _;

    use crate::api::registry as wire;

    let create = wire::CreateCluster { cluster_id: "c".to_owned(), version: None };
    let command = wire::Command { time_ns: 1, command: Some(wire::command::Command::CreateCluster(create)) };
    let mut state = State::default();
    state.apply(Command::decode(&command.encode_to_vec()).expect("a command"));
    assert_eq!(state.version(), 3, "every member gets the same state from the same log");
}

#[test]
fn a_token_admits_as_often_and_as_long_as_it_says() {
    let mut state = State::default();
    let put = |digest: u8, entry| Change::PutToken { digest: vec![digest], entry };
    for (digest, entry) in [(1, token(true, true, None)), (2, token(false, false, Some(7)))] {
        assert_eq!(apply(&mut state, put(digest, entry)), Reply::Done);
    }
    let mut spend = |digest: u8, time: i64| {
        let change = Change::SpendToken { digest: vec![digest] };
        state.apply(Command { time: Timestamp::from_nanos(time), change }) == Reply::Done
    };
    assert!(spend(1, 5) && !spend(1, 5), "once");
    assert!(spend(2, 5) && spend(2, 6) && !spend(2, 7), "until it expires");
    assert!(!spend(3, 5), "never made");
}

#[test]
fn the_authority_is_set_once_and_not_shown() {
    let mut state = State::default();
    let authority = |key: &str| Change::SetAuthority(Authority { certificate: "c".into(), key: key.into() });
    assert_eq!(apply(&mut state, authority("secret")), Reply::Done);
    assert!(matches!(apply(&mut state, authority("other")), Reply::Refused(_)));
    assert!(!format!("{state:?}").contains("secret"));
}

proptest! {
    #[test]
    fn everything_survives(changes in prop::collection::vec(any_change(), 0..40)) {
        let (mut state, mut twin) = (State::default(), State::default());
        for (time, change) in (0..).zip(changes) {
            let command = Command { time: Timestamp::from_nanos(time), change };
            let decoded = Command::decode(&command.encode());
            prop_assert_eq!(decoded.as_ref(), Ok(&command));
            prop_assert_eq!(state.apply(command.clone()), twin.apply(command));
        }
        prop_assert_eq!(&state, &twin);
        prop_assert_eq!(state.snapshot(), twin.snapshot());
        prop_assert_eq!(State::restore(&state.snapshot()), Ok(state));
    }
}

fn apply(state: &mut State, change: Change) -> Reply {
    state.apply(Command { time: Timestamp::from_nanos(5), change })
}

#[test]
fn a_gone_agent_never_returns() {
    let mut state = State::default();
    let agent_id = AgentId::from("S1");
    assert_eq!(apply(&mut state, Change::AdmitAgent { info: agent(1), node: None }), Reply::Done);
    assert!(matches!(
        apply(&mut state, Change::AdmitAgent { info: agent(1), node: None }),
        Reply::Refused(_)
    ));
    assert_eq!(apply(&mut state, Change::MarkGone { agent_id: agent_id.clone() }), Reply::Done);
    assert!(matches!(
        apply(&mut state, Change::MarkReachable { info: agent(1), node: None }),
        Reply::Refused(_)
    ));
    assert!(matches!(
        apply(&mut state, Change::MarkUnreachable { agent_id: agent_id.clone() }),
        Reply::Refused(_)
    ));
    assert_eq!(state.agent(&agent_id).map(|entry| entry.standing), Some(Standing::Gone));
}

#[test]
fn agents_that_are_back_are_not_forgotten() {
    let mut state = State::default();
    for number in 1..=3 {
        apply(&mut state, Change::AdmitAgent { info: agent(number), node: None });
    }
    apply(&mut state, Change::MarkUnreachable { agent_id: AgentId::from("S1") });
    apply(&mut state, Change::MarkGone { agent_id: AgentId::from("S2") });
    let agent_ids = ["S1", "S2", "S3", "S4"].map(AgentId::from).to_vec();
    assert_eq!(apply(&mut state, Change::ForgetAgents { agent_ids }), Reply::Done);
    assert_eq!(state.agents().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["S3"]);
}

#[test]
fn a_removed_framework_stays_refused() {
    let mut state = State::default();
    let framework_id = FrameworkId::from("F1");
    apply(&mut state, Change::AddFramework { info: framework(1) });
    assert_eq!(apply(&mut state, Change::RemoveFramework { framework_id }), Reply::Done);
    let again = apply(&mut state, Change::AddFramework { info: framework(1) });
    assert_eq!(again, Reply::Refused("Framework has been removed".to_owned()));
}

#[test]
fn a_removed_framework_leaves_its_id_only() {
    use prost::Message as _;

    let mut state = State::default();
    let framework_id = FrameworkId::from("F1");
    let big = v1::FrameworkInfo { name: "n".repeat(60_000), ..(*framework(1)).clone() };
    apply(&mut state, Change::AddFramework { info: Arc::new(big.clone()) });
    apply(&mut state, Change::RemoveFramework { framework_id });
    assert!(state.snapshot().len() < 200, "{} bytes are left", state.snapshot().len());
    // A snapshot of a version that kept everything.
    let mut old = crate::api::registry::Snapshot::decode(&state.snapshot()[..]).expect("a snapshot");
    old.frameworks[0].framework_info = big;
    assert_eq!(State::restore(&old.encode_to_vec()), Ok(state));
}

#[test]
fn later_versions_are_told_to_upgrade() {
    let error = Command::decode(&[8, 0, 0xf2, 0x3f, 0]).expect_err("an unknown command");
    assert!(error.to_string().contains("upgrade this node"), "{error}");
    let raised = Command { time: Timestamp::from_nanos(1), change: Change::RaiseVersion(VERSION + 1) };
    let error = Command::decode(&raised.encode()).expect_err("commands of a later version follow");
    assert!(error.to_string().contains("upgrade this node"), "{error}");
    assert!(Command::decode(&[0xff]).is_err() && State::restore(&[0xff]).is_err());
}
