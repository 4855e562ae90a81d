//! What the service framework stores: apps in canonical form, its commands and its state.

mod canonical;
mod check;
pub mod files;
pub mod ids;
mod replicated;

pub use canonical::{Keys, merge, read};
pub use check::check;
pub use replicated::{
    Action, AppEntry, AppVersion, Attribute, Command, Deployment, Failure, Instance, Plan, Reply, State,
};
