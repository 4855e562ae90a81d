//! One voter over a disk that loses what was not acknowledged.

use std::collections::BTreeMap;

use slog::{Discard, Logger, o};

use super::{Boot, Config, Consensus, Effect, Input, Records, Role, recover};
use crate::base::chance::Chance;

/// A disk that keeps what was written apart from what is durable.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) durable: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) written: Vec<(u64, Records)>,
}

impl Disk {
    /// Makes the oldest `count` batches durable; answers the last number.
    pub(super) fn sync(&mut self, count: usize) -> Option<u64> {
        let mut last = None;
        for (seq, records) in self.written.drain(..count.min(self.written.len())) {
            for (key, value) in records {
                match value {
                    Some(value) => self.durable.insert(key, value),
                    None => self.durable.remove(&key),
                };
            }
            last = Some(seq);
        }
        last
    }

    pub(super) fn pairs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.durable.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// A member with its disk and what it applied.
struct Member {
    consensus: Consensus,
    disk: Disk,
    applied: Vec<(u64, Vec<u8>)>,
    answered: Vec<u64>,
    refused: Vec<u64>,
    leads: bool,
}

impl Member {
    fn boot(disk: Disk) -> Self {
        let config = Config {
            id: 1,
            election_ticks: 10,
            first_voters: vec![1],
            seed: 1,
            snapshot_every: super::io::SNAPSHOT_EVERY,
        };
        let logger = Logger::root(Discard, o!());
        let (log, applied) = match recover(&disk.pairs()).expect("a whole log") {
            Boot::Empty => (None, Vec::new()),
            Boot::Log { snapshot, log } => (Some(log), decode(&snapshot)),
        };
        let consensus = Consensus::new(&config, log, &logger).expect("valid settings");
        let mut member =
            Self { consensus, disk, applied, answered: Vec::new(), refused: Vec::new(), leads: false };
        let mut effects = Vec::new();
        member.consensus.start(&mut effects).expect("sound");
        member.perform(effects);
        member
    }

    fn handle(&mut self, inputs: Vec<Input>) {
        let mut effects = Vec::new();
        self.consensus.handle(inputs, &mut effects).expect("sound");
        self.consensus.sanity_check();
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist { seq, records } => self.disk.written.push((seq, records)),
                Effect::Apply { index, data, proposal } => {
                    self.applied.push((index, data));
                    self.answered.extend(proposal);
                }
                Effect::Dropped { proposal } => panic!("{proposal} was dropped by a sole voter"),
                Effect::Refused { proposal, .. } => self.refused.push(proposal),
                Effect::Role(role) => self.leads = matches!(role, Role::Leader { .. }),
                Effect::TakeSnapshot { index } => {
                    let data = encode(&self.applied);
                    self.handle(vec![Input::Snapshot { index, data }]);
                }
                other => panic!("a sole voter says {other:?}"),
            }
        }
    }

    fn sync(&mut self, count: usize) {
        if let Some(seq) = self.disk.sync(count) {
            self.handle(vec![Input::Persisted { seq }]);
        }
    }

    fn settle(&mut self) {
        while !self.disk.written.is_empty() {
            self.sync(usize::MAX);
        }
    }
}

pub(super) fn encode(applied: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, data) in applied {
        bytes.extend(index.to_be_bytes());
        bytes.push(u8::try_from(data.len()).expect("short"));
        bytes.extend(data);
    }
    bytes
}

pub(super) fn decode(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut applied = Vec::new();
    while let Some((index, rest)) = bytes.split_first_chunk::<8>() {
        let length = usize::from(rest[0]);
        applied.push((u64::from_be_bytes(*index), rest[1..=length].to_vec()));
        bytes = &rest[1 + length..];
    }
    applied
}

#[test]
fn nothing_is_applied_before_it_is_durable() {
    let mut member = Member::boot(Disk::default());
    assert!(!member.leads, "its own vote is not durable yet");
    member.settle();
    assert!(member.leads);
    member.handle(vec![Input::Propose { id: 7, data: b"x".to_vec() }]);
    assert!(member.answered.is_empty());
    for _ in 0..50 {
        member.handle(vec![Input::Tick]);
    }
    assert!(member.answered.is_empty() && member.leads, "a slow disk neither commits nor deposes");
    member.settle();
    assert_eq!(member.answered, [7]);
    assert_eq!(member.applied.last().map(|(_, data)| data.as_slice()), Some(&b"x"[..]));
}

#[test]
fn a_long_log_is_cut() {
    let mut member = Member::boot(Disk::default());
    member.settle();
    for id in 0..20_000_u64 {
        member.handle(vec![Input::Propose { id, data: id.to_be_bytes().to_vec() }]);
        if id % 64 == 0 {
            member.settle();
        }
    }
    member.settle();
    assert!(member.consensus.log_length() < 8_000, "{} entries", member.consensus.log_length());
    assert!(member.disk.durable.len() < 8_000, "{} records", member.disk.durable.len());
    let applied = member.applied.clone();
    let mut again = Member::boot(member.disk);
    again.settle();
    assert_eq!(again.applied, applied);
}

/// Random proposals, syncs and crashes that lose what was not synced: nothing acknowledged is lost,
/// nothing is applied twice or in another order.
#[test]
fn crashes_lose_nothing_acknowledged() {
    for seed in 0..300 {
        let mut chance = Chance::new(seed);
        let mut member = Member::boot(Disk::default());
        let mut next = 0_u64;
        let mut acknowledged: Vec<u64> = Vec::new();
        for _ in 0..200 {
            match chance.below(10) {
                0 => {
                    acknowledged.append(&mut member.answered);
                    let mut disk = member.disk;
                    disk.written.clear();
                    member = Member::boot(disk);
                }
                1 => member.handle(vec![Input::Tick]),
                2..=5 if member.leads => {
                    next += 1;
                    member.handle(vec![Input::Propose { id: next, data: next.to_be_bytes().to_vec() }]);
                }
                _ => {
                    let count = usize::try_from(chance.below(3)).expect("small");
                    member.sync(count);
                }
            }
        }
        acknowledged.append(&mut member.answered);
        let mut disk = member.disk;
        disk.written.clear();
        let mut last = Member::boot(disk);
        last.settle();
        let found: Vec<u64> = last
            .applied
            .iter()
            .map(|(_, data)| u64::from_be_bytes(data.as_slice().try_into().expect("eight bytes")))
            .collect();
        assert!(found.is_sorted_by(|one, two| one < two), "seed {seed}: {found:?}");
        assert!(
            acknowledged.iter().all(|id| found.contains(id)),
            "seed {seed}: {acknowledged:?} not in {found:?}"
        );
    }
}

#[test]
fn a_log_that_cannot_be_trusted_is_refused() {
    let mut member = Member::boot(Disk::default());
    member.settle();
    for id in 0..10_u64 {
        member.handle(vec![Input::Propose { id, data: b"x".to_vec() }]);
        member.settle();
    }
    let whole = member.disk.pairs();
    assert!(recover(&whole).is_ok());
    let logs: Vec<usize> = (0..whole.len()).filter(|at| whole[*at].0.starts_with(b"log/")).collect();
    let without = |at: usize| {
        let mut pairs = whole.clone();
        pairs.remove(at);
        recover(&pairs).expect_err("refused").what
    };
    assert!(without(logs[4]).contains("hole"));
    assert!(without(logs[logs.len() - 1]).contains("ends at"));
    let head = whole.iter().position(|(key, _)| key == b"meta").expect("a head");
    assert!(without(head).contains("no head"));
    // An older head: what it voted since then is not known.
    let mut older = whole.clone();
    older[head].1 = first_head();
    assert!(recover(&older).expect_err("refused").what.contains("vote"));
    for at in [head, logs[3]] {
        let mut later = whole.clone();
        later[at].1[0] = 99;
        let refusal = recover(&later).expect_err("refused");
        assert!(refusal.is_newer && refusal.what.contains("upgrade this node"), "{refusal}");
    }
}

/// The first head record of a new log, before its member voted for itself.
fn first_head() -> Vec<u8> {
    let log = super::driver::first_log(&[1]);
    super::records::meta_record(&log).expect("encoded").1.expect("a value")
}

#[test]
fn a_lost_snapshot_is_noticed() {
    let mut member = Member::boot(Disk::default());
    member.settle();
    for id in 0..5_000_u64 {
        member.handle(vec![Input::Propose { id, data: b"x".to_vec() }]);
        member.settle();
    }
    let mut pairs = member.disk.pairs();
    assert!(recover(&pairs).is_ok());
    pairs.retain(|(key, _)| key != super::SNAPSHOT);
    assert!(recover(&pairs).expect_err("refused").what.contains("snapshot"));
}

#[test]
fn what_a_leader_cannot_take_now_is_refused_not_lost() {
    let mut member = Member::boot(Disk::default());
    member.settle();
    let big = |id| Input::Propose { id, data: vec![1; 40 * 1024 * 1024] };
    member.handle(vec![big(1), big(2)]);
    assert_eq!(member.refused, [2]);
    member.settle();
    member.handle(vec![big(2)]);
    member.settle();
    assert_eq!((&member.answered[..], &member.refused[..]), (&[1, 2][..], &[2][..]));
}
