//! What a component answers when it does not do what it was asked.

/// Why a call was refused, sorted by who must act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The caller's request is malformed or not allowed by the API's rules (400).
    #[error("{0}")]
    Invalid(String),
    /// The caller is known but may not do this now: not subscribed, not authorized (403).
    #[error("{0}")]
    Forbidden(String),
    /// What the request names does not exist (404).
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be applied to the present state (409).
    #[error("{0}")]
    Conflict(String),
    /// The call exists in the API but this version does not offer it (501).
    #[error("{0}")]
    NotImplemented(String),
    /// This master does not lead (307 when the leader's `host:port` is known, else 503).
    #[error("this master is not leading")]
    NotLeader {
        /// `host:port` of the leader's API, when known.
        leader: Option<String>,
    },
    /// Not now; the same call may succeed later (503).
    #[error("{0}")]
    Unavailable(String),
    /// The service could not be reached (client side only).
    #[error("{0}")]
    Unreachable(String),
    /// A fault of ours (500).
    #[error("{0}")]
    Internal(String),
}
