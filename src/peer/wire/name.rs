//! Who a certificate belongs to: a URI among its alternative names,
//! `mesita://<cluster id>/<master|agent>/<node id>`.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::error::CertificateError;
use crate::base::id::NodeId;
use crate::base::time::Timestamp;

/// What a node may do on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes part in consensus, and may have an agent beside it.
    Master,
    /// Runs tasks only.
    Agent,
}

impl Role {
    /// As it stands in certificates.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Agent => "agent",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Master, Self::Agent].into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest cluster id.
const CLUSTER_ID_LENGTH: usize = 64;

/// The holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// The cluster.
    pub cluster_id: String,
    /// What it may do.
    pub role: Role,
    /// The node.
    pub node_id: NodeId,
}

impl PeerName {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("mesita://")?.split('/');
        let cluster_id = parts.next().filter(|id| is_cluster_id(id))?.to_owned();
        let role = Role::parse(parts.next()?)?;
        let node_id = NodeId::parse(parts.next()?)?;
        parts.next().is_none().then_some(Self { cluster_id, role, node_id })
    }

    /// The name in a certificate. It says nothing unless the chain was verified.
    ///
    /// # Errors
    /// The certificate is malformed, or does not hold exactly one such name.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let malformed = |error: &dyn fmt::Display| CertificateError::Malformed(error.to_string());
        let (_, parsed) = parse_x509_certificate(certificate).map_err(|error| malformed(&error))?;
        let names = parsed.subject_alternative_name().map_err(|error| malformed(&error))?;
        let mut found =
            names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
                GeneralName::URI(uri) => Self::parse(uri),
                _ => None,
            });
        match (found.next(), found.next()) {
            (Some(name), None) => Ok(name),
            _ => Err(CertificateError::Nameless),
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mesita://{}/{}/{}", self.cluster_id, self.role, self.node_id)
    }
}

/// Whether a text can be the id of a cluster: letters, digits, dots, dashes and underscores.
pub(super) fn is_cluster_id(text: &str) -> bool {
    let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'.' | b'-' | b'_');
    (1..=CLUSTER_ID_LENGTH).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// When a certificate begins and ends to be valid.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), CertificateError> {
    let (_, parsed) = parse_x509_certificate(certificate)
        .map_err(|error| CertificateError::Malformed(error.to_string()))?;
    let at = |seconds: i64| Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000));
    let validity = parsed.validity();
    Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_exactly() {
        let node_id = NodeId::new(0xabc).expect("not zero");
        let name = PeerName { cluster_id: "c-1".to_owned(), role: Role::Agent, node_id };
        assert_eq!(name.to_string(), "mesita://c-1/agent/0000000000000abc");
        assert_eq!(PeerName::parse(&name.to_string()), Some(name));
        for wrong in [
            "mesita://c-1/agent/0000000000000abc/",
            "mesita://c-1/admin/0000000000000abc",
            "mesita://c-1/agent/abc",
            "mesita:///agent/0000000000000abc",
            "mesita://c 1/agent/0000000000000abc",
            "https://c-1/agent/0000000000000abc",
            "mesita://c-1/agent/0000000000000000",
        ] {
            assert_eq!(PeerName::parse(wrong), None, "{wrong}");
        }
    }
}
