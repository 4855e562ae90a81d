//! mesita's own API of the cluster itself, below `/mesita/v1/cluster`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::{delete, get, post};

use super::error::{refusal, text};
use super::legacy::document;
use super::scheduler::read_body;
use crate::client::ApiError;
use crate::client::cluster::{ClusterApi, PATH, TokenAsk};

/// The routes.
pub(super) fn router(api: Arc<dyn ClusterApi>) -> Router {
    Router::new()
        .route(PATH, get(status))
        .route(&format!("{PATH}/join-tokens"), post(join_token))
        .route(&format!("{PATH}/snapshot"), get(snapshot))
        .route(&format!("{PATH}/nodes/{{id}}"), delete(remove))
        .with_state(api)
}

async fn status(State(api): State<Arc<dyn ClusterApi>>) -> Response<Body> {
    answer(api.status().await, PATH)
}

async fn join_token(State(api): State<Arc<dyn ClusterApi>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = format!("{PATH}/join-tokens");
    if !is_json(&parts.headers) {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type: application/json is expected");
    }
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    match serde_json::from_slice::<TokenAsk>(&body) {
        Ok(ask) => answer(api.join_token(ask).await, &path),
        Err(error) => {
            refusal(&ApiError::Invalid(format!("the body is no request for a token: {error}")), &path)
        }
    }
}

async fn snapshot(State(api): State<Arc<dyn ClusterApi>>) -> Response<Body> {
    match api.snapshot().await {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            let kind = header::HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => refusal(&error, PATH),
    }
}

/// A web page cannot send this type of content without asking first.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"))
}

async fn remove(State(api): State<Arc<dyn ClusterApi>>, Path(id): Path<String>) -> Response<Body> {
    match api.remove_node(id).await {
        Ok(()) => Response::new(Body::empty()),
        Err(error) => refusal(&error, PATH),
    }
}

fn answer<T: serde::Serialize>(result: Result<T, ApiError>, path: &str) -> Response<Body> {
    let written = result.and_then(|value| {
        serde_json::to_string(&value).map_err(|error| ApiError::Internal(error.to_string()))
    });
    match written {
        Ok(written) => document(written),
        Err(error) => refusal(&error, path),
    }
}
