//! Resources: fixed-point scalars, ranges and sets, and the algebra over them.
//!
//! Two resources add up only if everything but their amount is equal: name, kind, allocation,
//! reservations, disk, revocability, sharing, provider. [`Resources`] keeps one entry for each such
//! identity. Text (`cpus:4;mem:1024;ports:[31000-32000]`), JSON and protobuf forms are read with
//! all validity rules of Mesos; an absurd amount is an error that names the resource, never a panic.

pub mod attributes;
mod error;
mod identity;
mod ranges;
pub mod roles;
mod set;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod wire;

pub use error::{NotContained, ResourceError};
pub use ranges::Ranges;
pub use set::Resources;
pub use value::{Scalar, Value};
pub use wire::Format;
