//! The JSON mapping of Mesos v1 messages (proto2, Mesos flavour). `build.rs` writes a reader and a
//! writer for every message from the descriptors; here is what they are made of.
//!
//! Writing: names as in the schema; a field is written if it is set, or if it is unset and has an
//! explicit default that is not deprecated; 64-bit integers are numbers; doubles keep a fraction;
//! bytes are base64. Reading is lenient where Mesos is (numbers and booleans as strings, one value
//! for a list, unknown keys ignored, an unknown enum name counts as unset) and strict elsewhere.

mod duration;
mod error;
mod read;
mod write;

use serde_json::Value;

pub use error::JsonError;
pub use read::At;
pub use write::Writer;

/// A message with a JSON form.
pub trait Json: Sized {
    /// Writes the members of the object.
    fn write(&self, w: &mut Writer);

    /// Reads an object.
    ///
    /// # Errors
    /// A member is of the wrong type or missing; the error names it by its path.
    fn read(value: &Value, at: &mut At) -> Result<Self, JsonError>;
}

/// Recursive messages are boxed.
impl<M: Json> Json for Box<M> {
    fn write(&self, w: &mut Writer) {
        M::write(self, w);
    }

    fn read(value: &Value, at: &mut At) -> Result<Self, JsonError> {
        M::read(value, at).map(Self::new)
    }
}

/// A message as JSON text.
#[must_use]
pub fn to_string<M: Json>(message: &M) -> String {
    let mut writer = Writer::default();
    writer.message(message);
    writer.finish()
}

/// Reads a message from JSON text.
///
/// # Errors
/// The text is no JSON object, or not one of this message.
pub fn from_slice<M: Json>(text: &[u8]) -> Result<M, JsonError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Syntax("the body is empty".to_owned()));
    }
    let value: Value = serde_json::from_slice(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
    M::read(&value, &mut At::default())
}

#[expect(clippy::useless_conversion, clippy::manual_map, reason = "generated for every kind of field alike")]
mod generated {
    use super::{At, Json, JsonError, Value, Writer};

    include!(concat!(env!("OUT_DIR"), "/json.rs"));
}

#[cfg(test)]
mod tests;
