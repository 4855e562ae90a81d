//! What people write: app files and durations.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{CliError, Exit};
use crate::service::model;

/// Largest app file that is read, in bytes: an app is a few hundred.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The apps of all files, in order: each file holds one app, an array of apps, or a group.
///
/// # Errors
/// A file cannot be read, or an app in it is not valid: the error names the file, the place and the
/// nearest valid key.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Value>, CliError> {
    let mut apps: Vec<Value> = Vec::new();
    for path in paths {
        let text = text_of(path)?;
        for app in model::files::parse(&text)
            .map_err(|problem| CliError::with(Exit::Usage, format!("{}: {problem}", path.display())))?
        {
            if let Some(twin) = apps.iter().find(|other| other["id"] == app["id"]) {
                return Err(CliError::with(
                    Exit::Usage,
                    format!("{}: the app {} is defined twice", path.display(), twin["id"]),
                ));
            }
            apps.push(app);
        }
    }
    Ok(apps)
}

fn text_of(path: &Path) -> Result<String, CliError> {
    let failed = |what: String| CliError::with(Exit::Usage, format!("{}: {what}", path.display()));
    let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_FILE {
        return Err(failed(format!("{size} bytes are too much for an app file (at most {MAX_FILE})")));
    }
    fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

/// Ids of the apps.
pub(super) fn ids(apps: &[Value]) -> Vec<String> {
    apps.iter().filter_map(|app| app["id"].as_str().map(str::to_owned)).collect()
}

/// `90s`, `5m`, `1h30m`, `250ms`; a bare number is seconds.
///
/// # Errors
/// The text is no duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 90s, 5m or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end =
            rest[digits..].find(|letter: char| letter.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            "d" => Duration::from_secs(86_400),
            _ => return Err(wrong()),
        };
        let part =
            u32::try_from(number).ok().and_then(|number| unit.checked_mul(number)).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in [
            "",
            "x",
            "5x",
            "m",
            "-1s",
            "1.5h",
            "99999999999999999999s",
            "4294967295d4294967295d4294967295d9999999999h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(&[PathBuf::from("no/such.json")]).expect_err("no such file");
        assert!(error.message.contains("no/such.json"), "{error}");
    }
}
