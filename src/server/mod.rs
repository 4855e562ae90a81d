//! The HTTP edge: decode, handle, encode; one file per surface. No decisions are made here: status
//! codes come from [`crate::client::ApiError`] in one place, limits have names.

mod agent;
mod cluster;
mod error;
#[cfg(feature = "tls")]
mod forward;
mod guard;
mod legacy;
mod marathon;
mod operator;
mod scheduler;
mod serve;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::MethodRouter;

pub use agent::router as agent_router;
#[cfg(feature = "tls")]
pub use forward::{ToLeader, forwarding};
pub use serve::{Limits, serve};

use crate::client::cluster::ClusterApi;
use crate::client::{MarathonApi, OperatorApi, SchedulerApi};

/// Everything that a master's port answers; each API port answers all of it.
pub fn router(
    scheduler: Arc<dyn SchedulerApi>,
    operator: Arc<dyn OperatorApi>,
    marathon: Arc<dyn MarathonApi>,
    cluster: Arc<dyn ClusterApi>,
) -> Router {
    scheduler::router(scheduler)
        .merge(operator::router(Arc::clone(&operator)))
        .merge(legacy::router(operator))
        .merge(marathon::router(marathon))
        .merge(cluster::router(cluster))
}

/// Adds a route as Mesos does: the path itself and everything below it that has no route of its own.
fn prefix<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    path: &str,
    route: &MethodRouter<S>,
) -> Router<S> {
    router
        .route(path, route.clone())
        .route(&format!("{path}/"), route.clone())
        .route(&format!("{path}/{{*below}}"), route.clone())
}

/// `GET /ping`: `pong`, in whichever form is accepted.
fn negotiate_ping(headers: &HeaderMap) -> Response<Body> {
    use crate::api::negotiate::accepts;

    let accept = headers.get(header::ACCEPT).map_or("*/*", |value| value.to_str().unwrap_or("*/*"));
    if accepts(accept, "text/plain") || accepts(accept, "text/html") {
        error::text(StatusCode::OK, "pong")
    } else if accepts(accept, "application/json") {
        legacy::document("\"pong\"".to_owned())
    } else {
        error::text(StatusCode::NO_CONTENT, "")
    }
}
