//! What can go wrong with an embedded cluster.

use crate::base::spawn::Fatal;
use crate::resources::ResourceError;

/// Why a cluster did not start, or did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The builder was given something that is not valid.
    #[error("{0}")]
    Invalid(String),
    /// It did not start.
    #[error("the cluster did not start: {0}")]
    Start(String),
    /// Not every agent registered in time.
    #[error("only {registered} of {wanted} agents registered within {seconds} s")]
    Agents {
        /// Agents that the master knows.
        registered: usize,
        /// Agents that were asked for.
        wanted: usize,
        /// The deadline.
        seconds: u64,
    },
    /// A part of it failed while it ran.
    #[error(transparent)]
    Failed(#[from] Fatal),
    /// It ended, but something of it is left.
    #[error("the cluster did not end cleanly: {}", .0.join("; "))]
    Left(Vec<String>),
}

impl From<ResourceError> for ClusterError {
    fn from(error: ResourceError) -> Self {
        Self::Invalid(error.to_string())
    }
}
