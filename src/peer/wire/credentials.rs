//! The identity in use, which may be replaced while connections stand, and the TLS settings that read
//! it. TLS 1.3 only; nothing is resumed, so that each new connection shows the newest certificate.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};

use super::error::CertificateError;
use super::identity::{Identity, roots};
use super::name::PeerName;
use super::verify::MasterVerifier;

/// gRPC speaks HTTP/2.
const ALPN: &[u8] = b"h2";

/// A node's identity, shared by everything that speaks for it.
#[derive(Clone, Debug)]
pub struct Credentials {
    cell: Arc<RwLock<Arc<Identity>>>,
}

impl Credentials {
    /// Begins with this identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { cell: Arc::new(RwLock::new(Arc::new(identity))) }
    }

    /// The identity now.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        self.cell.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whose credentials these are.
    #[must_use]
    pub fn name(&self) -> PeerName {
        self.identity().name().clone()
    }

    /// Uses a new certificate for connections from now on; those that stand remain.
    ///
    /// # Errors
    /// It belongs to another node, role or cluster, or was signed by another authority.
    pub fn replace(&self, identity: Identity) -> Result<(), CertificateError> {
        let mut cell = self.cell.write().unwrap_or_else(PoisonError::into_inner);
        if cell.name() != identity.name() {
            let (found, expected) = (identity.name().to_string(), cell.name().to_string());
            return Err(CertificateError::WrongName { found, expected });
        }
        if cell.authority() != identity.authority() {
            return Err(CertificateError::Untrusted("another authority signed it".to_owned()));
        }
        *cell = Arc::new(identity);
        Ok(())
    }
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.identity().certified().clone())
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.identity().certified().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// How the listener speaks TLS: certificates of clients are checked if they come, and demanded by each
/// call that needs one.
pub(super) fn server_config(credentials: &Credentials) -> Result<ServerConfig, CertificateError> {
    let make = |error: String| CertificateError::Make(error);
    let roots = roots(credentials.identity().authority())?;
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| make(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| make(error.to_string()))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(credentials.clone()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// How a dialler speaks TLS; without credentials it shows no certificate.
pub(super) fn client_config(
    credentials: Option<&Credentials>,
    verifier: MasterVerifier,
) -> Result<ClientConfig, CertificateError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| CertificateError::Make(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credentials {
        Some(credentials) => builder.with_client_cert_resolver(Arc::new(credentials.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
