//! What agent and launcher say to each other: frames of a 32-bit length and JSON.
//!
//! A launcher may be older than its agent, or newer after a step back. So the protocol only grows: unknown
//! fields are ignored on both sides, an order that a launcher does not know is answered with `Unknown`, and
//! news that an agent does not know are passed over.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::records::{Ended, Live};

/// Version of the protocol; the launcher tells it first.
pub(in crate::containerizer) const VERSION: u32 = 2;
/// Oldest version of a launcher whose tasks outlive the agent.
pub(in crate::containerizer) const OLDEST: u32 = 2;
/// Longest frame in bytes: an environment of 128 KiB and arguments of 2 MiB fit.
const MAX_FRAME: usize = 8 * 1024 * 1024;

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containerizer) enum Order {
    /// Start a task.
    Launch(Box<Program>),
    /// Signal everything of a task.
    Signal { id: String, kill: bool },
    /// Kill everything of every task, answer `Destroyed`.
    DestroyAll,
    /// Answer `Tasks`. Only for a launcher that outlives its agent, as is `Forget`.
    List,
    /// The agent took note of the ends of these tasks.
    Forget { ids: Vec<String> },
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containerizer) struct Program {
    pub(in crate::containerizer) id: String,
    /// Looked up in the task's PATH.
    pub(in crate::containerizer) file: String,
    pub(in crate::containerizer) argv: Vec<String>,
    pub(in crate::containerizer) environment: Vec<(String, String)>,
    /// Working directory; `stdout` and `stderr` go there.
    pub(in crate::containerizer) sandbox: String,
    /// User and group to switch to.
    pub(in crate::containerizer) account: Option<(u32, u32)>,
}

/// From the launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::containerizer) enum News {
    /// First of all.
    Hello {
        version: u32,
    },
    Started {
        id: String,
        pid: u32,
    },
    /// It could not be started.
    Failed {
        id: String,
        problem: String,
    },
    /// Its first process ended with this raw wait status; the rest of it was killed.
    Exited {
        id: String,
        status: i32,
        /// When, in nanoseconds since 1970.
        at: i64,
    },
    Destroyed,
    /// What runs, and the ends that were not forgotten.
    Tasks {
        live: Vec<Live>,
        ended: Vec<Ended>,
    },
    /// An order that this launcher does not know; nothing was done.
    Unknown {
        problem: String,
    },
}

/// Writes one frame.
pub(super) fn write<M: Serialize>(to: &mut impl Write, message: &M) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// One frame.
pub(in crate::containerizer) fn encode<M: Serialize>(message: &M) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME);
    let length = length.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the command and its environment are too long")
    })?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

/// Reads one message; none at the end of the stream.
pub(in crate::containerizer) fn read<M: for<'a> Deserialize<'a>>(
    from: &mut impl Read,
) -> io::Result<Option<M>> {
    let frame = read_frame(from)?;
    Ok(frame.map(|body| serde_json::from_slice(&body)).transpose()?)
}

/// Reads one frame; none at the end of the stream.
pub(super) fn read_frame(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = frame_length(length)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some(body))
}

/// The length that a frame's head tells.
pub(in crate::containerizer) fn frame_length(head: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    Ok(length)
}
