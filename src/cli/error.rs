//! What a command says when it fails: the thing, what was expected, and what to type.

use super::Exit;
use crate::client::ApiError;

/// A failed command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// How the program ends.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// What the user can do, often a command to type.
    pub hint: Option<String>,
}

impl CliError {
    /// A failure without a more precise code.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self::with(Exit::Error, message)
    }

    /// A failure with a code.
    #[must_use]
    pub fn with(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// Output cannot be written. A reader that closed its pipe has seen enough: that is no failure.
    #[must_use]
    pub fn unwritable(name: &str, error: &std::io::Error) -> Self {
        let exit = if error.kind() == std::io::ErrorKind::BrokenPipe { Exit::Ok } else { Exit::Error };
        Self::with(exit, format!("{name} cannot be written: {error}"))
    }

    /// Whether the program ends without a word about it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.exit == Exit::Ok
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        let exit = match error {
            ApiError::NotFound(_) => Exit::NotFound,
            ApiError::Forbidden(_) => Exit::NotAuthorized,
            ApiError::NotLeader { .. } | ApiError::Unavailable(_) => Exit::NoLeader,
            ApiError::Invalid(_)
            | ApiError::Conflict(_)
            | ApiError::NotImplemented(_)
            | ApiError::Unreachable(_)
            | ApiError::Internal(_) => Exit::Error,
        };
        let failure = Self::with(exit, error.to_string());
        match error {
            ApiError::Unreachable(_) => failure
                .hint("start a cluster with `mesita dev`, or name one with --addr HOST:PORT or MESITA_ADDR"),
            _ => failure,
        }
    }
}
