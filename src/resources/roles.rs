//! Role names (Mesos: `*`, or a path of components such as `eng/web`).

use super::ResourceError;
use crate::base::id::Role;

/// The default role.
pub const DEFAULT: &str = "*";

/// Checks a role name.
///
/// # Errors
/// It breaks a rule; the error says which.
pub fn check(role: &str) -> Result<(), ResourceError> {
    let wrong = |problem| Err(ResourceError::Role { role: role.to_owned(), problem });
    if role == DEFAULT {
        return Ok(());
    }
    if role.is_empty() {
        return wrong("it is empty");
    }
    if role.starts_with('/') || role.ends_with('/') || role.contains("//") {
        return wrong("it starts or ends with a slash, or has an empty component");
    }
    for component in role.split('/') {
        if matches!(component, "." | ".." | "*") {
            return wrong("a component is `.`, `..` or `*`");
        }
        if component.starts_with('-') {
            return wrong("a component starts with a hyphen");
        }
        if component.bytes().any(|byte| matches!(byte, 0x09..=0x0d | 0x20 | 0x7f)) {
            return wrong("it contains white space or control characters");
        }
    }
    Ok(())
}

/// Whether `ancestor` lies above `role` in the hierarchy.
#[must_use]
pub fn is_ancestor(ancestor: &str, role: &str) -> bool {
    role.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether resources reserved for `reserved` may be allocated to `role`.
#[must_use]
pub fn serves(reserved: &Role, role: &Role) -> bool {
    reserved == role || is_ancestor(reserved.as_str(), role.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_names() {
        for good in ["*", "eng", "eng/web", "a.b", "ä"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/..", "a/*", "-x", "a/-x", "a b", "a\tb", "a\x7f"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ancestors() {
        assert!(is_ancestor("eng", "eng/web"));
        assert!(!is_ancestor("eng", "english"));
        assert!(!is_ancestor("eng", "eng"));
    }
}
