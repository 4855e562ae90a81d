//! Listeners of a node.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;
use crate::base::address::host_port;
use crate::config::{Advertise, Listen};

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

/// What is told where nothing listens.
pub(super) const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The same for an agent: masters tell agents apart by where they answer.
pub(super) fn nowhere_of(number: usize) -> SocketAddr {
    let number = u32::try_from(number).unwrap_or(0) & 0x00ff_ffff;
    let ip = u32::from(std::net::Ipv4Addr::LOCALHOST).wrapping_add(number);
    SocketAddr::from((std::net::Ipv4Addr::from(ip), 0))
}

/// Listeners that somebody else has bound, by the number of their master or agent.
#[derive(Debug, Default)]
pub struct Given {
    /// For the Mesos APIs of masters.
    pub masters: BTreeMap<usize, std::net::TcpListener>,
    /// For Marathon's API at masters.
    pub marathons: BTreeMap<usize, std::net::TcpListener>,
    /// For the APIs of agents.
    pub agents: BTreeMap<usize, std::net::TcpListener>,
}

/// Takes a listener over that somebody else has bound.
///
/// # Errors
/// The system refuses.
pub(super) fn adopt(listener: std::net::TcpListener, what: &'static str) -> Result<TcpListener, StartError> {
    let address = listener.local_addr().unwrap_or(NOWHERE);
    let failed = |source| StartError::Listen { what, address, source };
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
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
pub(super) fn advertised(advertise: Option<&Advertise>, address: SocketAddr) -> String {
    match advertise {
        Some(advertise) => advertise.host.clone(),
        None if address.ip().is_unspecified() => crate::os::host::name(),
        None => address.ip().to_string(),
    }
}

/// Where others are told that an API answers. Every API port of a master answers all of them, so one port
/// that is advertised is enough.
pub(super) fn advertised_api(advertise: Option<&Advertise>, address: SocketAddr) -> String {
    match advertise {
        Some(Advertise { host, port: Some(port) }) => host_port(host, *port),
        // A name does not make a port of loopback one that others reach.
        Some(_) if address.ip().is_loopback() => address.to_string(),
        _ => host_port(&advertised(advertise, address), address.port()),
    }
}

/// The address that a listener got.
///
/// # Errors
/// The system does not tell.
pub(super) fn address_of(listener: &TcpListener, what: &'static str) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { what, address: NOWHERE, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_an_address_that_leads_nowhere() {
        let any = SocketAddr::from(([0, 0, 0, 0], 80));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 80));
        let own = |port| Advertise { host: "node-1".to_owned(), port };
        assert_eq!(advertised(Some(&own(None)), any), "node-1");
        assert_eq!(advertised(None, any), crate::os::host::name());
        assert_eq!(advertised(None, loopback), "127.0.0.1");
        assert_eq!(advertised_api(Some(&own(None)), any), "node-1:80");
        assert_eq!(advertised_api(Some(&own(None)), loopback), "127.0.0.1:80");
        assert_eq!(advertised_api(Some(&own(Some(5050))), any), "node-1:5050");
        assert_eq!(advertised_api(Some(&own(Some(5050))), loopback), "node-1:5050");
        assert_eq!(advertised_api(None, loopback), "127.0.0.1:80");
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
