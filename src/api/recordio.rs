//! RecordIO: a decimal length, a newline, that many bytes.

/// The longest record that is accepted, in bytes: a GET_STATE of a large cluster fits.
pub const MAX_RECORD: usize = 64 * 1024 * 1024;
/// The longest header: digits of 2^64 − 1.
const MAX_HEADER: usize = 20;

/// Why a stream is no RecordIO.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The header is no number.
    #[error("the length of a record must be decimal digits and a newline, not {0:?}")]
    Header(String),
    /// A record is longer than is accepted.
    #[error("a record of {0} bytes is longer than the {MAX_RECORD} that are accepted")]
    TooLong(u64),
}

/// One record with its header.
#[must_use]
pub fn encode(record: &[u8]) -> Vec<u8> {
    let mut framed = format!("{}\n", record.len()).into_bytes();
    framed.extend_from_slice(record);
    framed
}

/// Takes records out of a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole record, if it is there.
    ///
    /// # Errors
    /// The stream is no RecordIO; nothing more can be read from it.
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            let is_header = self.buffer.len() <= MAX_HEADER && self.buffer.iter().all(u8::is_ascii_digit);
            let start = &self.buffer[..self.buffer.len().min(MAX_HEADER)];
            return if is_header { Ok(None) } else { Err(RecordError::Header(text(start))) };
        };
        let header = &self.buffer[..end];
        if header.is_empty() || header.len() > MAX_HEADER || !header.iter().all(u8::is_ascii_digit) {
            return Err(RecordError::Header(text(&header[..header.len().min(MAX_HEADER)])));
        }
        let length: u64 = text(header).parse().map_err(|_| RecordError::Header(text(header)))?;
        let size = usize::try_from(length)
            .ok()
            .filter(|size| *size <= MAX_RECORD)
            .ok_or(RecordError::TooLong(length))?;
        if self.buffer.len() < end + 1 + size {
            return Ok(None);
        }
        let record = self.buffer[end + 1..end + 1 + size].to_vec();
        self.buffer.drain(..end + 1 + size);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_headers_end_the_stream() {
        for bad in ["-1\nx", "x", "\n", "1x\n", "123456789012345678901\n", " 1\n", "99999999999999999999\n"] {
            let mut decoder = Decoder::default();
            decoder.push(bad.as_bytes());
            assert!(decoder.next_record().is_err(), "{bad:?}");
        }
        let mut decoder = Decoder::default();
        decoder.push(b"18446744073709551615\n");
        assert_eq!(decoder.next_record(), Err(RecordError::TooLong(u64::MAX)));
    }

    proptest! {
        #[test]
        fn records_survive_any_cut(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8), cut in 1usize..9) {
            let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
            let mut decoder = Decoder::default();
            let mut read = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.push(piece);
                while let Some(record) = decoder.next_record().expect("our own stream") {
                    read.push(record);
                }
            }
            prop_assert_eq!(read, records);
        }
    }
}
