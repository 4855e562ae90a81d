//! The engine: connected when it is first needed, its errors in words for people.

use bollard::errors::Error;
use tokio::sync::OnceCell;

/// Oldest API that is spoken, and the oldest that was tried.
const VERSIONS: ((u32, u32), (u32, u32)) = ((1, 24), (1, 41));

/// A Docker engine that may not be there yet.
#[derive(Debug, Default)]
pub(super) struct Engine {
    client: OnceCell<bollard::Docker>,
}

impl Engine {
    /// The engine's client, after its version was looked at once.
    ///
    /// # Errors
    /// No engine answers, or it is too old; the text says what to do.
    pub(super) async fn client(&self) -> Result<&bollard::Docker, String> {
        self.client.get_or_try_init(connect).await
    }
}

async fn connect() -> Result<bollard::Docker, String> {
    let absent = |error: Error| {
        format!(
            "no Docker engine answers: {}. Start one (systemctl start docker), or name one in DOCKER_HOST",
            explain(&error)
        )
    };
    let client = bollard::Docker::connect_with_defaults().map_err(absent)?;
    let version = client.version().await.map_err(absent)?;
    let text = version.api_version.unwrap_or_default();
    let (oldest, tried) = VERSIONS;
    match parse(&text) {
        Some(api) if api < oldest => Err(format!(
            "the Docker engine speaks API {text}, older than {}.{}; upgrade it",
            oldest.0, oldest.1
        )),
        Some(api) => {
            if api < tried {
                tracing::warn!(api = %text, "this Docker engine is older than any that was tried");
            }
            Ok(client)
        }
        None => Err(format!("what answers as Docker engine has no API version: {text:?}")),
    }
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What the engine said, in one line.
pub(super) fn explain(error: &Error) -> String {
    let text = match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        Error::RequestTimeoutError => "it did not answer in time".to_owned(),
        other => other.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the engine does not know the thing (any more).
pub(super) fn is_absent(error: &Error) -> bool {
    status(error) == Some(404)
}

/// Whether the thing is already as it was to become.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(status(error), Some(304 | 409))
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse("1.41"), Some((1, 41)));
        assert!(parse("1.9") < Some(VERSIONS.0));
        assert_eq!((parse(""), parse("one.two")), (None, None));
    }
}
