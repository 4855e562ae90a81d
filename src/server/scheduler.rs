//! The scheduler API (Mesos v1).

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::routing::any;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::error::{post_only, refusal, text};
use super::prefix;
use super::serve::BODY_BYTES;
use crate::api::negotiate::{self, ContentTypeError, Encoding};
use crate::api::v1::scheduler;
use crate::api::{binary, json, recordio, validate};
use crate::client::{ApiError, SchedulerApi};

/// The header that names a subscription.
const STREAM_ID: &str = "mesos-stream-id";

/// The routes.
pub(super) fn router(api: Arc<dyn SchedulerApi>) -> Router {
    let paths = ["/api/v1/scheduler", "/master/api/v1/scheduler"];
    paths.into_iter().fold(Router::new(), |router, path| prefix(router, path, &any(handle))).with_state(api)
}

async fn handle(State(api): State<Arc<dyn SchedulerApi>>, request: Request) -> Response<Body> {
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
    let call = match decode::<scheduler::Call>(&parts.headers, &body) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    let kind = match validate::scheduler_call(&call) {
        Ok(kind) => kind,
        Err(error) => return refusal(&error, &path),
    };
    let stream_id = parts.headers.get(STREAM_ID).map(|value| value.to_str().unwrap_or_default().to_owned());
    if kind == scheduler::call::Type::Subscribe {
        return subscribe(api, call, &parts.headers, stream_id.is_some(), &path).await;
    }
    match api.call(call, stream_id, None).await {
        Ok(()) if kind == scheduler::call::Type::UpdateFramework => text(StatusCode::OK, ""),
        Ok(()) => text(StatusCode::ACCEPTED, ""),
        Err(error) => refusal(&error, &path),
    }
}

async fn subscribe(
    api: Arc<dyn SchedulerApi>,
    call: scheduler::Call,
    headers: &HeaderMap,
    has_stream_id: bool,
    path: &str,
) -> Response<Body> {
    let encoding = match accepted(headers) {
        Ok(encoding) => encoding,
        Err(response) => return *response,
    };
    if has_stream_id {
        let error =
            ApiError::Invalid("Subscribe calls should not include the 'Mesos-Stream-Id' header".to_owned());
        return refusal(&error, path);
    }
    let subscription = match api.subscribe(call, None).await {
        Ok(subscription) => subscription,
        Err(error) => return refusal(&error, path),
    };
    let guard = subscription.guard;
    let events = ReceiverStream::new(subscription.events).map(move |event| {
        // The guard lives as long as somebody reads.
        let _alive = &guard;
        Ok::<Bytes, std::convert::Infallible>(Bytes::from(recordio::encode(&encode(&event, encoding))))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    if let Ok(value) = HeaderValue::from_str(&subscription.stream_id) {
        headers.insert(STREAM_ID, value);
    }
    response
}

/// A message in an encoding.
pub(super) fn encode<M: json::Json + prost::Message>(message: &M, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Json => json::to_string(message).into_bytes(),
        Encoding::Protobuf => message.encode_to_vec(),
    }
}

/// The encoding that the caller accepts.
pub(super) fn accepted(headers: &HeaderMap) -> Result<Encoding, Box<Response<Body>>> {
    let accept = headers.get(header::ACCEPT).map(|value| value.to_str().unwrap_or_default());
    negotiate::accept(accept).ok_or_else(|| {
        let problem = "Expecting 'Accept' to allow application/json or application/x-protobuf";
        Box::new(text(StatusCode::NOT_ACCEPTABLE, problem))
    })
}

/// The whole body, if it is not too long; else the status and the words of the refusal.
pub(super) async fn whole_body(body: Body) -> Result<Bytes, (StatusCode, String)> {
    match Limited::new(body, BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let problem = format!("the body is longer than {BODY_BYTES} bytes; send less at once");
            Err((StatusCode::PAYLOAD_TOO_LARGE, problem))
        }
        Err(error) => {
            tracing::debug!(%error, "a body was not read to its end");
            Err((StatusCode::BAD_REQUEST, "the body could not be read".to_owned()))
        }
    }
}

/// The same, refused in plain text.
pub(super) async fn read_body(body: Body) -> Result<Bytes, Box<Response<Body>>> {
    whole_body(body).await.map_err(|(status, problem)| Box::new(text(status, problem)))
}

/// The encoding of the body, as the head says.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Encoding, Box<Response<Body>>> {
    let header = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    negotiate::content_type(header).map_err(|error| match error {
        ContentTypeError::Missing => {
            Box::new(text(StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present"))
        }
        ContentTypeError::Unsupported(other) => Box::new(text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Expecting 'Content-Type' of application/json or application/x-protobuf, not {other:?}"),
        )),
    })
}

/// A call from its body, in whichever encoding the head says.
pub(super) fn decode<M>(headers: &HeaderMap, body: &[u8]) -> Result<M, Box<Response<Body>>>
where
    M: json::Json + prost::Message + prost::Name + Default,
{
    let bad =
        |problem: String| Box::new(text(StatusCode::BAD_REQUEST, format!("Failed to parse body: {problem}")));
    match content_type(headers)? {
        Encoding::Json => json::from_slice(body).map_err(|error| bad(error.to_string())),
        Encoding::Protobuf => binary::from_slice(body).map_err(|error| bad(error.to_string())),
    }
}
