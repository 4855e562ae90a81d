//! The API of an agent (Mesos v1 operator API and legacy files endpoints).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{Method, Response, StatusCode};
use axum::routing::any;
use serde_json::json;

use super::error::{post_only, refusal, text};
use super::legacy::{document, health, version};
use super::operator::message;
use super::scheduler::{decode, read_body};
use crate::api::v1;
use crate::api::v1::agent::call::Type as CallType;
use crate::api::v1::agent::response::{self, Type};
use crate::api::v1::agent::{Call, Response as AgentResponse};
use crate::client::{AgentApi, ApiError, FileEntry};

/// The routes.
pub fn router(api: Arc<dyn AgentApi>) -> Router {
    let mut router = Router::new();
    for prefix in ["", "/slave(1)"] {
        router = router
            .route(&format!("{prefix}/health"), any(health))
            .route(&format!("{prefix}/version"), any(version))
            .route(&format!("{prefix}/api/v1"), any(handle));
    }
    router.route("/files/read", any(files_read)).route("/files/browse", any(files_browse)).with_state(api)
}

async fn handle(State(api): State<Arc<dyn AgentApi>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return post_only();
    }
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let call = match decode::<Call>(&parts.headers, &body) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    match answer(api.as_ref(), call).await {
        Ok(response) => message(&response, &parts.headers),
        Err(error) => refusal(&error, parts.uri.path()),
    }
}

async fn answer(api: &dyn AgentApi, call: Call) -> Result<AgentResponse, ApiError> {
    let missing = |member: &str| ApiError::Invalid(format!("Expecting '{member}' to be present"));
    let kind = match call.r#type.map(CallType::try_from) {
        Some(Ok(kind)) => kind,
        Some(Err(_)) | None => {
            return Err(ApiError::Invalid("Expecting 'type' to be present and known".to_owned()));
        }
    };
    let response = |kind: Type| AgentResponse { r#type: Some(kind.into()), ..AgentResponse::default() };
    Ok(match kind {
        CallType::GetHealth => AgentResponse {
            get_health: Some(response::GetHealth { healthy: true }),
            ..response(Type::GetHealth)
        },
        CallType::GetVersion => {
            let version_info =
                v1::VersionInfo { version: crate::config::MESOS_VERSION.to_owned(), ..Default::default() };
            AgentResponse {
                get_version: Some(response::GetVersion { version_info }),
                ..response(Type::GetVersion)
            }
        }
        CallType::ListFiles => {
            let path = call.list_files.ok_or_else(|| missing("list_files"))?.path;
            let entries = api.list_files(path).await?;
            let file_infos = entries.into_iter().map(file_info).collect();
            AgentResponse {
                list_files: Some(response::ListFiles { file_infos }),
                ..response(Type::ListFiles)
            }
        }
        CallType::ReadFile => {
            let read = call.read_file.ok_or_else(|| missing("read_file"))?;
            let chunk = api.read_file(read.path, read.offset, read.length).await?;
            let read_file = response::ReadFile { size: chunk.size, data: chunk.data };
            AgentResponse { read_file: Some(read_file), ..response(Type::ReadFile) }
        }
        other => {
            return Err(ApiError::NotImplemented(format!(
                "The call {} is not built yet",
                other.as_str_name()
            )));
        }
    })
}

fn file_info(entry: FileEntry) -> v1::FileInfo {
    v1::FileInfo {
        path: entry.path,
        nlink: Some(i32::try_from(entry.nlink).unwrap_or(i32::MAX)),
        size: Some(entry.size),
        mtime: Some(v1::TimeInfo { nanoseconds: entry.mtime.saturating_mul(1_000_000_000) }),
        mode: Some(entry.mode),
        uid: Some(entry.uid),
        gid: Some(entry.gid),
    }
}

type Parameters = Query<BTreeMap<String, String>>;

/// `/files/read?path=&offset=&length=`: offset absent or −1 asks for the size.
async fn files_read(State(api): State<Arc<dyn AgentApi>>, Query(parameters): Parameters) -> Response<Body> {
    let number = |name: &str| match parameters.get(name) {
        None => Ok(-1),
        Some(value) => match value.parse::<i64>() {
            Ok(number) if number >= -1 => Ok(number),
            _ => Err(format!("'{name}' must be a number of at least -1, not {value:?}")),
        },
    };
    let Some(path) = parameters.get("path").cloned() else {
        return text(StatusCode::BAD_REQUEST, "Expecting 'path=value' in query.");
    };
    let (offset, length) = match (number("offset"), number("length")) {
        (Ok(offset), Ok(length)) => (offset, length),
        (Err(problem), _) | (_, Err(problem)) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let start = u64::try_from(offset).unwrap_or(0);
    let length = if offset < 0 { Some(0) } else { u64::try_from(length).ok() };
    match api.read_file(path, start, length).await {
        Ok(chunk) => {
            let told = if offset < 0 { chunk.size } else { start };
            document(json!({ "data": String::from_utf8_lossy(&chunk.data), "offset": told }).to_string())
        }
        Err(error) => refusal(&error, "/files/read"),
    }
}

async fn files_browse(State(api): State<Arc<dyn AgentApi>>, Query(parameters): Parameters) -> Response<Body> {
    let Some(path) = parameters.get("path").cloned() else {
        return text(StatusCode::BAD_REQUEST, "Expecting 'path=value' in query.");
    };
    match api.list_files(path).await {
        Ok(entries) => {
            let list: Vec<_> = entries
                .iter()
                .map(|entry| {
                    json!({
                        "path": entry.path, "nlink": entry.nlink, "size": entry.size, "mtime": entry.mtime,
                        "mode": mode_text(entry.mode), "uid": entry.uid, "gid": entry.gid,
                    })
                })
                .collect();
            document(json!(list).to_string())
        }
        Err(error) => refusal(&error, "/files/browse"),
    }
}

/// `-rw-r--r--`.
fn mode_text(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        _ => '-',
    };
    let bits = "rwxrwxrwx"
        .chars()
        .enumerate()
        .map(|(at, letter)| if mode & (0o400 >> at) == 0 { '-' } else { letter });
    std::iter::once(kind).chain(bits).collect()
}
