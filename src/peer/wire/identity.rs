//! A node's certificate and key, and the file that they live in.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::ca::{Authority, KeyRequest};
use super::error::CertificateError;
use super::name::{PeerName, validity};
use super::token::{Digest, sha256};
use crate::base::time::Timestamp;
use crate::os::files::write_private;

/// The one file: key, certificate and the authority's certificate can then never be of different age.
const FILE: &str = "identity.pem";

/// Who a node is, and the proof.
#[derive(Clone)]
pub struct Identity {
    name: PeerName,
    begins: Timestamp,
    ends: Timestamp,
    authority: CertificateDer<'static>,
    certified: Arc<CertifiedKey>,
    pem: String,
}

impl Identity {
    /// An identity that the authority at hand signs: that of the first master.
    ///
    /// # Errors
    /// As [`Authority::sign`].
    pub fn issue(authority: &Authority, name: &PeerName, now: Timestamp) -> Result<Self, CertificateError> {
        let request = KeyRequest::generate()?;
        let certificate = authority.sign(request.csr(), name, now)?;
        Self::assemble(request.key_pem(), &certificate, authority.certificate_pem(), now)
    }

    /// Puts a key, the certificate that was signed for it and the authority's certificate together
    /// (each in PEM), and checks them.
    ///
    /// # Errors
    /// Something is malformed, does not belong together or is not valid now.
    pub fn assemble(
        key: &str,
        certificate: &str,
        authority: &str,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        Self::parse(&format!("{}\n{}\n{}\n", key.trim(), certificate.trim(), authority.trim()), Some(now))
    }

    /// Whether a directory holds one, readable or not.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Reads the identity of a directory, whether it is valid now or not; none if there is none. Blocks.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn load(directory: &Path) -> Result<Option<Self>, CertificateError> {
        let path = directory.join(FILE);
        match fs::read_to_string(&path) {
            Ok(pem) => Self::parse(&pem, None).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CertificateError::File { path, source }),
        }
    }

    /// Writes the identity into a directory (made if need be, readable by its owner only), in place of
    /// an earlier one, whole or not at all. Blocks.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), CertificateError> {
        write_private(directory, FILE, self.pem.as_bytes())
            .map_err(|source| CertificateError::File { path: directory.join(FILE), source })
    }

    /// Checks that its parts belong together, and that the certificate is valid at a time; without one, that
    /// there is a time at which it is.
    fn parse(pem: &str, now: Option<Timestamp>) -> Result<Self, CertificateError> {
        let malformed = |error: rustls::pki_types::pem::Error| CertificateError::Malformed(error.to_string());
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(malformed)?;
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(malformed)?;
        let [leaf, authority] = chain.as_slice() else {
            let count = chain.len();
            return Err(CertificateError::Malformed(format!("two certificates expected, {count} found")));
        };
        let (leaf, authority) = (leaf.clone(), authority.clone());
        let (begins, ends) = validity(&leaf)?;
        let now = now.unwrap_or_else(|| begins.after(ends.since(begins) / 2));
        let at = UnixTime::since_unix_epoch(now.since(Timestamp::from_nanos(0)));
        verify(&leaf, &*roots(&authority)?, at)?;
        let name = PeerName::of(&leaf)?;
        let certified = Arc::new(certified(chain, key)?);
        Ok(Self { name, begins, ends, authority, certified, pem: pem.to_owned() })
    }

    /// Whose it is.
    #[must_use]
    pub const fn name(&self) -> &PeerName {
        &self.name
    }

    /// Whether others take it now.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.begins <= now && now < self.ends
    }

    /// When to ask for the next certificate: at half of this one's life.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        self.begins.after(self.ends.since(self.begins) / 2)
    }

    /// When the certificate ends to be valid.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.ends
    }

    /// SHA-256 of the authority's certificate.
    #[must_use]
    pub fn authority_digest(&self) -> Digest {
        sha256(&self.authority)
    }

    /// The authority's certificate in PEM.
    #[must_use]
    pub fn authority_pem(&self) -> String {
        pem(&self.authority)
    }

    pub(super) const fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub(super) const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, ***)", self.name)
    }
}

/// A chain and its key, if they belong together.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CertificateError> {
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::WrongKey,
        other => CertificateError::Malformed(other.to_string()),
    })
}

/// The authority as the only root.
pub(super) fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, CertificateError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(|error| CertificateError::Malformed(error.to_string()))?;
    Ok(Arc::new(roots))
}

/// Checks that the authority signed a certificate, and that it is valid at a time.
pub(super) fn verify(
    leaf: &CertificateDer<'_>,
    roots: &RootCertStore,
    at: UnixTime,
) -> Result<(), CertificateError> {
    let untrusted = |error: rustls::Error| CertificateError::Untrusted(error.to_string());
    let parsed = ParsedCertificate::try_from(leaf).map_err(untrusted)?;
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, &[], at, algorithms).map_err(untrusted)
}

/// A certificate as text.
pub(super) fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::super::ca::{CERTIFICATE_LIFE, CLOCK_SKEW};
    use super::super::name::Role;
    use super::*;
    use crate::base::id::NodeId;

    const NOW: Timestamp = Timestamp::from_nanos(1_790_000_000_000_000_000);

    fn name(cluster_id: &str) -> PeerName {
        let node_id = NodeId::new(7).expect("not zero");
        PeerName { cluster_id: cluster_id.to_owned(), role: Role::Master, node_id }
    }

    fn issued() -> (Authority, Identity) {
        let authority = Authority::generate("c1", NOW).expect("an authority");
        let identity = Identity::issue(&authority, &name("c1"), NOW).expect("an identity");
        (authority, identity)
    }

    #[test]
    fn an_identity_survives_its_file() {
        let (authority, identity) = issued();
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("tls");
        assert!(Identity::load(&directory).expect("nothing there").is_none());
        identity.save(&directory).expect("a file");
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
        let found = Identity::load(&directory).expect("readable").expect("there");
        assert!(found.is_valid(NOW) && !found.is_valid(found.expires_at()));
        assert!(!found.is_valid(Timestamp::from_nanos(0)));
        assert_eq!(found.name(), &name("c1"));
        assert_eq!(found.authority_digest(), authority.digest());
        assert_eq!(found.authority_pem().trim(), authority.certificate_pem().trim());
        let half = (CERTIFICATE_LIFE + CLOCK_SKEW) / 2 - CLOCK_SKEW;
        assert_eq!(found.renew_at(), NOW.after(half));
        assert_eq!(fs::read_dir(&directory).expect("readable").count(), 1, "nothing else is left");
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let (authority, _) = issued();
        let request = KeyRequest::generate().expect("a key");
        let leaf = authority.sign(request.csr(), &name("c1"), NOW).expect("signed");
        let at = |now| Identity::assemble(request.key_pem(), &leaf, authority.certificate_pem(), now);
        let earlier =
            |by: Duration| Timestamp::from_nanos(NOW.nanos() - i64::try_from(by.as_nanos()).unwrap());
        assert!(at(earlier(CLOCK_SKEW - Duration::from_secs(1))).is_ok());
        assert!(matches!(at(earlier(CLOCK_SKEW * 2)), Err(CertificateError::Untrusted(_))));
        assert!(at(NOW.after(CERTIFICATE_LIFE - Duration::from_secs(1))).is_ok());
        assert!(matches!(at(NOW.after(CERTIFICATE_LIFE * 2)), Err(CertificateError::Untrusted(_))));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (authority, _) = issued();
        let (other, _) = issued();
        let (one, two) = (KeyRequest::generate().expect("a key"), KeyRequest::generate().expect("a key"));
        let leaf = authority.sign(one.csr(), &name("c1"), NOW).expect("signed");
        let wrong_key = Identity::assemble(two.key_pem(), &leaf, authority.certificate_pem(), NOW);
        assert!(matches!(wrong_key, Err(CertificateError::WrongKey)), "{wrong_key:?}");
        let wrong_authority = Identity::assemble(one.key_pem(), &leaf, other.certificate_pem(), NOW);
        assert!(matches!(wrong_authority, Err(CertificateError::Untrusted(_))), "{wrong_authority:?}");
        let mut broken = one.csr().to_vec();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        assert!(matches!(authority.sign(&broken, &name("c1"), NOW), Err(CertificateError::Malformed(_))));
        assert!(matches!(authority.sign(one.csr(), &name("a/b"), NOW), Err(CertificateError::ClusterId(_))));
    }

    #[test]
    fn an_authority_survives_its_text_and_no_secret_is_printed() {
        let (authority, identity) = issued();
        let again = Authority::from_pem(authority.certificate_pem(), &authority.key_pem()).expect("the same");
        assert_eq!(again.digest(), authority.digest());
        Identity::issue(&again, &name("c1"), NOW).expect("it still signs");
        let (other, _) = issued();
        let mixed = Authority::from_pem(authority.certificate_pem(), &other.key_pem());
        assert!(matches!(mixed, Err(CertificateError::WrongKey)), "{mixed:?}");
        assert!(!format!("{authority:?} {identity:?}").contains("BEGIN"));
    }
}
