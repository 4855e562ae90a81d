//! Reading.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::JsonError;

/// Where in the document the reader is.
#[derive(Debug, Default)]
pub struct At {
    path: Vec<String>,
}

/// A function that reads one value.
type Read<'a, T> = &'a dyn Fn(&mut At, &Value) -> Result<T, JsonError>;

impl At {
    fn path(&self) -> String {
        let mut path = String::new();
        for part in &self.path {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        path
    }

    fn wrong<T>(&self, problem: impl Into<String>) -> Result<T, JsonError> {
        Err(JsonError::Field { path: self.path(), problem: problem.into() })
    }

    fn inside<T>(
        &mut self,
        part: String,
        read: impl FnOnce(&mut Self) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        self.path.push(part);
        let value = read(self);
        // The path of an error was taken when it was made.
        self.path.pop();
        value
    }

    /// The members of an object.
    ///
    /// # Errors
    /// It is something else.
    pub fn object<'a>(&mut self, value: &'a Value) -> Result<&'a Map<String, Value>, JsonError> {
        match value {
            Value::Object(object) => Ok(object),
            other => self.wrong(format!("must be an object, not {}", kind(other))),
        }
    }

    /// A member that may be absent; `null` is absent.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn optional<T>(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        read: impl Fn(&mut Self, &Value) -> Result<T, JsonError>,
    ) -> Result<Option<T>, JsonError> {
        match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(_)) => {
                self.inside(name.to_owned(), |at| at.wrong("must be one value, not a list"))
            }
            Some(value) => self.inside(name.to_owned(), |at| read(at, value).map(Some)),
        }
    }

    /// A member that must be there.
    ///
    /// # Errors
    /// It is absent or cannot be read.
    pub fn required<T>(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        read: impl Fn(&mut Self, &Value) -> Result<T, JsonError>,
    ) -> Result<T, JsonError> {
        match self.optional(object, name, read)? {
            Some(value) => Ok(value),
            None => self.missing(name),
        }
    }

    fn missing<T>(&mut self, name: &str) -> Result<T, JsonError> {
        self.inside(name.to_owned(), |at| Err(JsonError::Missing { path: at.path() }))
    }

    /// A list; one value that is no list counts as a list of one.
    ///
    /// # Errors
    /// An element cannot be read.
    pub fn repeated<T>(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        read: impl Fn(&mut Self, &Value) -> Result<T, JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        self.list(object, name, &read)
    }

    fn list<T>(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        read: Read<'_, T>,
    ) -> Result<Vec<T>, JsonError> {
        match object.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => self.inside(name.to_owned(), |at| {
                let read = |(index, item)| at.inside(format!("[{index}]"), |at| read(at, item));
                items.iter().enumerate().map(read).collect()
            }),
            Some(value) => self.inside(name.to_owned(), |at| read(at, value).map(|value| vec![value])),
        }
    }

    /// A map with text keys.
    ///
    /// # Errors
    /// It is no object, or a value cannot be read.
    pub fn map<T>(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        read: impl Fn(&mut Self, &Value) -> Result<T, JsonError>,
    ) -> Result<BTreeMap<String, T>, JsonError> {
        let Some(value) = object.get(name).filter(|value| !value.is_null()) else {
            return Ok(BTreeMap::new());
        };
        self.inside(name.to_owned(), |at| {
            let members = at.object(value)?;
            let read = |(key, value): (&String, &Value)| {
                at.inside(key.clone(), |at| read(at, value)).map(|value| (key.clone(), value))
            };
            members.iter().map(read).collect()
        })
    }

    /// An enum by name, if it is there and known.
    ///
    /// # Errors
    /// It is no string.
    pub fn optional_enum(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        number: impl Fn(&str) -> Option<i32>,
    ) -> Result<Option<i32>, JsonError> {
        Ok(self.optional(object, name, |at, value| at.enum_name(value).map(&number))?.flatten())
    }

    /// An enum by name that must be there and known.
    ///
    /// # Errors
    /// It is absent, no string, or unknown.
    pub fn required_enum(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        number: impl Fn(&str) -> Option<i32>,
    ) -> Result<i32, JsonError> {
        self.required(object, name, |at, value| {
            let text = at.enum_name(value)?;
            number(text).map_or_else(|| at.wrong(format!("has the unknown value {text:?}")), Ok)
        })
    }

    /// Enums by name; unknown ones are dropped.
    ///
    /// # Errors
    /// One is no string.
    pub fn repeated_enum(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        number: impl Fn(&str) -> Option<i32>,
    ) -> Result<Vec<i32>, JsonError> {
        let numbers = self.list(object, name, &|at, value| at.enum_name(value).map(&number))?;
        Ok(numbers.into_iter().flatten().collect())
    }

    fn enum_name<'a>(&mut self, value: &'a Value) -> Result<&'a str, JsonError> {
        value
            .as_str()
            .map_or_else(|| self.wrong(format!("must be the name of a value, not {}", kind(value))), Ok)
    }

    /// A string.
    ///
    /// # Errors
    /// It is something else.
    pub fn string(&mut self, value: &Value) -> Result<String, JsonError> {
        value.as_str().map_or_else(
            || self.wrong(format!("must be a string, not {}", kind(value))),
            |text| Ok(text.to_owned()),
        )
    }

    /// Bytes in base64.
    ///
    /// # Errors
    /// It is no string, or no base64.
    pub fn bytes(&mut self, value: &Value) -> Result<Vec<u8>, JsonError> {
        let text = self.string(value)?;
        STANDARD.decode(text).or_else(|error| self.wrong(format!("is not valid base64: {error}")))
    }

    /// A boolean, also as a string.
    ///
    /// # Errors
    /// It is something else.
    pub fn bool(&mut self, value: &Value) -> Result<bool, JsonError> {
        match value {
            Value::Bool(value) => Ok(*value),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            other => self.wrong(format!("must be true or false, not {}", kind(other))),
        }
    }

    /// A number, also as a string; `"Infinity"` and `"-Infinity"` are numbers here.
    ///
    /// # Errors
    /// It is something else.
    pub fn double(&mut self, value: &Value) -> Result<f64, JsonError> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if text == "Infinity" => Some(f64::INFINITY),
            Value::String(text) if text == "-Infinity" => Some(f64::NEG_INFINITY),
            // The standard parser also reads `inf` and `nan`, which are no JSON numbers.
            Value::String(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        };
        number.map_or_else(|| self.wrong(format!("must be a number, not {}", kind(value))), Ok)
    }

    /// A number of single precision.
    ///
    /// # Errors
    /// It is something else.
    #[expect(clippy::cast_possible_truncation, reason = "the schema asks for single precision")]
    pub fn float(&mut self, value: &Value) -> Result<f32, JsonError> {
        self.double(value).map(|number| number as f32)
    }

    /// A whole number, also as a string.
    ///
    /// # Errors
    /// It is something else, has a fraction, or is out of range.
    pub fn integer<T: TryFrom<i128>>(&mut self, value: &Value) -> Result<T, JsonError> {
        let number: Option<i128> = match value {
            Value::Number(number) => number
                .as_u64()
                .map(i128::from)
                .or_else(|| number.as_i64().map(i128::from))
                .or_else(|| number.as_f64().and_then(whole)),
            Value::String(text) => text.parse().ok(),
            other => return self.wrong(format!("must be a whole number, not {}", kind(other))),
        };
        let Some(number) = number else { return self.wrong(format!("must be a whole number, not {value}")) };
        T::try_from(number).or_else(|_| self.wrong(format!("is out of range: {number}")))
    }
}

/// A float without a fraction as an integer (`3.0`).
fn whole(number: f64) -> Option<i128> {
    #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
    (number.fract() == 0.0 && number.abs() < 1e18).then_some(number as i128)
}

/// What a value is, for people.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
