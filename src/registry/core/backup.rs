//! A snapshot of the registry as a file of its own.
//!
//! ```text
//! "mesita-snapshot" and the format, 16 bytes; a protobuf `Backup`; CRC-32C of both, 4 bytes, big endian
//! ```

use prost::Message as _;

use super::command::DecodeError;
use super::state::State;
use crate::api::registry as wire;
use crate::base::time::Timestamp;

/// What such a file begins with; the format follows.
const MAGIC: &[u8; 15] = b"mesita-snapshot";
/// The newest format that this version knows.
const FORMAT: u8 = 1;
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;

/// The state of a registry, and where it was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// When.
    pub taken: Timestamp,
    /// Index of the last command in it.
    pub index: u64,
    /// Version of the program that took it.
    pub program: String,
    /// The state.
    pub state: State,
}

impl Backup {
    /// The bytes of the file. They hold the authority's key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let message = wire::Backup {
            taken_ns: self.taken.nanos(),
            index: self.index,
            program: self.program.clone(),
            snapshot: self.state.snapshot(),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.push(FORMAT);
        bytes.extend(message.encode_to_vec());
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_be_bytes());
        bytes
    }

    /// Reads what [`Backup::encode`] wrote.
    ///
    /// # Errors
    /// It is no such file, it is damaged, or a later version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let failed = |text: &str| DecodeError(text.to_owned());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| failed("it is no snapshot of mesita"))?;
        match rest.first() {
            Some(&FORMAT) => {}
            Some(later) if *later > FORMAT => {
                return Err(DecodeError(format!(
                    "the snapshot has format {later}, this version knows {FORMAT}: use a newer mesita"
                )));
            }
            _ => return Err(failed("it is no snapshot of mesita")),
        }
        let damaged = || failed("the snapshot is damaged (its checksum is wrong): use another");
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(damaged)?;
        if crc32c::crc32c(content) != u32::from_be_bytes(*checksum) {
            return Err(damaged());
        }
        let message = content.get(MAGIC.len() + 1..).ok_or_else(damaged)?;
        let message = wire::Backup::decode(message).map_err(|error| DecodeError(error.to_string()))?;
        Ok(Self {
            taken: Timestamp::from_nanos(message.taken_ns),
            index: message.index,
            program: message.program,
            state: State::restore(&message.snapshot)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::core::{Change, Command};

    fn backup() -> Backup {
        let mut state = State::default();
        let time = Timestamp::from_nanos(1);
        let change = Change::CreateCluster { cluster_id: "c".to_owned(), version: 3 };
        state.apply(Command { time, change });
        Backup { taken: Timestamp::from_nanos(9), index: 41, program: "0.1.0".to_owned(), state }
    }

    #[test]
    fn what_was_saved_is_read_and_every_flipped_byte_is_noticed() {
        let bytes = backup().encode();
        assert_eq!(Backup::decode(&bytes), Ok(backup()));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert!(Backup::decode(&flipped).is_err(), "byte {at}");
            assert!(Backup::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_later_format_is_told_apart_from_damage() {
        let mut bytes = backup().encode();
        bytes[MAGIC.len()] = FORMAT + 1;
        let error = Backup::decode(&bytes).expect_err("later");
        assert!(error.0.contains("newer mesita"), "{error}");
    }
}
