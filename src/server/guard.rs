//! What is checked of every request before anybody looks at it: browsers must not be used against a
//! port on loopback (DNS rebinding, foreign pages).

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::middleware::Next;

use super::error::text;

/// The hosts that a listener is asked for. A page that lets its own name point to loopback is known by
/// that name.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    /// The listener is open to other machines: those need no page to reach it, so any name will do.
    any: bool,
    names: Arc<[String]>,
}

impl Hosts {
    /// Those of a listener at an address, with the names that the configuration adds.
    pub(super) fn of(address: IpAddr, names: &[String]) -> Self {
        Self { any: !address.is_loopback(), names: names.into() }
    }

    /// Addresses, `localhost`, plain host names (no page on the internet has one without a dot), and
    /// what was configured.
    fn serves(&self, name: &str) -> bool {
        let is_local = name.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost");
        self.any || is_local || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Refuses requests of foreign pages and of names that are not this host's.
pub(super) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response<Body> {
    match problem(&hosts, request.headers()) {
        // Marathon's clients read JSON, also when they are refused.
        Some(problem) if request.uri().path().starts_with("/v2/") => {
            super::marathon::document(StatusCode::FORBIDDEN, &serde_json::json!({ "message": problem }))
        }
        Some(problem) => text(StatusCode::FORBIDDEN, problem),
        None => next.run(request).await,
    }
}

fn problem(hosts: &Hosts, headers: &HeaderMap) -> Option<String> {
    let get = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or("?"));
    let host = get(header::HOST).unwrap_or_default();
    if !host.is_empty() && !hosts.serves(host_name(host)) {
        return Some(format!(
            "the host {host:?} is not served here; use an address or localhost, or add the name to the node's hostnames"
        ));
    }
    let origin = get(header::ORIGIN)?;
    let from_here = origin.strip_prefix("http://").is_some_and(|origin| origin == host);
    (!from_here).then(|| format!("requests from pages of {origin:?} are not served"))
}

/// The name without its port and without the dot that ends a full one.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
        }
        headers
    }

    fn hosts(address: &str, names: &[&str]) -> Hosts {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Hosts::of(address.parse().expect("an address"), &names)
    }

    #[test]
    fn browsers_are_kept_out() {
        let hosts = hosts("127.0.0.1", &[]);
        for host in ["127.0.0.1:5050", "localhost:5050", "[::1]:5050", "node-1:5050", "10.0.0.1"] {
            assert_eq!(problem(&hosts, &headers(host, None)), None, "{host}");
        }
        assert!(problem(&hosts, &headers("evil.example", None)).is_some());
        assert!(problem(&hosts, &headers("127.0.0.1:5050", Some("null"))).is_some());
        assert!(problem(&hosts, &headers("127.0.0.1:5050", Some("http://evil.example"))).is_some());
        assert_eq!(problem(&hosts, &headers("127.0.0.1:5050", Some("http://127.0.0.1:5050"))), None);
    }

    #[test]
    fn full_host_names_are_served_where_they_belong() {
        let named = hosts("127.0.0.1", &["Mesos.example.com"]);
        for host in ["mesos.example.com:5050", "mesos.example.com.", "MESOS.EXAMPLE.COM"] {
            assert_eq!(problem(&named, &headers(host, None)), None, "{host}");
        }
        assert!(problem(&named, &headers("evil.example", None)).is_some());
        // Open to other machines, which took --insecure: they do not need a browser.
        let open = hosts("0.0.0.0", &[]);
        assert_eq!(problem(&open, &headers("node-1.example.com:5050", None)), None);
        let foreign = headers("node-1.example.com:5050", Some("http://evil.example"));
        assert!(problem(&open, &foreign).is_some(), "pages of others stay out");
    }
}
