//! From a refusal to a status code, once.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

use crate::client::ApiError;

/// A plain text answer.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The answer to a refused request for `path` (with its query).
pub(super) fn refusal(error: &ApiError, path: &str) -> Response<Body> {
    let status = match error {
        ApiError::Invalid(_) => StatusCode::BAD_REQUEST,
        ApiError::Forbidden(_) => StatusCode::FORBIDDEN,
        ApiError::NotFound(_) => StatusCode::NOT_FOUND,
        ApiError::Conflict(_) => StatusCode::CONFLICT,
        ApiError::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
        ApiError::NotLeader { leader: Some(leader) } => return redirect(leader, path),
        ApiError::NotLeader { leader: None } => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected");
        }
        ApiError::Unavailable(_) | ApiError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
        ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(status, error.to_string())
}

/// To the leader, protocol-relative as Mesos does it.
fn redirect(leader: &str, path: &str) -> Response<Body> {
    let mut response = text(StatusCode::TEMPORARY_REDIRECT, "");
    match HeaderValue::from_str(&format!("//{leader}{path}")) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected"),
    }
}

/// Only POST is allowed.
pub(super) fn post_only() -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Expecting one of { 'POST' }");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}
