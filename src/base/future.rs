//! Futures in the interfaces where rooms meet.

use std::future::Future;
use std::pin::Pin;

/// A boxed future, so that an interface with asynchronous methods can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
