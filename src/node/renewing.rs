//! The certificate of a node is renewed at half of its life, while the node runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::SystemClock;
use crate::base::spawn::Fatal;
use crate::base::time::Clock;
use crate::peer::wire::{Credentials, Dialler, KeyRequest};

/// Pause before the next certificate is asked for again.
const PAUSE: Duration = Duration::from_secs(60);

/// Asks for the next certificate in time.
pub(super) struct Renewing<L> {
    /// Where the leader is.
    pub(super) leader: L,
    pub(super) dialler: Dialler,
    pub(super) credentials: Credentials,
    pub(super) directory: PathBuf,
    pub(super) clock: Arc<SystemClock>,
}

impl<L: Fn() -> Option<String> + Send> Renewing<L> {
    pub(super) async fn run(self) -> Result<(), Fatal> {
        loop {
            let due = self.credentials.identity().renew_at();
            let wait = due.since(self.clock.now().wall);
            if wait.is_zero() {
                let leader = (self.leader)();
                if let Err(problem) = self.renew(leader).await {
                    tracing::warn!(%problem, "the certificate of this node is not renewed yet");
                    tokio::time::sleep(PAUSE).await;
                }
            } else {
                // In pieces: the wall clock may be set.
                tokio::time::sleep(wait.min(PAUSE * 60)).await;
            }
        }
    }

    async fn renew(&self, leader: Option<String>) -> Result<(), String> {
        let leader = leader.ok_or("no master leads")?;
        let key = KeyRequest::generate().map_err(|error| error.to_string())?;
        let now = self.clock.now().wall;
        let renewed = self.dialler.renew(&leader, &key, now).await;
        let identity = renewed.map_err(|error| error.to_string())?;
        identity.save(&self.directory).map_err(|error| error.to_string())?;
        self.credentials.replace(identity).map_err(|error| error.to_string())
    }
}
