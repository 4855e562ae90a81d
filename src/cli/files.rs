//! What people write: app files.

use std::fs;
use std::path::{Path, PathBuf};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let error = read(&[PathBuf::from("no/such.json")]).expect_err("no such file");
        assert!(error.message.contains("no/such.json"), "{error}");
    }
}
