//! The operator API of a master (Mesos v1).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::routing::any;

use super::error::{post_only, refusal, text};
use super::scheduler::{decode, encode, read_body};
use crate::api::v1::master;
use crate::api::{json, negotiate, validate};
use crate::client::OperatorApi;

/// The routes.
pub(super) fn router(api: Arc<dyn OperatorApi>) -> Router {
    Router::new().route("/api/v1", any(handle)).route("/master/api/v1", any(handle)).with_state(api)
}

async fn handle(State(api): State<Arc<dyn OperatorApi>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return post_only();
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let call = match decode::<master::Call>(&parts.headers, &body) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    if let Err(error) = validate::master_call(&call) {
        return refusal(&error, &path);
    }
    match api.call(call, None).await {
        Ok(None) => text(StatusCode::OK, ""),
        Ok(Some(response)) => message(&response, &parts.headers),
        Err(error) => refusal(&error, &path),
    }
}

/// A message in the encoding that the caller accepts.
pub(super) fn message<M: json::Json + prost::Message>(message: &M, headers: &HeaderMap) -> Response<Body> {
    let accept = headers.get(header::ACCEPT).map(|value| value.to_str().unwrap_or_default());
    let Some(encoding) = negotiate::accept(accept) else {
        return text(
            StatusCode::NOT_ACCEPTABLE,
            "Expecting 'Accept' to allow application/json or application/x-protobuf",
        );
    };
    let mut response = Response::new(Body::from(encode(message, encoding)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    response
}
