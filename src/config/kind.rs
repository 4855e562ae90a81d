//! What a key may be set to: read from a flag, a variable or a file, and checked in one place.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::duration;
use super::node::Advertise;
use crate::resources::{Resources, attributes};

/// What a key may be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text that is not empty; what it should be.
    Text(&'static str),
    /// A host name or an address, and perhaps a port.
    Advertise,
    /// Host names or addresses, without ports.
    Hosts,
    /// A socket address of this host.
    Listen,
    /// A host and its port.
    Endpoint,
    /// An API address: `HOST:PORT` or a URL.
    Target,
    /// A path; what is there.
    Path(&'static str),
    /// Yes or no.
    Switch,
    /// A number from the first to the last of these.
    Count(u64, u64),
    /// A duration from the first to the last of these.
    Time(Duration, Duration),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// At least one of these words.
    Choices(&'static [&'static str]),
    /// Resources as Mesos' agents take them.
    Resources,
    /// Attributes as Mesos' agents take them.
    Attributes,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw<'a> {
    /// On a command line or in a variable, where everything is text.
    Typed(&'a str),
    /// Text in a file.
    Text(&'a str),
    /// A whole number in a file.
    Whole(i128),
    /// `true` or `false` in a file.
    Switch(bool),
    /// A list of texts in a file.
    List(Vec<&'a str>),
    /// Anything else in a file.
    Other,
}

/// A value that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, a host, a path, a word.
    Text(String),
    /// Several of these.
    List(Vec<String>),
    /// A socket address.
    Address(SocketAddr),
    /// Yes or no.
    Switch(bool),
    /// A number.
    Count(u64),
    /// A duration.
    Time(Duration),
}

/// A value is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}write {allowed}", .detail.as_ref().map(|detail| format!("{detail}; ")).unwrap_or_default())]
pub struct Refusal {
    /// What is.
    pub allowed: String,
    /// What exactly is wrong, where there is more to say.
    pub detail: Option<String>,
}

impl Kind {
    /// Checks a value.
    ///
    /// # Errors
    /// It is of another type, malformed or out of range.
    pub fn read(self, raw: &Raw<'_>) -> Result<Value, Refusal> {
        let refused = || Refusal { allowed: self.allowed(), detail: None };
        match (self, raw) {
            (Self::Switch, Raw::Switch(switch)) => Ok(Value::Switch(*switch)),
            (Self::Switch, Raw::Typed(text)) => text.parse().map(Value::Switch).map_err(|_| refused()),
            (Self::Count(..), Raw::Whole(number)) => {
                u64::try_from(*number).map_err(|_| refused()).and_then(|number| self.count(number))
            }
            (Self::Count(..), Raw::Typed(text)) => {
                text.parse().map_err(|_| refused()).and_then(|number| self.count(number))
            }
            (Self::Hosts | Self::Choices(_), Raw::List(items)) => self.list(items),
            (Self::Hosts | Self::Choices(_), Raw::Typed(text)) => {
                let items: Vec<&str> =
                    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
                self.list(&items)
            }
            (Self::Switch | Self::Count(..) | Self::Hosts | Self::Choices(_), _) => Err(refused()),
            (_, Raw::Typed(text) | Raw::Text(text)) => self.text(text),
            (_, Raw::Whole(_) | Raw::Switch(_) | Raw::List(_) | Raw::Other) => Err(refused()),
        }
    }

    fn count(self, number: u64) -> Result<Value, Refusal> {
        match self {
            Self::Count(least, most) if (least..=most).contains(&number) => Ok(Value::Count(number)),
            _ => Err(Refusal { allowed: self.allowed(), detail: None }),
        }
    }

    fn list(self, items: &[&str]) -> Result<Value, Refusal> {
        let is_allowed = match self {
            Self::Hosts => items.iter().all(|item| is_host(item)),
            Self::Choices(words) => !items.is_empty() && items.iter().all(|item| words.contains(item)),
            _ => false,
        };
        let mut list: Vec<String> = Vec::new();
        for item in items {
            if !list.iter().any(|known| known == item) {
                list.push((*item).to_owned());
            }
        }
        if is_allowed {
            Ok(Value::List(list))
        } else {
            Err(Refusal { allowed: self.allowed(), detail: None })
        }
    }

    fn text(self, text: &str) -> Result<Value, Refusal> {
        let mut detail = None;
        let mut noted = |error: String| detail = Some(error);
        let value = match self {
            Self::Listen => text.parse().ok().map(Value::Address),
            Self::Time(least, most) => {
                let time = duration::parse(text).ok().filter(|time| (least..=most).contains(time));
                time.map(Value::Time)
            }
            _ => {
                let is_allowed = match self {
                    Self::Advertise => Advertise::parse(text).is_some(),
                    Self::Endpoint => endpoint(text).is_some(),
                    // Whoever writes a password here would find it in what `config show` prints.
                    Self::Target => !text.is_empty() && !text.contains('@'),
                    Self::Choice(words) => words.contains(&text),
                    Self::Resources => {
                        Resources::parse(text).map_err(|error| noted(error.to_string())).is_ok()
                    }
                    Self::Attributes => {
                        attributes::parse(text).map_err(|error| noted(error.to_string())).is_ok()
                    }
                    Self::Path(_) => !text.is_empty() && !text.contains('\0'),
                    _ => !text.trim().is_empty(),
                };
                is_allowed.then(|| Value::Text(text.to_owned()))
            }
        };
        value.ok_or_else(|| Refusal { allowed: self.allowed(), detail })
    }

    /// What may be written.
    #[must_use]
    pub fn allowed(self) -> String {
        let quoted = |words: &[&str]| words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>();
        match self {
            Self::Text(what) => format!("{what}, as text"),
            Self::Advertise => {
                "HOST or HOST:PORT, as \"node1.example.com\" or \"203.0.113.7:5050\"".to_owned()
            }
            Self::Hosts => "a list of host names, as [\"cluster.example.com\"]".to_owned(),
            Self::Listen => "IP:PORT, as \"127.0.0.1:5050\" (port 0: any free one)".to_owned(),
            Self::Endpoint => "HOST:PORT, as \"10.0.0.1:5052\"".to_owned(),
            Self::Target => "HOST:PORT or a URL, as \"127.0.0.1:5050\", without a password".to_owned(),
            Self::Path(what) => format!("the path of {what}, as text"),
            Self::Switch => "true or false".to_owned(),
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Time(least, most) => format!(
                "a duration from \"{}\" to \"{}\", as \"1h30m\"",
                duration::text(least),
                duration::text(most)
            ),
            Self::Choice(words) => quoted(words).join(" or "),
            Self::Choices(words) => format!("a list of one or more of {}", quoted(words).join(", ")),
            Self::Resources => "resources, as \"cpus:4;mem:4096;disk:4096;ports:[31000-32000]\"".to_owned(),
            Self::Attributes => "attributes, as \"rack:r1;zone:a\"".to_owned(),
        }
    }

    /// What stands for a value in a usage text.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Text(_) | Self::Resources | Self::Attributes => "TEXT",
            Self::Advertise => "HOST[:PORT]",
            Self::Hosts => "HOST,…",
            Self::Listen | Self::Endpoint => "HOST:PORT",
            Self::Target => "ADDR",
            Self::Path(what) if what.contains("directory") => "DIR",
            Self::Path(_) => "FILE",
            Self::Switch => "BOOL",
            Self::Count(..) => "N",
            Self::Time(..) => "DURATION",
            Self::Choice(_) => "WORD",
            Self::Choices(_) => "WORD,…",
        }
    }
}

impl std::fmt::Display for Value {
    /// As it is typed on a command line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
            Self::Address(address) => address.fmt(f),
            Self::Switch(switch) => switch.fmt(f),
            Self::Count(number) => number.fmt(f),
            Self::Time(time) => f.write_str(&duration::text(*time)),
        }
    }
}

impl Value {
    /// As it is written in a file.
    #[must_use]
    pub fn toml(&self) -> String {
        match self {
            Self::Switch(_) | Self::Count(_) => self.to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| toml_text(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Text(_) | Self::Address(_) | Self::Time(_) => toml_text(&self.to_string()),
        }
    }

    /// As JSON output has it.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Switch(switch) => (*switch).into(),
            Self::Count(number) => (*number).into(),
            Self::List(items) => items.clone().into(),
            Self::Text(_) | Self::Address(_) | Self::Time(_) => self.to_string().into(),
        }
    }
}

/// A basic string of TOML.
fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

fn is_host(text: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    !text.is_empty() && (text.chars().all(is_part) || text.parse::<IpAddr>().is_ok())
}

/// `HOST:PORT` in its parts.
fn endpoint(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    is_host(host).then_some((host, port))
}

impl Advertise {
    /// Reads `HOST` or `HOST:PORT`. None: it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match endpoint(text) {
            // An IPv6 address without brackets has no port.
            Some((host, port)) if text.parse::<IpAddr>().is_err() => (host, Some(port)),
            _ => (Some(text).filter(|text| is_host(text))?, None),
        };
        Some(Self { host: host.to_owned(), port })
    }
}
