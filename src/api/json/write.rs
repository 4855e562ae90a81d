//! Writing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Json;

/// JSON text in the making.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    /// Whether the next member or element needs a comma before it.
    comma: bool,
}

impl Writer {
    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(',');
        }
        self.comma = false;
    }

    /// The key of a member; its value follows.
    pub fn key(&mut self, name: &str) {
        self.separate();
        self.string(name);
        self.out.push(':');
        self.comma = false;
    }

    /// JSON text as it is.
    pub fn raw(&mut self, text: &str) {
        self.out.push_str(text);
        self.comma = true;
    }

    /// A string with its escapes.
    pub fn string(&mut self, text: &str) {
        // A string always has a JSON form.
        let escaped = serde_json::Value::from(text).to_string();
        self.raw(&escaped);
    }

    /// Bytes as base64.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let text = format!("\"{}\"", STANDARD.encode(bytes));
        self.raw(&text);
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// A number with a fraction; what is no finite number is a string.
    pub fn double(&mut self, value: f64) {
        let text = if value.is_finite() {
            format!("{value:?}")
        } else if value.is_nan() {
            "\"NaN\"".to_owned()
        } else if value > 0.0 {
            "\"Infinity\"".to_owned()
        } else {
            "\"-Infinity\"".to_owned()
        };
        self.raw(&text);
    }

    /// A whole number.
    pub fn integer(&mut self, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.out, "{value}");
        self.comma = true;
    }

    /// A message as an object.
    pub fn message<M: Json>(&mut self, message: &M) {
        self.out.push('{');
        self.comma = false;
        message.write(self);
        self.out.push('}');
        self.comma = true;
    }

    /// A member with an enum's name; a number that this version does not know is left out.
    pub fn enumeration(&mut self, key: &str, name: Option<&str>) {
        if let Some(name) = name {
            self.key(key);
            self.string(name);
        }
    }

    /// A member with a list; an empty one only if `always`.
    pub fn list<T>(&mut self, key: &str, items: &[T], always: bool, mut each: impl FnMut(&mut Self, &T)) {
        if items.is_empty() && !always {
            return;
        }
        self.key(key);
        self.out.push('[');
        self.comma = false;
        for item in items {
            self.separate();
            each(self, item);
        }
        self.out.push(']');
        self.comma = true;
    }

    /// A member with a list of enum names.
    pub fn enums(&mut self, key: &str, items: &[i32], name: impl Fn(i32) -> Option<&'static str>) {
        let names: Vec<&str> = items.iter().filter_map(|item| name(*item)).collect();
        self.list(key, &names, false, |w, text| w.string(text));
    }

    /// A member with a map.
    pub fn map<T>(&mut self, key: &str, items: &BTreeMap<String, T>, mut each: impl FnMut(&mut Self, &T)) {
        if items.is_empty() {
            return;
        }
        self.key(key);
        self.out.push('{');
        self.comma = false;
        for (name, item) in items {
            self.key(name);
            each(self, item);
        }
        self.out.push('}');
        self.comma = true;
    }
}
