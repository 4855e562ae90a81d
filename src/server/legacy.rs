//! Legacy endpoints that tools still read: `/health`, `/version`, `/state`, `/redirect`, with and without
//! `/master`. They answer any method, as in Mesos.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::routing::any;
use serde_json::json;

use super::error::{refusal, text};
use super::prefix;
use crate::api::v1::master;
use crate::base::address::host_port;
use crate::client::{ApiError, OperatorApi};

/// The routes.
pub(super) fn router(api: Arc<dyn OperatorApi>) -> Router {
    let mut router = Router::new();
    for prefix_of_master in ["", "/master"] {
        let routes = [("health", any(health)), ("version", any(version)), ("state", any(state))];
        for (name, route) in routes {
            router = prefix(router, &format!("{prefix_of_master}/{name}"), &route);
        }
        // What is below it has no route: a redirected redirect would go round for ever.
        router = router.route(&format!("{prefix_of_master}/redirect"), any(redirect));
    }
    router.with_state(api)
}

/// To the leader, without a path; the leader sends to itself.
async fn redirect(State(api): State<Arc<dyn OperatorApi>>) -> Response<Body> {
    let call = master::Call { r#type: Some(master::call::Type::GetMaster.into()), ..Default::default() };
    let error = match api.call(call, None).await {
        Ok(response) => {
            let info = response.and_then(|response| response.get_master?.master_info);
            let leader = info.map(|info| host_port(&info.hostname.unwrap_or_default(), info.port));
            ApiError::NotLeader { leader }
        }
        Err(error) => error,
    };
    refusal(&error, "")
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
