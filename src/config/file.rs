//! A TOML text as settings, each with its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, Key};
use super::kind::Raw;
use super::problem::Problem;
use super::settings::{Place, Setting, Source};
use crate::base::nearest::nearest;

/// Characters of a wrong value that an error shows.
const SHOWN: usize = 60;

/// A file.
struct File<'a> {
    path: &'a str,
    text: &'a str,
    settings: Vec<(&'static Key, Setting)>,
}

/// The settings of a file, in its order.
///
/// # Errors
/// It is no TOML, has a key that nobody knows, or a value that its key cannot have: of several the first.
pub(super) fn read(path: &str, text: &str) -> Result<Vec<(&'static Key, Setting)>, Problem> {
    let mut file = File { path, text, settings: Vec::new() };
    let parsed = DeTable::parse(text).map_err(|error| Problem::Syntax {
        place: file.place(error.span().unwrap_or_default()),
        what: error.message().replace('\n', ", "),
    })?;
    file.table("", parsed.get_ref())?;
    Ok(file.settings)
}

impl File<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// A value as it stands there.
    fn written(&self, span: Range<usize>) -> String {
        let text = self.text.get(span).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let cut: String = line.chars().take(SHOWN).collect();
        if cut.len() < text.len() { format!("{cut}…") } else { cut }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) -> Result<(), Problem> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let full = format!("{prefix}{}", name.get_ref());
            if let Some(key) = keys::find(&full) {
                self.key(key, value)?;
                continue;
            }
            let below = format!("{full}.");
            if !KEYS.iter().any(|key| key.name.starts_with(&below)) {
                let place = self.place(name.span());
                let is_table = matches!(value.get_ref(), DeValue::Table(_)) && prefix.is_empty();
                let nearest = if is_table { nearest_table(&full) } else { keys::nearest_key(&full) };
                return Err(Problem::UnknownKey { place, key: full, nearest: nearest.unwrap_or_default() });
            }
            match value.get_ref() {
                DeValue::Table(table) => self.table(&below, table)?,
                _ => {
                    let (place, found) = (self.place(value.span()), self.written(value.span()));
                    return Err(Problem::NotATable { place, table: full, found });
                }
            }
        }
        Ok(())
    }

    fn key(&mut self, key: &'static Key, value: &Spanned<DeValue<'_>>) -> Result<(), Problem> {
        let source = Source::File(self.place(value.span()));
        match key.read(&raw(value.get_ref())) {
            Ok(value) => {
                self.settings.push((key, Setting { value, source }));
                Ok(())
            }
            Err(refusal) => {
                let found = self.written(value.span());
                Err(Problem::Value { from: source, key: key.name, found, refusal: Box::new(refusal) })
            }
        }
    }
}

fn nearest_table(typed: &str) -> Option<&'static str> {
    nearest(typed, KEYS.iter().filter_map(|key| key.split().0))
}

fn raw<'a>(value: &'a DeValue<'_>) -> Raw<'a> {
    match value {
        DeValue::String(text) => Raw::Text(text),
        DeValue::Boolean(switch) => Raw::Switch(*switch),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).map_or(Raw::Other, Raw::Whole)
        }
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Some(&**text),
                _ => None,
            });
            texts.collect::<Option<Vec<&str>>>().map_or(Raw::Other, Raw::List)
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => Raw::Other,
    }
}
