//! A slow wire between the hosts of a network: a proxy of packets that holds each one for a drawn time, so
//! that later ones overtake it. (Kernels without netem have nothing like it.)
//!
//! Each host gets a second interface, a TUN device, and routes to the other hosts through it; the test reads
//! the packets there and writes them to the device of whoever they are for.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};

use super::net::{Network, Space, ip};
use crate::kills::Dice;
use crate::support::now;

const DEVICE: &str = "wire0";
/// Largest packet of a device with the usual MTU.
const PACKET: usize = 1500;
/// Packets on their way at most; more are lost, as in a full router.
const ROOM: usize = 20_000;

/// How long packets are held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delay {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

/// A packet on its way: when it is due, its number, from whom and for whom it is.
type Packet = Reverse<(Instant, u64, (usize, usize), Vec<u8>)>;

struct Shared {
    delay: Mutex<Delay>,
    dice: Mutex<Dice>,
    /// None: the wire is being taken away.
    on_the_way: Mutex<Option<BinaryHeap<Packet>>>,
    came: Condvar,
    numbers: AtomicU64,
    passed: AtomicU64,
    overtaken: AtomicU64,
    addresses: Vec<Ipv4Addr>,
    devices: Vec<SyncDevice>,
}

/// The wire; dropping it takes it away, and hosts reach each other directly again.
pub(crate) struct Wire {
    shared: Arc<Shared>,
    hosts: Vec<Space>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Lays a wire between all hosts of a network, under whatever connections there are.
    pub(crate) fn lay(network: &Network, delay: Delay, dice: Dice) -> Self {
        let hosts = network.spaces();
        let device = |host: &Space| {
            let made = host.inside(|| DeviceBuilder::new().name(DEVICE).enable(false).build_sync());
            let device = made.expect("root may make a device");
            ip(&format!("-n {} link set {DEVICE} up mtu {PACKET}", host.name()));
            device
        };
        let shared = Arc::new(Shared {
            delay: Mutex::new(delay),
            dice: Mutex::new(dice),
            on_the_way: Mutex::new(Some(BinaryHeap::new())),
            came: Condvar::new(),
            numbers: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            overtaken: AtomicU64::new(0),
            addresses: hosts.iter().map(|host| host.address.parse().expect("an address")).collect(),
            devices: hosts.iter().map(device).collect(),
        });
        let mut threads = Vec::new();
        for host in 0..hosts.len() {
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || shared.take_from(host)));
        }
        let deliverer = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || deliverer.deliver()));
        for host in &hosts {
            for other in hosts.iter().filter(|other| other.address != host.address) {
                let (name, from, to) = (host.name(), &host.address, &other.address);
                ip(&format!("-n {name} route add {to}/32 dev {DEVICE} src {from}"));
            }
        }
        Self { shared, hosts, threads }
    }

    pub(crate) fn set(&self, delay: Delay) {
        *self.shared.delay.lock().unwrap_or_else(PoisonError::into_inner) = delay;
    }

    /// Packets that arrived, and how many of them after one that was sent later.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::Relaxed), self.shared.overtaken.load(Ordering::Relaxed))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Whoever reads a device learns that it is gone.
        for host in &self.hosts {
            ip(&format!("-n {} link del {DEVICE}", host.name()));
        }
        self.shared.on_the_way.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.came.notify_all();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a thread of the wire has panicked");
        }
    }
}

impl Shared {
    fn take_from(&self, host: usize) {
        let mut buffer = [0; PACKET];
        while let Ok(length) = self.devices[host].recv(&mut buffer) {
            let packet = &buffer[..length];
            let Some(to) = destination(packet).and_then(|to| self.addresses.iter().position(|at| *at == to))
            else {
                continue;
            };
            let delay = *self.delay.lock().unwrap_or_else(PoisonError::into_inner);
            let spread = (delay.most - delay.least).as_micros().max(1);
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            let drawn = dice.below(u64::try_from(spread).unwrap_or(u64::MAX));
            drop(dice);
            let due = now() + delay.least + Duration::from_micros(drawn);
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let mut on_the_way = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
            match on_the_way.as_mut() {
                Some(packets) if packets.len() < ROOM => {
                    packets.push(Reverse((due, number, (host, to), packet.to_vec())));
                }
                Some(_) => {}
                None => return,
            }
            self.came.notify_all();
        }
    }

    fn deliver(&self) {
        let mut newest: HashMap<(usize, usize), u64> = HashMap::new();
        let mut on_the_way = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(packets) = on_the_way.as_mut() {
            let due = packets.peek().map(|Reverse((due, ..))| due.saturating_duration_since(now()));
            on_the_way = match due {
                Some(Duration::ZERO) => {
                    let Some(Reverse((_, number, way, packet))) = packets.pop() else { continue };
                    drop(on_the_way);
                    // A device that is gone takes nothing any more.
                    let _ = self.devices[way.1].send(&packet);
                    let newest = newest.entry(way).or_default();
                    let is_late = u64::from(number < *newest);
                    self.overtaken.fetch_add(is_late, Ordering::Relaxed);
                    self.passed.fetch_add(1, Ordering::Relaxed);
                    *newest = number.max(*newest);
                    self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner)
                }
                Some(wait) => {
                    let waited = self.came.wait_timeout(on_the_way, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.came.wait(on_the_way).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Whom an IPv4 packet is for.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    if packet.first()? >> 4 != 4 {
        return None;
    }
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    Some(address.into())
}
