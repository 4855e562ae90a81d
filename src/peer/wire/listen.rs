//! The one listener: it shakes hands, learns from the certificate who calls, and serves HTTP/2.
//!
//! Whoever has no certificate may only join; such connections are few and short-lived, and handshakes
//! have a time limit, so that strangers cannot use the listener up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::credentials::{Credentials, server_config};
use super::desk::Desk;
use super::error::CertificateError;
use super::limits::{
    AGENT_MESSAGE_BYTES, CONNECT_TIMEOUT, ENVELOPE_BYTES, FORWARD_BYTES, HANDSHAKES, KEEP_ALIVE,
    MESSAGE_BYTES, SHORT_BYTES, STRANGER_LIFE, STRANGERS, STREAMS,
};
use super::name::PeerName;
use super::network::WireNetwork;
use super::proto::wire_server::WireServer;
use super::service::{Caller, Service};

/// How long the listener rests when the system gives it no socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a master offers to other nodes.
#[derive(Clone)]
pub struct PeerServer {
    service: Arc<Service>,
    tls: TlsAcceptor,
    handshakes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl PeerServer {
    /// A server that speaks with these credentials, asks this desk, and hands consensus frames to this
    /// network.
    ///
    /// # Errors
    /// The TLS library refuses the certificates.
    pub fn new(
        credentials: Credentials,
        desk: Arc<dyn Desk>,
        network: &WireNetwork,
    ) -> Result<Self, CertificateError> {
        let tls = TlsAcceptor::from(Arc::new(server_config(&credentials)?));
        let service = Arc::new(Service { credentials, desk, network: network.shared().clone() });
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        Ok(Self { service, tls, handshakes, strangers: Arc::new(Semaphore::new(STRANGERS)) })
    }

    /// Serves until `shutdown`; then every connection ends at once.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    connections.spawn(self.clone().connection(stream, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "the peer listener cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.shutdown().await;
    }

    /// The next connection, once there is room for its handshake.
    async fn accept(&self, listener: &TcpListener) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let permit = self.handshakes.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        Ok((listener.accept().await?.0, permit))
    }

    async fn connection(self, stream: TcpStream, handshake: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a peer is gone already");
            return;
        }
        let tls = match tokio::time::timeout(CONNECT_TIMEOUT, self.tls.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                tracing::info!(%error, "a handshake at the peer listener failed");
                return;
            }
            Err(_) => {
                tracing::info!("a handshake at the peer listener took too long");
                return;
            }
        };
        let caller = match tls.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            None => None,
            Some(certificate) => match PeerName::of(certificate) {
                Ok(name) => Some(name),
                Err(error) => {
                    tracing::warn!(%error, "a peer showed a certificate that is no use");
                    return;
                }
            },
        };
        drop(handshake);
        if caller.is_some() {
            self.http(tls, caller).await;
            return;
        }
        let Ok(_permit) = self.strangers.try_acquire() else {
            tracing::warn!("too many strangers at the peer listener: turned away");
            return;
        };
        if tokio::time::timeout(STRANGER_LIFE, self.http(tls, None)).await.is_err() {
            tracing::info!("a connection without a certificate lasted too long");
        }
    }

    async fn http(&self, tls: TlsStream<TcpStream>, caller: Option<PeerName>) {
        let caller = Caller(caller);
        let respond = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(caller.clone());
            let mut service = WireServer::from_arc(self.service.clone())
                .max_decoding_message_size(limit(request.uri().path()));
            async move { tower_service::Service::call(&mut service, request).await }
        });
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .max_concurrent_streams(STREAMS)
            .serve_connection(TokioIo::new(tls), respond)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a peer connection ended");
        }
    }
}

impl std::fmt::Debug for PeerServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerServer")
    }
}

/// The largest message of a call.
fn limit(path: &str) -> usize {
    match path.rsplit('/').next() {
        Some("Consensus") => MESSAGE_BYTES + ENVELOPE_BYTES,
        Some("Agent") => AGENT_MESSAGE_BYTES + ENVELOPE_BYTES,
        Some("Forward") => FORWARD_BYTES + ENVELOPE_BYTES,
        _ => SHORT_BYTES,
    }
}
