//! Marathon's `/v2` in typed form: the app object, requests, answers and refusals.

mod app;
mod messages;
mod number;
mod selector;
mod unreachable;

pub use app::{
    App, Container, Docker, FetchUri, HealthCheck, HealthCommand, Network, Parameter, PortDefinition,
    PortMapping, UpgradeStrategy, Volume,
};
pub use messages::{Detail, Done, Embed, Mode, Refusal, Request, Response, TaskStatus};
pub use selector::Selector;
pub use unreachable::UnreachableStrategy;
