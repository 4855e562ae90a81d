//! One outgoing connection: TCP, TLS with our demands on the other side, HTTP/2.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;

use super::credentials::{Credentials, client_config};
use super::error::CallError;
use super::limits::{CONNECT_TIMEOUT, KEEP_ALIVE};
use super::proto::wire_client::WireClient;
use super::verify::MasterVerifier;

/// A connection on which calls can be made. It ends when the last copy and the last call are over.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    requests: http2::SendRequest<Body>,
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}

/// An open connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// For calls.
    pub client: WireClient<Channel>,
    /// What the other side showed and the verifier accepted, its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    channel: Channel,
}

impl Connection {
    /// Whether no more calls can be made.
    pub(super) fn is_closed(&self) -> bool {
        self.channel.requests.is_closed()
    }
}

/// Opens a connection to `host:port`. Nothing is said before the other side is verified.
pub(super) async fn open(
    address: &str,
    credentials: Option<&Credentials>,
    verifier: MasterVerifier,
    message_bytes: usize,
) -> Result<Connection, CallError> {
    let after = CONNECT_TIMEOUT;
    match tokio::time::timeout(after, Box::pin(connect(address, credentials, verifier, message_bytes))).await
    {
        Ok(connected) => connected,
        Err(_) => Err(CallError::Timeout { address: address.to_owned(), after }),
    }
}

async fn connect(
    address: &str,
    credentials: Option<&Credentials>,
    verifier: MasterVerifier,
    message_bytes: usize,
) -> Result<Connection, CallError> {
    let unreachable = |error: std::io::Error| CallError::Unreachable {
        address: address.to_owned(),
        reason: error.to_string(),
    };
    let broken = |reason: String| CallError::Broken { address: address.to_owned(), reason };
    let config = client_config(credentials, verifier).map_err(|error| broken(error.to_string()))?;
    let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let tls = shake_hands(address, Arc::new(config), tcp).await?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(|error| broken(error.to_string()))?;
    tokio::spawn(async move {
        // The calls on it report its end to those who wait.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a peer connection ended");
        }
    });
    let channel = Channel { requests };
    let client = WireClient::with_origin(channel.clone(), Uri::from_static("https://peer.mesita"))
        .max_decoding_message_size(message_bytes);
    Ok(Connection { client, chain, channel })
}

async fn shake_hands(
    address: &str,
    config: Arc<rustls::ClientConfig>,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, CallError> {
    let address = || address.to_owned();
    // Required by the interface; neither sent nor checked.
    let name = ServerName::try_from("peer.mesita")
        .map_err(|error| CallError::Broken { address: address(), reason: error.to_string() })?;
    TlsConnector::from(config).connect(name, tcp).await.map_err(|error| {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::General(reason)) => {
                CallError::Untrusted { address: address(), reason: reason.clone() }
            }
            Some(other) => CallError::Untrusted { address: address(), reason: other.to_string() },
            None => CallError::Unreachable { address: address(), reason: error.to_string() },
        }
    })
}
