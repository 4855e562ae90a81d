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
    /// Tasks that an earlier agent left running cannot be ended.
    #[error(
        "what an earlier node left running for {place} cannot be ended: {problem}. End these processes by hand and remove the directory"
    )]
    Left {
        /// The directory of their launcher.
        place: std::path::PathBuf,
        /// What is in the way.
        problem: String,
    },
}
