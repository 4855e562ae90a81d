//! One run of a check: HTTP, TCP, or a command on the host.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::agent::core::container::{LaunchSpec, Probe, ProbeResult};
use crate::os::users;

/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// How long a connection may take when the probe itself is not limited.
#[cfg(feature = "docker")]
const CONNECT: Duration = Duration::from_secs(60);

/// From where a probe connects.
#[derive(Clone, Copy, Debug)]
pub(super) enum Network {
    /// The host's network.
    Host,
    /// The network of a container, known by one of its processes.
    #[cfg(feature = "docker")]
    Of(u32),
    /// The host's network, but the container's own address.
    #[cfg(feature = "docker")]
    At(std::net::IpAddr),
}

impl Network {
    async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        match self {
            Self::Host => TcpStream::connect(address).await,
            #[cfg(feature = "docker")]
            Self::At(ip) => TcpStream::connect((ip, address.port())).await,
            #[cfg(feature = "docker")]
            Self::Of(pid) => {
                let connecting =
                    tokio::task::spawn_blocking(move || crate::os::netns::connect(pid, address, CONNECT));
                let stream = connecting.await.map_err(io::Error::other)??;
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            }
        }
    }
}

/// Runs a probe of a process task, at most `timeout` long (zero: unlimited).
pub(super) async fn run(spec: &LaunchSpec, probe: &Probe, timeout: Duration) -> ProbeResult {
    let work = async {
        match probe {
            Probe::Command(command) => command_probe(spec, command).await,
            over_network => connect(Network::Host, over_network).await,
        }
    };
    within(timeout, work).await
}

/// Bounds a probe (zero: unlimited).
pub(super) async fn within(timeout: Duration, work: impl Future<Output = ProbeResult>) -> ProbeResult {
    if timeout.is_zero() {
        return work.await;
    }
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => ProbeResult::Failed(format!("no answer within {} s", timeout.as_secs_f64())),
    }
}

/// Runs a probe that only needs a network.
pub(super) async fn connect(network: Network, probe: &Probe) -> ProbeResult {
    match probe {
        Probe::Tcp { port, ipv6 } => ProbeResult::Tcp(network.connect(loopback(*port, *ipv6)).await.is_ok()),
        Probe::Http { scheme, .. } if scheme == "https" => {
            ProbeResult::Failed("https health checks are not built yet; use http or tcp".to_owned())
        }
        Probe::Http { port, path, ipv6, .. } => {
            let found = http(network, loopback(*port, *ipv6), path).await;
            found.map_or_else(ProbeResult::Failed, |code| ProbeResult::Http(u32::from(code)))
        }
        Probe::Command(_) => ProbeResult::Failed("a command is no probe of a network".to_owned()),
    }
}
fn loopback(port: u16, ipv6: bool) -> SocketAddr {
    if ipv6 {
        SocketAddr::from((Ipv6Addr::LOCALHOST, port))
    } else {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

/// The status of a GET; redirects on the same address are followed.
async fn http(network: Network, address: SocketAddr, path: &str) -> Result<u16, String> {
    let mut path = path.to_owned();
    for _ in 0..=REDIRECTS {
        let stream = network.connect(address).await.map_err(|error| format!("{address}: {error}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let request = Request::get(&path).header("Host", address.to_string()).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| format!("{path:?}: {error}"))?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string());
        driver.abort();
        let response = response?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        match location.filter(|_| response.status().is_redirection()) {
            Some(next) if next.starts_with('/') => path = next.to_owned(),
            _ => return Ok(response.status().as_u16()),
        }
    }
    Err(format!("more than {REDIRECTS} redirects"))
}

/// A command with the task's environment, directory and user.
async fn command_probe(spec: &LaunchSpec, command: &crate::api::v1::CommandInfo) -> ProbeResult {
    let account = match spec.user.as_deref().map(users::find).transpose() {
        Ok(account) => account,
        Err(problem) => return ProbeResult::Failed(problem),
    };
    let value = command.value.clone().unwrap_or_default();
    let mut process = if command.shell.unwrap_or(true) {
        let mut shell = tokio::process::Command::new("/bin/sh");
        shell.args(["-c", &value]);
        shell
    } else {
        let mut plain = tokio::process::Command::new(&value);
        plain.args(command.arguments.iter().skip(1));
        plain
    };
    process
        .env_clear()
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.sandbox);
    process
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    process.process_group(0).kill_on_drop(true);
    if let Some(account) = account.filter(|account| *account != users::own()) {
        process.uid(account.uid).gid(account.gid);
    }
    let mut child = match process.spawn() {
        Ok(child) => child,
        Err(error) => return ProbeResult::Failed(format!("{value:?} cannot be run: {error}")),
    };
    // Also when this future is dropped, because it took too long or the agent ends.
    let _all = Group(child.id().and_then(|pid| i32::try_from(pid).ok()));
    match child.wait().await {
        Ok(status) => match status.code() {
            Some(code) => ProbeResult::Command(code),
            None => ProbeResult::Failed("the command was ended by a signal".to_owned()),
        },
        Err(error) => ProbeResult::Failed(format!("{value:?} cannot be run: {error}")),
    }
}

/// A process group that is killed with this value: a check leaves nothing behind.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            crate::os::processes::signal_group(leader, nix::sys::signal::Signal::SIGKILL);
        }
    }
}
