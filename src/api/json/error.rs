//! What can be wrong with JSON input.

/// Why JSON text is not the message that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is no JSON.
    #[error("the body is not valid JSON: {0}")]
    Syntax(String),
    /// A value has the wrong type or form.
    #[error("the field `{path}` {problem}")]
    Field {
        /// Path such as `accept.offer_ids[0].value`; empty for the whole document.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A required field is absent.
    #[error("the required field `{path}` is missing")]
    Missing {
        /// Path of the field.
        path: String,
    },
}
