//! Exit codes, as documented.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// It failed.
    Error,
    /// The command line is wrong.
    Usage,
    /// Nothing can place the task.
    CannotBePlaced,
    /// The deployment failed.
    DeploymentFailed,
    /// The wait timed out.
    TimedOut,
    /// What was named does not exist.
    NotFound,
    /// The caller may not do this.
    NotAuthorized,
    /// No master leads.
    NoLeader,
    /// The code of the command that was run.
    Command(u8),
    /// A failure of ours where the command's own code is passed on (`run`).
    RunFailed,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::CannotBePlaced => 4,
            Self::DeploymentFailed => 5,
            Self::TimedOut => 6,
            Self::NotFound => 7,
            Self::NotAuthorized => 8,
            Self::NoLeader => 9,
            Self::Command(code) => code,
            Self::RunFailed => 125,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
