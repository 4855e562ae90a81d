//! The operator API of a master (Mesos v1).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::routing::any;

use super::error::{post_only, refusal, text};
use super::prefix;
use super::scheduler::{accepted, content_type, decode, encode, read_body};
use crate::api::v1::master;
use crate::api::{json, validate};
use crate::client::OperatorApi;

/// The routes.
pub(super) fn router(api: Arc<dyn OperatorApi>) -> Router {
    let paths = ["/api/v1", "/master/api/v1"];
    paths.into_iter().fold(Router::new(), |router, path| prefix(router, path, &any(handle))).with_state(api)
}

async fn handle(State(api): State<Arc<dyn OperatorApi>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    if let Err(error) = api.leads() {
        return refusal(&error, &path);
    }
    if parts.method != Method::POST {
        return post_only();
    }
    if let Err(response) = content_type(&parts.headers) {
        return *response;
    }
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
    // Before anything is done: who cannot read the answer is not served.
    if let Err(response) = accepted(&parts.headers) {
        return *response;
    }
    match api.call(call, None).await {
        Ok(None) => text(StatusCode::OK, ""),
        Ok(Some(response)) => message(&response, &parts.headers),
        Err(error) => refusal(&error, &path),
    }
}

/// A message in the encoding that the caller accepts.
pub(super) fn message<M: json::Json + prost::Message>(message: &M, headers: &HeaderMap) -> Response<Body> {
    let encoding = match accepted(headers) {
        Ok(encoding) => encoding,
        Err(response) => return *response,
    };
    let mut response = Response::new(Body::from(encode(message, encoding)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    response
}
