//! Marathon's `/v2`: paths, queries and bodies in, documents out.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response as HttpResponse, StatusCode, header};
use axum::routing::any;
use serde_json::{Value, json};

use super::error::text;
use super::negotiate_ping;
use super::scheduler::read_body;
use crate::api::marathon::{Detail, Done, Refusal, Request, Response};
use crate::client::MarathonApi;

/// What Marathon says when a deployment holds an app; the placeholder is literal.
const LOCKED: &str = "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.";

/// The routes.
pub(super) fn router(api: Arc<dyn MarathonApi>) -> Router {
    Router::new().route("/ping", any(ping)).route("/v2/{*path}", any(handle)).with_state(api)
}

async fn ping(request: HttpRequest) -> HttpResponse<Body> {
    negotiate_ping(request.headers())
}

async fn handle(State(api): State<Arc<dyn MarathonApi>>, request: HttpRequest) -> HttpResponse<Body> {
    let (parts, body) = request.into_parts();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    match decode(&parts, &body) {
        Ok(Some(request)) => match api.call(request, None).await {
            Ok(response) => success(response),
            Err(refusal) => refused(&refusal),
        },
        Ok(None) => document(StatusCode::METHOD_NOT_ALLOWED, &json!({ "message": "Method Not Allowed" })),
        Err(refusal) => refused(&refusal),
    }
}

/// The query's parameters.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(parts: &Parts) -> Self {
        let pairs =
            parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (unescape(key), unescape(value))
            });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }

    fn embeds(&self, name: &str) -> bool {
        self.0.iter().any(|(key, value)| key == "embed" && value.rsplit('.').next() == Some(name))
    }
}

/// Percent escapes; a malformed one stays as it is.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (bytes[at], digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn decode(parts: &Parts, body: &Bytes) -> Result<Option<Request>, Refusal> {
    let path = unescape(parts.uri.path());
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).skip(1).collect();
    let query = Query::of(parts);
    let get = parts.method == Method::GET || parts.method == Method::HEAD;
    match segments.split_first() {
        Some((&"apps", rest)) => apps(&parts.method, rest, &query, body),
        Some((&"tasks", [])) if get => Ok(Some(Request::Tasks { id: None })),
        Some((&"tasks", ["delete"])) if parts.method == Method::POST => {
            let body = json_body(body)?;
            let ids = body["ids"].as_array().ok_or_else(|| shape("/ids", "must be a list of task ids"))?;
            let ids = ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
            Ok(Some(Request::KillTasks {
                id: None,
                tasks: Some(ids),
                scale: query.flag("scale", false),
                single: false,
            }))
        }
        Some((&"deployments", [])) if get => Ok(Some(Request::Deployments)),
        Some((&"queue", [])) if get => Ok(Some(Request::Queue)),
        Some((&"queue", [id @ .., "delay"])) if parts.method == Method::DELETE => {
            Ok(Some(Request::ResetDelay { id: absolute(id) }))
        }
        Some((&"info", [])) if get => Ok(Some(Request::Info)),
        Some((&"leader", [])) if get => Ok(Some(Request::Leader)),
        Some((&"explain", id)) if get && !id.is_empty() => Ok(Some(Request::Explain { id: absolute(id) })),
        Some((&("tasks" | "deployments" | "queue" | "info" | "leader" | "explain"), [])) => Ok(None),
        Some((&("groups" | "pods" | "events" | "plugins" | "deployments"), _)) => {
            Err(Refusal::NotImplemented(format!("/v2/{} is not built yet", segments.join("/"))))
        }
        _ => Err(Refusal::NotFound(format!("there is no /v2/{}", segments.join("/")))),
    }
}

fn absolute(segments: &[&str]) -> String {
    format!("/{}", segments.join("/"))
}

fn apps(method: &Method, rest: &[&str], query: &Query, body: &Bytes) -> Result<Option<Request>, Refusal> {
    let force = query.flag("force", false);
    let partial = query.flag("partialUpdate", true);
    let scale = query.flag("scale", false);
    let is = |wanted: Method| *method == wanted;
    let get = is(Method::GET) || is(Method::HEAD);
    Ok(Some(match rest {
        [] if get => Request::ListApps {
            cmd: query.get("cmd").map(str::to_owned),
            id: query.get("id").map(str::to_owned),
            tasks: query.embeds("tasks") || query.embeds("failures"),
        },
        [] if is(Method::POST) => {
            let app = json_body(body)?;
            let id = app["id"].as_str().ok_or_else(|| shape("/id", "must be given"))?.to_owned();
            let mut app = app;
            app["id"] = json!(format!("/{}", id.trim_start_matches('/')));
            Request::PutApps { apps: vec![app], partial: false, force, create: true }
        }
        [] if is(Method::PUT) || is(Method::PATCH) => {
            let list =
                json_body(body)?.as_array().cloned().ok_or_else(|| shape("/", "must be a list of apps"))?;
            Request::PutApps { apps: list, partial, force, create: false }
        }
        [] => return Ok(None),
        [id @ .., "restart"] if is(Method::POST) => Request::RestartApp { id: absolute(id), force },
        [id @ .., "versions"] if get => Request::Versions { id: absolute(id) },
        [id @ .., "versions", version] if get => {
            Request::Version { id: absolute(id), version: (*version).to_owned() }
        }
        [id @ .., "tasks"] if get => Request::Tasks { id: Some(absolute(id)) },
        [id @ .., "tasks"] if is(Method::DELETE) => {
            Request::KillTasks { id: Some(absolute(id)), tasks: None, scale, single: false }
        }
        [id @ .., "tasks", task] if is(Method::DELETE) => Request::KillTasks {
            id: Some(absolute(id)),
            tasks: Some(vec![(*task).to_owned()]),
            scale,
            single: true,
        },
        [.., "restart" | "versions" | "tasks"] => return Ok(None),
        id if get => Request::GetApp { id: absolute(id) },
        id if is(Method::DELETE) => Request::DeleteApp { id: absolute(id) },
        id if is(Method::PUT) || is(Method::PATCH) => {
            let mut app = json_body(body)?;
            if !app.is_object() {
                return Err(shape("/", "an app must be an object"));
            }
            app["id"] = json!(absolute(id));
            Request::PutApps { apps: vec![app], partial, force, create: false }
        }
        _ => return Ok(None),
    }))
}

fn json_body(body: &Bytes) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Err(Refusal::BadJson("the body is empty; send JSON".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::BadJson(error.to_string()))
}

fn shape(path: &str, error: &str) -> Refusal {
    Refusal::BadShape(vec![Detail { path: path.to_owned(), errors: vec![error.to_owned()] }])
}

/// A JSON document with the headers of every answer.
fn document(status: StatusCode, body: &Value) -> HttpResponse<Body> {
    let mut response = text(status, body.to_string());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        (header::EXPIRES, "0"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_XSS_PROTECTION, "1; mode=block"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn success(answer: Response) -> HttpResponse<Body> {
    let mut response = match &answer.done {
        Done::Ok => document(StatusCode::OK, &answer.body),
        Done::Created(_) => document(StatusCode::CREATED, &answer.body),
        Done::Nothing => {
            let mut empty = HttpResponse::new(Body::empty());
            *empty.status_mut() = StatusCode::NO_CONTENT;
            empty
        }
    };
    let mut insert = |name: &'static str, value: &str| {
        // Ids are letters, digits, slashes and hyphens: always a header.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    if let Done::Created(id) = &answer.done {
        insert("location", id);
    }
    if let Some(id) = &answer.deployment {
        insert("marathon-deployment-id", id);
    }
    response
}

fn refused(refusal: &Refusal) -> HttpResponse<Body> {
    let list = |details: &[Detail]| -> Vec<Value> {
        details.iter().map(|detail| json!({ "path": detail.path, "errors": detail.errors })).collect()
    };
    let message = |text: &str| json!({ "message": text });
    let (status, body) = match refusal {
        Refusal::BadJson(problem) => {
            (StatusCode::BAD_REQUEST, json!({ "message": "Invalid JSON", "details": problem }))
        }
        Refusal::BadShape(details) => {
            (StatusCode::UNPROCESSABLE_ENTITY, json!({ "message": "Invalid JSON", "details": list(details) }))
        }
        Refusal::Invalid(details) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({ "message": "Object is not valid", "details": list(details) }),
        ),
        Refusal::BadRequest(text) => (StatusCode::BAD_REQUEST, message(text)),
        Refusal::NotFound(text) => (StatusCode::NOT_FOUND, message(text)),
        Refusal::Exists(text) => (StatusCode::CONFLICT, message(text)),
        Refusal::Locked(ids) => {
            let ids: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
            (StatusCode::CONFLICT, json!({ "message": LOCKED, "deployments": ids }))
        }
        Refusal::NotImplemented(text) => (StatusCode::NOT_IMPLEMENTED, message(text)),
        Refusal::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, message(text)),
    };
    document(status, &body)
}
