//! Whole networks of masters: order, losses, and coming back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::support::{Node, authority, hello, id, identity, message, until};
use crate::peer::link::{Event, Frame, Network as _, SendError};
use crate::peer::wire::dial::open;
use crate::peer::wire::limits::EVENTS;
use crate::peer::wire::verify::MasterVerifier;
use crate::peer::wire::{Authority, Faults, Hello, Role};

async fn pair(faults: &Faults) -> (Authority, Node, Node) {
    let authority = authority();
    let one = Node::start_with(identity(&authority, Role::Master, 1), faults.clone()).await;
    let two = Node::start_with(identity(&authority, Role::Master, 2), faults.clone()).await;
    one.peers(&[&one, &two]);
    two.peers(&[&one, &two]);
    one.connected(id(2)).await;
    two.connected(id(1)).await;
    (authority, one, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order_both_ways() {
    let (_, mut one, mut two) = pair(&Faults::default()).await;
    for number in 0..500 {
        one.network.send(id(2), message(&format!("{number}"))).expect("connected");
    }
    two.network.send(id(1), message("back")).expect("connected");
    for number in 0..500 {
        let frame = message(&format!("{number}"));
        assert_eq!(two.event().await, Event::Received { from: id(1), frame });
    }
    assert_eq!(one.event().await, Event::Received { from: id(2), frame: message("back") });
    assert!(one.network.round_trip(id(2)).is_some_and(|time| time > Duration::ZERO));
    assert_eq!(one.network.send(id(9), message("nobody")), Err(SendError::NotConnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_snapshot_arrives_whole() {
    let (_, mut one, mut two) = pair(&Faults::default()).await;
    let data: Vec<u8> = (0..20_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let snapshot = Frame::Snapshot { header: b"term 3".to_vec(), data };
    one.network.send(id(2), snapshot.clone()).expect("connected");
    assert_eq!(one.network.send(id(2), snapshot.clone()), Err(SendError::Full), "one at a time");
    let received = two.event().await;
    assert!(received == Event::Received { from: id(1), frame: snapshot.clone() }, "another snapshot came");
    assert_eq!(one.event().await, Event::SnapshotSent { to: id(2), arrived: true });
    one.network.send(id(2), snapshot).expect("the next may go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_is_reported_once_and_the_listeners_return_is_found() {
    let (_, mut one, mut two) = pair(&Faults::default()).await;
    two.stop_listening().await;
    let broken = one.event_but_unreachable().await;
    assert!(
        matches!(broken, Event::Broken { peer, round_trip } if peer == id(2) && round_trip > Duration::ZERO)
    );
    assert_eq!(one.network.send(id(2), message("lost")), Err(SendError::NotConnected));
    two.listen_again().await;
    one.send(id(2), message("found")).await;
    let received = two.event_but_unreachable().await;
    let broken = matches!(received, Event::Broken { .. });
    let received = if broken { two.event_but_unreachable().await } else { received };
    assert_eq!(received, Event::Received { from: id(1), frame: message("found") });
    assert!(one.events.try_recv().is_err(), "one report of one break");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_breaks_both_connections_and_is_reported_once() {
    let (authority, mut one, mut two) = pair(&Faults::default()).await;
    two.stop_listening().await;
    drop(two);
    assert!(matches!(one.event_but_unreachable().await, Event::Broken { peer, .. } if peer == id(2)));
    // A third node's message shows that nothing else was reported before it.
    let three = Node::start(identity(&authority, Role::Master, 3)).await;
    three.peers(&[&one]);
    three.send(id(1), message("witness")).await;
    assert_eq!(one.event_but_unreachable().await, Event::Received { from: id(3), frame: message("witness") });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_corrects_a_wrong_address_and_an_unknown_master_is_answered() {
    let authority = authority();
    let one = Node::start(identity(&authority, Role::Master, 1)).await;
    let mut two = Node::start(identity(&authority, Role::Master, 2)).await;
    one.network.set_peers(BTreeMap::from([(id(2), "127.0.0.1:1".to_owned())]));
    two.peers(&[&one]);
    one.send(id(2), message("corrected")).await;
    assert_eq!(two.event().await, Event::Received { from: id(1), frame: message("corrected") });

    let mut three = Node::start(identity(&authority, Role::Master, 3)).await;
    three.peers(&[&one]);
    one.send(id(3), message("answered")).await;
    assert_eq!(three.event().await, Event::Received { from: id(1), frame: message("answered") });
    one.peers(&[&two]);
    assert!(one.network.round_trip(id(3)).is_some(), "it stays while it speaks");
    three.network.set_peers(BTreeMap::new());
    until("three is let go", || one.network.round_trip(id(3)).is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_at_the_address_is_not_spoken_to() {
    let authority = authority();
    let one = Node::start(identity(&authority, Role::Master, 1)).await;
    let mut two = Node::start(identity(&authority, Role::Master, 2)).await;
    let mut three = Node::start(identity(&authority, Role::Master, 3)).await;
    one.network.set_peers(BTreeMap::from([(id(3), two.address.clone())]));
    one.network.set_peers(BTreeMap::from([(id(3), two.address.clone()), (id(2), two.address.clone())]));
    one.send(id(2), message("for two")).await;
    assert_eq!(two.event().await, Event::Received { from: id(1), frame: message("for two") });
    assert_eq!(one.network.send(id(3), message("for three")), Err(SendError::NotConnected));
    let verifier =
        MasterVerifier::member(&one.credentials.identity(), Some(id(3))).expect("good certificates");
    let error = open(&two.address, Some(&one.credentials), verifier, 1 << 20).await.expect_err("not three");
    assert!(error.to_string().contains("it is the node 0000000000000002, not 0000000000000003"), "{error}");
    one.peers(&[&two, &three]);
    one.send(id(3), message("for three")).await;
    assert_eq!(three.event().await, Event::Received { from: id(1), frame: message("for three") });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_master_learns_it() {
    let authority = authority();
    let mut one = Node::start(identity(&authority, Role::Master, 1)).await;
    let two = Node::start(identity(&authority, Role::Master, 2)).await;
    two.desk.lock().removed.insert(id(1));
    one.peers(&[&two]);
    assert_eq!(one.event().await, Event::Removed { by: id(2) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_rests_stops_the_sender_and_loses_nothing() {
    let (_, one, mut two) = pair(&Faults::default()).await;
    let mut sent = 0_u32;
    let mut send = || {
        let mut frame = vec![0; 1 << 10];
        frame[..4].copy_from_slice(&sent.to_be_bytes());
        one.network.send(id(2), Frame::Message(frame)).map(|()| sent += 1)
    };
    // Until nothing moves any more: all queues and buffers on the way are full.
    until("everything is full", || {
        let first = send();
        while send().is_ok() {}
        first == Err(SendError::Full)
    })
    .await;
    for number in 0..sent {
        let Event::Received { frame: Frame::Message(found), .. } = two.event().await else {
            panic!("something else came")
        };
        assert_eq!(found[..4], number.to_be_bytes());
    }
    one.send(id(2), message("on")).await;
    assert_eq!(two.event().await, Event::Received { from: id(1), frame: message("on") });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_loses_one_direction_until_it_heals() {
    let faults = Faults::default();
    let (_, mut one, mut two) = pair(&faults).await;
    faults.cut(id(1), id(2));
    one.network.send(id(2), message("lost")).expect("connected");
    one.network.send(id(2), Frame::Snapshot { header: vec![1], data: vec![2] }).expect("connected");
    assert_eq!(one.event().await, Event::SnapshotSent { to: id(2), arrived: false });
    two.network.send(id(1), message("passes")).expect("connected");
    assert_eq!(one.event().await, Event::Received { from: id(2), frame: message("passes") });
    faults.heal();
    faults.delay(id(1), id(2), Duration::from_millis(30));
    let sent = tokio::time::Instant::now();
    one.network.send(id(2), message("late")).expect("connected");
    assert_eq!(two.event().await, Event::Received { from: id(1), frame: message("late") });
    assert!(sent.elapsed() >= Duration::from_millis(30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_on_its_way_when_the_link_breaks_has_not_arrived() {
    let (_, mut one, mut two) = pair(&Faults::default()).await;
    // The reader of two's events rests, so that the snapshot cannot be handed over.
    for _ in 0..=EVENTS {
        one.network.send(id(2), message("before")).expect("there is room");
    }
    one.network.send(id(2), Frame::Snapshot { header: vec![1], data: vec![2] }).expect("there is room");
    two.stop_listening().await;
    let to = id(2);
    assert_eq!(one.event().await, Event::SnapshotSent { to, arrived: false });
    assert_eq!(one.event().await, Event::Unreachable { to });
    assert!(matches!(one.event().await, Event::Broken { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_only_answers_is_not_answered() {
    let authority = authority();
    let one = Node::start(identity(&authority, Role::Master, 1)).await;
    let shared = one.network.shared();
    let calling = |number| Hello { peer_address: "127.0.0.1:1".to_owned(), ..hello(number) };
    let (answering, serial) = shared.incoming_began(&calling(2), true);
    assert_eq!(shared.is_dialled(id(2)), Some(false));
    let (_, newer) = shared.incoming_began(&calling(2), false);
    assert_eq!(shared.is_dialled(id(2)), Some(true));
    shared.incoming_ended(&answering, serial).await;
    assert_eq!(shared.is_dialled(id(2)), Some(true), "an older connection does not matter");
    one.network.set_peers(BTreeMap::from([(id(3), "127.0.0.1:1".to_owned())]));
    assert_eq!((shared.is_dialled(id(2)), shared.is_dialled(id(3))), (Some(true), Some(true)));
    one.network.set_peers(BTreeMap::new());
    assert_eq!((shared.is_dialled(id(2)), shared.is_dialled(id(3))), (Some(true), None));
    shared.incoming_ended(&answering, newer).await;
    assert_eq!(shared.is_dialled(id(2)), None);
}
