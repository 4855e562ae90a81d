//! What a dialler demands of the master that it reached: a certificate of the cluster's authority, with
//! the role of a master, the cluster's id, and where it matters the node's. Host names do not matter.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme};

use super::credentials::provider;
use super::error::CertificateError;
use super::identity::{Identity, roots, verify};
use super::name::{PeerName, Role};
use super::token::{Digest, sha256};
use crate::base::id::NodeId;

/// What the other side must prove.
#[derive(Debug)]
enum Demand {
    /// To be a master of our cluster.
    Member { roots: Arc<RootCertStore>, cluster_id: String, node_id: Option<NodeId> },
    /// To be a master of the cluster whose authority has this digest.
    Authority(Digest),
}

/// Checks a master's certificate during the handshake.
#[derive(Debug)]
pub(super) struct MasterVerifier {
    demand: Demand,
    provider: Arc<CryptoProvider>,
}

impl MasterVerifier {
    /// A master of our own cluster; the one with this id if one is given.
    pub(super) fn member(own: &Identity, node_id: Option<NodeId>) -> Result<Self, CertificateError> {
        let roots = roots(own.authority())?;
        let cluster_id = own.name().cluster_id.clone();
        Ok(Self { demand: Demand::Member { roots, cluster_id, node_id }, provider: provider() })
    }

    /// A master of the cluster that a join token names.
    pub(super) fn authority(digest: Digest) -> Self {
        Self { demand: Demand::Authority(digest), provider: provider() }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refused> {
        let name = match &self.demand {
            Demand::Member { roots, cluster_id, node_id } => {
                verify(leaf, roots, now)?;
                let name = PeerName::of(leaf)?;
                if name.cluster_id != *cluster_id {
                    return Err(Refused(format!("it belongs to the cluster {}", name.cluster_id)));
                }
                if let Some(expected) = node_id.filter(|expected| *expected != name.node_id) {
                    return Err(Refused(format!("it is the node {}, not {expected}", name.node_id)));
                }
                name
            }
            Demand::Authority(digest) => {
                let authority = find_authority(chain, digest).ok_or_else(|| {
                    Refused("the join token is for another cluster (its authority differs)".to_owned())
                })?;
                verify(leaf, &*roots(&authority)?, now)?;
                PeerName::of(leaf)?
            }
        };
        if name.role != Role::Master {
            return Err(Refused(format!("the node {} is no master", name.node_id)));
        }
        Ok(())
    }
}

/// Why a certificate was not accepted.
struct Refused(String);

impl From<CertificateError> for Refused {
    fn from(error: CertificateError) -> Self {
        Self(error.to_string())
    }
}

/// The certificate with this digest among those that the peer showed.
pub(super) fn find_authority(
    chain: &[CertificateDer<'_>],
    digest: &Digest,
) -> Option<CertificateDer<'static>> {
    chain.iter().find(|one| sha256(one) == *digest).map(|one| one.clone().into_owned())
}

impl ServerCertVerifier for MasterVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.check(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(Refused(reason)) => Err(Error::General(reason)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
