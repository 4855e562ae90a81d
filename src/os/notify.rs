//! What a service manager wants to know (`sd_notify` of systemd): that the program is ready, that it stops.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// News for the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The start is over.
    Ready,
    /// The stop has begun.
    Stopping,
}

/// Tells the service manager whose socket this is (the value of `NOTIFY_SOCKET`): a path, or an abstract
/// name that begins with `@`.
///
/// # Errors
/// The socket is not there, or the name is not valid.
pub fn tell(socket: &OsStr, news: News) -> io::Result<()> {
    let address = match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let text: &[u8] = match news {
        News::Ready => b"READY=1",
        News::Stopping => b"STOPPING=1",
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_told() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("notify");
        let abstract_name = format!("mesita-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(abstract_name.as_bytes()).expect("valid");
        let sockets = [
            (UnixDatagram::bind(&path).expect("bound"), path.as_os_str().to_owned()),
            (UnixDatagram::bind_addr(&address).expect("bound"), format!("@{abstract_name}").into()),
        ];
        for (socket, name) in sockets {
            for (news, text) in [(News::Ready, "READY=1"), (News::Stopping, "STOPPING=1")] {
                tell(&name, news).expect("told");
                let mut buffer = [0; 64];
                let length = socket.recv(&mut buffer).expect("received");
                assert_eq!(&buffer[..length], text.as_bytes());
            }
        }
        assert!(tell(folder.path().join("nobody").as_os_str(), News::Ready).is_err());
    }
}
