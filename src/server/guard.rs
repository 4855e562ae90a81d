//! What is checked of every request before anybody looks at it: browsers must not be used against a
//! port on loopback (DNS rebinding, foreign pages).

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::middleware::Next;

use super::error::text;

/// Refuses requests of foreign pages and of names that are not this host's.
pub(super) async fn check(request: Request, next: Next) -> Response<Body> {
    match problem(request.headers()) {
        Some(problem) => text(StatusCode::FORBIDDEN, problem),
        None => next.run(request).await,
    }
}

fn problem(headers: &HeaderMap) -> Option<String> {
    let get = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str().unwrap_or("?"));
    let host = get(header::HOST).unwrap_or_default();
    let name = host_name(host);
    if !host.is_empty() && !is_own_name(name) {
        return Some(format!("the host {host:?} is not served here; use an address or localhost"));
    }
    let origin = get(header::ORIGIN)?;
    let from_here = origin.strip_prefix("http://").is_some_and(|origin| origin == host);
    (!from_here).then(|| format!("requests from pages of {origin:?} are not served"))
}

/// The name without its port.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Addresses, `localhost`, and plain host names (no page on the internet has one without a dot).
fn is_own_name(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
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

    #[test]
    fn browsers_are_kept_out() {
        for host in ["127.0.0.1:5050", "localhost:5050", "[::1]:5050", "node-1:5050", "10.0.0.1"] {
            assert_eq!(problem(&headers(host, None)), None, "{host}");
        }
        assert!(problem(&headers("evil.example", None)).is_some());
        assert!(problem(&headers("127.0.0.1:5050", Some("null"))).is_some());
        assert!(problem(&headers("127.0.0.1:5050", Some("http://evil.example"))).is_some());
        assert_eq!(problem(&headers("127.0.0.1:5050", Some("http://127.0.0.1:5050"))), None);
    }
}
