//! What a seed has in store: what goes wrong and what clients do, each at its time. A schedule can be cut
//! down and played again.

use std::time::Duration;

use crate::base::chance::Chance;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The process of a master ends at once.
    CrashMaster,
    /// That of whoever leads does.
    CrashLeader,
    /// The process of an agent does; its containers go on.
    CrashAgent,
    /// A machine with an agent loses power: its tasks are gone.
    PowerOff,
    /// A machine stands still and goes on later.
    Freeze,
    /// Hosts are cut from each other, each way.
    Cut,
    /// Hosts are cut from each other, one way.
    OneWay,
    /// Disks take long.
    SlowDisks,
    /// Packets take long.
    SlowNetwork,
    /// Some messages between masters arrive minutes later.
    LateMessages,
    /// The next sync of a master's disk fails: the process ends.
    FailingDisk,
    /// A master's disk is full: the process ends, and starts once there is room.
    FullDisk,
    /// An agent's disk is nearly full for a while.
    ShortOfRoom,
    /// A master's disk holds something else than was written, or half of it: the node refuses to start,
    /// and another one takes its place.
    Damage,
    /// An agent's does: it is set up anew.
    AgentDamage,
    /// A master is replaced by a new one, both well.
    Replace,
    /// The wall clock of a machine jumps.
    ClockJump,
    /// An operator says that an agent is gone for good.
    MarkGone,
    /// A task ends that nobody asked to.
    KillTask,
    /// A client scales a service.
    Scale,
    /// A client changes two services, one after the other is done.
    Deploy,
    /// A client reads the registry.
    Read,
}

/// What goes wrong.
const FAULTS: [What; 19] = [
    What::CrashMaster,
    What::CrashLeader,
    What::CrashAgent,
    What::PowerOff,
    What::Freeze,
    What::Cut,
    What::OneWay,
    What::SlowDisks,
    What::SlowNetwork,
    What::LateMessages,
    What::FailingDisk,
    What::FullDisk,
    What::ShortOfRoom,
    What::Damage,
    What::AgentDamage,
    What::Replace,
    What::ClockJump,
    What::MarkGone,
    What::KillTask,
];

impl What {
    /// Whether it is a fault, not a client.
    #[must_use]
    pub fn is_fault(self) -> bool {
        FAULTS.contains(&self)
    }
}

/// Something at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, in virtual time.
    pub at: Duration,
    /// What.
    pub what: What,
    /// Decides whom, and how.
    pub draw: u64,
    /// How long, where it lasts.
    pub lasts: Duration,
}

/// Draws what happens within `duration`, in order of time.
///
/// Which kinds a seed has, and how close they follow each other, is drawn as well: all of them all the time
/// would hide what only one of them shows.
pub(super) fn draw(chance: &mut Chance, duration: Duration) -> Vec<Planned> {
    let kinds: Vec<What> = FAULTS.into_iter().filter(|_| chance.below(3) > 0).collect();
    let mut all = Vec::new();
    let every = 800 + chance.below(5_000);
    series(chance, duration, every, &kinds, &mut all);
    let every = 1_000 + chance.below(7_000);
    series(chance, duration, every, &[What::Scale, What::Scale, What::Deploy], &mut all);
    let every = 300 + chance.below(2_000);
    series(chance, duration, every, &[What::Read], &mut all);
    all.sort_by_key(|planned| planned.at);
    all
}

/// One of `kinds` every so many milliseconds, more or less.
fn series(chance: &mut Chance, duration: Duration, every: u64, kinds: &[What], all: &mut Vec<Planned>) {
    let mut at = Duration::from_secs(3);
    while !kinds.is_empty() {
        at += Duration::from_millis(1 + chance.below(2 * every));
        if at >= duration {
            break;
        }
        let drawn = usize::try_from(chance.below(kinds.len() as u64)).unwrap_or(0);
        let lasts = Duration::from_millis(chance.below(20_000));
        all.push(Planned { at, what: kinds[drawn], draw: chance.bits(), lasts });
    }
}
