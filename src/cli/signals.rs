//! Ctrl-C, SIGTERM and SIGHUP: the first asks the command to end, the second asks for haste, the third
//! ends the program, whatever is left. SIGUSR1 asks a node to leave its cluster.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

use super::CliError;

/// Waits for signals.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    receiver: watch::Receiver<u8>,
}

impl Interrupt {
    /// Installs the handler; once per process.
    ///
    /// # Errors
    /// A handler was installed before, or the system refuses.
    pub(super) fn install() -> Result<Self, CliError> {
        let (sender, receiver) = watch::channel(0);
        let seen = AtomicU8::new(0);
        ctrlc::set_handler(move || {
            let count = seen.fetch_add(1, Ordering::SeqCst) + 1;
            if count > 2 {
                // 130 is what a shell expects of a program that Ctrl-C ended.
                std::process::exit(130);
            }
            sender.send_replace(count);
        })
        .map_err(|error| CliError::new(format!("signals cannot be handled: {error}")))?;
        Ok(Self { receiver })
    }

    /// Ends when the first signal has come.
    pub(super) async fn wait(&mut self) {
        self.wait_for(1).await;
    }

    /// Ends when the second signal has come.
    pub(super) async fn wait_again(&mut self) {
        self.wait_for(2).await;
    }

    async fn wait_for(&mut self, count: u8) {
        if self.receiver.wait_for(|seen| *seen >= count).await.is_err() {
            // The handler lives as long as the process.
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for SIGUSR1. Where there is no such signal, it never comes.
#[derive(Debug)]
pub(super) struct DrainSignal {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl DrainSignal {
    /// Installs the handler; without one, the signal would end the program.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn install() -> Result<Self, CliError> {
        #[cfg(unix)]
        {
            let kind = tokio::signal::unix::SignalKind::user_defined1();
            let signal = tokio::signal::unix::signal(kind);
            let problem = |error| CliError::new(format!("SIGUSR1 cannot be handled: {error}"));
            Ok(Self { signal: signal.map_err(problem)? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Ends when the signal has come.
    pub(super) async fn wait(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending::<()>().await;
    }
}
