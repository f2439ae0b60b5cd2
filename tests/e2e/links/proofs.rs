//! Who may link: names, clusters, keys, certificates, and what both sides are told.

use crate::cluster::{Cluster, Shape};
use crate::node::wait_until;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use std::path::{Path, PathBuf};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Starts a pair whose nodes must not link; both have to say why, in the words given.
#[track_caller]
fn check_refused(flags: [&str; 2], want: &str) {
    let cluster = Cluster::start_unlinked(Shape::Pair, |index| words(flags[index]));
    for index in cluster.up() {
        cluster.node(index).wait_for_log(want);
        let told = wait_until("the status says why", || {
            let view = cluster.view(index);
            let peer = &view["replication"]["peers"][0];
            let reason = peer["reason"].as_str()?.to_owned();
            (peer["state"] == "refused").then_some(reason)
        });
        assert!(told.contains(want), "{told:?} should contain {want:?}");
    }
    assert_eq!(cluster.command(0, &["SET", "k", "v"]), "+OK");
    assert_eq!(cluster.command(1, &["GET", "k"]), "$-1");
    let dials: u64 = cluster.network().map(|proxy| proxy.connections()).sum();
    assert!(dials <= 6, "people have something to do first, but {dials} dials were made");
    for index in cluster.up() {
        let log = cluster.node(index).log();
        let count = log.lines().filter(|line| line.contains(want)).count();
        // Once as the one that dials and once as the one that is dialled.
        assert!(count <= 2, "said once, not with each attempt: {log}");
    }
    assert!(!cluster.node(1).log().contains("link is up"));
}

fn key_file(folder: &Path, key: &str) -> String {
    let path = folder.join(key);
    std::fs::write(&path, format!("{key}\n")).expect("a file can be written");
    format!("--cluster-key-file {}", path.display())
}

#[test]
fn two_nodes_of_one_name_are_refused() {
    let want = "two processes are named \"same\"; give each node a --name of its own";
    check_refused(["--name same"; 2], want);
}

#[test]
fn nodes_of_two_clusters_are_refused() {
    check_refused(["--cluster one", "--cluster two"], "--cluster says which");
}

#[test]
fn nodes_with_two_keys_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["one-secret-of-many-bytes", "two-secret-of-many-bytes"];
    let [one, two] = flags.map(|key| key_file(folder.path(), key));
    check_refused([&one, &two], "the two nodes have different cluster keys");
}

#[test]
fn a_node_without_the_key_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = key_file(folder.path(), "one-secret-of-many-bytes");
    check_refused([&with, ""], "the other has neither");
}

#[track_caller]
fn check_linked(flags: impl Fn(usize) -> Vec<String>) -> Cluster {
    let cluster = Cluster::start_with(Shape::Pair, flags);
    assert_eq!(cluster.command(0, &["SET", "k", "v"]), "+OK");
    cluster.wait_for(1, &["GET", "k"], "$v");
    let large = "x".repeat(3 << 20);
    assert_eq!(cluster.command(1, &["SET", "large", &large]), "+OK");
    cluster.wait_for(0, &["STRLEN", "large"], &format!(":{}", large.len()));
    cluster
}

#[test]
fn nodes_with_one_key_are_linked_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = key_file(folder.path(), "one-secret-of-many-bytes");
    check_linked(|_| words(&flags));
}

#[test]
fn compressed_links_carry_fewer_bytes() {
    let plain = check_linked(|_| words("--link-compression off")).bytes();
    let squeezed = check_linked(|_| words("--link-compression on")).bytes();
    assert!(squeezed < plain / 10, "{squeezed} of {plain} bytes");
    let one_side = |index| words(["--link-compression on", "--link-compression off"][index]);
    check_linked(one_side);
}

/// A certificate authority, as files.
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
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority { issuer, folder };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Flags of a node whose certificate carries `name`.
    fn flags(&self, name: SanType) -> Vec<String> {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.subject_alt_names = vec![name];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let number = std::fs::read_dir(self.folder.path()).expect("a folder").count();
        let certificate = self.write(&format!("{number}.pem"), &certificate.pem());
        let key = self.write(&format!("{number}.key"), &key.serialize_pem());
        let ca = self.folder.path().join("ca.pem");
        let flag = |flag: &str, path: &Path| [flag.to_owned(), path.display().to_string()];
        [flag("--peer-ca", &ca), flag("--peer-cert", &certificate), flag("--peer-key", &key)]
            .concat()
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a name"))
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("a URI"))
}

#[test]
fn nodes_with_certificates_are_linked() {
    let authority = Authority::new();
    check_linked(|index| match index {
        0 => authority.flags(dns("n0")),
        _ => authority.flags(uri("atoll://atoll/n1")),
    });
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let authority = Authority::new();
    let cluster = Cluster::start_unlinked(Shape::Star(2), |index| match index {
        0 => authority.flags(dns("n0")),
        _ => authority.flags(uri("atoll://another/n1")),
    });
    for index in cluster.up() {
        cluster.node(index).wait_for_log("the certificate of node \"n1\" does not name it");
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let cluster = Cluster::start_unlinked(Shape::Pair, |index| match index {
        0 => authority.flags(dns("n0")),
        _ => other.flags(dns("n1")),
    });
    for index in cluster.up() {
        cluster.node(index).wait_for_log("no TLS session");
        assert!(!cluster.node(index).log().contains("link is up"));
    }
}
