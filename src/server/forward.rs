//! What only the leader can answer goes to it, from whichever master was asked. Schedulers are not
//! forwarded: they are told where the leader is, and hold their stream there.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use serde_json::json;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::error::text;
use super::legacy::document;
use crate::base::future::BoxFuture;
use crate::peer::wire::{ForwardReply, ForwardRequest};

/// The largest body that is forwarded, in bytes: as much as a master takes itself.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The way to the leader.
pub trait ToLeader: Send + Sync {
    /// Whether this master leads: then it answers itself.
    fn leads(&self) -> bool;

    /// Has the leader answer. An error says why that is not possible now.
    fn forward(&self, request: ForwardRequest) -> BoxFuture<'_, Result<ForwardReply, String>>;
}

/// A router that answers itself while its master leads, and else has the leader answer.
pub fn forwarding(router: Router, leader: Arc<dyn ToLeader>) -> Router {
    router.layer(from_fn_with_state(leader, forward))
}

/// What every master answers for itself.
fn is_own(path: &str) -> bool {
    let path = path.strip_prefix("/master").unwrap_or(path);
    let is_below =
        |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    ["/api/v1/scheduler", "/health", "/version", "/ping"].into_iter().any(is_below)
}

async fn forward(State(leader): State<Arc<dyn ToLeader>>, request: Request, next: Next) -> Response<Body> {
    if leader.leads() || is_own(request.uri().path()) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or was cut off");
    };
    let headers = parts.headers.iter().filter(|(name, _)| !is_of_connection(name));
    let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec().into())).collect();
    let method = parts.method.to_string();
    let request = ForwardRequest { method, path: path.clone(), headers, body, principal: None };
    match leader.forward(request).await {
        Ok(reply) => answer(reply),
        Err(reason) if path.starts_with("/v2") => {
            let mut response = document(json!({ "message": reason }).to_string());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

/// Headers that are about one connection, not about the request.
fn is_of_connection(name: &HeaderName) -> bool {
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE, header::TE]
        .contains(name)
}

fn answer(reply: ForwardReply) -> Response<Body> {
    let pieces = ReceiverStream::new(reply.body).map(|piece| piece.map_err(std::io::Error::other));
    let mut response = Response::new(Body::from_stream(pieces));
    let Ok(status) = StatusCode::from_u16(reply.status) else {
        return text(StatusCode::BAD_GATEWAY, "the leader gave no valid status");
    };
    *response.status_mut() = status;
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value))
            && !is_of_connection(&name)
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}
