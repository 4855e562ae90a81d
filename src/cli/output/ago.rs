//! Times as people say them.

use crate::base::time::Timestamp;

/// `3m ago` of an RFC 3339 time; what is no time stays as it is.
pub(in crate::cli) fn ago(text: &str, now: Timestamp) -> String {
    let Ok(then) = Timestamp::parse_rfc3339(text) else { return text.to_owned() };
    let seconds = now.since(then).as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "m"),
        3_600..86_400 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count}{unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit() {
        let now = Timestamp::parse_rfc3339("2026-11-25T10:00:00Z").expect("a time");
        for (text, said) in [
            ("2026-11-25T09:59:58.500Z", "1s ago"),
            ("2026-11-25T09:57:00Z", "3m ago"),
            ("2026-11-25T05:00:00Z", "5h ago"),
            ("2026-11-20T10:00:00Z", "5d ago"),
            ("2026-11-25T10:00:09Z", "0s ago"),
            ("-", "-"),
        ] {
            assert_eq!(ago(text, now), said);
        }
    }
}
