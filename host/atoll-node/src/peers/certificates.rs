//! Certificates of nodes: read from files, or made at start where the cluster's key proves more.

use super::introduction::Introduction;
use super::settings::CertificateFiles;
use anyhow::{Context, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use std::sync::Arc;

/// What this node shows, and what it asks of others.
pub(super) struct Certificates {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Who may sign others' certificates; `None` where others need no proper one.
    roots: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("roots", &self.roots.is_some()).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads them from PEM files.
    pub(super) fn read(files: &CertificateFiles) -> anyhow::Result<Certificates> {
        let CertificateFiles { ca, certificate, key } = files;
        let read = |flag: &str, path: &std::path::Path| -> anyhow::Result<Vec<_>> {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(|found| found.collect::<Result<Vec<_>, _>>())
                .with_context(|| format!("cannot read {flag} {}", path.display()))?;
            ensure!(!certificates.is_empty(), "{flag} {} holds no certificate", path.display());
            Ok(certificates)
        };
        let mut roots = RootCertStore::empty();
        for root in read("--peer-ca", ca)? {
            roots.add(root).with_context(|| format!("--peer-ca {}", ca.display()))?;
        }
        let chain = read("--peer-cert", certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("cannot read --peer-key {}", key.display()))?;
        let provider = Arc::new(ring::default_provider());
        Ok(Certificates { chain, key, roots: Some(Arc::new(roots)), provider })
    }

    /// Makes one that proves nothing, for a session whose ends are proved otherwise.
    pub(super) fn make() -> anyhow::Result<Certificates> {
        let made = rcgen::generate_simple_self_signed(Vec::new())?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(ring::default_provider());
        Ok(Certificates { chain: vec![made.cert.der().clone()], key, roots: None, provider })
    }

    /// TLS for connections that this node opens.
    pub(super) fn client(&self) -> anyhow::Result<ClientConfig> {
        let verifier = AnyName { roots: self.roots.clone(), provider: Arc::clone(&self.provider) };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("TLS cannot be set up")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.roots {
            Some(_) => builder
                .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
                .context("--peer-key does not fit --peer-cert")?,
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = false;
        // Links live long: what a resumed session saves is not worth a second way in.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// TLS for connections that others open.
    pub(super) fn server(&self) -> anyhow::Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("TLS cannot be set up")?;
        let builder = match &self.roots {
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(
                    Arc::clone(roots),
                    Arc::clone(&self.provider),
                )
                .build()
                .context("--peer-ca")?,
            ),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .context("--peer-key does not fit --peer-cert")?;
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Says why `certificate` does not belong to the node that introduced itself.
///
/// It names a node by a DNS name, which is the node's name, or by the URI
/// `atoll://CLUSTER/NAME`, which also says the cluster.
pub(super) fn names(
    certificate: &CertificateDer<'_>,
    introduction: &Introduction,
) -> Result<(), String> {
    let certificate = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| format!("a certificate cannot be read: {error}"))?;
    let (name, cluster) = (&introduction.name, &introduction.cluster);
    let uri = format!("atoll://{cluster}/{name}");
    let mut dns_names = certificate.valid_dns_names();
    if dns_names.any(|dns_name| dns_name.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    if certificate.valid_uri_names().any(|named| named == uri) {
        return Ok(());
    }
    Err(format!(
        "the certificate of node {name:?} does not name it; it needs the DNS name {name} or the \
         URI {uri} among its alternative names"
    ))
}

/// Checks who signed a certificate, where anybody has to, and not whom it names: that is compared
/// with what the node says of itself.
#[derive(Debug)]
struct AnyName {
    roots: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
