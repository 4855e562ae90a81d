//! The calls other than consensus: who may make them, and what arrives.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::support::{Node, authority, credentials, id, identity, name, now, raw, soon};
use crate::api::peer::{FromAgent, Ping, Pong, ToAgent, from_agent, to_agent};
use crate::base::id::NodeId;
use crate::peer::wire::limits::FORWARD_BYTES;
use crate::peer::wire::proto::{ConsensusFrame, LeaderRequest};
use crate::peer::wire::refusal::call_error;
use crate::peer::wire::{
    Authority, CallError, CertificateError, Credentials, Dialler, ForwardRequest, Identity, KeyRequest,
    PeerName, Refusal, Role,
};

async fn leading() -> (Authority, Node) {
    let authority = authority();
    let node = Node::start(identity(&authority, Role::Master, 1)).await;
    node.desk.lock().leads = true;
    (authority, node)
}

fn refused(error: &CallError) -> &str {
    match error {
        CallError::Refused(Refusal::Refused(reason)) => reason,
        other => panic!("not a plain refusal: {other}"),
    }
}

/// Asks who leads with any mixture of certificate and trust.
async fn ask(node: &Node, shown: Option<&Credentials>) -> Result<Option<NodeId>, CallError> {
    let mut connection = raw(&node.address, shown, &node.credentials.identity()).await?;
    match connection.client.leader(LeaderRequest {}).await {
        Ok(reply) => Ok(reply.into_inner().node_id.and_then(NodeId::new)),
        Err(status) => Err(call_error(&node.address, &status)),
    }
}

#[tokio::test]
async fn every_call_but_join_needs_a_certificate_of_this_cluster() {
    let (authority, node) = leading().await;
    assert_eq!(ask(&node, Some(&credentials(&authority, Role::Agent, 2))).await, Ok(Some(id(1))));
    let nobody = ask(&node, None).await.expect_err("no certificate");
    assert!(refused(&nobody).contains("needs a certificate"), "{nobody}");
    let foreign = credentials(&super::support::authority(), Role::Master, 2);
    let foreign = ask(&node, Some(&foreign)).await.expect_err("another authority");
    // The alert may be lost with the socket.
    assert!(matches!(foreign, CallError::Untrusted { .. } | CallError::Broken { .. }), "{foreign}");
    let elsewhere = PeerName { cluster_id: "c2".to_owned(), ..name(Role::Master, 2) };
    let elsewhere = Credentials::new(Identity::issue(&authority, &elsewhere, now()).expect("signed"));
    let elsewhere_error = ask(&node, Some(&elsewhere)).await.expect_err("another cluster");
    assert!(refused(&elsewhere_error).contains("\"c2\""), "{elsewhere_error}");
    let error = Dialler::new(elsewhere).leader(&node.address).await.expect_err("not our cluster");
    assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
}

#[tokio::test]
async fn agents_may_not_do_what_masters_do() {
    let (authority, node) = leading().await;
    let agent = credentials(&authority, Role::Agent, 2);
    let error = Dialler::new(agent.clone()).forward(&node.address, ForwardRequest::default()).await;
    let error = error.expect_err("for masters");
    assert!(refused(&error).contains("for masters"), "{error}");
    let mut connection = raw(&node.address, Some(&agent), &agent.identity()).await.expect("a connection");
    let (_frames, outgoing) = mpsc::channel::<ConsensusFrame>(1);
    let status = connection.client.consensus(ReceiverStream::new(outgoing)).await.expect_err("for masters");
    assert!(refused(&call_error("", &status)).contains("for masters"), "{status}");
    let desk = node.desk.lock();
    assert!(desk.hellos.is_empty() && desk.forwarded.is_empty());
}

#[tokio::test]
async fn the_removed_are_told_so() {
    let (authority, node) = leading().await;
    node.desk.lock().removed.insert(id(2));
    let dialler = Dialler::new(credentials(&authority, Role::Agent, 2));
    let error = dialler.agent(&node.address).await.expect_err("removed");
    assert_eq!(error, CallError::Refused(Refusal::Removed));
}

#[tokio::test]
async fn an_agent_talks_with_the_leader_and_each_hears_the_other_go() {
    let (authority, node) = leading().await;
    let (sender, mut agents) = mpsc::unbounded_channel();
    node.desk.lock().agents = Some(sender);
    let dialler = Dialler::new(credentials(&authority, Role::Agent, 2));
    let mut call = dialler.agent(&node.address).await.expect("welcome");
    let (peer, mut stream) = soon("the agent", agents.recv()).await.expect("it came");
    assert_eq!(peer, name(Role::Agent, 2));
    let ping = ToAgent { term: 5, message: Some(to_agent::Message::Ping(Ping {})) };
    stream.to_agent.send(ping.clone()).await.expect("it reads");
    assert_eq!(soon("a ping", call.from_master.recv()).await, Some(ping));
    let pong = FromAgent { message: Some(from_agent::Message::Pong(Pong {})) };
    call.to_master.send(pong.clone()).await.expect("it reads");
    assert_eq!(soon("a pong", stream.from_agent.recv()).await, Some(pong));
    drop(call);
    assert_eq!(soon("the end", stream.from_agent.recv()).await, None);

    let mut call = dialler.agent(&node.address).await.expect("welcome again");
    let (_, stream) = soon("the agent", agents.recv()).await.expect("it came");
    drop(stream);
    assert_eq!(soon("the end", call.from_master.recv()).await, None);

    node.desk.lock().leads = false;
    let error = dialler.agent(&node.address).await.expect_err("no leader");
    assert_eq!(error, CallError::Refused(Refusal::NotLeader { leader: Some("127.0.0.1:9".to_owned()) }));
}

#[tokio::test]
async fn a_request_is_forwarded_whole_and_its_answer_streams() {
    let (authority, node) = leading().await;
    let large = Bytes::from(vec![7; FORWARD_BYTES + 5]);
    let lost = Refusal::Unavailable("it stopped".to_owned());
    node.desk.lock().body = vec![Ok(Bytes::from_static(b"{")), Ok(large.clone()), Err(lost.clone())];
    let dialler = Dialler::new(credentials(&authority, Role::Master, 2));
    let request = ForwardRequest {
        method: "POST".to_owned(),
        path: "/v2/apps?force=true".to_owned(),
        headers: vec![("accept".to_owned(), Bytes::from_static(b"*/*"))],
        body: Bytes::from_static(b"{}"),
        principal: Some("ops".to_owned()),
    };
    let mut reply = dialler.forward(&node.address, request.clone()).await.expect("an answer");
    assert_eq!(node.desk.lock().forwarded, [(name(Role::Master, 2), request)]);
    assert_eq!(reply.status, 202);
    assert_eq!(reply.headers, [("content-type".to_owned(), Bytes::from_static(b"application/json"))]);
    let mut found = Vec::new();
    let end = loop {
        match soon("a chunk", reply.body.recv()).await.expect("an error is last") {
            Ok(chunk) => found.extend_from_slice(&chunk),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((found.len(), end), (1 + large.len(), lost));
    assert!(reply.body.recv().await.is_none());
}

#[tokio::test]
async fn the_leader_hears_that_nobody_reads_an_answer_any_more() {
    let (authority, node) = leading().await;
    node.desk.lock().keeps_open = true;
    let dialler = Dialler::new(credentials(&authority, Role::Master, 2));
    for _ in 0..2 {
        let mut reply = dialler.forward(&node.address, ForwardRequest::default()).await.expect("an answer");
        let body = node.desk.lock().open.take().expect("it goes on");
        body.send(Ok(Bytes::from_static(b"event"))).await.expect("it is read");
        assert_eq!(soon("a chunk", reply.body.recv()).await, Some(Ok(Bytes::from_static(b"event"))));
        drop(reply);
        soon("the end", body.closed()).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_says_so() {
    let (authority, mut node) = leading().await;
    node.desk.lock().keeps_open = true;
    let dialler = Dialler::new(credentials(&authority, Role::Master, 2));
    let mut reply = dialler.forward(&node.address, ForwardRequest::default()).await.expect("an answer");
    node.stop_listening().await;
    let end = soon("the end", reply.body.recv()).await.expect("not as if it were whole");
    assert!(matches!(end, Err(Refusal::Unavailable(_))), "{end:?}");
    let error = dialler.forward(&node.address, ForwardRequest::default()).await.expect_err("gone");
    assert!(matches!(error, CallError::Unreachable { .. } | CallError::Broken { .. }), "{error}");
    node.listen_again().await;
    dialler.forward(&node.address, ForwardRequest::default()).await.expect("a new connection");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_by_new_connections() {
    let (authority, node) = leading().await;
    let other = identity(&authority, Role::Master, 3);
    node.desk.lock().authority = Some((authority, [0; 32]));
    let dialler = Dialler::new(node.credentials.clone());
    let shown = || async {
        let connection = raw(&node.address, None, &other).await.expect("a connection");
        connection.chain.first().cloned().expect("a certificate")
    };
    let before = shown().await;
    assert_eq!(shown().await, before);
    let key = KeyRequest::generate().expect("a key");
    let renewed = dialler.renew(&node.address, &key, now()).await.expect("a member renews");
    node.credentials.replace(renewed).expect("the same node");
    assert_ne!(shown().await, before);
    assert_eq!(dialler.leader(&node.address).await.expect("it still works").node_id, Some(id(1)));
    let wrong = node.credentials.replace(other.clone());
    assert!(matches!(wrong, Err(CertificateError::WrongName { .. })), "{wrong:?}");
}
