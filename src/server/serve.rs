//! One listener: accept, limit, serve, stop.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::error::text;
use super::guard;
use crate::base::spawn::Shutdown;

/// Bytes of a request's body.
pub(super) const BODY_BYTES: usize = 4 * 1024 * 1024;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Fields of a request's head.
    pub head_fields: usize,
    /// Time in which the head must arrive.
    pub head_timeout: Duration,
    /// Connections at a time; more wait.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            head_fields: 100,
            head_timeout: Duration::from_secs(10),
            connections: 4_096,
        }
    }
}

/// How long a connection may still take after the end was asked for.
const GRACE: Duration = Duration::from_millis(500);
/// Pause after the system had no descriptor left.
const NO_DESCRIPTOR: Duration = Duration::from_millis(50);

/// Serves until shutdown is asked for. On loopback only requests for local names and `hostnames` are
/// answered.
///
/// # Errors
/// The listener is broken.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    hostnames: &[String],
    mut shutdown: Shutdown,
) -> io::Result<()> {
    let hosts = guard::Hosts::of(listener.local_addr()?.ip(), hostnames);
    let router = router.layer(axum::middleware::from_fn_with_state(hosts, guard::check));
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => return Ok(()),
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The peer gave up, or descriptors ran out: others may still come.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(NO_DESCRIPTOR).await;
                continue;
            }
        };
        // Small answers must not wait for the peer's acknowledgement; a stream without it still works.
        let _ = stream.set_nodelay(true);
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        tokio::spawn(async move {
            connection(stream, router, limits, shutdown).await;
            drop(place);
        });
    }
}

async fn connection(stream: tokio::net::TcpStream, router: Router, limits: Limits, mut shutdown: Shutdown) {
    let service = service_fn(move |request: hyper::Request<Incoming>| answer(router.clone(), request));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    builder.max_buf_size(limits.head_bytes.max(8_192)).max_headers(limits.head_fields);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = shutdown.requested() => {
            served.as_mut().graceful_shutdown();
            // Streams that never end are cut off.
            tokio::time::timeout(GRACE, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}

/// One request; a panic in a handler is an answer of 500, not the end of the process.
async fn answer(
    mut router: Router,
    request: hyper::Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let work = AssertUnwindSafe(async move { router.call(request.map(Body::new)).await });
    match work.catch_unwind().await {
        Ok(response) => response,
        Err(_) => Ok(text(StatusCode::INTERNAL_SERVER_ERROR, "a fault of mesita; the log says where")),
    }
}
