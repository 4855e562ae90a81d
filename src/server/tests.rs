//! Routes, limits and the order of checks, without sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use tower::ServiceExt;

use super::{legacy, operator, scheduler};
use crate::api::v1;
use crate::api::v1::{master, scheduler as scheduler_api};
use crate::base::future::BoxFuture;
use crate::client::{ApiError, OperatorApi, Principal, SchedulerApi, SubscriptionStream};

/// A master that counts what reaches it.
#[derive(Default)]
struct Fake {
    follows: AtomicBool,
    calls: AtomicUsize,
}

impl Fake {
    fn leading(&self) -> Result<(), ApiError> {
        if self.follows.load(Ordering::Relaxed) {
            return Err(ApiError::NotLeader { leader: Some("other:5050".to_owned()) });
        }
        Ok(())
    }
}

impl SchedulerApi for Fake {
    fn leads(&self) -> Result<(), ApiError> {
        self.leading()
    }

    fn subscribe(
        &self,
        _call: scheduler_api::Call,
        _principal: Principal,
    ) -> BoxFuture<'_, Result<SubscriptionStream<scheduler_api::Event>, ApiError>> {
        Box::pin(async { Err(ApiError::Unavailable("no streams here".to_owned())) })
    }

    fn call(
        &self,
        _call: scheduler_api::Call,
        _stream_id: Option<String>,
        _principal: Principal,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}

impl OperatorApi for Fake {
    fn leads(&self) -> Result<(), ApiError> {
        self.leading()
    }

    fn call(
        &self,
        call: master::Call,
        _principal: Principal,
    ) -> BoxFuture<'_, Result<Option<master::Response>, ApiError>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let info = v1::MasterInfo { hostname: Some("me".to_owned()), port: 5050, ..Default::default() };
        let get_master = (call.r#type() == master::call::Type::GetMaster)
            .then(|| master::response::GetMaster { master_info: Some(info), ..Default::default() });
        let answer = self
            .leading()
            .map(|()| get_master.map(|one| master::Response { get_master: Some(one), ..Default::default() }));
        Box::pin(async { answer })
    }

    fn legacy_state(&self, _principal: Principal) -> BoxFuture<'_, Result<String, ApiError>> {
        Box::pin(async { Ok("{}".to_owned()) })
    }
}

fn router(fake: &Arc<Fake>) -> Router {
    let operator_api: Arc<dyn OperatorApi> = Arc::clone(fake) as _;
    scheduler::router(Arc::clone(fake) as _)
        .merge(operator::router(Arc::clone(&operator_api)))
        .merge(legacy::router(operator_api))
}

async fn ask(fake: &Arc<Fake>, request: Request<Body>) -> Response<Body> {
    router(fake).oneshot(request).await.expect("an answer")
}

async fn post(fake: &Arc<Fake>, path: &str, accept: &str, body: impl Into<Body>) -> StatusCode {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, accept)
        .body(body.into())
        .expect("a request");
    ask(fake, request).await.status()
}

const TEARDOWN: &str = r#"{"type":"TEARDOWN","teardown":{"framework_id":{"value":"f"}}}"#;
const SCHEDULER_TEARDOWN: &str = r#"{"type":"TEARDOWN","framework_id":{"value":"f"}}"#;

#[tokio::test]
async fn a_body_may_have_four_mebibytes() {
    let fake = Arc::new(Fake::default());
    let padded =
        |bytes: usize| format!("{SCHEDULER_TEARDOWN}{}", " ".repeat(bytes - SCHEDULER_TEARDOWN.len()));
    let limit = 4 * 1024 * 1024;
    assert_eq!(post(&fake, "/api/v1/scheduler", "*/*", padded(limit)).await, StatusCode::ACCEPTED);
    assert_eq!(
        post(&fake, "/api/v1/scheduler", "*/*", padded(limit + 1)).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn nothing_is_done_when_the_answer_cannot_be_read() {
    let fake = Arc::new(Fake::default());
    assert_eq!(post(&fake, "/api/v1", "text/html", TEARDOWN).await, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(fake.calls.load(Ordering::Relaxed), 0);
    assert_eq!(post(&fake, "/api/v1", "text/html", "{}").await, StatusCode::BAD_REQUEST, "form goes first");
    assert_eq!(post(&fake, "/api/v1", "*/*", TEARDOWN).await, StatusCode::OK);
    assert_eq!(post(&fake, "/api/v1/scheduler", "text/html", SCHEDULER_TEARDOWN).await, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_follower_redirects_before_it_looks_at_anything() {
    let fake = Arc::new(Fake::default());
    fake.follows.store(true, Ordering::Relaxed);
    for path in ["/api/v1/scheduler?x=1", "/master/api/v1?x=1"] {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = ask(&fake, request).await;
        assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT, "{path}");
        assert_eq!(answer.headers()[header::LOCATION], format!("//other:5050{path}"));
    }
    assert_eq!(fake.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn paths_are_prefixes() {
    let fake = Arc::new(Fake::default());
    for path in ["/api/v1/scheduler/", "/master/api/v1/scheduler/x"] {
        assert_eq!(post(&fake, path, "*/*", SCHEDULER_TEARDOWN).await, StatusCode::ACCEPTED, "{path}");
    }
    for path in ["/api/v1/", "/api/v1/x", "/health/", "/state/x", "/master/version/x"] {
        assert_eq!(post(&fake, path, "*/*", TEARDOWN).await, StatusCode::OK, "{path}");
    }
    for path in ["/state.json", "/redirect/x", "/api", "/"] {
        assert_eq!(post(&fake, path, "*/*", TEARDOWN).await, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn redirect_names_the_leader_without_a_path() {
    let fake = Arc::new(Fake::default());
    for (path, follows) in [("/redirect", false), ("/master/redirect?x=1", true)] {
        fake.follows.store(follows, Ordering::Relaxed);
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = ask(&fake, request).await;
        assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
        let leader = if follows { "//other:5050" } else { "//me:5050" };
        assert_eq!(answer.headers()[header::LOCATION], leader);
    }
}
