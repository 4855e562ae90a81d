//! Join tokens: `mesita-1-<SHA-256 of the authority's certificate>-<secret>`. The digest lets the
//! joiner know the cluster before it says a word; the secret lets the cluster know the joiner. Only a
//! digest of the secret is ever stored.

use std::fmt;

use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// What every token begins with; the number is the version of the format.
const PREFIX: &str = "mesita-1-";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 16;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins otherwise.
    #[error(
        "this is no join token: it should begin with {PREFIX:?} (copy all of what `mesita cluster join-token` printed)"
    )]
    Prefix,
    /// A token, but of a version that is not known here.
    #[error("the join token has a format that this version does not know: upgrade this node")]
    Version,
    /// The digest or the secret has the wrong length or letters.
    #[error("the join token is damaged: its {0} should be {1} hexadecimal digits (copy all of it)")]
    Damaged(&'static str, usize),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// A join token. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    authority: Digest,
    secret: String,
}

impl Token {
    /// A new token for the cluster whose authority's certificate has this digest.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate(authority: Digest) -> Result<Self, TokenError> {
        let mut bytes = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::NoRandomness)?;
        Ok(Self { authority, secret: hex(&bytes) })
    }

    /// Reads a token; space around it does not matter.
    ///
    /// # Errors
    /// The text is no token, or was copied in part.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let is_other = text.strip_prefix("mesita-").and_then(|rest| rest.split('-').next());
            let is_version = is_other.is_some_and(|part| part.parse::<u32>().is_ok());
            return Err(if is_version { TokenError::Version } else { TokenError::Prefix });
        };
        let (authority, secret) = rest.split_once('-').unwrap_or((rest, ""));
        let authority = unhex(authority)
            .and_then(|bytes| Digest::try_from(bytes).ok())
            .ok_or(TokenError::Damaged("first part", 64))?;
        unhex(secret)
            .filter(|bytes| bytes.len() == SECRET_BYTES)
            .ok_or(TokenError::Damaged("second part", 2 * SECRET_BYTES))?;
        Ok(Self { authority, secret: secret.to_owned() })
    }

    /// The digest of the certificate of the authority.
    #[must_use]
    pub const fn authority(&self) -> &Digest {
        &self.authority
    }

    /// The secret, to be sent to a verified peer only.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The whole token as the operator sees it.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}-{}", hex(&self.authority), self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The digest of a secret, for storage. Secrets are random and long: no salt is needed.
#[must_use]
pub fn secret_digest(secret: &str) -> Digest {
    sha256(secret.as_bytes())
}

/// Whether a secret is the one with the stored digest. The time does not depend on how much of it is
/// right.
#[must_use]
pub fn secret_matches(secret: &str, stored: &Digest) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"mesita join token");
    let expected = hmac::sign(&key, stored);
    hmac::verify(&key, &secret_digest(secret), expected.as_ref()).is_ok()
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut found = [0; 32];
    found.copy_from_slice(digest(&SHA256, bytes).as_ref());
    found
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_digit = |letter: u8| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter);
    if !text.len().is_multiple_of(2) || !text.bytes().all(is_digit) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_hides_in_logs() {
        let token = Token::generate([0xab; 32]).expect("random numbers");
        let text = token.reveal();
        assert_eq!(text.len(), 9 + 64 + 1 + 32);
        assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), "Token(***)");
        assert_ne!(Token::generate([0xab; 32]).expect("random numbers"), token);
    }

    #[test]
    fn damaged_tokens_say_what_is_wrong() {
        let text = Token::generate([1; 32]).expect("random numbers").reveal();
        assert_eq!(Token::parse("SWMTKN-1-x"), Err(TokenError::Prefix));
        assert_eq!(Token::parse(""), Err(TokenError::Prefix));
        assert_eq!(Token::parse(&text.replace("mesita-1", "mesita-2")), Err(TokenError::Version));
        assert_eq!(Token::parse(&text[..text.len() - 1]), Err(TokenError::Damaged("second part", 32)));
        assert_eq!(Token::parse(&text[..40]), Err(TokenError::Damaged("first part", 64)));
        assert_eq!(Token::parse(&text.replace("-0101", "-zz01")), Err(TokenError::Damaged("first part", 64)));
        assert_eq!(Token::parse(&text.replace("-0101", "-é01")), Err(TokenError::Damaged("first part", 64)));
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let token = Token::generate([1; 32]).expect("random numbers");
        let stored = secret_digest(token.secret());
        assert!(secret_matches(token.secret(), &stored));
        assert!(!secret_matches(&token.secret()[1..], &stored));
        assert!(!secret_matches("", &stored));
        assert!(!secret_matches(&"0".repeat(1 << 20), &stored));
    }
}
