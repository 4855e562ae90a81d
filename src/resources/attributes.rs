//! Attributes of agents: `rack:r1;level:10;ports:[1-2]` (Mesos agent flag `--attributes`).

use super::text::ranges;
use super::{ResourceError, Scalar};
use crate::api::v1;

/// Reads attributes; order and duplicates are kept. `[..]` are ranges, a number ≥ 0 is a scalar,
/// anything else is text.
///
/// # Errors
/// An attribute has no name, no value, or malformed ranges.
pub fn parse(text: &str) -> Result<Vec<v1::Attribute>, ResourceError> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(attribute).collect()
}

fn attribute(part: &str) -> Result<v1::Attribute, ResourceError> {
    let wrong = |problem| ResourceError::Attribute { text: part.to_owned(), problem };
    let (name, value) = part.split_once(':').ok_or_else(|| wrong("it has no colon"))?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || value.is_empty() {
        return Err(wrong("its name or value is empty"));
    }
    let mut attribute =
        v1::Attribute { name: name.to_owned(), r#type: v1::value::Type::Text.into(), ..Default::default() };
    if let Some(inner) = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ranges = ranges(inner).map_err(|_| wrong("its ranges are malformed"))?;
        let range = ranges.pairs().iter().map(|&(begin, end)| v1::value::Range { begin, end }).collect();
        attribute.r#type = v1::value::Type::Ranges.into();
        attribute.ranges = Some(v1::value::Ranges { range });
    } else if let Some(scalar) = value.parse().ok().and_then(|number| Scalar::from_f64(number).ok()) {
        attribute.r#type = v1::value::Type::Scalar.into();
        attribute.scalar = Some(v1::value::Scalar { value: scalar.to_f64() });
    } else {
        attribute.text = Some(v1::value::Text { value: value.to_owned() });
    }
    Ok(attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_attributes() {
        let all = parse("rack:r1; level:10;ports:[1-2];neg:-1;rack:r2").expect("valid");
        let kinds: Vec<i32> = all.iter().map(|attribute| attribute.r#type).collect();
        let kind = |kind: v1::value::Type| i32::from(kind);
        let text = kind(v1::value::Type::Text);
        assert_eq!(kinds, [text, kind(v1::value::Type::Scalar), kind(v1::value::Type::Ranges), text, text]);
        assert!(
            parse("x").is_err() && parse(":a").is_err() && parse("a:").is_err() && parse("a:[5]").is_err()
        );
    }
}
