//! The wire: Mesos v1 messages, their JSON mapping, record framing and validation; the messages
//! between master and agent; the registry's stored form; Marathon's wire types.
//!
//! The `.proto` files below `src/api/proto` are the source; `build.rs` turns them into the types
//! of [`v1`], [`peer`] and [`registry`].

pub mod binary;
mod error;
pub mod json;
pub mod marathon;
pub mod negotiate;
pub mod recordio;
pub mod validate;

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::doc_markdown,
    clippy::large_enum_variant,
    reason = "generated from the .proto files, whose comments are the documentation"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use error::ApiError;
pub use generated::mesita::{peer, registry, service};
pub use generated::mesos::v1;
