//! The log of one cluster: kept in memory, and shown when a test fails.
//!
//! Where the program has a log of its own for all, what a cluster says goes there, and nothing is kept here.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::dispatcher::{DefaultGuard, Dispatch};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::NoSubscriber;
use tracing::{Event, Level, Subscriber, dispatcher};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::base::clock::SystemClock;
use crate::base::spawn::PART;
use crate::base::time::Clock;

/// Lines that are kept; older ones are forgotten.
const KEPT: usize = 2_000;

thread_local! {
    /// What lets the events of a thread of a cluster arrive here, for as long as the thread lives.
    static CAPTURED: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

#[derive(Debug, Default)]
struct Inner {
    clock: SystemClock,
    lines: Mutex<VecDeque<String>>,
}

/// The lines; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Logs {
    inner: Arc<Inner>,
    dispatch: Dispatch,
}

impl Logs {
    pub(super) fn new() -> Self {
        let inner = Arc::new(Inner::default());
        let keeper = Keeper(Arc::clone(&inner));
        let dispatch = Dispatch::new(Registry::default().with(keeper));
        Self { inner, dispatch }
    }

    /// The newest lines, oldest first.
    pub(super) fn last(&self, count: usize) -> Vec<String> {
        let lines = self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }

    /// Lets what this thread says arrive here until the guard is dropped, unless it arrives somewhere else. For
    /// a thread that belongs to the cluster: it has no log but that of the program.
    pub(super) fn capture(&self) -> Option<DefaultGuard> {
        let is_free = dispatcher::get_default(|current| current.is::<NoSubscriber>());
        is_free.then(|| dispatcher::set_default(&self.dispatch))
    }

    /// The same for a thread that belongs to the cluster, as it starts.
    pub(super) fn on_thread(&self) -> impl Fn() + Send + Sync + 'static {
        let logs = self.clone();
        move || CAPTURED.set(logs.capture())
    }
}

/// Writes lines down.
struct Keeper(Arc<Inner>);

/// The name of a part, kept at its span.
struct PartName(String);

/// Gathers the fields of an event or a span.
#[derive(Default)]
struct Gather {
    message: String,
    fields: String,
}

impl Visit for Gather {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, value);
    }
}

impl Gather {
    fn add(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// The field of a span that names a part.
struct FindPart(Option<String>);

impl Visit for FindPart {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == PART {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut found = FindPart(None);
        attributes.record(&mut found);
        if let (Some(name), Some(span)) = (found.0, context.span(id)) {
            span.extensions_mut().insert(PartName(name));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || !metadata.target().starts_with("mesita") {
            return;
        }
        let mut gathered = Gather::default();
        event.record(&mut gathered);
        let name = |span: tracing_subscriber::registry::SpanRef<'_, S>| {
            span.extensions().get::<PartName>().map(|name| name.0.clone())
        };
        let part = context.event_scope(event).and_then(|mut scope| scope.find_map(name)).unwrap_or_default();
        let at = self.0.clock.now().mono.since_start().as_secs_f64();
        let Gather { message, fields } = gathered;
        let line = format!("+{at:.3} s {:<5} {part:<8} {message}{fields}", metadata.level());
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > KEPT {
            lines.pop_front();
        }
    }
}
