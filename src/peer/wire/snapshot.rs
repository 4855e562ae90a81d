//! Snapshots in pieces: a header with length and checksum, then chunks.

use bytes::Bytes;

use super::limits::{CHUNK_BYTES, MESSAGE_BYTES, SNAPSHOT_BYTES};
use super::proto::{SnapshotChunk, SnapshotHeader};
use crate::peer::link::Frame;

/// A snapshot on its way out.
#[derive(Debug)]
pub(super) struct Departure {
    /// Goes first.
    pub header: SnapshotHeader,
    rest: Option<Bytes>,
}

impl Departure {
    pub(super) fn new(message: Vec<u8>, data: Vec<u8>) -> Self {
        let header = SnapshotHeader {
            message: message.into(),
            length: data.len() as u64,
            crc32c: crc32c::crc32c(&data),
        };
        Self { header, rest: Some(data.into()) }
    }

    /// The next piece; an empty snapshot has one, empty.
    pub(super) fn next(&mut self) -> Option<SnapshotChunk> {
        let mut data = self.rest.take()?;
        let after = data.split_off(data.len().min(CHUNK_BYTES));
        self.rest = (!after.is_empty()).then_some(after);
        Some(SnapshotChunk { data })
    }
}

/// A snapshot that arrives.
#[derive(Debug)]
pub(super) struct Arrival {
    message: Bytes,
    length: usize,
    /// Checksum of the whole as announced, and of what is here.
    announced: u32,
    found: u32,
    data: Vec<u8>,
}

impl Arrival {
    /// Begins with the header. Memory is taken only for what really comes.
    pub(super) fn begin(header: SnapshotHeader) -> Result<Self, String> {
        let length = usize::try_from(header.length).ok().filter(|length| *length <= SNAPSHOT_BYTES);
        let Some(length) = length else {
            let found = header.length;
            return Err(format!("the snapshot of {found} bytes is larger than {SNAPSHOT_BYTES}"));
        };
        if header.message.len() > MESSAGE_BYTES {
            return Err(format!("the snapshot's message is larger than {MESSAGE_BYTES} bytes"));
        }
        Ok(Self { message: header.message, length, announced: header.crc32c, found: 0, data: Vec::new() })
    }

    /// Takes a piece. The last one gives back whether all is well.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<bool, String> {
        if chunk.len() > self.length - self.data.len() {
            return Err("the snapshot is longer than announced".to_owned());
        }
        if chunk.is_empty() && self.length > 0 {
            return Err("the snapshot has an empty piece".to_owned());
        }
        self.found = crc32c::crc32c_append(self.found, chunk);
        self.data.extend_from_slice(chunk);
        if self.data.len() < self.length {
            return Ok(false);
        }
        if self.found != self.announced {
            return Err("the snapshot was damaged on its way (its checksum differs)".to_owned());
        }
        Ok(true)
    }

    /// The whole.
    pub(super) fn finish(self) -> Frame {
        Frame::Snapshot { header: self.message.into(), data: self.data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(length: usize) -> (SnapshotHeader, Vec<SnapshotChunk>, Vec<u8>) {
        let data: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
        let mut departure = Departure::new(b"header".to_vec(), data.clone());
        let chunks: Vec<_> = std::iter::from_fn(|| departure.next()).collect();
        (departure.header, chunks, data)
    }

    #[test]
    fn pieces_make_a_whole() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let (header, chunks, data) = pieces(length);
            assert_eq!(chunks.len(), length.div_ceil(CHUNK_BYTES).max(1));
            let mut arrival = Arrival::begin(header).expect("small enough");
            let done: Vec<bool> =
                chunks.iter().map(|chunk| arrival.push(&chunk.data).expect("it fits")).collect();
            assert_eq!(done.iter().position(|done| *done), Some(chunks.len() - 1));
            assert_eq!(arrival.finish(), Frame::Snapshot { header: b"header".to_vec(), data });
        }
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let (header, chunks, _) = pieces(2 * CHUNK_BYTES);
        let mut arrival = Arrival::begin(header.clone()).expect("small enough");
        assert_eq!(arrival.push(&chunks[0].data), Ok(false));
        let mut flipped = chunks[1].data.to_vec();
        flipped[7] ^= 1;
        assert!(arrival.push(&flipped).expect_err("a flipped bit").contains("damaged"));
        let mut arrival = Arrival::begin(header.clone()).expect("small enough");
        assert!(arrival.push(&vec![0; 2 * CHUNK_BYTES + 1]).expect_err("too long").contains("longer"));
        let mut arrival = Arrival::begin(header.clone()).expect("small enough");
        assert!(arrival.push(&[]).is_err());
        let endless = SnapshotHeader { length: u64::MAX, ..header };
        assert!(Arrival::begin(endless).expect_err("endless").contains("larger"));
    }
}
