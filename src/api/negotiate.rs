//! Content negotiation of the Mesos APIs: JSON or protobuf, by `Content-Type` and `Accept`.

/// How messages are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/x-protobuf`.
    Protobuf,
}

impl Encoding {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }
}

/// What is wrong with a request's `Content-Type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentTypeError {
    /// There is none (400).
    Missing,
    /// It is another one (415).
    Unsupported(String),
}

/// The encoding of a request's body. Parameters such as `charset` are ignored.
///
/// # Errors
/// There is no content type, or another one.
pub fn content_type(header: Option<&str>) -> Result<Encoding, ContentTypeError> {
    let header = header.ok_or(ContentTypeError::Missing)?;
    let media = header.split(';').next().unwrap_or_default().trim();
    [Encoding::Json, Encoding::Protobuf]
        .into_iter()
        .find(|encoding| media.eq_ignore_ascii_case(encoding.media_type()))
        .ok_or_else(|| ContentTypeError::Unsupported(header.to_owned()))
}

/// The encoding of the answer: JSON whenever that is acceptable (also when nothing is said), else
/// protobuf, else none (406).
#[must_use]
pub fn accept(header: Option<&str>) -> Option<Encoding> {
    let Some(header) = header else { return Some(Encoding::Json) };
    [Encoding::Json, Encoding::Protobuf].into_iter().find(|encoding| accepts(header, encoding.media_type()))
}

/// Whether a header accepts a media type: the most specific range that matches decides.
#[must_use]
pub fn accepts(header: &str, media_type: &str) -> bool {
    let kind = media_type.split('/').next().unwrap_or_default();
    let mut best: Option<(u8, bool)> = None;
    for range in header.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let specific = match media {
            "*/*" | "*" => 0,
            _ if media.strip_suffix("/*").is_some_and(|own| own.eq_ignore_ascii_case(kind)) => 1,
            _ if media.eq_ignore_ascii_case(media_type) => 2,
            _ => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f64>);
        let acceptable = quality.is_ok_and(|quality| quality > 0.0);
        if best.is_none_or(|(other, _)| specific >= other) {
            best = Some((specific, acceptable));
        }
    }
    best.is_some_and(|(_, acceptable)| acceptable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        assert_eq!(content_type(Some("application/json")), Ok(Encoding::Json));
        assert_eq!(content_type(Some("application/json; charset=utf-8")), Ok(Encoding::Json));
        assert_eq!(content_type(Some("application/x-protobuf")), Ok(Encoding::Protobuf));
        assert_eq!(content_type(None), Err(ContentTypeError::Missing));
        for other in
            ["application/recordio", "text/plain", "", "multipart/form-data; boundary=x", "application/jsonx"]
        {
            assert_eq!(content_type(Some(other)), Err(ContentTypeError::Unsupported(other.to_owned())));
        }
    }

    #[test]
    fn json_wins_whenever_it_is_acceptable() {
        for (header, wanted) in [
            (None, Some(Encoding::Json)),
            (Some("*/*"), Some(Encoding::Json)),
            (Some("application/*"), Some(Encoding::Json)),
            (Some("application/x-protobuf, application/json;q=0.1"), Some(Encoding::Json)),
            (Some("application/x-protobuf"), Some(Encoding::Protobuf)),
            (Some("application/json;q=0, */*"), Some(Encoding::Protobuf)),
            (Some("text/html"), None),
            (Some("application/recordio"), None),
            (Some(""), None),
        ] {
            assert_eq!(accept(header), wanted, "{header:?}");
        }
    }
}
