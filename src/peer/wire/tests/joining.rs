//! Joining, and what a joiner must not fall for.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::{Node, authority, hello, id, identity, now, raw, soon};
use crate::peer::wire::credentials::provider;
use crate::peer::wire::limits::STRANGERS;
use crate::peer::wire::proto::LeaderRequest;
use crate::peer::wire::{
    Authority, CallError, Credentials, Dialler, Hello, Identity, JoinRequest, KeyRequest, Refusal, Role,
    Token, join, secret_digest,
};

fn request(role: Role, number: u64) -> JoinRequest {
    let hello = Hello { cluster_id: String::new(), ..hello(number) };
    JoinRequest { role, hello, key: KeyRequest::generate().expect("a key") }
}

/// A master that admits, and the token.
async fn open_house() -> (Node, Token) {
    let authority = authority();
    let node = Node::start(identity(&authority, Role::Master, 1)).await;
    let token = Token::generate(authority.digest()).expect("random numbers");
    node.desk.lock().authority = Some((authority, secret_digest(token.secret())));
    (node, token)
}

#[tokio::test]
async fn the_right_token_gives_an_identity_that_works() {
    let (node, token) = open_house().await;
    let joining = join(&node.address, &token, request(Role::Agent, 7), now()).await.expect("admitted");
    assert_eq!(joining.identity.name().to_string(), "mesita://c1/agent/0000000000000007");
    assert_eq!(joining.masters.get(&id(1)).map(String::as_str), Some("node-1:5052"));
    let asked = node.desk.lock().joins.remove(0);
    assert_eq!((asked.role, asked.hello.node_id), (Role::Agent, id(7)));
    assert!(now().since(asked.wall).as_secs() < 60);
    let leader = Dialler::new(Credentials::new(joining.identity)).leader(&node.address).await;
    assert_eq!(leader.expect("a member may ask").node_id, Some(id(1)));
}

#[tokio::test]
async fn a_token_of_another_cluster_sends_no_secret() {
    let (node, _) = open_house().await;
    let other = Token::generate(authority().digest()).expect("random numbers");
    let error = join(&node.address, &other, request(Role::Master, 7), now()).await.expect_err("not trusted");
    assert!(matches!(&error, CallError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("another cluster"), "{error}");
    assert!(node.desk.lock().joins.is_empty());
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let (node, token) = open_house().await;
    let wrong = Token::generate(*token.authority()).expect("random numbers");
    let error = join(&node.address, &wrong, request(Role::Master, 7), now()).await.expect_err("refused");
    assert_eq!(error, CallError::Refused(Refusal::Refused("the join token is not valid".to_owned())));
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_not_taken() {
    let (node, token) = open_house().await;
    node.desk.lock().mixes_up = true;
    let error = join(&node.address, &token, request(Role::Master, 7), now()).await.expect_err("not ours");
    assert!(error.to_string().contains("not for mesita://c1/master/0000000000000007"), "{error}");
}

#[tokio::test]
async fn an_agent_that_plays_a_master_is_not_trusted() {
    let authority = authority();
    let node = Node::start(identity(&authority, Role::Agent, 1)).await;
    let token = Token::generate(authority.digest()).expect("random numbers");
    let error = join(&node.address, &token, request(Role::Master, 7), now()).await.expect_err("not trusted");
    assert!(error.to_string().contains("no master"), "{error}");
    assert!(node.desk.lock().joins.is_empty());
}

#[tokio::test]
async fn the_right_authority_beside_a_foreign_certificate_is_not_trusted() {
    let (real, thief) = (authority(), authority());
    let address = impostor(&real, &thief).await;
    let token = Token::generate(real.digest()).expect("random numbers");
    let error = join(&address, &token, request(Role::Master, 7), now()).await.expect_err("not trusted");
    assert!(matches!(&error, CallError::Untrusted { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_said_clearly() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let token = Token::generate([1; 32]).expect("random numbers");
    let error = join(&address, &token, request(Role::Master, 7), now()).await.expect_err("nobody");
    assert!(matches!(&error, CallError::Unreachable { .. }), "{error}");
    assert!(error.to_string().starts_with(&address), "{error}");
}

#[tokio::test]
async fn strangers_cannot_use_the_listener_up() {
    let (node, token) = open_house().await;
    let own = node.credentials.identity();
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        let mut connection = raw(&node.address, None, &own).await.expect("a connection");
        connection.client.leader(LeaderRequest {}).await.expect_err("no certificate");
        strangers.push(connection);
    }
    let error = join(&node.address, &token, request(Role::Agent, 7), now()).await.expect_err("too many");
    assert!(matches!(error, CallError::Broken { .. }), "{error}");
    let member = Dialler::new(node.credentials.clone());
    member.leader(&node.address).await.expect("a certificate opens the door");
    strangers.clear();
    let again = async { while join(&node.address, &token, request(Role::Agent, 7), now()).await.is_err() {} };
    soon("room", again).await;
}

/// A TLS server with a leaf of the thief's authority, and the real authority's certificate beside it.
async fn impostor(real: &Authority, thief: &Authority) -> String {
    let key = KeyRequest::generate().expect("a key");
    let leaf = thief.sign(key.csr(), &super::support::name(Role::Master, 1), now()).expect("signed");
    Identity::assemble(key.key_pem(), &leaf, real.certificate_pem(), now()).expect_err("not even by itself");
    let pem = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate");
    let chain = vec![pem(&leaf), pem(real.certificate_pem())];
    let key = PrivateKeyDer::from_pem_slice(key.key_pem().as_bytes()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("known versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        let (stream, _) = soon("the victim", listener.accept()).await.expect("a connection");
        let shaken = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        assert!(shaken.is_err(), "the victim believed it");
    });
    address
}
