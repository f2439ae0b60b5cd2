//! What protects a connection between nodes, and who may have one.
//!
//! With a cluster key or certificates every connection is TLS 1.3, on loopback as well: one rule,
//! and no tunnel that looks local can turn it off. Certificates prove by themselves who is there.
//! With a key alone the TLS certificate is made at start and proves nothing; the proofs of the key
//! are bound to the session, so nobody can sit in between. Without either, only this machine may
//! link, or whoever the operator trusts in so many words.

use super::certificates::{self, Certificates};
use super::introduction::Introduction;
use super::preface::{self, Channel, PrefaceError};
use super::proof::{ClusterKey, EXPORTER_LABEL, SESSION_BYTES};
use super::settings::{Settings, Trust};
use anyhow::Context;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::either::Either;

/// What both ends are told where only one of them can prove anything.
const UNLIKE: &str =
    "one node has a cluster key or certificates and the other has neither; give all the same";

/// A connection, protected or not.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How this node protects connections.
pub(super) struct Security {
    key: Option<ClusterKey>,
    tls: Option<Tls>,
    trust: Trust,
}

/// Both roles of TLS.
struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    /// Whether certificates prove names.
    named: bool,
}

/// A connection that may carry messages, and what its ends have to prove over it.
pub(super) struct Open {
    stream: Stream,
    session: Option<[u8; SESSION_BYTES]>,
    certificate: Option<CertificateDer<'static>>,
}

/// What is known of a connection's ends before anything was said.
pub(super) struct Ends {
    /// The TLS session's secret.
    pub(super) session: Option<[u8; SESSION_BYTES]>,
    /// The other end's certificate, where certificates prove names.
    certificate: Option<CertificateDer<'static>>,
}

/// Why a connection could not be protected.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    /// See there.
    #[error(transparent)]
    Preface(#[from] PrefaceError),
    /// This node's settings do not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// The TLS handshake failed.
    #[error("no TLS session: {0}")]
    Tls(io::Error),
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Security {
    /// Reads certificates, or makes one, as the settings say.
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Security> {
        let tls = match (&settings.certificates, &settings.key) {
            (Some(files), _) => {
                let certificates = Certificates::read(files)?;
                Some(Tls::new(&certificates, true)?)
            }
            (None, Some(_)) => {
                let certificates = Certificates::make().context("cannot make a certificate")?;
                Some(Tls::new(&certificates, false)?)
            }
            (None, None) => None,
        };
        let key = settings.key.clone().map(ClusterKey::new);
        Ok(Security { key, tls, trust: settings.trust })
    }

    /// The cluster's key, where there is one.
    pub(super) fn key(&self) -> Option<&ClusterKey> {
        self.key.as_ref()
    }

    /// The word for it in a log.
    pub(super) fn as_str(&self) -> &'static str {
        match (&self.tls, &self.key) {
            (Some(tls), Some(_)) if tls.named => "certificates and key",
            (Some(tls), None) if tls.named => "certificates",
            (Some(_), _) => "key",
            (None, _) => "none",
        }
    }

    /// Protects a connection that this node opened.
    pub(super) async fn dial(&self, mut stream: TcpStream) -> Result<Open, ChannelError> {
        let address = stream.peer_addr().map_err(PrefaceError::Lost)?;
        let Some(tls) = &self.tls else {
            if let Err(reason) = self.allows_plain(address) {
                return Err(ChannelError::Forbidden(reason));
            }
            preface::dial(&mut stream, Channel::Plain).await?;
            return Ok(Open::plain(stream));
        };
        preface::dial(&mut stream, Channel::Tls).await?;
        // Certificates name nodes, and which node it is turns out later: no name is sent or checked.
        let name = ServerName::from(address.ip());
        let stream = tls.connector.connect(name, stream).await.map_err(ChannelError::Tls)?;
        let session =
            stream.get_ref().1.export_keying_material([0; SESSION_BYTES], EXPORTER_LABEL, None);
        Open::tls(stream.into(), session, tls)
    }

    /// Protects a connection that another opened.
    pub(super) async fn accept(&self, mut stream: TcpStream) -> Result<Open, ChannelError> {
        let address = stream.peer_addr().map_err(PrefaceError::Lost)?;
        let judge = |channel| match (channel, &self.tls) {
            (Channel::Plain, None) => self.allows_plain(address),
            (Channel::Tls, Some(_)) => Ok(()),
            (Channel::Plain, Some(_)) | (Channel::Tls, None) => Err(UNLIKE.to_owned()),
        };
        preface::accept(&mut stream, judge).await?;
        let Some(tls) = &self.tls else { return Ok(Open::plain(stream)) };
        let stream = tls.acceptor.accept(stream).await.map_err(ChannelError::Tls)?;
        let session =
            stream.get_ref().1.export_keying_material([0; SESSION_BYTES], EXPORTER_LABEL, None);
        Open::tls(stream.into(), session, tls)
    }

    /// Whether a connection to or from `address` may do without protection.
    fn allows_plain(&self, address: SocketAddr) -> Result<(), String> {
        match self.trust {
            Trust::Everyone => Ok(()),
            Trust::ThisMachine if address.ip().to_canonical().is_loopback() => Ok(()),
            Trust::ThisMachine => {
                Err("two nodes on different machines prove who they are: give both a \
                 --cluster-key-file or certificates, or --insecure if the network is trusted"
                    .to_owned())
            }
        }
    }
}

impl Tls {
    fn new(certificates: &Certificates, named: bool) -> anyhow::Result<Tls> {
        let connector = TlsConnector::from(Arc::new(certificates.client()?));
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server()?));
        Ok(Tls { connector, acceptor, named })
    }
}

impl Open {
    fn plain(stream: TcpStream) -> Open {
        Open { stream: Either::Left(stream), session: None, certificate: None }
    }

    fn tls(
        stream: TlsStream<TcpStream>,
        session: Result<[u8; SESSION_BYTES], rustls::Error>,
        tls: &Tls,
    ) -> Result<Open, ChannelError> {
        let session = session.map_err(|error| ChannelError::Tls(io::Error::other(error)))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.filter(|_| tls.named).map(|first| first.clone().into_owned());
        if tls.named && certificate.is_none() {
            return Err(ChannelError::Tls(io::Error::other("the other end has no certificate")));
        }
        Ok(Open { stream: Either::Right(Box::new(stream)), session: Some(session), certificate })
    }

    /// The connection, and what remains to be known of it.
    pub(super) fn into_parts(self) -> (Stream, Ends) {
        (self.stream, Ends { session: self.session, certificate: self.certificate })
    }
}

impl Ends {
    /// Says why the other end's certificate does not carry the name that it gave.
    pub(super) fn judge(&self, introduction: &Introduction) -> Result<(), String> {
        match &self.certificate {
            Some(certificate) => certificates::names(certificate, introduction),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
