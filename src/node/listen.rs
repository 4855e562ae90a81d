//! Listeners of a node.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::Listen;

/// How many ports after a taken default one are tried.
const NEXT_PORTS: u16 = 100;

/// Where a node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Mesos master APIs, one per master.
    pub masters: Vec<SocketAddr>,
    /// Agent APIs, one per agent.
    pub agents: Vec<SocketAddr>,
    /// Marathon API, of the first master; none on a node without one.
    pub marathon: Option<SocketAddr>,
    /// Where other nodes connect.
    pub peer: Option<SocketAddr>,
}

impl Addresses {
    /// Base URLs of the masters' Mesos APIs.
    #[must_use]
    pub fn master_urls(&self) -> Vec<String> {
        self.masters.iter().map(|address| format!("http://{address}")).collect()
    }
}

/// Binds a listener; a taken port that nobody asked for gives way to the next free one.
///
/// # Errors
/// The port was asked for and is taken, or the address does not belong to this host.
pub(super) async fn bind(listen: Listen, what: &'static str) -> Result<TcpListener, StartError> {
    let mut address = listen.address;
    let last = address.port().saturating_add(NEXT_PORTS);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && !listen.required && address.port() < last =>
            {
                address.set_port(address.port() + 1);
            }
            Err(source) => return Err(StartError::Listen { what, address, source }),
        }
    }
}

/// What others are told the host of a listener is called.
pub(super) fn advertised(advertise: Option<&str>, address: SocketAddr) -> String {
    match advertise {
        Some(name) => name.to_owned(),
        None if address.ip().is_unspecified() => crate::os::host::name(),
        None => address.ip().to_string(),
    }
}

/// The address that a listener got.
///
/// # Errors
/// The system does not tell.
pub(super) fn address_of(listener: &TcpListener, what: &'static str) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen {
        what,
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_an_address_that_leads_nowhere() {
        let any = SocketAddr::from(([0, 0, 0, 0], 80));
        assert_eq!(advertised(Some("node-1"), any), "node-1");
        assert_eq!(advertised(None, any), crate::os::host::name());
        assert_eq!(advertised(None, SocketAddr::from(([127, 0, 0, 1], 80))), "127.0.0.1");
    }

    #[tokio::test]
    async fn a_taken_default_port_gives_way_and_a_required_one_does_not() {
        let any = Listen { address: SocketAddr::from(([127, 0, 0, 1], 0)), required: true };
        let first = bind(any, "master").await.expect("a free port");
        let taken = first.local_addr().expect("an address");
        let second =
            bind(Listen { address: taken, required: false }, "master").await.expect("the next free port");
        assert_ne!(second.local_addr().expect("an address").port(), taken.port());
        let refused =
            bind(Listen { address: taken, required: true }, "master").await.expect_err("the port is taken");
        let text = refused.to_string();
        assert!(text.contains(&taken.to_string()) && text.contains("--master-addr"), "{text}");
    }
}
