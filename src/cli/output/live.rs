//! Progress: a live line for each service on a terminal, one line for each change elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use super::say;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Above this many services one line stands for all.
const LINES: usize = 20;

/// Progress lines on stderr.
pub(in crate::cli) struct Live {
    terminal: Option<MultiProgress>,
    bars: BTreeMap<String, ProgressBar>,
    last: BTreeMap<String, String>,
}

impl Live {
    /// Lines on stderr; on a terminal they are redrawn in place.
    pub(in crate::cli) fn new(machines_read: bool) -> Self {
        let terminal = (std::io::stderr().is_terminal() && !machines_read).then(MultiProgress::new);
        Self { terminal, bars: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// Sets the line of `name`. Without a terminal it is printed when it differs from the last.
    pub(in crate::cli) fn set(&mut self, name: &str, text: &str) {
        if self.last.get(name).is_some_and(|last| last == text) {
            return;
        }
        self.last.insert(name.to_owned(), text.to_owned());
        let Some(terminal) = &self.terminal else {
            say(&format!("{name}: {text}"));
            return;
        };
        let collapsed = self.bars.len() >= LINES && !self.bars.contains_key(name);
        let key = if collapsed { "…".to_owned() } else { name.to_owned() };
        let bar = self.bars.entry(key).or_insert_with(|| {
            let bar = terminal.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(format!("{name}: {text}"));
    }

    /// Ends every line with its last text.
    pub(in crate::cli) fn finish(self) {
        for bar in self.bars.values() {
            bar.finish();
        }
    }
}
