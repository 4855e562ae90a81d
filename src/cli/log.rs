//! Log set-up of the binary: tracing to stderr.

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;
use super::settings::Global;
use super::{CliError, Exit};

/// Starts logging.
///
/// # Errors
/// The filter is malformed.
pub(super) fn start(global: &Global) -> Result<(), CliError> {
    let (level, source) = &global.log_level;
    let filter = EnvFilter::try_new(level).map_err(|error| {
        CliError::with(Exit::Usage, format!("{source}: log.level cannot be {level:?}: {error}"))
            .hint("use error, warn, info, debug, trace, or a filter such as `info,mesita::master=debug`")
    })?;
    // A line that stderr does not take is lost: a word about it would go the same way, and panic.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let started = match global.log_format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    started.map_err(|error| CliError::new(format!("the log could not be started: {error}")))
}
