//! What a leading master records of the cluster itself: its name, who its masters are, and the version of
//! commands that all of them understand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::handle::{Leadership, Registry};
use crate::base::clock::SystemClock;
use crate::base::id::NodeId;
use crate::base::spawn::{Fatal, Shutdown};
use crate::base::time::Clock;
use crate::registry::core::{Change, Command, KNOWS_MASTERS, MasterEntry, State, VERSION};

/// Pause after something was not recorded, before it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Keeps the record, whenever its master leads.
pub(super) struct Keeper {
    pub(super) registry: Registry,
    pub(super) cluster_id: String,
    /// Those with whom the cluster began: they need not ask to be members.
    pub(super) first: BTreeSet<NodeId>,
    pub(super) told: watch::Receiver<BTreeMap<NodeId, MasterEntry>>,
    pub(super) clock: Arc<SystemClock>,
}

impl Keeper {
    pub(super) async fn run(mut self, mut shutdown: Shutdown) -> Result<(), Fatal> {
        let mut leadership = self.registry.leadership();
        let mut applied = self.registry.watch();
        loop {
            let leads = matches!(*leadership.borrow_and_update(), Leadership::Leader { .. });
            let told = self.told.borrow_and_update().clone();
            applied.borrow_and_update();
            let change = if leads { self.next(&told) } else { None };
            if let Some(change) = change {
                let command = Command { time: self.clock.now().wall, change };
                if let Err(error) = self.registry.propose(command).await {
                    tracing::debug!(%error, "not recorded; it is tried again while this master leads");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                continue;
            }
            let changed = tokio::select! {
                changed = leadership.changed() => changed.is_ok(),
                // Nobody tells anything any more: what is known stays.
                changed = self.told.changed() => changed.is_ok() || leadership.changed().await.is_ok(),
                changed = applied.changed(), if leads => changed.is_ok(),
                () = shutdown.requested() => false,
            };
            if !changed {
                return Ok(());
            }
        }
    }

    /// What is to be recorded next.
    fn next(&self, told: &BTreeMap<NodeId, MasterEntry>) -> Option<Change> {
        let state = self.registry.view();
        let understands = |entry: &MasterEntry| entry.max_command_version >= VERSION;
        let all_understand = state.masters().all(|(_, entry)| understands(entry))
            && self
                .first
                .iter()
                .all(|id| state.master(*id).is_some() || told.get(id).is_none_or(understands));
        if let Some(change) = opening(&state, &self.cluster_id, all_understand) {
            return Some(change);
        }
        if state.version() < KNOWS_MASTERS {
            return None;
        }
        let is_news = |id: NodeId, entry: &MasterEntry| match state.master(id) {
            Some(known) => known != entry,
            None => self.first.contains(&id) && !state.is_removed_node(id),
        };
        // Who is not recorded does not vote: the first are recorded together.
        if state.masters().next().is_none() && !self.first.iter().all(|id| told.contains_key(id)) {
            return None;
        }
        let news = told.iter().filter(|(id, entry)| is_news(**id, entry));
        let masters: Vec<_> = news.map(|(id, entry)| (*id, entry.clone())).collect();
        (!masters.is_empty()).then_some(Change::PutMasters { masters })
    }
}

/// What a leader says first: the name of a new cluster, or the newest version, once every member
/// understands it.
pub(super) fn opening(state: &State, cluster_id: &str, all_understand: bool) -> Option<Change> {
    if state.cluster_id().is_empty() {
        return Some(Change::CreateCluster { cluster_id: cluster_id.to_owned(), version: VERSION });
    }
    (state.version() < VERSION && all_understand).then_some(Change::RaiseVersion(VERSION))
}
