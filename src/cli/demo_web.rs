//! `mesita demo-web`, hidden: a web page that says which instance it is. The sample apps run it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;

use super::args::DemoWeb;
use super::output::say;
use super::{CliError, Exit};
use crate::client::http::HttpClient;

/// How long the upstream may take.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until the process is ended.
pub(super) async fn serve(arguments: DemoWeb) -> Result<Exit, CliError> {
    let address = SocketAddr::new(arguments.host, arguments.port);
    let failed = |error: std::io::Error| CliError::new(format!("cannot serve on {address}: {error}"));
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    say(&format!("demo-web: {} listens on {address}", variable("MESOS_TASK_ID")));
    let router = Router::new()
        .route("/", get(|| async { Html(page()) }))
        .route("/health", get(health))
        .route("/upstream", get(upstream))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is /, /health and /upstream\n") })
        .with_state(Arc::new(arguments));
    axum::serve(listener, router).await.map_err(failed)?;
    Ok(Exit::Ok)
}

/// An environment variable, or a dash.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| "-".to_owned())
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page() -> String {
    let rows: String =
        ["MARATHON_APP_ID", "MESOS_TASK_ID", "MARATHON_APP_VERSION", "HOST", "PORTS", "MESOS_SANDBOX"]
            .iter()
            .map(|name| format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(&variable(name))))
            .collect();
    let title = escaped(&variable("MARATHON_APP_ID"));
    println_to_stdout(&format!("GET / answered by {}", variable("MESOS_TASK_ID")));
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>body{{font:16px system-ui;margin:3em}}th{{text-align:left;padding-right:1em}}td{{font-family:monospace}}</style>\n\
         <h1>{title}</h1>\n<table>\n{rows}</table>\n</html>\n"
    )
}

/// One line of log per request, as a service would write it.
fn println_to_stdout(line: &str) {
    use std::io::Write;
    // The log is gone when stdout is: the page should be served all the same.
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn health(State(arguments): State<Arc<DemoWeb>>) -> (StatusCode, &'static str) {
    if arguments.fail_health {
        (StatusCode::INTERNAL_SERVER_ERROR, "unhealthy\n")
    } else {
        (StatusCode::OK, "healthy\n")
    }
}

/// Finds the upstream service through `/v2` and asks its first running instance.
async fn upstream(State(arguments): State<Arc<DemoWeb>>) -> (StatusCode, String) {
    match ask_upstream(&arguments).await {
        Ok(text) => (StatusCode::OK, text),
        Err(problem) => (StatusCode::BAD_GATEWAY, format!("{problem}\n")),
    }
}

async fn ask_upstream(arguments: &DemoWeb) -> Result<String, String> {
    let name = arguments.upstream.as_deref().ok_or("started without --upstream")?;
    let cluster =
        HttpClient::new(&variable("MESITA_ADDR"), UPSTREAM_TIMEOUT).map_err(|error| error.to_string())?;
    let reply = cluster.get(&format!("/v2/apps{name}/tasks")).await.map_err(|error| error.to_string())?;
    let tasks = reply.json();
    let tasks = tasks["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let task = tasks
        .iter()
        .find(|task| task["state"] == "TASK_RUNNING")
        .ok_or_else(|| format!("{name} has no running task"))?;
    let (host, port) =
        (task["host"].as_str().unwrap_or_default(), task["ports"][0].as_u64().unwrap_or_default());
    let instance = HttpClient::new(&format!("http://{host}:{port}"), UPSTREAM_TIMEOUT)
        .map_err(|error| error.to_string())?;
    let page = instance.get("/").await.map_err(|error| error.to_string())?;
    Ok(format!(
        "{} answered with status {} from {host}:{port}\n",
        task["id"].as_str().unwrap_or_default(),
        page.status()
    ))
}
