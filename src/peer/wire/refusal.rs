//! A peer's "no", and how it travels: as a gRPC status with our own mark, so that it cannot be taken
//! for a broken connection.

use std::error::Error as _;

use tonic::{Code, Status};

use super::error::CallError;

/// Which refusal it is.
const KIND: &str = "mesita-refusal";
/// Where the leader is.
const LEADER: &str = "mesita-leader";

/// Why a peer refuses a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only the leader can do this.
    #[error("this node does not lead{}", leader.as_ref().map_or_else(String::new, |leader| format!("; {leader} does")))]
    NotLeader {
        /// The leader's peer address, if known.
        leader: Option<String>,
    },
    /// The caller is no member any more.
    #[error("this node was removed from the cluster")]
    Removed,
    /// It will not be done, and asking again is of no use.
    #[error("refused: {0}")]
    Refused(String),
    /// It cannot be done now.
    #[error("not available now: {0}")]
    Unavailable(String),
}

impl Refusal {
    const fn kind(&self) -> (&'static str, Code) {
        match self {
            Self::NotLeader { .. } => ("not-leader", Code::FailedPrecondition),
            Self::Removed => ("removed", Code::PermissionDenied),
            Self::Refused(_) => ("refused", Code::PermissionDenied),
            Self::Unavailable(_) => ("unavailable", Code::Unavailable),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let (kind, code) = refusal.kind();
        let (text, leader) = match refusal {
            Refusal::NotLeader { leader } => (String::new(), leader),
            Refusal::Removed => (String::new(), None),
            Refusal::Refused(text) | Refusal::Unavailable(text) => (text, None),
        };
        let mut status = Self::new(code, text);
        status.metadata_mut().insert(KIND, tonic::metadata::MetadataValue::from_static(kind));
        // An address that cannot stand in a header is of no use to anyone.
        if let Some(Ok(leader)) = leader.map(|leader| leader.parse()) {
            status.metadata_mut().insert(LEADER, leader);
        }
        status
    }
}

/// The refusal that a status carries, if it is one of ours.
fn refusal(status: &Status) -> Option<Refusal> {
    let text = || status.message().to_owned();
    let value = |key| status.metadata().get(key).and_then(|value| value.to_str().ok());
    match value(KIND)? {
        "not-leader" => Some(Refusal::NotLeader { leader: value(LEADER).map(str::to_owned) }),
        "removed" => Some(Refusal::Removed),
        "unavailable" => Some(Refusal::Unavailable(text())),
        // A kind of a later version is a refusal all the same.
        _ => Some(Refusal::Refused(text())),
    }
}

/// What a status means to the caller.
pub(super) fn call_error(address: &str, status: &Status) -> CallError {
    if let Some(refusal) = refusal(status) {
        return CallError::Refused(refusal);
    }
    match status.code() {
        Code::Unimplemented => {
            CallError::Refused(Refusal::Refused(format!("{address} does not know this call: upgrade it")))
        }
        Code::OutOfRange => CallError::Refused(Refusal::Refused(status.message().to_owned())),
        _ => broken(address, status),
    }
}

/// How the TLS library begins what it says of an alert from the other side.
const ALERT: &str = "received fatal alert: ";

/// A connection that ended. In TLS 1.3 the other side judges our certificate after the handshake: its
/// alert comes in place of an answer (or, if its socket was closed too quickly, not at all).
fn broken(address: &str, status: &Status) -> CallError {
    let address = address.to_owned();
    let mut reason = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    if let Some((_, alert)) = reason.split_once(ALERT) {
        let reason = format!("it does not accept our certificate ({alert})");
        return CallError::Untrusted { address, reason };
    }
    CallError::Broken { address, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_survive_the_wire() {
        for refusal in [
            Refusal::NotLeader { leader: Some("node-1:5052".to_owned()) },
            Refusal::NotLeader { leader: None },
            Refusal::Removed,
            Refusal::Refused("the secret is wrong – ask again".to_owned()),
            Refusal::Unavailable("no quorum".to_owned()),
        ] {
            let status = Status::from(refusal.clone());
            assert_eq!(call_error("a:1", &status), CallError::Refused(refusal));
        }
        assert!(matches!(call_error("a:1", &Status::internal("x")), CallError::Broken { .. }));
    }
}
