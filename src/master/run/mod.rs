//! The loop that owns a [`super::core::Master`] while this node leads.

mod handle;
mod member;

pub use handle::Handle;
