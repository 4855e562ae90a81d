//! How a value lies in sled: cut into small pieces, because sled keeps large ones in files that it never
//! syncs.
//!
//! A value under `key` is stored as pieces under `key ++ piece number (u16)`, each with the layout
//! `format (1) | number of pieces (2) | content | CRC32C (4)`. The checksum covers key and number, too.

use super::StoreError;

/// Content of a piece in bytes: sixteen of them on a page stay far below sled's limit for blobs.
const PIECE: usize = 4_000;
/// Layout of a piece whose content belongs to the value.
const CONTENT: u8 = 1;
/// Layout of a piece whose content says in which file the value is.
const REFERENCE: u8 = 2;

/// A piece that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// One of so many.
    Content(u16, &'a [u8]),
    /// The only one: where the value is.
    Reference(&'a [u8]),
}

/// Why a piece cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Its checksum is wrong.
    Damaged,
    /// It is whole, but has a layout of a later version.
    Newer,
}

/// The pieces of a value, by number.
pub(super) fn cut(key: &[u8], value: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, StoreError> {
    let chunks: Vec<&[u8]> = if value.is_empty() { vec![value] } else { value.chunks(PIECE).collect() };
    let count = u16::try_from(chunks.len())
        .map_err(|_| StoreError::Failed(format!("a value of {} bytes is too long", value.len())))?;
    Ok((0..count)
        .zip(chunks)
        .map(|(number, chunk)| (number, encode(CONTENT, key, number, count, chunk)))
        .collect())
}

/// The piece of a value that is in a file.
pub(super) fn reference(key: &[u8], content: &[u8]) -> Vec<u8> {
    encode(REFERENCE, key, 0, 1, content)
}

/// Key of a piece.
pub(super) fn piece_key(key: &[u8], number: u16) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

/// Key and number of a piece.
pub(super) fn split_key(stored: &[u8]) -> Option<(&[u8], u16)> {
    let (key, number) = stored.split_last_chunk::<2>()?;
    Some((key, u16::from_be_bytes(*number)))
}

/// The checksum at the end of a piece.
pub(super) fn checksum_of(bytes: &[u8]) -> u32 {
    bytes.last_chunk::<4>().map_or(0, |sum| u32::from_be_bytes(*sum))
}

fn checksum(key: &[u8], number: u16, head: &[u8]) -> [u8; 4] {
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), &number.to_be_bytes()), head);
    sum.to_be_bytes()
}

fn encode(format: u8, key: &[u8], number: u16, count: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![format];
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(content);
    let sum = checksum(key, number, &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// Reads a piece and checks it.
pub(super) fn decode<'a>(key: &[u8], number: u16, bytes: &'a [u8]) -> Result<Piece<'a>, Unreadable> {
    let parts = || {
        let (head, sum) = bytes.split_last_chunk::<4>()?;
        let (&format, rest) = head.split_first()?;
        let (count, content) = rest.split_first_chunk::<2>()?;
        (checksum(key, number, head) == *sum).then_some((format, u16::from_be_bytes(*count), content))
    };
    match parts() {
        Some((CONTENT, count, content)) => Ok(Piece::Content(count, content)),
        Some((REFERENCE, _, content)) => Ok(Piece::Reference(content)),
        Some(_) => Err(Unreadable::Newer),
        None => Err(Unreadable::Damaged),
    }
}
