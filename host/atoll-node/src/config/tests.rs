//! What a start-up refuses, and what it says then.

use super::*;
use crate::replication::endpoint::Endpoint;
use atoll_core::permission::StaleReads;
use atoll_core::replica::status::Role;

fn with(change: impl FnOnce(&mut FileConfig)) -> anyhow::Result<Config> {
    let mut values = FileConfig::default();
    change(&mut values);
    Config::resolve(values)
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut FileConfig), want: &str) {
    let error = with(change).expect_err("should be refused");
    let text = format!("{error:#}");
    assert!(text.contains(want), "{text:?} should contain {want:?}");
}

#[test]
fn the_defaults_are_loopback_only() {
    let config = with(|_| ()).expect("the defaults start");
    for address in [config.gateway, config.api, config.resp] {
        assert!(address.is_some_and(|address| address.ip().is_loopback()));
    }
    assert!(config.memory_bytes_max > 0 && config.resp_threads > 0);
}

#[test]
fn a_door_to_the_outside_asks_for_a_secret() {
    check_refused(|v| v.api = Some("0.0.0.0:8081".into()), "set ATOLL_API_TOKEN");
    check_refused(|v| v.resp = Some("0.0.0.0:6379".into()), "set ATOLL_RESP_PASSWORD");
    let given = with(|v| {
        v.api = Some("0.0.0.0:8081".into());
        v.api_token = Some(Secret("t".into()));
    });
    assert!(given.is_ok());
    let insecure = with(|v| {
        v.resp = Some("[::]:6379".into());
        v.insecure = Some(true);
    });
    assert!(insecure.is_ok());
    let gateway = with(|v| v.gateway = Some("0.0.0.0:80".into()));
    assert!(gateway.is_ok(), "the gateway is public by design");
}

#[test]
fn links_to_the_outside_ask_for_a_proof() {
    let outside = |v: &mut FileConfig| v.peers_listen = Some("0.0.0.0:7400".into());
    check_refused(outside, "asks peers for no proof; set --cluster-key-file");
    let far = |v: &mut FileConfig| v.peers = Some(vec!["10.0.0.7:7400".into()]);
    check_refused(far, "--peer 10.0.0.7:7400 is another machine");
    for change in [outside, far] {
        let keyed = with(|v| {
            change(v);
            v.cluster_key = Some(Secret("0123456789abcdef".into()));
        });
        assert!(keyed.is_ok());
        let insecure = with(|v| {
            change(v);
            v.insecure = Some(true);
        });
        assert!(insecure.is_ok());
    }
    let near = with(|v| v.peers = Some(vec!["[::1]:7400".into(), "name:7400".into()]));
    assert!(near.is_ok(), "a name is resolved later");
}

#[test]
fn links_are_checked_before_anything_starts() {
    check_refused(|v| v.cluster_key = Some(Secret("short".into())), "at least 16 bytes");
    check_refused(|v| v.peer_ca = Some("ca.pem".into()), "give all three");
    check_refused(|v| v.link_compression = Some("lz4".into()), "write auto, on or off");
    check_refused(|v| v.cluster = Some("a b".into()), "--cluster has");
    check_refused(|v| v.max_skew_ms = Some(0), "--max-skew-ms is from 1");
    let config = with(|_| ()).expect("the defaults start");
    assert!(matches!(config.links.listen, peers::settings::Listen::Offered(_)));
    let asked = with(|v| v.peers_listen = Some("127.0.0.1:7400".into())).expect("a good address");
    assert!(matches!(asked.links.listen, peers::settings::Listen::Asked(_)));
    let off = with(|v| v.peers_listen = Some("off".into())).expect("it may be off");
    assert_eq!(off.links.listen, peers::settings::Listen::Off);
}

#[test]
fn a_mistake_is_answered_with_what_to_write() {
    check_refused(|v| v.api = Some("8081".into()), "write HOST:PORT");
    check_refused(|v| v.memory_max = Some("lots".into()), "write a number");
    check_refused(|v| v.memory_max = Some("99999999999GiB".into()), "is no size");
    check_refused(|v| v.resp_threads = Some(0), "write 1 or more");
    check_refused(|v| v.memory_max = Some("0".into()), "write e.g. 512MiB");
    check_refused(
        |v| {
            (v.gateway, v.api) = (Some("off".into()), Some("off".into()));
            v.resp = Some("off".into());
        },
        "leave one open",
    );
    check_refused(|v| v.log_format = Some("xml".into()), "write text or json");
    check_refused(|v| v.fsync = Some("always".into()), "name one with --data");
    check_refused(|v| v.fsync = Some("often".into()), "write always, everysec or never");
    check_refused(|v| v.on_disk_error = Some("panic".into()), "write refuse or memory");
    check_refused(|v| v.data = Some("".into()), "name a directory");
    check_refused(|v| v.name = Some("a b".into()), "no spaces");
    check_refused(|v| v.role = Some("slave".into()), "write master or replica");
    check_refused(|v| v.serve_stale = Some("maybe".into()), "write yes or no");
    check_refused(|v| v.peers = Some(vec!["10.0.0.7".into()]), "write HOST:PORT");
    check_refused(|v| v.api_token = Some(Secret(String::new())), "leave it out");
    check_refused(
        |v| v.api_token_file = Some("/nonexistent".into()),
        "cannot read --api-token-file",
    );
}

#[test]
fn a_flag_wins_over_the_file() {
    let file =
        FileConfig { name: Some("file".into()), log_max: Some("1MiB".into()), ..<_>::default() };
    let flags = FileConfig { name: Some("flag".into()), ..FileConfig::default() };
    let config = Config::resolve(flags.over(file)).expect("starts");
    assert_eq!((config.name.as_str(), config.log_bytes_max), ("flag", 1 << 20));
}

#[test]
fn what_replication_is_told_is_read() {
    let config = with(|v| {
        v.peers = Some(vec!["a:7400".into(), " dns:b:7400".into()]);
        v.role = Some("replica".into());
        v.serve_stale = Some("no".into());
    });
    let settings = config.expect("starts").replication;
    assert_eq!((settings.role, settings.stale_reads), (Role::Replica, StaleReads::Refused));
    let peers: Vec<_> = settings.peers.iter().map(Endpoint::to_string).collect();
    assert_eq!(peers, ["a:7400", "dns:b:7400"]);
}

#[test]
fn a_secret_wins_over_the_other_way_to_give_it_below() {
    let secret = |text: &str| Some(Secret(text.into()));
    let file = FileConfig {
        api_token_file: Some("/nonexistent".into()),
        resp_password: secret("file"),
        ..FileConfig::default()
    };
    let flags = FileConfig { api_token: secret("flag"), ..FileConfig::default() };
    let config = Config::resolve(flags.over(file.clone())).expect("the file is not read");
    assert_eq!((config.api_token, config.resp_password), (secret("flag"), secret("file")));
    let flags = FileConfig { resp_password_file: Some("/none".into()), ..FileConfig::default() };
    let error = Config::resolve(flags.over(file)).expect_err("nothing is there");
    assert!(format!("{error:#}").contains("cannot read"), "{error:#}");
}

#[test]
fn an_unknown_name_in_the_file_is_refused() {
    let error = toml::from_str::<FileConfig>("gatway = \"x\"").expect_err("should be refused");
    assert!(error.to_string().contains("gatway"), "{error}");
}

#[test]
fn a_secret_never_shows() {
    assert_eq!(format!("{:?}", Secret("hunter2".into())), "***");
}

#[test]
fn compiled_handlers_are_kept_beside_the_data_unless_told_otherwise() {
    let kept = |change: fn(&mut FileConfig)| {
        let config = with(change).expect("it starts");
        config.code_cache.map(|kept| (kept.directory.display().to_string(), kept.bytes_max))
    };
    assert_eq!(kept(|_| ()), None);
    let beside = Some(("/d/compiled".to_owned(), 1 << 30));
    assert_eq!(kept(|v| v.data = Some("/d".into())), beside);
    let apart = |v: &mut FileConfig| {
        v.code_cache = Some("/c".into());
        v.code_cache_max = Some("1MiB".into());
    };
    assert_eq!(kept(apart), Some(("/c".to_owned(), 1 << 20)));
    let off = |v: &mut FileConfig| {
        v.data = Some("/d".into());
        v.code_cache = Some("off".into());
    };
    assert_eq!(kept(off), None);
    check_refused(|v| v.code_cache = Some("".into()), "--code-cache is empty");
    check_refused(|v| v.code_cache_max = Some("much".into()), "--code-cache-max");
}
