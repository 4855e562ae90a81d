//! What can go wrong: with certificates (the operator acts), and on the way to a peer.

use std::path::PathBuf;
use std::time::Duration;

use super::refusal::Refusal;

/// A certificate, key or authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read.
    #[error("the certificate, key or request is malformed: {0}")]
    Malformed(String),
    /// Nothing in it says whose it is.
    #[error("the certificate does not name exactly one node of a cluster")]
    Nameless,
    /// It was not signed by the cluster's authority, or it is not valid now.
    #[error("the certificate was not accepted: {0}")]
    Untrusted(String),
    /// Key and certificate do not belong together.
    #[error("the key does not belong to the certificate")]
    WrongKey,
    /// A new certificate for somebody else.
    #[error("the new certificate belongs to {found}, not to {expected}")]
    WrongName {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// A cluster id that cannot stand in a certificate.
    #[error("{0:?} is no cluster id: 1 to 64 letters, digits, dots, dashes and underscores are allowed")]
    ClusterId(String),
    /// The library refused.
    #[error("a certificate could not be made: {0}")]
    Make(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Why a call to a peer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection to this address.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// Why.
        reason: String,
    },
    /// It took too long.
    #[error("{address} did not answer within {} s", after.as_secs())]
    Timeout {
        /// `host:port`.
        address: String,
        /// The time it had.
        after: Duration,
    },
    /// The other side is not who it should be.
    #[error("{address} is not to be trusted: {reason}")]
    Untrusted {
        /// `host:port`.
        address: String,
        /// Why.
        reason: String,
    },
    /// The peer says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection was lost, or the peer spoke nonsense. What was asked may have happened.
    #[error("the connection to {address} broke: {reason}")]
    Broken {
        /// `host:port`.
        address: String,
        /// What is known.
        reason: String,
    },
}
