//! The messages and stubs of `wire.proto`.

#[expect(
    unreachable_pub,
    clippy::allow_attributes,
    clippy::doc_markdown,
    clippy::too_many_lines,
    reason = "generated from the .proto file, whose comments are the documentation"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/mesita.wire.rs"));
}

pub(super) use generated::*;
