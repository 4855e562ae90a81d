//! Which cluster a command talks to.

use std::time::Duration;

use super::{CliError, Exit, ready};
use crate::client::http::{HttpAgent, HttpClient, HttpOperator, HttpScheduler};
use crate::config::MASTER_PORT;

/// How long a call may take: reads and writes answer at once, or something is wrong.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster's address. Every API port answers everything, so one address is enough.
#[derive(Clone, Debug)]
pub(super) struct Target {
    base: String,
}

impl Target {
    /// The cluster that was named, else the one that `mesita dev` announced, else the default port.
    ///
    /// # Errors
    /// The address cannot be read.
    pub(super) fn find(named: Option<&str>) -> Result<Self, CliError> {
        match named {
            Some(text) => Self::parse(text),
            None => Ok(Self {
                base: ready::announced().unwrap_or_else(|| format!("http://127.0.0.1:{MASTER_PORT}")),
            }),
        }
    }

    /// The cluster at this base URL.
    pub(super) fn at(base: impl Into<String>) -> Self {
        Self { base: base.into() }
    }

    fn parse(text: &str) -> Result<Self, CliError> {
        let wrong = |problem: &str| {
            CliError::with(Exit::Usage, format!("the address {text:?} {problem}"))
                .hint("write it as HOST:PORT or http://HOST:PORT, for example 127.0.0.1:5050")
        };
        if text.starts_with("https://") {
            return Err(wrong("uses TLS, which this version does not speak"));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let uri: Result<axum::http::uri::Authority, _> = address.parse();
        match uri {
            Ok(authority) if !authority.host().is_empty() && !address.contains('@') => {
                let port = match authority.port_u16() {
                    Some(port) => port,
                    None if address == authority.host() => MASTER_PORT,
                    None => return Err(wrong("has no port between 0 and 65535 after its colon")),
                };
                Ok(Self { base: format!("http://{}:{port}", authority.host()) })
            }
            _ => Err(wrong("is no address")),
        }
    }

    /// A client for any path.
    ///
    /// # Errors
    /// The address cannot be used.
    pub(super) fn client(&self) -> Result<HttpClient, CliError> {
        Ok(HttpClient::new(&self.base, CALL_TIMEOUT)?)
    }

    /// The scheduler API.
    ///
    /// # Errors
    /// The address cannot be used.
    pub(super) fn scheduler(&self) -> Result<HttpScheduler, CliError> {
        Ok(HttpScheduler::new(self.client()?))
    }

    /// The operator API.
    ///
    /// # Errors
    /// The address cannot be used.
    pub(super) fn operator(&self) -> Result<HttpOperator, CliError> {
        Ok(HttpOperator::new(self.client()?))
    }

    /// An agent's API.
    ///
    /// # Errors
    /// The address cannot be used.
    pub(super) fn agent(base: &str) -> Result<HttpAgent, CliError> {
        Ok(HttpAgent::new(HttpClient::new(base, CALL_TIMEOUT)?))
    }
}

/// A host as it is written in a URL.
pub(super) fn url_host(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_urls() {
        assert_eq!((url_host("::1"), url_host("10.0.0.1")), ("[::1]".to_owned(), "10.0.0.1".to_owned()));
    }

    #[test]
    fn addresses_as_people_type_them() {
        for (text, base) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:5050/", "http://localhost:5050"),
            ("node-1", "http://node-1:5050"),
            ("[::1]:5050", "http://[::1]:5050"),
        ] {
            assert_eq!(Target::find(Some(text)).map(|target| target.base), Ok(base.to_owned()), "{text}");
        }
        for text in ["", "http://", "a b", "https://x", "user@host:1", "host:99999"] {
            let error = Target::find(Some(text)).expect_err(text);
            assert!(error.exit == Exit::Usage && error.hint.is_some(), "{text}");
        }
    }
}
