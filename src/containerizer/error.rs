//! Why a containerizer did not start.

/// What is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerizerError {
    /// The launcher did not start.
    #[error("the launcher {program} did not start: {problem}. It must be the mesita program itself")]
    Launcher {
        /// What was started.
        program: String,
        /// What the system said.
        problem: String,
    },
}
