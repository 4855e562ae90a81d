//! The launch queue, and how offers were refused for it (Marathon's funnel).

use serde_json::{Value, json};

use super::answer::World;
use super::show;
use crate::service::model::AppEntry;

/// The stages that an offer passes, in order.
const FUNNEL: [&str; 10] = [
    "UnfulfilledRole",
    "UnfulfilledConstraint",
    "NoCorrespondingReservationFound",
    "AgentMaintenance",
    "InsufficientCpus",
    "InsufficientMemory",
    "InsufficientDisk",
    "InsufficientGpus",
    "InsufficientPorts",
    "DeclinedScarceResources",
];

/// What waits to be launched. There is no `role`: the `marathon` package for Python takes no other
/// members than these.
pub(super) fn queue(world: World<'_>) -> Value {
    let items = world.core.queue(world.now.mono).into_iter().filter_map(|(id, count, left, rejects)| {
        let entry = world.state.apps().get(&id)?;
        let summary = funnel(&rejects);
        let item = json!({
            "app": show::definition(&entry.current),
            "count": count,
            "delay": { "timeLeftSeconds": left, "overdue": left == 0 },
            "since": show::stamp(since(entry)),
            "processedOffersSummary": {
                "processedOffersCount": rejects.len(), "unusedOffersCount": rejects.len(),
                "rejectSummaryLastOffers": summary, "rejectSummaryLaunchAttempt": summary,
            },
        });
        Some(item)
    });
    json!({ "queue": items.collect::<Vec<_>>() })
}

/// Since when an app waits: its definition changed, or a task of it failed.
fn since(entry: &AppEntry) -> i64 {
    let failed = entry.last_failure.as_ref().map_or(i64::MIN, |failure| failure.time_ns);
    entry.current.version_ns.max(failed)
}

/// How many offers came to each stage, and how many ended there. A reject reads `host: Reason: …`.
fn funnel(rejects: &[String]) -> Vec<Value> {
    let ended =
        |stage: &str| rejects.iter().filter(|reject| reject.split(": ").nth(1) == Some(stage)).count();
    let mut left = rejects.len();
    FUNNEL
        .iter()
        .map(|stage| {
            let (processed, declined) = (left, ended(stage));
            left -= declined;
            json!({ "reason": stage, "declined": declined, "processed": processed })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_sees_what_the_one_before_let_pass() {
        let rejects = [
            "a: UnfulfilledConstraint: hostname UNIQUE",
            "b: InsufficientCpus: 4 wanted, 1 offered",
            "c: InsufficientCpus: 4 wanted, 2 offered",
            "d: InsufficientPorts: 1 wanted, 0 offered",
        ];
        let funnel = funnel(&rejects.map(str::to_owned));
        let shown: Vec<(&str, u64, u64)> = funnel
            .iter()
            .map(|stage| {
                let number = |key: &str| stage[key].as_u64().expect("a number");
                (stage["reason"].as_str().expect("a text"), number("processed"), number("declined"))
            })
            .filter(|(_, processed, declined)| *declined > 0 || *processed == 0)
            .collect();
        assert_eq!(
            shown,
            [
                ("UnfulfilledConstraint", 4, 1),
                ("InsufficientCpus", 3, 2),
                ("InsufficientPorts", 1, 1),
                ("DeclinedScarceResources", 0, 0)
            ]
        );
    }
}
