//! The loop that owns a [`super::core::Agent`].

mod files;
mod handle;
mod member;

pub use handle::{Drained, Handle};
