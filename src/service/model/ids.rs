//! Ids: slash-separated paths of dot-joined labels (Marathon), and the ids of instances and tasks
//! that are made of them.

/// Last segments that are reserved.
const RESERVED: &[&str] = &["restart", "tasks", "versions", ".", ".."];
/// What a task id adds to its app's: `.instance-`, a uuid, `._app.`, and how often it was launched.
const TASK_ID_EXTRA: usize = ".instance-".len() + UUID_LENGTH + "._app.".len() + 10;
const UUID_LENGTH: usize = 36;
/// Bytes of an app id at the most: a task id names a directory, which may have 255 bytes.
pub const MAX_ID: usize = 255 - TASK_ID_EXTRA;

/// An id as an absolute path, if it is valid.
///
/// # Errors
/// It is not; the text says why.
pub fn absolute(id: &str) -> Result<String, String> {
    let path = resolve(id, "/")?;
    match path.rsplit('/').next() {
        Some(last) if RESERVED.contains(&last) => Err(format!("must not end in the reserved name {last:?}")),
        _ if path.len() > MAX_ID => {
            Err(format!("has {} characters, at most {MAX_ID} fit into a task id; shorten it", path.len()))
        }
        _ => Ok(path),
    }
}

/// A path, absolute or relative to a group, as an absolute one. `.` and `..` work as in a file system.
///
/// # Errors
/// It is not valid; the text says why.
pub fn resolve(text: &str, group: &str) -> Result<String, String> {
    let base = if text.starts_with('/') { "" } else { group };
    let mut path: Vec<&str> = Vec::new();
    for segment in base.split('/').chain(text.split('/')).filter(|segment| !segment.is_empty()) {
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
    if path.is_empty() {
        return Err("must not be empty or \"/\"".to_owned());
    }
    Ok(format!("/{}", path.join("/")))
}

/// The group that an absolute path lies in.
#[must_use]
pub fn parent(id: &str) -> &str {
    id.rsplit_once('/').map_or("/", |(group, _)| if group.is_empty() { "/" } else { group })
}

/// Whether a name consists of lower-case letters, digits and inner hyphens.
#[must_use]
pub fn is_label(label: &str) -> bool {
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

/// The id of the instance that a task id or instance id names. All forms that Marathon ever made are
/// read: `web.instance-<uuid>` (also `.marathon-<uuid>`), the same followed by `._app.<launches>` or by a
/// container's name, and the oldest, `web.<uuid>`, which is its own instance.
///
/// # Errors
/// The text is neither; it says what is expected.
pub fn instance_of(text: &str) -> Result<&str, String> {
    let marked = [".instance-", ".marathon-"]
        .iter()
        .find_map(|mark| text.rfind(mark).map(|at| (at, at + mark.len())))
        .or_else(|| text.len().checked_sub(UUID_LENGTH + 1).map(|at| (at, at + 1)));
    let parts = marked.and_then(|(app, uuid)| {
        Some((
            text.get(..app)?,
            text.get(app..uuid)?,
            text.get(uuid..uuid + UUID_LENGTH)?,
            uuid + UUID_LENGTH,
        ))
    });
    match parts {
        Some((app, mark, uuid, end))
            if mark.starts_with('.')
                && app.split(['_', '.']).all(is_label)
                && is_uuid(uuid)
                && (text.len() == end || text[end..].strip_prefix('.').is_some_and(is_container)) =>
        {
            Ok(&text[..end])
        }
        _ => Err(format!(
            "{text:?} is no task id; one looks like web.instance-<uuid>._app.1 (GET /v2/tasks lists them)"
        )),
    }
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// `_app`, the name of a pod's container, and the number of launches.
fn is_container(text: &str) -> bool {
    let mut parts = text.split('.');
    let name = parts.next().unwrap_or_default();
    let counted =
        parts.next().is_none_or(|count| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()));
    (name == "_app" || is_label(name)) && counted && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_paths() {
        assert_eq!(absolute("a//b/"), Ok("/a/b".to_owned()));
        assert_eq!(absolute("/a/../b.c/./d"), Ok("/b.c/d".to_owned()));
        for bad in ["", "/", "..", "/A", "/a_b", "/-a", "/a-", "/a/tasks", "/a/restart", "/a..b"] {
            assert!(absolute(bad).is_err(), "{bad}");
        }
        assert_eq!(resolve("db", "/shop"), Ok("/shop/db".to_owned()));
        assert_eq!(resolve("../db", "/shop"), Ok("/db".to_owned()));
        assert_eq!(resolve("/db", "/shop"), Ok("/db".to_owned()));
        assert_eq!((parent("/a/b/c"), parent("/a")), ("/a/b", "/"));
    }

    #[test]
    fn task_ids_stay_within_a_file_name() {
        let longest = format!("/{}", "a".repeat(MAX_ID - 1));
        assert_eq!(absolute(&longest), Ok(longest.clone()));
        assert!(absolute(&format!("{longest}a")).is_err());
        let task = format!("{}.instance-{}._app.{}", safe(&longest), "0".repeat(36), u32::MAX);
        assert!(task.len() <= 255, "{}", task.len());
    }

    #[test]
    fn instances_by_every_form_of_a_task_id() {
        let uuid = "0f1e2d3c-0000-11ee-8c99-0242ac120002";
        for (text, instance) in [
            (format!("shop_web.instance-{uuid}._app.3"), format!("shop_web.instance-{uuid}")),
            (format!("shop_web.instance-{uuid}"), format!("shop_web.instance-{uuid}")),
            (format!("shop_web.instance-{uuid}._app"), format!("shop_web.instance-{uuid}")),
            (format!("pod.instance-{uuid}.side-car.2"), format!("pod.instance-{uuid}")),
            (format!("web.marathon-{uuid}"), format!("web.marathon-{uuid}")),
            (format!("shop_web.v1.{uuid}"), format!("shop_web.v1.{uuid}")),
        ] {
            assert_eq!(instance_of(&text), Ok(instance.as_str()), "{text}");
        }
        for bad in [
            "",
            ".",
            "web",
            "web.instance-",
            "web.instance-0f1e2d3c",
            uuid,
            "é.é",
            &format!("web.{uuid}._app.1"),
            &format!(".instance-{uuid}"),
            &format!("web.instance-{uuid}._app.x"),
            &format!("web.instance-{uuid}._app.1.2"),
            &format!("web.instance-{uuid}x"),
            &format!("Web.instance-{uuid}"),
            &"é".repeat(40),
        ] {
            assert!(instance_of(bad).is_err(), "{bad}");
        }
    }
}
