//! Ctrl-C, SIGTERM and SIGHUP: the first asks the command to end, the second ends the program.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::CliError;

/// Waits for the first signal.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    receiver: watch::Receiver<bool>,
}

impl Interrupt {
    /// Installs the handler; once per process.
    ///
    /// # Errors
    /// A handler was installed before, or the system refuses.
    pub(super) fn install() -> Result<Self, CliError> {
        let (sender, receiver) = watch::channel(false);
        let seen = AtomicBool::new(false);
        ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::SeqCst) {
                // 130 is what a shell expects of a program that Ctrl-C ended.
                std::process::exit(130);
            }
            sender.send_replace(true);
        })
        .map_err(|error| CliError::new(format!("signals cannot be handled: {error}")))?;
        Ok(Self { receiver })
    }

    /// Ends when the first signal has come.
    pub(super) async fn wait(&mut self) {
        if self.receiver.wait_for(|seen| *seen).await.is_err() {
            // The handler lives as long as the process.
            std::future::pending::<()>().await;
        }
    }
}
