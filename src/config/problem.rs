//! What can be wrong with a configuration. Each says where, what, and what would be right.

use std::net::SocketAddr;

use super::kind::Refusal;
use super::settings::{Place, Source};

/// Something that people wrote is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A file is no TOML.
    #[error("{place}: {what}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        what: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key {key:?}; did you mean {nearest:?}?")]
    UnknownKey {
        /// Where.
        place: Place,
        /// As it was written, with its table.
        key: String,
        /// The key or table that was probably meant.
        nearest: &'static str,
    },
    /// A table is needed, and something else is there.
    #[error("{place}: {table} is a table, as [{table}]; {found} is none")]
    NotATable {
        /// Where.
        place: Place,
        /// The table.
        table: String,
        /// What is there.
        found: String,
    },
    /// A value has another type, is malformed or out of range.
    #[error("{from}: {key} cannot be {found}: {refusal}")]
    Value {
        /// Where.
        from: Source,
        /// Which key.
        key: &'static str,
        /// What is there.
        found: String,
        /// What is allowed.
        refusal: Box<Refusal>,
    },
    /// Other machines could reach an API, and nobody said that they may.
    #[error("{from}: {address} can be reached from other machines, and nothing authenticates them yet")]
    Exposed {
        /// What asks for it.
        from: Source,
        /// The address.
        address: SocketAddr,
    },
}

impl Problem {
    /// What to do, often a command to type.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { .. } => Some("`mesita config default` prints a file to begin with".to_owned()),
            Self::UnknownKey { .. } | Self::NotATable { .. } => {
                Some("`mesita config default` lists every key".to_owned())
            }
            Self::Value { key, .. } => Some(format!("mesita config explain {key}")),
            Self::Exposed { .. } => Some(
                "use 127.0.0.1, or add --insecure (insecure = true) if the network is yours alone".to_owned(),
            ),
        }
    }
}
