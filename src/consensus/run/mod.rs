//! The loop that owns a [`super::core::Consensus`]: clock, disk and state machine around it. It only
//! moves bytes; what they mean is the [`Machine`]'s business.
//!
//! A panic or a fault inside, or a failed write, ends the node: nothing is voted, acknowledged or
//! served on a state that is not known.

mod drain;
mod handle;
mod member;

pub use handle::{Handle, Link, Machine, MemberConfig, MemberError, ProposeError, Proposed};
pub use member::start;
