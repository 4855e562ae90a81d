//! Ids: slash-separated paths of dot-joined labels (Marathon).

/// Last segments that are reserved.
const RESERVED: &[&str] = &["restart", "tasks", "versions", ".", ".."];

/// An id as an absolute path, if it is valid.
///
/// # Errors
/// It is not; the text says why.
pub fn absolute(id: &str) -> Result<String, String> {
    let mut path: Vec<&str> = Vec::new();
    for segment in id.split('/').filter(|segment| !segment.is_empty()) {
        match segment {
            "." => {}
            ".." => {
                path.pop();
            }
            segment if segment.split('.').all(is_label) => path.push(segment),
            segment => {
                return Err(format!(
                    "{segment:?} may only hold lower-case letters, digits, hyphens and dots, and starts and ends with a letter or digit"
                ));
            }
        }
    }
    match path.last() {
        None => Err("must not be empty or \"/\"".to_owned()),
        Some(last) if RESERVED.contains(last) => Err(format!("must not end in the reserved name {last:?}")),
        Some(_) => Ok(format!("/{}", path.join("/"))),
    }
}

fn is_label(label: &str) -> bool {
    let inner = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
}

/// The form in task ids: `/prod/db` → `prod_db`.
#[must_use]
pub fn safe(id: &str) -> String {
    id.trim_start_matches('/').replace('/', "_")
}

/// The form in task names and DNS: `/prod/web` → `web.prod`.
#[must_use]
pub fn reversed(id: &str) -> String {
    let mut segments: Vec<&str> = id.split('/').filter(|segment| !segment.is_empty()).collect();
    segments.reverse();
    segments.join(".")
}
