//! Upstreams over TLS, with HTTP/1.1 and HTTP/2.

use super::origin::{Message, ask, ask_with_body};
use crate::node::{TestNode, wait_until};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A server named `localhost`, and the authority that vouches for it.
pub(crate) struct Secure {
    pub(crate) port: u16,
    authority: tempfile::NamedTempFile,
    _runtime: Runtime,
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let host = match parts.uri.authority() {
        Some(authority) => authority.to_string(),
        None => format!("{:?}", parts.headers.get("host")),
    };
    let sent = body.collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
    let text = format!("{:?} {host} {sent}", parts.version);
    let response = Response::builder().header("cache-control", "max-age=60");
    Ok(response.body(Full::from(text)).expect("a response"))
}

impl Secure {
    /// One that says what it was asked.
    fn start() -> Secure {
        Secure::serving(&["h2", "http/1.1"], |stream| async {
            let server = auto::Builder::new(TokioExecutor::new());
            let service = service_fn(answer);
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        })
    }

    /// One that offers these protocols and deals with each connection by `serve`.
    pub(crate) fn serving<F, A>(protocols: &[&str], serve: F) -> Secure
    where
        F: Fn(TlsStream<TcpStream>) -> A + Clone + Send + 'static,
        A: Future<Output = ()> + Send,
    {
        let key = || KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let own = key();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&own, &issuer).expect("a certificate");
        let authority = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(authority.path(), issuer.pem()).expect("the file is written");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(own.serialize_der().into()),
            )
            .expect("key and certificate belong together");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, serve) = (acceptor.clone(), serve.clone());
                tokio::spawn(async move {
                    // One that does not trust us is the client's affair.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream).await;
                    }
                });
            }
        });
        Secure { port, authority, _runtime: runtime }
    }

    /// A node with one cached route to it, and more lines for that route.
    pub(crate) fn node(&self, more: &str) -> TestNode {
        self.node_that_trusts(self.authority.path().to_str().expect("a path"), more)
    }

    fn node_that_trusts(&self, authorities: &str, more: &str) -> TestNode {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let route = format!(
            "[[route]]\npath = \"/*\"\nupstream = \"https://localhost:{}\"\ncache = true\n{more}\n",
            self.port
        );
        std::fs::write(file.path(), route).expect("the file is written");
        let trust = ("SSL_CERT_FILE".to_owned(), authorities.to_owned());
        let path = file.path().to_str().expect("a path").to_owned();
        TestNode::start_in(&[trust], &["--config", &path])
    }
}

#[track_caller]
fn check(answer: &Message, want: &str, cache_status: &str) {
    assert_eq!((answer.status(), answer.text().as_str()), (200, want), "{answer:?}");
    assert!(answer.field("cache-status").contains(cache_status), "{answer:?}");
}

/// The answer may still be on its way into the cache when the client has it.
#[track_caller]
fn check_stored(node: &TestNode, want: &str) {
    wait_until("it is stored", || {
        let answer = ask(node, "GET", "/a", &[]);
        assert_eq!(answer.text(), want, "{answer:?}");
        answer.field("cache-status").contains("hit").then_some(())
    });
}

#[test]
fn an_upstream_over_tls_speaks_http_2_under_its_own_name_and_http_1_under_the_clients() {
    let upstream = Secure::start();
    let node = upstream.node("host = \"upstream\"");
    let want = |sent: usize| format!("HTTP/2.0 localhost:{} {sent}", upstream.port);
    check(&ask(&node, "GET", "/a", &[]), &want(0), "fwd=uri-miss");
    check_stored(&node, &want(0));
    check(&ask_with_body(&node, ("POST", "/a"), &[], "hello"), &want(5), "fwd=method");
    let node = upstream.node("");
    let want = "HTTP/1.1 Some(\"example.com\") 0";
    check(&ask(&node, "GET", "/a", &[]), want, "fwd=uri-miss");
    check_stored(&node, want);
}

#[test]
fn an_upstream_whose_certificate_nobody_vouches_for_is_not_believed() {
    let (upstream, other) = (Secure::start(), Secure::start());
    // Over HTTP/1.1, and where both are offered.
    for more in ["", "host = \"upstream\""] {
        let authorities = other.authority.path().to_str().expect("a path");
        let node = upstream.node_that_trusts(authorities, more);
        let answer = ask(&node, "GET", "/a", &[]);
        assert_eq!(answer.status(), 502, "{answer:?}");
        assert!(answer.text().contains("upstream-certificate"), "{answer:?}");
        node.wait_for_log("the upstream's certificate is not accepted");
    }
}
