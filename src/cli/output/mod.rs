//! How results are printed: a [`Report`] is one result in every form, a [`Printer`] chooses one.
//! Data goes to stdout, everything else to stderr. No other file of the command line prints.

use std::io::Write;

mod ago;
mod live;
mod paint;
mod printer;
mod table;

pub(super) use ago::ago;
pub(super) use live::Live;
pub(super) use paint::{Paint, Tint, harmless};
pub(super) use printer::{Printer, Report};
pub(super) use table::Table;

/// Writes a line to stderr.
pub(super) fn say(text: &str) {
    // Whoever read stderr may be gone: then nobody misses the line, and what runs must go on to its end.
    let _ = writeln!(std::io::stderr(), "{text}");
}
