//! Networks of a test's own: a switch and three hosts, each a network namespace. Nothing of them is seen
//! outside, so every test may use the same addresses; only the names are unique.

use std::fs::File;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// Hosts of a network.
const HOSTS: usize = 3;
/// The switch's own address: tests and proxies are there.
pub(crate) const SWITCH: &str = "10.77.0.254";
/// Name of every table of rules that a test makes, in namespaces of its own.
const TABLE: &str = "mesita_chaos";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace; the last clone removes it.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    name: Arc<Name>,
    pub(crate) address: String,
}

#[derive(Debug)]
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        // It takes its end of every cable with it.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).stderr(Stdio::null()).status();
    }
}

/// A switch with hosts.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    hosts: Vec<Space>,
    switch: Space,
}

pub(super) fn ip(arguments: &str) -> Output {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Space {
    fn new(name: String, address: &str) -> Self {
        ip(&format!("netns add {name}"));
        let space = Self { name: Arc::new(Name(name)), address: address.to_owned() };
        ip(&format!("-n {} link set lo up", space.name()));
        space
    }

    pub(super) fn name(&self) -> &str {
        &self.name.0
    }

    /// Does something in it: sockets, processes and threads that are made there stay there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name());
        let enter = move || {
            let namespace = File::open(path).expect("the namespace is there");
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            work()
        };
        // A thread enters a namespace for good: this one ends with the work.
        match std::thread::scope(|scope| scope.spawn(enter).join()) {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    pub(crate) fn spawn(&self, mut command: Command) -> Child {
        self.inside(|| command.spawn().expect("the program starts"))
    }

    /// Replaces the rules of this host by these, each a chain `in`, `out` or `nat` and a rule for it.
    pub(crate) fn set_rules(&self, rules: &[(&str, String)]) {
        let mut script = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
        script.push_str("chain in { type filter hook input priority 0; }\n");
        script.push_str("chain out { type filter hook output priority 0; }\n");
        script.push_str("chain nat { type nat hook output priority -100; }\n}\n");
        for (chain, rule) in rules {
            script.push_str(&format!("add rule inet {TABLE} {chain} {rule}\n"));
        }
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(nft);
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), script.as_bytes())
            .expect("written");
        let output = child.wait_with_output().expect("our own child");
        assert!(output.status.success(), "{script}{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Takes every rule away.
    pub(crate) fn heal(&self) {
        self.set_rules(&[]);
    }
}

impl Network {
    /// A new network. None, with the reason, where that is not possible; a panic if it has to be.
    pub(crate) fn new() -> Option<Self> {
        let problem = if !nix::unistd::geteuid().is_root() {
            "this is not root"
        } else if ["ip", "nft"].iter().any(|tool| !is_there(tool)) {
            "ip (iproute2) or nft (nftables) is missing"
        } else {
            return Some(Self::make());
        };
        assert!(std::env::var("MESITA_REQUIRE_ROOT").is_err(), "network namespaces are required: {problem}");
        eprintln!(
            "SKIPPED: {problem}, so there are no network namespaces (MESITA_REQUIRE_ROOT=1 makes this fail)"
        );
        None
    }

    fn make() -> Self {
        let prefix = format!("mesita-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // The switch is a namespace, too: the host's own rules for bridges do not reach it.
        let switch = Space::new(format!("{prefix}-s"), SWITCH);
        let at = switch.name().to_owned();
        ip(&format!("-n {at} link add br0 type bridge"));
        ip(&format!("-n {at} addr add {SWITCH}/24 dev br0"));
        ip(&format!("-n {at} link set br0 up"));
        let hosts = (0..HOSTS).map(|number| {
            let host = Space::new(format!("{prefix}-{number}"), &format!("10.77.0.{}", number + 1));
            let (name, cable) = (host.name().to_owned(), format!("n{number}"));
            ip(&format!("link add {cable} netns {at} type veth peer name eth0 netns {name}"));
            ip(&format!("-n {at} link set {cable} master br0 up"));
            ip(&format!("-n {name} addr add {}/24 dev eth0", host.address));
            ip(&format!("-n {name} link set eth0 up"));
            host
        });
        let hosts = hosts.collect();
        Self { hosts, switch }
    }

    pub(super) fn spaces(&self) -> Vec<Space> {
        self.hosts.clone()
    }

    pub(crate) fn space(&self, number: usize) -> Space {
        self.hosts[number].clone()
    }

    /// Does something at the switch, from where every host is reached.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.switch.inside(work)
    }

    /// Pulls a host's cable: what a switch sees of a machine without power.
    pub(crate) fn cut(&self, number: usize) {
        ip(&format!("-n {} link set n{number} down", self.switch.name()));
    }

    pub(crate) fn plug_in(&self, number: usize) {
        ip(&format!("-n {} link set n{number} up", self.switch.name()));
    }
}

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    fn reaches(from: &Space, to: &str) -> bool {
        let to = to.parse().expect("an address");
        from.inside(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok())
    }

    #[test]
    fn hosts_reach_each_other_until_they_are_cut_off_and_nothing_is_left() {
        let Some(network) = Network::new() else { return };
        let (one, two) = (network.space(0), network.space(1));
        let listen = |space: &Space| {
            let at = format!("{}:7", space.address);
            space.inside(|| TcpListener::bind(at).expect("its own ports"))
        };
        let (_first, _second) = (listen(&one), listen(&two));
        assert!(reaches(&one, "10.77.0.2:7") && reaches(&network.switch, "10.77.0.1:7"));
        network.cut(1);
        assert!(!reaches(&one, "10.77.0.2:7"));
        network.plug_in(1);
        crate::support::wait_for("the cable to work again", || reaches(&one, "10.77.0.2:7").then_some(()));
        // One way: nothing from two comes in at one.
        one.set_rules(&[("in", format!("ip saddr {} drop", two.address))]);
        assert!(!reaches(&one, "10.77.0.2:7") && reaches(&network.switch, "10.77.0.1:7"));
        one.heal();
        assert!(reaches(&one, "10.77.0.2:7"));
        // Another network has the same addresses, and does not see this one.
        let other = Network::new().expect("as the first");
        assert!(!reaches(&other.space(0), "10.77.0.2:7"));
        let names: Vec<String> = [&one, &network.switch].map(|space| space.name().to_owned()).to_vec();
        drop((one, two, network));
        let left = String::from_utf8_lossy(&ip("netns list").stdout).into_owned();
        assert!(names.iter().all(|name| !left.contains(name.as_str())), "{left}");
    }
}
