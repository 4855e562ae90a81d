//! Several members over disks that lose what was not acknowledged and a network that loses, delays and
//! reorders; whatever happens, what was acknowledged stays, and all apply the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slog::{Discard, Logger, o};

use super::tests::{Disk, decode, encode};
use super::{Boot, Config, Consensus, Effect, Input, Role, recover};
use crate::base::chance::Chance;

/// What travels.
#[derive(Clone, Debug)]
struct Letter {
    from: u64,
    to: u64,
    message: Vec<u8>,
    snapshot: Option<Vec<u8>>,
}

struct Node {
    /// None: the process is down.
    consensus: Option<Consensus>,
    disk: Disk,
    applied: Vec<(u64, Vec<u8>)>,
    role: Role,
    alarm: Option<u64>,
}

struct Cluster {
    nodes: BTreeMap<u64, Node>,
    voters: Vec<u64>,
    letters: Vec<Letter>,
    /// From whom nothing arrives where.
    cut: BTreeSet<(u64, u64)>,
    chance: Chance,
    /// Proposals that were answered: what was said to be at which index.
    acknowledged: BTreeMap<u64, Vec<u8>>,
    proposed: BTreeMap<u64, Vec<u8>>,
    next_id: u64,
    leaders: BTreeMap<u64, u64>,
    readable: Vec<u64>,
    ignored: Vec<&'static str>,
}

impl Cluster {
    fn new(voters: &[u64], seed: u64) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            voters: voters.to_vec(),
            letters: Vec::new(),
            cut: BTreeSet::new(),
            chance: Chance::new(seed),
            acknowledged: BTreeMap::new(),
            proposed: BTreeMap::new(),
            next_id: 0,
            leaders: BTreeMap::new(),
            readable: Vec::new(),
            ignored: Vec::new(),
        };
        for id in voters {
            cluster.boot(*id, Disk::default());
        }
        cluster
    }

    fn boot(&mut self, id: u64, disk: Disk) {
        let first_voters = if self.voters.contains(&id) { self.voters.clone() } else { Vec::new() };
        let config = Config {
            id,
            election_ticks: 10,
            first_voters,
            seed: self.chance.bits(),
            snapshot_every: super::io::SNAPSHOT_EVERY,
        };
        let (log, applied) = match recover(&disk.pairs()).expect("a whole log") {
            Boot::Empty => (None, Vec::new()),
            Boot::Log { snapshot, log } => (Some(log), decode(&snapshot)),
        };
        let consensus = Consensus::new(&config, log, &Logger::root(Discard, o!())).expect("valid settings");
        let node = Node {
            consensus: Some(consensus),
            disk,
            applied,
            role: Role::Follower { leader: None },
            alarm: None,
        };
        self.nodes.insert(id, node);
        let mut effects = Vec::new();
        self.member(id).expect("just made").start(&mut effects).expect("sound");
        self.perform(id, effects);
    }

    fn member(&mut self, id: u64) -> Option<&mut Consensus> {
        self.nodes.get_mut(&id).and_then(|node| node.consensus.as_mut())
    }

    fn handle(&mut self, id: u64, inputs: Vec<Input>) {
        let mut effects = Vec::new();
        let Some(member) = self.member(id) else { return };
        member.handle(inputs, &mut effects).expect("sound");
        member.sanity_check();
        self.perform(id, effects);
    }

    fn perform(&mut self, id: u64, effects: Vec<Effect>) {
        for effect in effects {
            let node = self.nodes.get_mut(&id).expect("known");
            match effect {
                Effect::Persist { seq, records } => node.disk.written.push((seq, records)),
                Effect::Apply { index, data, proposal } => {
                    node.applied.push((index, data.clone()));
                    if let Some(proposal) = proposal {
                        assert_eq!(self.proposed.get(&proposal), Some(&data), "another's entry was answered");
                        self.acknowledged.insert(index, data);
                    }
                }
                Effect::Restore { index, data } => {
                    node.applied = decode(&data);
                    assert!(node.applied.iter().all(|(at, _)| *at <= index), "newer than its index");
                }
                Effect::Dropped { .. } | Effect::Refused { .. } | Effect::NotReadable { .. } => {}
                Effect::Readable { read } => self.readable.push(read),
                Effect::Role(role) => {
                    node.role = role;
                    if let Role::Leader { term } = role {
                        let other = self.leaders.insert(term, id);
                        assert!(other.is_none_or(|other| other == id), "two leaders in term {term}");
                    }
                }
                Effect::TakeSnapshot { index } => {
                    let data = encode(&node.applied);
                    self.handle(id, vec![Input::Snapshot { index, data }]);
                }
                Effect::Send { to, message } => {
                    self.letters.push(Letter { from: id, to, message, snapshot: None });
                }
                Effect::SendSnapshot { to, header, data } => {
                    let snapshot = Some(data.to_vec());
                    self.letters.push(Letter { from: id, to, message: header, snapshot });
                    self.handle(id, vec![Input::SnapshotSent { to, arrived: true }]);
                }
                Effect::Wake { alarm, .. } => node.alarm = Some(alarm),
                Effect::Ignored { reason, .. } => self.ignored.push(reason),
            }
        }
    }

    fn sync(&mut self, id: u64, count: usize) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(seq) = node.disk.sync(count) {
            self.handle(id, vec![Input::Persisted { seq }]);
        }
    }

    fn deliver(&mut self, letter: Letter) {
        if self.cut.contains(&(letter.from, letter.to)) {
            return;
        }
        let Letter { from, to, message, snapshot } = letter;
        self.handle(to, vec![Input::Message { from, message, snapshot }]);
    }

    /// Everybody's disk and network work until nothing is left to do.
    fn settle(&mut self) {
        loop {
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            for id in &ids {
                self.sync(*id, usize::MAX);
            }
            let letters = std::mem::take(&mut self.letters);
            let is_quiet = letters.is_empty();
            letters.into_iter().for_each(|letter| self.deliver(letter));
            let is_synced =
                self.nodes.values().all(|node| node.consensus.is_none() || node.disk.written.is_empty());
            if is_quiet && is_synced && self.letters.is_empty() {
                return;
            }
        }
    }

    fn tick(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in ids {
            self.handle(id, vec![Input::Tick]);
        }
    }

    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.tick();
            self.settle();
        }
    }

    fn leader(&self) -> Option<u64> {
        let leads = |node: &Node| node.consensus.is_some() && matches!(node.role, Role::Leader { .. });
        let leading = self.nodes.iter().filter(|(_, node)| leads(node));
        leading
            .max_by_key(|(_, node)| match node.role {
                Role::Leader { term } => term,
                Role::Follower { .. } => 0,
            })
            .map(|(id, _)| *id)
    }

    fn elect(&mut self) -> u64 {
        for _ in 0..200 {
            self.run(1);
            if let Some(leader) = self.leader() {
                return leader;
            }
        }
        panic!("nobody leads after 200 ticks")
    }

    fn propose(&mut self, id: u64) -> u64 {
        self.next_id += 1;
        let data = self.next_id.to_be_bytes().to_vec();
        self.proposed.insert(self.next_id, data.clone());
        self.handle(id, vec![Input::Propose { id: self.next_id, data }]);
        self.next_id
    }

    /// The process ends; what was not synced is lost.
    fn crash(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.consensus = None;
            node.disk.written.clear();
        }
    }

    fn restart(&mut self, id: u64) {
        let disk = self.nodes.get_mut(&id).map(|node| std::mem::take(&mut node.disk));
        self.boot(id, disk.unwrap_or_default());
    }

    /// Whoever applied something at an index applied the same, and what was acknowledged there.
    fn agree(&self) -> BTreeMap<u64, &Vec<u8>> {
        let mut all: BTreeMap<u64, &Vec<u8>> = BTreeMap::new();
        for node in self.nodes.values() {
            for (index, data) in &node.applied {
                assert_eq!(*all.entry(*index).or_insert(data), data, "members differ at {index}");
                let acknowledged = self.acknowledged.get(index);
                assert!(
                    acknowledged.is_none_or(|it| it == data),
                    "another command was acknowledged at {index}"
                );
            }
            assert!(node.applied.is_sorted_by_key(|(index, _)| *index), "applied out of order");
        }
        all
    }

    /// They agree, and everything acknowledged is there: only for times when somebody has applied all.
    fn check(&self) {
        let all = self.agree();
        for (index, data) in &self.acknowledged {
            assert_eq!(all.get(index), Some(&data), "what was acknowledged at {index} is lost");
        }
    }

    fn everybody_has_everything(&self) {
        let longest = self.nodes.values().map(|node| node.applied.len()).max();
        for (id, node) in &self.nodes {
            assert_eq!(Some(node.applied.len()), longest, "{id:x} is behind");
        }
    }
}

#[test]
fn a_command_needs_a_majority_of_disks() {
    let mut cluster = Cluster::new(&[1, 2, 3], 1);
    let leader = cluster.elect();
    cluster.propose(leader);
    cluster.sync(leader, usize::MAX);
    assert!(cluster.acknowledged.is_empty(), "one disk is no majority");
    cluster.settle();
    assert_eq!(cluster.acknowledged.len(), 1);
    cluster.run(2);
    cluster.everybody_has_everything();
}

#[test]
fn a_vote_leaves_only_when_it_is_on_disk() {
    use protobuf::Message as _;
    use raft::eraftpb::{Message, MessageType};

    let mut cluster = Cluster::new(&[1, 2, 3], 2);
    let mut asked = 0;
    for _ in 0..60 {
        cluster.tick();
        for letter in std::mem::take(&mut cluster.letters) {
            let message = Message::parse_from_bytes(&letter.message).expect("readable");
            match message.get_msg_type() {
                MessageType::MsgRequestVote | MessageType::MsgRequestVoteResponse => {
                    panic!("{:x} voted without having it on disk", letter.from)
                }
                MessageType::MsgRequestPreVote => asked += 1,
                _ => {}
            }
            cluster.deliver(letter);
        }
    }
    assert!(asked > 0, "pre-votes promise nothing and need no disk");
    cluster.elect();
}

#[test]
fn the_leader_ends_and_the_next_in_turn_leads_at_once() {
    let mut cluster = Cluster::new(&[1, 2, 3], 3);
    let leader = cluster.elect();
    for _ in 0..10 {
        cluster.propose(leader);
    }
    cluster.settle();
    cluster.crash(leader);
    let others: Vec<u64> = [1, 2, 3].into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        let round_trip = std::time::Duration::from_micros(300);
        cluster.handle(*id, vec![Input::Broken { peer: leader, round_trip }]);
    }
    let alarm = cluster.nodes[&others[0]].alarm.expect("it waits for its turn");
    cluster.handle(others[0], vec![Input::Alarm { alarm }]);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(others[0]), "without a single tick");
    // The other's turn comes too late to disturb.
    let alarm = cluster.nodes[&others[1]].alarm.expect("it waited, too");
    cluster.handle(others[1], vec![Input::Alarm { alarm }]);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(others[0]));
    cluster.check();
    cluster.restart(leader);
    cluster.run(30);
    cluster.everybody_has_everything();
}

#[test]
fn a_cut_that_only_one_follower_sees_deposes_no_one() {
    let mut cluster = Cluster::new(&[1, 2, 3], 4);
    let leader = cluster.elect();
    let alone = [1, 2, 3].into_iter().find(|id| *id != leader).expect("three");
    cluster.cut.extend([(leader, alone), (alone, leader)]);
    cluster.handle(alone, vec![Input::Broken { peer: leader, round_trip: std::time::Duration::ZERO }]);
    if let Some(alarm) = cluster.nodes[&alone].alarm {
        cluster.handle(alone, vec![Input::Alarm { alarm }]);
    }
    cluster.run(100);
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(cluster.leaders.len(), 1, "its pre-votes raised no term");
}

#[test]
fn a_leader_without_a_majority_steps_down_and_answers_no_read() {
    let mut cluster = Cluster::new(&[1, 2, 3], 5);
    let leader = cluster.elect();
    cluster.handle(leader, vec![Input::Read { id: 1 }]);
    cluster.settle();
    assert_eq!(cluster.readable, [1]);
    for other in [1, 2, 3] {
        cluster.cut.extend([(leader, other), (other, leader)]);
    }
    cluster.handle(leader, vec![Input::Read { id: 2 }]);
    let lost = cluster.propose(leader);
    cluster.run(60);
    assert_eq!(cluster.readable, [1], "nobody confirmed that it still leads");
    assert!(matches!(cluster.nodes[&leader].role, Role::Follower { .. }));
    let next = cluster.leader().expect("the majority elected another");
    assert_ne!(next, leader);
    cluster.propose(next);
    cluster.settle();
    cluster.cut.clear();
    cluster.run(60);
    cluster.check();
    cluster.everybody_has_everything();
    assert!(!cluster.acknowledged.values().any(|data| *data == lost.to_be_bytes()));
}

#[test]
fn a_member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new(&[1, 2, 3], 6);
    let leader = cluster.elect();
    let late = [1, 2, 3].into_iter().find(|id| *id != leader).expect("three");
    cluster.crash(late);
    for round in 0..9_000 {
        cluster.propose(leader);
        if round % 64 == 0 {
            cluster.settle();
        }
    }
    cluster.settle();
    let first = cluster.member(leader).expect("up").status().snapshot;
    assert!(first > 4_000, "{first}");
    cluster.restart(late);
    cluster.run(20);
    cluster.check();
    cluster.everybody_has_everything();
    // What it was sent is on its own disk.
    cluster.crash(late);
    cluster.restart(late);
    cluster.run(20);
    cluster.check();
    cluster.everybody_has_everything();
}

#[test]
fn a_member_does_not_campaign_before_a_snapshot_is_on_its_disk() {
    use protobuf::Message as _;
    use raft::eraftpb::{Message, MessageType};

    let mut cluster = Cluster::new(&[1, 2, 3], 6);
    let leader = cluster.elect();
    let late = [1, 2, 3].into_iter().find(|id| *id != leader).expect("three");
    cluster.crash(late);
    let entries = super::io::SNAPSHOT_EVERY + 100;
    for _ in 0..entries {
        cluster.propose(leader);
        cluster.settle();
    }
    cluster.restart(late);
    // Its disk takes nothing: everything but that goes on until the snapshot is there.
    let is_installing = |cluster: &mut Cluster| cluster.member(late).expect("up").is_installing();
    for _ in 0..100 {
        cluster.tick();
        for id in [1, 2, 3].into_iter().filter(|id| *id != late) {
            cluster.sync(id, usize::MAX);
        }
        if is_installing(&mut cluster) {
            break;
        }
        std::mem::take(&mut cluster.letters).into_iter().for_each(|letter| cluster.deliver(letter));
    }
    assert!(is_installing(&mut cluster));
    let term = cluster.member(leader).expect("up").status().term;
    let mut message = Message::default();
    (message.from, message.to, message.term) = (leader, late, term);
    message.set_msg_type(MessageType::MsgTimeoutNow);
    let message = message.write_to_bytes().expect("encoded");
    cluster.handle(late, vec![Input::Message { from: leader, message, snapshot: None }]);
    cluster.handle(late, vec![Input::Broken { peer: leader, round_trip: Duration::ZERO }]);
    if let Some(alarm) = cluster.nodes[&late].alarm {
        cluster.handle(late, vec![Input::Alarm { alarm }]);
    }
    for _ in 0..50 {
        cluster.handle(late, vec![Input::Tick, Input::Campaign]);
    }
    cluster.run(60);
    cluster.check();
    cluster.everybody_has_everything();
}

#[test]
fn members_join_as_learners_and_replace_each_other() {
    let mut cluster = Cluster::new(&[1], 7);
    let leader = cluster.elect();
    for _ in 0..50 {
        cluster.propose(leader);
    }
    cluster.settle();
    cluster.boot(2, Disk::default());
    cluster.boot(3, Disk::default());
    cluster.handle(1, vec![Input::Members([1, 2, 3].into())]);
    cluster.run(60);
    let voters = |cluster: &mut Cluster, id: u64| -> Vec<u64> {
        let status = cluster.member(id).expect("up").status();
        status.members.iter().filter(|member| member.is_voter).map(|member| member.id).collect()
    };
    assert_eq!(voters(&mut cluster, 1), [1, 2, 3]);
    cluster.everybody_has_everything();
    // The leader itself is replaced by a fourth.
    cluster.boot(4, Disk::default());
    for id in [1, 2, 3, 4] {
        cluster.handle(id, vec![Input::Members([2, 3, 4].into())]);
    }
    cluster.run(200);
    let next = cluster.leader().expect("somebody leads");
    assert_ne!(next, 1);
    assert_eq!(voters(&mut cluster, next), [2, 3, 4]);
    cluster.crash(1);
    cluster.propose(next);
    cluster.run(5);
    cluster.check();
    assert_eq!(cluster.acknowledged.len(), 51);
}

#[test]
fn a_planned_stop_hands_over() {
    let mut cluster = Cluster::new(&[1, 2, 3], 8);
    let leader = cluster.elect();
    cluster.propose(leader);
    cluster.settle();
    cluster.handle(leader, vec![Input::HandOver]);
    cluster.settle();
    let next = cluster.leader().expect("without an election timeout");
    assert_ne!(next, leader);
}

#[test]
fn what_no_member_sends_changes_nothing() {
    use protobuf::Message as _;
    use raft::eraftpb::{Entry, Message, MessageType};

    let mut cluster = Cluster::new(&[1, 2, 3], 9);
    let leader = cluster.elect();
    let follower = [1, 2, 3].into_iter().find(|id| *id != leader).expect("three");
    let term = cluster.member(leader).expect("up").status().term;
    let message = |kind: MessageType| {
        let mut message = Message::default();
        (message.from, message.to, message.term) = (follower, leader, term);
        message.set_msg_type(kind);
        message
    };
    let mut bad = Vec::new();
    for kind in [
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgPropose,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
        MessageType::MsgTransferLeader,
        MessageType::MsgSnapshot,
    ] {
        bad.push(message(kind));
    }
    bad.push(Message { term: u64::MAX, ..message(MessageType::MsgHeartbeat) });
    bad.push(Message { term: 0, ..message(MessageType::MsgHeartbeat) });
    bad.push(Message { to: 77, ..message(MessageType::MsgHeartbeat) });
    bad.push(Message { from: 77, ..message(MessageType::MsgHeartbeat) });
    let mut holed = message(MessageType::MsgAppend);
    holed.mut_entries().push(Entry { index: 9, term, ..Entry::default() });
    bad.push(holed);
    let before = cluster.member(leader).expect("up").status();
    let count = bad.len();
    for message in bad {
        let message = message.write_to_bytes().expect("encoded");
        cluster.handle(leader, vec![Input::Message { from: follower, message, snapshot: None }]);
    }
    cluster.handle(leader, vec![Input::Message { from: follower, message: vec![0xff; 9], snapshot: None }]);
    assert_eq!(cluster.ignored.len(), count + 1, "{:?}", cluster.ignored);
    assert_eq!(cluster.member(leader).expect("up").status(), before);
}

#[test]
fn a_member_that_lost_a_part_of_its_log_says_so() {
    use protobuf::Message as _;
    use raft::eraftpb::{Message, MessageType};

    let mut cluster = Cluster::new(&[1, 2, 3], 10);
    let leader = cluster.elect();
    let follower = [1, 2, 3].into_iter().find(|id| *id != leader).expect("three");
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgHeartbeat);
    message.term = cluster.member(leader).expect("up").status().term;
    (message.from, message.to, message.commit) = (leader, follower, 1_000);
    let message = message.write_to_bytes().expect("encoded");
    let member = cluster.member(follower).expect("up");
    let input = Input::Message { from: leader, message, snapshot: None };
    let fault = member.handle(vec![input], &mut Vec::new()).expect_err("not to be trusted");
    assert!(fault.to_string().contains("1000") && fault.to_string().contains("lost"), "{fault}");
}

/// One step of trouble.
fn trouble(cluster: &mut Cluster, ids: &[u64]) {
    let pick = |chance: &mut Chance| ids[usize::try_from(chance.below(ids.len() as u64)).expect("small")];
    let id = pick(&mut cluster.chance);
    match cluster.chance.below(100) {
        0..=29 => cluster.handle(id, vec![Input::Tick]),
        30..=54 => {
            let count = cluster.chance.below(3) + 1;
            cluster.sync(id, usize::try_from(count).expect("small"));
        }
        55..=84 if !cluster.letters.is_empty() => {
            let at = cluster.chance.below(cluster.letters.len() as u64);
            let letter = cluster.letters.swap_remove(usize::try_from(at).expect("small"));
            match cluster.chance.below(20) {
                0 => {}
                1 => {
                    cluster.letters.push(letter.clone());
                    cluster.deliver(letter);
                }
                _ => cluster.deliver(letter),
            }
        }
        85..=93 => {
            cluster.propose(id);
        }
        94 => {
            cluster.next_id += 1;
            let read = cluster.next_id;
            cluster.handle(id, vec![Input::Read { id: read }]);
        }
        95 => {
            let other = pick(&mut cluster.chance);
            cluster.cut.insert((id, other));
        }
        96 => cluster.cut.clear(),
        97 => cluster.crash(id),
        98 => {
            if cluster.nodes[&id].consensus.is_none() {
                cluster.restart(id);
            }
        }
        _ => {
            let other = pick(&mut cluster.chance);
            let round_trip = std::time::Duration::from_millis(1);
            cluster.handle(id, vec![Input::Broken { peer: other, round_trip }]);
            if let Some(alarm) = cluster.nodes.get_mut(&id).and_then(|node| node.alarm.take()) {
                cluster.handle(id, vec![Input::Alarm { alarm }]);
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_happens() {
    for seed in 0..200 {
        let ids: &[u64] = if seed % 3 == 0 { &[1, 2, 3, 4, 5] } else { &[1, 2, 3] };
        let mut cluster = Cluster::new(ids, 1_000 + seed);
        for step in 0..4_000 {
            trouble(&mut cluster, ids);
            if step % 100 == 0 {
                cluster.agree();
            }
        }
        // All is well again: somebody leads, and everybody catches up.
        cluster.cut.clear();
        for id in ids {
            if cluster.nodes[id].consensus.is_none() {
                cluster.restart(*id);
            }
        }
        cluster.run(60);
        let leader = cluster.elect();
        let last = cluster.propose(leader);
        cluster.run(30);
        cluster.check();
        cluster.everybody_has_everything();
        let is_there = cluster.acknowledged.values().any(|data| *data == last.to_be_bytes());
        assert!(is_there, "seed {seed}: no progress after all was well again");
    }
}
