//! TLS between two ends, by key and by certificate.

use super::*;
use crate::peers::introduction::Purpose;
use crate::peers::settings::{CertificateFiles, Compression, Listen};
use atoll_core::wire::frame::VERSIONS;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use std::path::Path;
use tokio::net::TcpListener;
use uuid::Uuid;

fn settings() -> Settings {
    Settings {
        listen: Listen::Off,
        cluster: "atoll".to_owned(),
        log_bytes_max: 1 << 20,
        max_skew_ms: 2_000,
        key: None,
        certificates: None,
        trust: Trust::ThisMachine,
        compression: Compression::Auto,
    }
}

fn with_key() -> Settings {
    Settings { key: "a key of sixteen or more".parse().ok(), ..settings() }
}

/// Connects two ends on this machine.
async fn connect(dialler: &Settings, accepter: &Settings) -> [Result<Open, ChannelError>; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let [dialler, accepter] =
        [dialler, accepter].map(|settings| Security::new(settings).expect("it can be set up"));
    let dial = async {
        let stream = TcpStream::connect(address).await.expect("it listens");
        dialler.dial(stream).await
    };
    let accept = async {
        let (stream, _) = listener.accept().await.expect("somebody dials");
        accepter.accept(stream).await
    };
    let (dialled, accepted) = tokio::join!(dial, accept);
    [dialled, accepted]
}

fn session(open: Result<Open, ChannelError>) -> Option<[u8; SESSION_BYTES]> {
    open.map_err(|error| error.to_string()).expect("a channel").session
}

#[tokio::test]
async fn a_key_makes_a_session_that_both_ends_can_name() {
    let [one, two] = connect(&with_key(), &with_key()).await.map(session);
    assert!(one.is_some() && one == two);
    let [other, _] = connect(&with_key(), &with_key()).await.map(session);
    assert_ne!(one, other, "another session has another secret");
    let [one, two] = connect(&settings(), &settings()).await.map(session);
    assert_eq!((one, two), (None, None), "on one machine nothing is asked for");
}

#[tokio::test]
async fn ends_of_which_one_can_prove_nothing_are_both_told() {
    for (dialler, accepter) in [(with_key(), settings()), (settings(), with_key())] {
        for result in connect(&dialler, &accepter).await {
            let error = result.map(|_| ()).expect_err("they do not fit").to_string();
            assert_eq!(error, UNLIKE);
        }
    }
}

#[test]
fn only_this_machine_or_the_trusted_do_without_a_proof() {
    let check = |trust, address: &str, want: bool| {
        let security = Security::new(&Settings { trust, ..settings() }).expect("nothing to set up");
        let allowed = security.allows_plain(address.parse().expect("an address"));
        assert_eq!(allowed.is_ok(), want, "{trust:?} {address}");
    };
    check(Trust::ThisMachine, "127.0.0.1:1", true);
    check(Trust::ThisMachine, "[::1]:1", true);
    check(Trust::ThisMachine, "[::ffff:127.0.0.1]:1", true);
    check(Trust::ThisMachine, "10.0.0.1:1", false);
    check(Trust::ThisMachine, "[fdaa::1]:1", false);
    check(Trust::Everyone, "10.0.0.1:1", true);
}

/// Who signs, and where its files are.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Authority { issuer, folder: tempfile::tempdir().expect("a folder") }
    }

    fn settings(&self, file: &str, names: Vec<SanType>) -> Settings {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let write = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).expect("a file can be written");
            path
        };
        let files = CertificateFiles {
            ca: write("ca.pem", &self.issuer.pem()),
            certificate: write(&format!("{file}.pem"), &signed.pem()),
            key: write(&format!("{file}.key"), &key.serialize_pem()),
        };
        Settings { certificates: Some(files), ..settings() }
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a name"))
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("a URI"))
}

fn introduction(name: &str) -> Introduction {
    Introduction {
        versions: VERSIONS,
        cluster: "atoll".to_owned(),
        name: name.to_owned(),
        origin: Uuid::nil(),
        nonce: [0; 32],
        purpose: Purpose::Link,
        reads_zstd: false,
    }
}

#[tokio::test]
async fn a_certificate_stands_for_the_names_in_it_and_no_other() {
    let authority = Authority::new();
    let names = vec![dns("Lisbon"), uri("atoll://atoll/node_7"), uri("atoll://other/porto")];
    let (one, two) =
        (authority.settings("one", names), authority.settings("two", vec![dns("faro")]));
    for open in connect(&one, &two).await.into_iter().enumerate() {
        let (index, open) = open;
        let open = open.map_err(|error| error.to_string()).expect("a channel");
        let (_, ends) = open.into_parts();
        let is_judged_well = |name: &str| ends.judge(&introduction(name)).is_ok();
        let names = ["lisbon", "node_7", "porto", "faro", "lisbon.example"];
        let want: &[&str] = if index == 0 { &["faro"] } else { &["lisbon", "node_7"] };
        let got: Vec<&str> = names.into_iter().filter(|name| is_judged_well(name)).collect();
        assert_eq!(got, want);
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_worth_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let one = ours.settings("one", vec![dns("one")]);
    let two = theirs.settings("two", vec![dns("two")]);
    for result in connect(&one, &two).await {
        let error = result.map(|_| ()).expect_err("nobody vouches for it");
        assert!(matches!(error, ChannelError::Tls(_)), "{error}");
    }
    // A key alone is no certificate.
    let [dialled, accepted] = connect(&with_key(), &one).await;
    assert!(accepted.is_err(), "it shows none");
    drop(dialled);
}

#[test]
fn files_that_are_none_are_named() {
    let authority = Authority::new();
    let good = authority.settings("one", vec![dns("one")]);
    let check = |change: fn(&mut CertificateFiles, &Path), want: &str| {
        let mut files = good.certificates.clone().expect("it has some");
        change(&mut files, authority.folder.path());
        let error = Security::new(&Settings { certificates: Some(files), ..settings() });
        let error = format!("{:#}", error.expect_err("it cannot be set up"));
        assert!(error.contains(want), "{error:?} should contain {want:?}");
    };
    check(|files, folder| files.ca = folder.join("none"), "cannot read --peer-ca");
    check(|files, folder| files.certificate = folder.join("none"), "cannot read --peer-cert");
    check(|files, folder| files.key = folder.join("none"), "cannot read --peer-key");
    check(|files, folder| files.ca = folder.join("one.key"), "holds no certificate");
    authority.settings("two", vec![dns("two")]);
    check(
        |files, folder| files.key = folder.join("two.key"),
        "--peer-key does not fit --peer-cert",
    );
}
