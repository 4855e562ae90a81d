//! `google.protobuf.Duration`, which Mesos writes as a plain object (only DRAIN_AGENT has one).

use serde_json::Value;

use super::{At, Json, JsonError, Writer};

impl Json for prost_types::Duration {
    fn write(&self, w: &mut Writer) {
        w.key("seconds");
        w.integer(self.seconds);
        if self.nanos != 0 {
            w.key("nanos");
            w.integer(self.nanos);
        }
    }

    fn read(value: &Value, at: &mut At) -> Result<Self, JsonError> {
        let object = at.object(value)?;
        Ok(Self {
            seconds: at.optional(object, "seconds", At::integer::<i64>)?.unwrap_or(0),
            nanos: at.optional(object, "nanos", At::integer::<i32>)?.unwrap_or(0),
        })
    }
}
