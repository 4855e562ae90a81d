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
use super::scheduler::whole_body;
use crate::api::marathon::{Detail, Done, Embed, Mode, Refusal, Request, Response, Selector, TaskStatus};
use crate::api::negotiate::{self, Encoding};
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
    let mut response = answer(&api, request).await;
    let leader = api.leader().and_then(|leader| HeaderValue::from_str(&format!("http://{leader}")).ok());
    if let Some(leader) = leader {
        response.headers_mut().insert("x-marathon-leader", leader);
    }
    response
}

async fn answer(api: &Arc<dyn MarathonApi>, request: HttpRequest) -> HttpResponse<Body> {
    let (parts, body) = request.into_parts();
    let body = match whole_body(body).await {
        Ok(body) => body,
        Err((status, problem)) => return document(status, &json!({ "message": problem })),
    };
    // A page that must not be able to change anything cannot send JSON without asking first.
    let media_type = parts.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let is_json = negotiate::content_type(media_type) == Ok(Encoding::Json);
    if !is_json && !body.is_empty() && parts.method != Method::GET {
        let message = "Unsupported Media Type: send Content-Type: application/json";
        return document(StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!({ "message": message }));
    }
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
                (unescape(key, true), unescape(value, true))
            });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }

    fn embed(&self) -> Embed {
        let has = |name: &str| {
            self.0.iter().any(|(key, value)| key == "embed" && value.rsplit('.').next() == Some(name))
        };
        let failures = has("failures");
        Embed {
            tasks: failures || has("tasks"),
            last_failure: failures || has("lastTaskFailure"),
            readiness: has("readiness"),
            stats: has("taskStats"),
        }
    }

    fn labels(&self) -> Result<Vec<Selector>, Refusal> {
        self.get("label").map_or(Ok(Vec::new()), |text| {
            let wrong =
                |error| Refusal::Invalid(vec![Detail { path: "/label".to_owned(), errors: vec![error] }]);
            Selector::parse(text).map_err(wrong)
        })
    }

    /// `status` and `status[]`, which may be repeated.
    fn statuses(&self) -> Result<Vec<TaskStatus>, Refusal> {
        let given = self.0.iter().filter(|(key, _)| key == "status" || key == "status[]");
        given
            .map(|(_, value)| match value.as_str() {
                "running" => Ok(TaskStatus::Running),
                "staging" => Ok(TaskStatus::Staging),
                other => {
                    Err(Refusal::BadRequest(format!("the status {other:?} is neither running nor staging")))
                }
            })
            .collect()
    }

    /// `scale`, which cannot go with `wipe`.
    fn scale(&self) -> Result<bool, Refusal> {
        let scale = self.flag("scale", false);
        if scale && self.flag("wipe", false) {
            return Err(Refusal::BadRequest("give either scale or wipe".to_owned()));
        }
        Ok(scale)
    }
}

/// Percent escapes; a malformed one stays as it is. In a query a plus is a blank.
fn unescape(text: &str, is_query: bool) -> String {
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
            (b'+', _) if is_query => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn decode(parts: &Parts, body: &Bytes) -> Result<Option<Request>, Refusal> {
    let path = unescape(parts.uri.path(), false);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).skip(1).collect();
    let query = Query::of(parts);
    let is = |wanted: Method| parts.method == wanted;
    let get = is(Method::GET) || is(Method::HEAD);
    match segments.split_first() {
        Some((&"apps", rest)) if get => read_apps(rest, &query),
        Some((&"apps", rest)) => change_apps(&parts.method, rest, &query, body),
        Some((&"tasks", [])) if get => Ok(Some(Request::Tasks { id: None, status: query.statuses()? })),
        Some((&"tasks", ["delete"])) if is(Method::POST) => delete_tasks(&query, body).map(Some),
        Some((&"deployments", [])) if get => Ok(Some(Request::Deployments)),
        Some((&"deployments", [id])) if is(Method::DELETE) => {
            let force = query.flag("force", false);
            Ok(Some(Request::CancelDeployment { id: (*id).to_owned(), force }))
        }
        Some((&"queue", [])) if get => Ok(Some(Request::Queue)),
        Some((&"queue", [id @ .., "delay"])) if is(Method::DELETE) => {
            Ok(Some(Request::ResetDelay { id: absolute(id) }))
        }
        Some((&"info", [])) if get => Ok(Some(Request::Info)),
        Some((&"leader", [])) if get => Ok(Some(Request::Leader)),
        Some((&"explain", id)) if get && !id.is_empty() => Ok(Some(Request::Explain { id: absolute(id) })),
        Some((
            &("tasks" | "deployments" | "queue" | "info" | "leader" | "explain"),
            [] | ["delete"] | [.., "delay"],
        ))
        | Some((&"deployments", [_])) => Ok(None),
        Some((&("groups" | "pods" | "events" | "plugins"), _)) => {
            Err(Refusal::NotImplemented(format!("/v2/{} is not built yet", segments.join("/"))))
        }
        _ => Err(Refusal::NotFound(format!("there is no /v2/{}", segments.join("/")))),
    }
}

fn delete_tasks(query: &Query, body: &Bytes) -> Result<Request, Refusal> {
    let body = json_body(body)?;
    let wrong = || shape("/ids", "must be a list of task ids");
    let ids = body.get("ids").and_then(Value::as_array).ok_or_else(wrong)?;
    let ids: Option<Vec<String>> = ids.iter().map(|id| id.as_str().map(str::to_owned)).collect();
    Ok(Request::KillTasks {
        id: None,
        host: None,
        tasks: Some(ids.ok_or_else(wrong)?),
        scale: query.scale()?,
        force: query.flag("force", false),
        single: false,
    })
}

fn absolute(segments: &[&str]) -> String {
    format!("/{}", segments.join("/"))
}

fn read_apps(rest: &[&str], query: &Query) -> Result<Option<Request>, Refusal> {
    let text = |name: &str| query.get(name).map(str::to_owned);
    let embed = query.embed();
    Ok(Some(match rest {
        [] => Request::ListApps { cmd: text("cmd"), id: text("id"), labels: query.labels()?, embed },
        [group @ .., "*"] => Request::GroupApps { group: absolute(group), embed },
        [group @ .., "*", "tasks"] => Request::GroupTasks { group: absolute(group) },
        [id @ .., "versions"] => Request::Versions { id: absolute(id) },
        [id @ .., "versions", version] => {
            Request::Version { id: absolute(id), version: (*version).to_owned() }
        }
        [id @ .., "tasks"] => Request::Tasks { id: Some(absolute(id)), status: Vec::new() },
        [.., "restart"] | [.., "tasks", _] => return Ok(None),
        id => Request::GetApp { id: absolute(id), embed },
    }))
}

fn change_apps(
    method: &Method,
    rest: &[&str],
    query: &Query,
    body: &Bytes,
) -> Result<Option<Request>, Refusal> {
    let force = query.flag("force", false);
    let is = |wanted: Method| *method == wanted;
    let mode = match *method {
        Method::PATCH => Some(Mode::Patch),
        Method::PUT if query.flag("partialUpdate", true) => Some(Mode::Update),
        Method::PUT => Some(Mode::Replace),
        _ => None,
    };
    Ok(Some(match (rest, mode) {
        ([], None) if is(Method::POST) => {
            let mut app = json_body(body)?;
            let id = app.get("id").and_then(Value::as_str).ok_or_else(|| shape("/id", "must be given"))?;
            app["id"] = json!(format!("/{}", id.trim_start_matches('/')));
            Request::PutApps { apps: vec![app], mode: Mode::Create, single: false, force }
        }
        ([], Some(mode)) => {
            let Value::Array(apps) = json_body(body)? else {
                return Err(shape("/", "must be a list of apps"));
            };
            Request::PutApps { apps, mode, single: false, force }
        }
        ([], None) => return Ok(None),
        ([id @ .., "restart"], None) if is(Method::POST) => Request::RestartApp { id: absolute(id), force },
        ([id @ .., "tasks"], None) if is(Method::DELETE) => Request::KillTasks {
            id: Some(absolute(id)),
            host: query.get("host").filter(|host| *host != "*").map(str::to_owned),
            tasks: None,
            scale: query.scale()?,
            force,
            single: false,
        },
        ([id @ .., "tasks", task], None) if is(Method::DELETE) => Request::KillTasks {
            id: Some(absolute(id)),
            host: None,
            tasks: Some(vec![(*task).to_owned()]),
            scale: query.scale()?,
            force,
            single: true,
        },
        ([.., "restart" | "versions" | "tasks"], _) => return Ok(None),
        (id, None) if is(Method::DELETE) => {
            // An app that goes may go while it is being deployed.
            Request::DeleteApp { id: absolute(id), force: query.flag("force", true) }
        }
        (id, Some(mode)) => {
            let mut app = json_body(body)?;
            if !app.is_object() {
                return Err(shape("/", "an app must be an object"));
            }
            app["id"] = json!(absolute(id));
            Request::PutApps { apps: vec![app], mode, single: true, force }
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
pub(super) fn document(status: StatusCode, body: &Value) -> HttpResponse<Body> {
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

fn empty(status: StatusCode) -> HttpResponse<Body> {
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn success(answer: Response) -> HttpResponse<Body> {
    let mut response = match &answer.done {
        Done::Ok => document(StatusCode::OK, &answer.body),
        Done::Created(_) => document(StatusCode::CREATED, &answer.body),
        Done::Accepted => empty(StatusCode::ACCEPTED),
        Done::Nothing => empty(StatusCode::NO_CONTENT),
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
