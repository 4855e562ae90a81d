//! The cluster's own authority: it signs the certificates that say which node is which.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};

use super::error::CertificateError;
use super::name::{PeerName, is_cluster_id};
use super::token::{Digest, sha256};
use crate::base::time::Timestamp;

/// How long a node's certificate is valid.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long the authority is valid: longer than anyone keeps a cluster.
const AUTHORITY_LIFE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
/// Certificates begin this long before they are made, for clocks that are behind.
pub const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// The authority: whoever holds it can make any node.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// A new authority for a new cluster.
    ///
    /// # Errors
    /// The cluster id cannot stand in a certificate, or the library refuses.
    pub fn generate(cluster_id: &str, now: Timestamp) -> Result<Self, CertificateError> {
        if !is_cluster_id(cluster_id) {
            return Err(CertificateError::ClusterId(cluster_id.to_owned()));
        }
        let mut params = params(&format!("mesita {cluster_id}"), now, AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.self_signed(&key).map_err(make)?;
        Ok(Self { certificate: certificate.der().clone(), certificate_pem: certificate.pem(), key })
    }

    /// Reads what [`Authority::certificate_pem`] and [`Authority::key_pem`] gave.
    ///
    /// # Errors
    /// One of them is malformed, or they do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CertificateError> {
        let malformed = |what: &str, error: &dyn fmt::Display| {
            CertificateError::Malformed(format!("the authority's {what}: {error}"))
        };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| malformed("certificate", &error))?;
        let key = KeyPair::from_pem(key_pem).map_err(|error| malformed("key", &error))?;
        let private =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| malformed("key", &error))?;
        super::identity::certified(vec![certificate.clone()], private)?;
        Ok(Self { certificate, certificate_pem: certificate_pem.to_owned(), key })
    }

    /// Its certificate, which is no secret.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key, which is.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// SHA-256 of its certificate in DER, as it stands in join tokens.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&self.certificate)
    }

    /// Signs a certificate for a node: 90 days, for both sides of a connection. Of the request (DER)
    /// only the key counts. Returns PEM.
    ///
    /// # Errors
    /// The request is malformed or not signed by its own key, or the name cannot stand in a
    /// certificate.
    pub fn sign(&self, csr: &[u8], name: &PeerName, now: Timestamp) -> Result<String, CertificateError> {
        if !is_cluster_id(&name.cluster_id) {
            return Err(CertificateError::ClusterId(name.cluster_id.clone()));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .map_err(|error| CertificateError::Malformed(format!("the signing request: {error}")))?;
        let mut params = params(&name.node_id.to_string(), now, CERTIFICATE_LIFE);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::URI(name.to_string().try_into().map_err(make)?)];
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(make)?;
        Ok(params.signed_by(&request.public_key, &issuer).map_err(make)?.pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(***)")
    }
}

/// A node's new key, and the request for its certificate.
pub struct KeyRequest {
    key_pem: String,
    csr: Vec<u8>,
}

impl KeyRequest {
    /// A new key.
    ///
    /// # Errors
    /// The library refuses.
    pub fn generate() -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(make)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(make)?;
        Ok(Self { key_pem: key.serialize_pem(), csr: request.der().to_vec() })
    }

    /// The signing request in DER, to be sent.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// The key, which stays here.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRequest(***)")
    }
}

fn params(common_name: &str, now: Timestamp, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::UNIX_EPOCH + now.since(Timestamp::from_nanos(0));
    params.not_before =
        (now - CLOCK_SKEW.min(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())).into();
    params.not_after = (now + life).into();
    params
}

fn make(error: rcgen::Error) -> CertificateError {
    CertificateError::Make(error.to_string())
}
