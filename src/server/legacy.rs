//! Legacy endpoints that tools still read: `/health`, `/version`, `/state`, with and without
//! `/master`. They answer any method, as in Mesos.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::routing::any;
use serde_json::json;

use super::error::{refusal, text};
use crate::client::OperatorApi;

/// The routes.
pub(super) fn router(api: Arc<dyn OperatorApi>) -> Router {
    Router::new()
        .route("/health", any(health))
        .route("/master/health", any(health))
        .route("/version", any(version))
        .route("/master/version", any(version))
        .route("/state", any(state))
        .route("/master/state", any(state))
        .with_state(api)
}

pub(super) async fn health() -> Response<Body> {
    text(StatusCode::OK, "")
}

pub(super) async fn version() -> Response<Body> {
    document(json!({ "version": crate::config::MESOS_VERSION }).to_string())
}

async fn state(State(api): State<Arc<dyn OperatorApi>>) -> Response<Body> {
    match api.legacy_state(None).await {
        Ok(state) => document(state),
        Err(error) => refusal(&error, "/master/state"),
    }
}

/// A JSON document.
pub(super) fn document(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
