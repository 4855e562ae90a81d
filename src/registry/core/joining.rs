//! How nodes join: the authority that signs their certificates, and the tokens that admit them.

use std::collections::BTreeMap;
use std::fmt;

use super::command::Reply;
use crate::api::registry as wire;
use crate::base::time::Timestamp;

/// Tokens that exist at the same time.
const MAX_TOKENS: usize = 1_000;

/// The authority of the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// PEM of its certificate.
    pub certificate: String,
    /// PEM of its key.
    pub key: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(***)")
    }
}

/// What is kept of a join token, under the SHA-256 of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry {
    /// Whether it admits masters; else agents.
    pub for_masters: bool,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// Whether it admits one node only.
    pub once: bool,
    /// Whether it has admitted that one.
    pub spent: bool,
}

impl TokenEntry {
    /// Why the token admits nobody at this time.
    ///
    /// # Errors
    /// It has expired or was used.
    pub fn check(&self, now: Timestamp) -> Result<(), &'static str> {
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err("the join token has expired; make a new one with mesita cluster join-token");
        }
        if self.spent {
            return Err("the join token was used; make a new one with mesita cluster join-token");
        }
        Ok(())
    }
}

/// Authority and tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Joining {
    pub(super) authority: Option<Authority>,
    pub(super) tokens: BTreeMap<Vec<u8>, TokenEntry>,
}

impl Joining {
    pub(super) fn set_authority(&mut self, authority: Authority) -> Reply {
        if self.authority.is_some() {
            return Reply::Refused("the cluster has an authority".to_owned());
        }
        self.authority = Some(authority);
        Reply::Done
    }

    pub(super) fn put_token(&mut self, digest: Vec<u8>, entry: TokenEntry, now: Timestamp) -> Reply {
        self.tokens.retain(|_, entry| entry.expires.is_none_or(|expires| expires > now));
        if self.tokens.len() >= MAX_TOKENS && !self.tokens.contains_key(&digest) {
            return Reply::Refused(format!("there are {MAX_TOKENS} join tokens; let some of them expire"));
        }
        self.tokens.insert(digest, entry);
        Reply::Done
    }

    pub(super) fn spend(&mut self, digest: &[u8], now: Timestamp) -> Reply {
        let Some(entry) = self.tokens.get_mut(digest) else {
            return Reply::Refused("the join token is not known".to_owned());
        };
        if let Err(reason) = entry.check(now) {
            return Reply::Refused(reason.to_owned());
        }
        entry.spent = entry.once;
        Reply::Done
    }

    pub(super) fn tokens_to_wire(&self) -> Vec<wire::Token> {
        self.tokens.iter().map(|(digest, entry)| token_to_wire(digest, entry)).collect()
    }

    pub(super) fn from_wire(authority: Option<wire::Authority>, tokens: Vec<wire::Token>) -> Self {
        let authority = authority.map(|it| Authority { certificate: it.certificate, key: it.key });
        Self { authority, tokens: tokens.into_iter().map(token_from_wire).collect() }
    }
}

pub(super) fn token_to_wire(digest: &[u8], entry: &TokenEntry) -> wire::Token {
    wire::Token {
        digest: digest.to_vec(),
        for_masters: entry.for_masters,
        expires_ns: entry.expires.map(Timestamp::nanos),
        once: Some(entry.once),
        spent: Some(entry.spent),
    }
}

pub(super) fn token_from_wire(token: wire::Token) -> (Vec<u8>, TokenEntry) {
    let entry = TokenEntry {
        for_masters: token.for_masters,
        expires: token.expires_ns.map(Timestamp::from_nanos),
        once: token.once.unwrap_or_default(),
        spent: token.spent.unwrap_or_default(),
    };
    (token.digest, entry)
}
