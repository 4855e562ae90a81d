//! The APIs over HTTP: the same interfaces, for programs outside of the cluster.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    AgentApi, ApiError, BoxFuture, FileChunk, FileEntry, OperatorApi, Principal, SchedulerApi,
    SubscriptionStream,
};
use crate::api::json::{self, Json};
use crate::api::recordio::Decoder;
use crate::api::v1::{agent, master, scheduler};
use crate::base::id::AgentId;

/// Events that may wait for a slow reader; the server cuts it off beyond its own bound.
const EVENTS: usize = 1_024;

/// A client of one address.
#[derive(Clone, Debug)]
pub struct HttpClient {
    base: String,
    timeout: Duration,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    body: Bytes,
}

impl Reply {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is one of success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn error(&self) -> ApiError {
        let text = self.text();
        match self.status {
            403 => ApiError::Forbidden(text),
            404 => ApiError::NotFound(text),
            409 => ApiError::Conflict(text),
            501 => ApiError::NotImplemented(text),
            307 => ApiError::NotLeader { leader: None },
            503 => ApiError::Unavailable(text),
            400..=499 => ApiError::Invalid(text),
            _ => ApiError::Internal(text),
        }
    }
}

impl HttpClient {
    /// A client of `http://host:port`, whose calls take at most `timeout`.
    ///
    /// # Errors
    /// The base is no HTTP address.
    pub fn new(base: &str, timeout: Duration) -> Result<Self, ApiError> {
        let base = base.trim_end_matches('/').to_owned();
        let uri: hyper::Uri =
            base.parse().map_err(|_| ApiError::Unreachable(format!("{base:?} is no address")))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err(ApiError::Unreachable(format!("{base:?} is no http:// address")));
        }
        Ok(Self { base, timeout, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    /// GET.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn get(&self, path: &str) -> Result<Reply, ApiError> {
        self.send(Method::GET, path, None).await
    }

    /// POST of a JSON document.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply, ApiError> {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    /// PUT of a JSON document.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Reply, ApiError> {
        self.send(Method::PUT, path, Some(body.to_string())).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn delete(&self, path: &str) -> Result<Reply, ApiError> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<String>) -> Result<Reply, ApiError> {
        let work = async {
            let response = self.request(method, path, body, None).await?;
            let status = response.status().as_u16();
            let body =
                response.into_body().collect().await.map_err(|error| self.unreachable(&error))?.to_bytes();
            Ok(Reply { status, body })
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            Err(ApiError::Unreachable(format!(
                "{} did not answer within {} s",
                self.base,
                self.timeout.as_secs()
            )))
        })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        stream_id: Option<&str>,
    ) -> Result<Response<Incoming>, ApiError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header("Accept", "application/json");
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        if let Some(stream_id) = stream_id {
            request = request.header("Mesos-Stream-Id", stream_id);
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())));
        let request = request.map_err(|error| ApiError::Invalid(format!("{path:?}: {error}")))?;
        self.client.request(request).await.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> ApiError {
        let cause = error.source().map_or_else(|| error.to_string(), |cause| root_cause(cause).to_string());
        ApiError::Unreachable(format!("nobody answers at {}: {cause}", self.base))
    }

    /// A call with a message as its body.
    async fn call<M: Json>(
        &self,
        path: &str,
        message: &M,
        stream_id: Option<&str>,
    ) -> Result<Reply, ApiError> {
        let work = async {
            let response =
                self.request(Method::POST, path, Some(json::to_string(message)), stream_id).await?;
            let status = response.status().as_u16();
            let body =
                response.into_body().collect().await.map_err(|error| self.unreachable(&error))?.to_bytes();
            let reply = Reply { status, body };
            if reply.is_success() { Ok(reply) } else { Err(reply.error()) }
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            Err(ApiError::Unreachable(format!(
                "{} did not answer within {} s",
                self.base,
                self.timeout.as_secs()
            )))
        })
    }
}

fn root_cause<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

fn parse<M: Json>(reply: &Reply) -> Result<M, ApiError> {
    json::from_slice(&reply.body)
        .map_err(|error| ApiError::Internal(format!("an answer that is no Mesos message: {error}")))
}

/// The scheduler API over HTTP.
#[derive(Clone, Debug)]
pub struct HttpScheduler {
    client: HttpClient,
}

impl HttpScheduler {
    /// The scheduler API of an address.
    #[must_use]
    pub fn new(client: HttpClient) -> Self {
        Self { client }
    }
}

impl SchedulerApi for HttpScheduler {
    fn subscribe(
        &self,
        call: scheduler::Call,
        _principal: Principal,
    ) -> BoxFuture<'_, Result<SubscriptionStream<scheduler::Event>, ApiError>> {
        Box::pin(async move {
            let body = Some(json::to_string(&call));
            let response = self.client.request(Method::POST, "/api/v1/scheduler", body, None).await?;
            let status = response.status().as_u16();
            if status != 200 {
                let body = response
                    .into_body()
                    .collect()
                    .await
                    .map_err(|error| self.client.unreachable(&error))?
                    .to_bytes();
                return Err(Reply { status, body }.error());
            }
            let stream_id = response.headers().get("Mesos-Stream-Id").and_then(|value| value.to_str().ok());
            let stream_id = stream_id.unwrap_or_default().to_owned();
            let (events, receiver) = mpsc::channel(EVENTS);
            let reading = tokio::spawn(read_events(response.into_body(), events));
            Ok(SubscriptionStream { stream_id, events: receiver, guard: Box::new(Reading(reading)) })
        })
    }

    fn call(
        &self,
        call: scheduler::Call,
        stream_id: Option<String>,
        _principal: Principal,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(
            async move { self.client.call("/api/v1/scheduler", &call, stream_id.as_deref()).await.map(drop) },
        )
    }
}

/// Stops reading, and so closes the connection, when it is dropped.
struct Reading(tokio::task::JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read_events(mut body: Incoming, events: mpsc::Sender<scheduler::Event>) {
    let mut decoder = Decoder::default();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        decoder.push(&data);
        loop {
            match decoder.next_record() {
                Ok(Some(record)) => {
                    // A record that is no event ends the stream: what follows cannot be trusted.
                    let Ok(event) = json::from_slice(&record) else { return };
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The operator API over HTTP.
#[derive(Clone, Debug)]
pub struct HttpOperator {
    client: HttpClient,
}

impl HttpOperator {
    /// The operator API of an address.
    #[must_use]
    pub fn new(client: HttpClient) -> Self {
        Self { client }
    }
}

impl OperatorApi for HttpOperator {
    fn call(
        &self,
        call: master::Call,
        _principal: Principal,
    ) -> BoxFuture<'_, Result<Option<master::Response>, ApiError>> {
        Box::pin(async move {
            let reply = self.client.call("/api/v1", &call, None).await?;
            if reply.body.is_empty() { Ok(None) } else { parse(&reply).map(Some) }
        })
    }

    fn legacy_state(&self, _principal: Principal) -> BoxFuture<'_, Result<String, ApiError>> {
        Box::pin(async move {
            let reply = self.client.get("/state").await?;
            if reply.is_success() { Ok(reply.text()) } else { Err(reply.error()) }
        })
    }
}

/// An agent's API over HTTP.
#[derive(Clone, Debug)]
pub struct HttpAgent {
    client: HttpClient,
}

impl HttpAgent {
    /// The API of an agent's address.
    #[must_use]
    pub fn new(client: HttpClient) -> Self {
        Self { client }
    }
}

impl AgentApi for HttpAgent {
    /// Not told over HTTP by this version.
    fn agent_id(&self) -> Option<AgentId> {
        None
    }

    fn list_files(&self, path: String) -> BoxFuture<'_, Result<Vec<FileEntry>, ApiError>> {
        Box::pin(async move {
            let call = agent::Call {
                r#type: Some(agent::call::Type::ListFiles.into()),
                list_files: Some(agent::call::ListFiles { path }),
                ..Default::default()
            };
            let response: agent::Response = parse(&self.client.call("/api/v1", &call, None).await?)?;
            let infos = response.list_files.map(|list| list.file_infos).unwrap_or_default();
            Ok(infos
                .into_iter()
                .map(|info| FileEntry {
                    path: info.path,
                    nlink: info.nlink.and_then(|nlink| u64::try_from(nlink).ok()).unwrap_or(0),
                    size: info.size.unwrap_or(0),
                    mtime: info.mtime.map_or(0, |mtime| mtime.nanoseconds / 1_000_000_000),
                    mode: info.mode.unwrap_or(0),
                    uid: info.uid.unwrap_or_default(),
                    gid: info.gid.unwrap_or_default(),
                })
                .collect())
        })
    }

    fn read_file(
        &self,
        path: String,
        offset: u64,
        length: Option<u64>,
    ) -> BoxFuture<'_, Result<FileChunk, ApiError>> {
        Box::pin(async move {
            let call = agent::Call {
                r#type: Some(agent::call::Type::ReadFile.into()),
                read_file: Some(agent::call::ReadFile { path, offset, length }),
                ..Default::default()
            };
            let response: agent::Response = parse(&self.client.call("/api/v1", &call, None).await?)?;
            let read = response.read_file.unwrap_or_default();
            Ok(FileChunk { size: read.size, data: read.data })
        })
    }
}
