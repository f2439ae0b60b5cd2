//! How the node connects as a client, and whose certificates it then believes.

use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Connections that TLS may go over, and that stand within `wait`.
pub(crate) fn tcp(wait: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(wait));
    tcp.set_nodelay(true);
    tcp
}

/// Believes whom the machine believes. Its certificates are read once, which takes milliseconds.
///
/// # Errors
///
/// The machine has none.
pub(crate) fn trusting_the_system() -> io::Result<ClientConfig> {
    static READ: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = READ.get() {
        return Ok(config.clone());
    }
    let config = finish(builder().with_native_roots()?);
    Ok(READ.get_or_init(|| config).clone())
}

/// Believes nobody: for servers without TLS.
pub(crate) fn trusting_nobody() -> ClientConfig {
    finish(builder().with_root_certificates(RootCertStore::empty()))
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    versions.expect("ring knows the versions that rustls has")
}

fn finish(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig {
    builder.with_no_client_auth()
}
