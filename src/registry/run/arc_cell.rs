//! A shared pointer that one writer replaces and many readers take.

use std::sync::{Arc, Mutex, PoisonError};

/// The newest value.
#[derive(Debug, Default)]
pub(super) struct ArcCell<T> {
    value: Mutex<Arc<T>>,
}

impl<T> ArcCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(Arc::new(value)) }
    }

    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, value: Arc<T>) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}
