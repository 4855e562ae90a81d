//! Protobuf input. The decoder takes an absent required field for its zero value, so the bytes are
//! checked against the descriptors first: every required field must be there, and an enum number
//! that the schema does not know counts as absent (proto2).

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, skip_field};

/// How deep messages may be nested.
const MAX_DEPTH: usize = 100;

/// What may be inside a field.
enum Kind {
    /// Nothing to look at.
    Plain,
    /// A message: index into the tables.
    Message(usize),
    /// An enum with these numbers.
    Enum(&'static [i32]),
}

struct Field {
    number: u32,
    name: &'static str,
    required: bool,
    kind: Kind,
}

struct Table {
    name: &'static str,
    fields: &'static [Field],
}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// Why bytes are not the message that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// The bytes are no protobuf message.
    #[error("the body is not a valid protobuf message: {0}")]
    Malformed(String),
    /// A required field is absent.
    #[error("the required field `{path}` is missing")]
    Missing {
        /// Path of the field.
        path: String,
    },
}

/// Decodes a message of the package `mesos.v1` and checks its required fields.
///
/// # Errors
/// The bytes are malformed, or a required field is absent.
pub fn from_slice<M: prost::Message + prost::Name + Default>(bytes: &[u8]) -> Result<M, BinaryError> {
    let name = M::full_name();
    let table = TABLES.iter().position(|table| table.name == name);
    if let Some(table) = table {
        check(bytes, table, &mut Vec::new())?;
    }
    M::decode(bytes).map_err(|error| BinaryError::Malformed(error.to_string()))
}

/// Checks one message; `path` leads to it.
fn check(mut bytes: &[u8], table: usize, path: &mut Vec<String>) -> Result<(), BinaryError> {
    let malformed = |error: prost::DecodeError| BinaryError::Malformed(error.to_string());
    if path.len() > MAX_DEPTH {
        return Err(BinaryError::Malformed(format!("messages are nested more than {MAX_DEPTH} deep")));
    }
    let fields = TABLES[table].fields;
    let mut seen = vec![0_usize; fields.len()];
    while bytes.has_remaining() {
        let (number, wire) = decode_key(&mut bytes).map_err(malformed)?;
        let Some(at) = fields.iter().position(|field| field.number == number) else {
            skip_field(wire, number, &mut bytes, prost::encoding::DecodeContext::default())
                .map_err(malformed)?;
            continue;
        };
        match (&fields[at].kind, wire) {
            (Kind::Message(inner), WireType::LengthDelimited) => {
                let length = decode_varint(&mut bytes).map_err(malformed)?;
                let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
                let Some(length) = length else {
                    return Err(BinaryError::Malformed(format!(
                        "`{}` is longer than the body",
                        fields[at].name
                    )));
                };
                let (inside, rest) = bytes.split_at(length);
                path.push(format!("{}[{}]", fields[at].name, seen[at]));
                check(inside, *inner, path)?;
                path.pop();
                bytes = rest;
                seen[at] += 1;
            }
            (Kind::Enum(known), WireType::Varint) => {
                let value = decode_varint(&mut bytes).map_err(malformed)?;
                // Negative enum numbers are sign-extended to 64 bits: the low half is the number.
                #[expect(clippy::cast_possible_truncation, reason = "see above")]
                let value = value as i32;
                seen[at] += usize::from(known.contains(&value));
            }
            _ => {
                skip_field(wire, number, &mut bytes, prost::encoding::DecodeContext::default())
                    .map_err(malformed)?;
                seen[at] += 1;
            }
        }
    }
    match fields.iter().zip(&seen).find(|(field, count)| field.required && **count == 0) {
        Some((field, _)) => {
            path.push(field.name.to_owned());
            Err(BinaryError::Missing { path: path.join(".").replace("[0]", "") })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::api::v1::{self, scheduler};

    #[test]
    fn required_fields_are_missed_by_path() {
        let call = scheduler::Call {
            r#type: Some(scheduler::call::Type::Kill.into()),
            kill: Some(scheduler::call::Kill::default()),
            ..Default::default()
        };
        let mut bytes = call.encode_to_vec();
        assert!(from_slice::<scheduler::Call>(&bytes).is_ok(), "an empty task id is present");
        // kill {} without task_id.
        bytes = vec![16, 6, 50, 0];
        let error = from_slice::<scheduler::Call>(&bytes).expect_err("no task id");
        assert_eq!(error.to_string(), "the required field `kill.task_id` is missing");
    }

    #[test]
    fn unknown_enum_numbers_count_as_absent() {
        let resource = v1::Resource { name: "cpus".into(), r#type: 77, ..Default::default() };
        let error = from_slice::<v1::Resource>(&resource.encode_to_vec()).expect_err("an unknown type");
        assert_eq!(error.to_string(), "the required field `type` is missing");
    }

    #[test]
    fn malformed_bytes_are_refused() {
        for bytes in
            [&[50, 200, 1][..], &[0xff; 12], &[16], &[50, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]]
        {
            assert!(from_slice::<scheduler::Call>(bytes).is_err(), "{bytes:?}");
        }
        let groups = [vec![0x0b_u8; 10_000], vec![0x0c; 10_000]].concat();
        assert!(from_slice::<scheduler::Call>(&groups).is_err(), "ten thousand nested groups");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut id = v1::ContainerId { value: "x".into(), parent: None };
        for _ in 0..200 {
            id = v1::ContainerId { value: "x".into(), parent: Some(Box::new(id)) };
        }
        assert!(from_slice::<v1::ContainerId>(&id.encode_to_vec()).is_err());
    }
}
