//! Connections from within another process's network.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// Connects from within the network namespace of the process `pid`; the stream stays there wherever it
/// is used. Blocks up to `timeout`.
///
/// # Errors
/// There is no such process, the namespace may not be entered (only root may), or nothing answers.
pub fn connect(pid: u32, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    // A namespace is entered by a thread, and for good: this one ends with the connection.
    let enter = move || {
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        TcpStream::connect_timeout(&address, timeout)
    };
    let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(enter)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn our_own_namespace_is_where_we_listen() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let timeout = Duration::from_secs(5);
        match connect(std::process::id(), address, timeout) {
            Ok(stream) => assert_eq!(stream.peer_addr().ok(), Some(address)),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
        assert!(connect(u32::MAX, address, timeout).is_err());
    }
}
