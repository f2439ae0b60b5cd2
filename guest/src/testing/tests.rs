//! The node in memory keeps to the rules of a real one.

use super::*;
use crate::kv::{self, Error, SetOptions};
use crate::{clock, config, log, random};

fn set_with(key: &str, options: SetOptions) -> Result<String, Error> {
    kv::open("default")?.set_with(key, "x", options)
}

#[test]
fn what_has_a_lifetime_ends_when_the_tests_clock_says_so() {
    let node = Node::start();
    let minute = Duration::from_secs(60);
    set_with("a", SetOptions::new().ttl(minute)).unwrap();
    node.advance(minute - Duration::from_millis(1));
    assert!(node.bucket("default").exists("a").unwrap());
    node.advance(Duration::from_millis(1));
    assert!(!node.bucket("default").exists("a").unwrap());
    assert!(set_with("a", SetOptions::new().if_absent()).is_ok(), "what has ended is not there");
    assert_eq!(node.bucket("default").keys("").count(), 1);
    assert_eq!(clock::now_ms(), START_MS + 60_000);
}

#[test]
fn what_is_not_granted_is_denied_and_the_text_names_the_grant() {
    let node = Node::start().with_grants(&["kv:shop/cart:=r", "kv:shop/log:=w"]);
    let denied = |text: &str| Error::Denied(text.to_owned());
    assert_eq!(kv::open("default").unwrap_err(), denied("kv:default=r is not granted"));
    let shop = kv::open("shop").unwrap();
    assert_eq!(shop.get("price:1"), Err(denied("kv:shop/price:1=r is not granted")));
    assert_eq!(shop.set("cart:1", "x"), Err(denied("kv:shop/cart:1=w is not granted")));
    let conditional = shop.set_with("log:1", "x", SetOptions::new().if_absent());
    assert_eq!(conditional, Err(denied("kv:shop/log:1=r is not granted")));
    shop.set("log:1", "x").unwrap();
    assert_eq!(shop.delete("log:1"), Ok(false), "who may not read is not told");
    assert_eq!(shop.keys("price:").next(), Some(Err(denied("kv:shop/price:=r is not granted"))));
    let whole = node.bucket("shop");
    whole.set("cart:1", "x").unwrap();
    whole.set("price:1", "x").unwrap();
    assert_eq!(shop.keys("").collect::<Result<Vec<_>, _>>().unwrap(), ["cart:1"]);
}

#[test]
fn many_keys_come_in_pages_and_none_twice() {
    let node = Node::start();
    let bucket = node.bucket("default");
    for number in 0..2_500 {
        bucket.set(&format!("k:{number}"), "").unwrap();
    }
    bucket.set("l", "").unwrap();
    let keys: Vec<_> = bucket.keys("k:").collect::<Result<_, _>>().unwrap();
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!((keys.len(), distinct.len()), (2_500, 2_500));
}

#[test]
fn arguments_without_sense_are_refused_as_on_a_node() {
    let node = Node::start();
    let bucket = node.bucket("default");
    assert!(matches!(bucket.set(&"k".repeat(1_025), ""), Err(Error::TooLarge(_))));
    assert!(matches!(bucket.set("", ""), Err(Error::Invalid(_))));
    assert!(matches!(kv::open("a/b"), Err(Error::Invalid(_))));
    bucket.set("n", i64::MAX.to_string()).unwrap();
    assert!(matches!(bucket.increment("n", 1), Err(Error::Invalid(_))));
    bucket.set("n", "007").unwrap();
    assert_eq!(bucket.increment("n", 1), Err(Error::WrongType));
}

#[test]
fn the_log_has_levels_and_the_bounds_of_a_node() {
    let node = Node::start();
    let talk = |_: Request| {
        log::warn("é".repeat(LOG_LINE_BYTES_MAX));
        (0..LOG_LINES_MAX).for_each(|number| log::info(format!("line {number}")));
        Response::new(204)
    };
    node.run(talk, Request::new("GET", "/"));
    let lines = node.log();
    assert_eq!((lines.len(), lines[1].as_str()), (LOG_LINES_MAX, "info line 0"));
    assert_eq!(lines[0].len(), "warn ".len() + LOG_LINE_BYTES_MAX);
    node.run(talk, Request::new("GET", "/"));
    assert_eq!(node.log().len(), 2 * LOG_LINES_MAX, "the bound is one request's");
}

#[test]
fn an_error_is_answered_and_logged() {
    let node = Node::start().with_grants(&[]);
    let handle = |_: Request| kv::open("default").map(|_| "never");
    assert_eq!(node.run(handle, Request::new("GET", "/")).status_code(), 500);
    assert_eq!(node.log(), ["error kv: denied: kv:default=r is not granted"]);
}

#[test]
#[should_panic(expected = "a control character in its value")]
fn an_answer_that_a_node_would_refuse_fails_the_test() {
    let inject = |_: Request| Response::new(200).header("x", "a\r\nset-cookie: b");
    Node::start().run(inject, Request::new("GET", "/"));
}

#[test]
#[should_panic(expected = "begin the test with")]
fn without_a_node_a_call_says_what_is_missing() {
    clock::now_ms();
}

#[test]
fn settings_are_those_that_were_given_and_dice_fall_the_same_each_time() {
    let node = Node::start().with_config("theme", "dark");
    assert_eq!((config::get("theme").as_deref(), config::get("x")), (Some("dark"), None));
    let first = (random::number(), random::bytes(11));
    drop(node);
    let _node = Node::start();
    assert_eq!((random::number(), random::bytes(11)), first);
    assert_eq!(first.1.len(), 11);
}

#[test]
fn a_secret_is_given_to_whom_it_was_granted() {
    let _node = Node::start().with_secret("token", Some(b"abc")).with_secret("unset", None);
    assert_eq!(crate::secret::text("token"), Ok(Some("abc".to_owned())));
    assert_eq!(crate::secret::get("unset"), Ok(None));
    let denied = crate::secret::Error::Denied(
        "secret:other is not granted; deploy the handler with --grant secret:other".to_owned(),
    );
    assert_eq!(crate::secret::get("other"), Err(denied));
}

#[test]
fn hosts_are_reached_as_far_as_granted_and_so_often() {
    let node = Node::start()
        .with_grants(&["http:a.example", "http:*.b.example:8000"])
        .with_upstream("http://a.example", |_| fetch::Incoming::new(404))
        .with_upstream("http://x.b.example:8000", |request| {
            assert_eq!((request.method(), request.body_bytes()), ("POST", &b"body"[..]));
            fetch::Incoming::new(200)
        })
        .with_upstream("http://c.example", |_| fetch::Incoming::new(200));
    let status = |url: &str| fetch::get(url).send().map(|answer| answer.status());
    assert_eq!(
        status("http://a.example:80/x"),
        Err(fetch::Error::HostNotFound("the test has no http://a.example:80".to_owned()))
    );
    assert_eq!(status("http://a.example/x"), Ok(404));
    let posted = fetch::Outgoing::new("POST", "http://x.b.example:8000?q").body("body").send();
    assert_eq!(posted.map(|answer| answer.status()), Ok(200));
    let denied = "http:c.example is not granted; deploy the handler with --grant http:c.example";
    assert_eq!(status("http://c.example/"), Err(fetch::Error::Denied(denied.to_owned())));
    assert!(matches!(status("http://b.example:8000/"), Err(fetch::Error::Denied(_))));
    assert!(matches!(status("https://a.example/"), Err(fetch::Error::HostNotFound(_))));
    assert!(matches!(status("/x"), Err(fetch::Error::Invalid(_))));
    let flood = |_: Request| {
        let sent = (0..70).take_while(|_| fetch::get("http://a.example/").send().is_ok()).count();
        Response::text(sent.to_string())
    };
    assert_eq!(node.run(flood, Request::new("GET", "/")).body_text(), "64");
}

#[test]
fn what_is_purged_is_granted_counted_and_told() {
    use crate::cache::{Purge, PurgeError};
    let node = Node::start().with_grants(&[
        "purge:host=*.a.example",
        "purge:prefix=/news/",
        "purge:tag=x",
        "purge:tag=y-*",
    ]);
    let denied = |grant: &str| {
        let text = format!("{grant} is not granted; deploy the handler with --grant {grant}");
        Err(PurgeError::Denied(text))
    };
    let many = Purge::new().host("B.a.example:443").url("https://b.a.example?q").url("/news/1");
    assert_eq!(many.clone().tag("x").tag("y-1").soft().send(), Ok(()));
    let told = [
        "soft host B.a.example:443",
        "soft url https://b.a.example?q",
        "soft url /news/1",
        "soft tag x",
        "soft tag y-1",
    ];
    assert_eq!(node.purged(), told);
    assert_eq!(many.all().send(), denied("purge"));
    assert_eq!(Purge::new().host("a.example").send(), denied("purge:host=a.example"));
    assert_eq!(Purge::new().url("http://c.example?q").send(), denied("purge:prefix=c.example/?q"));
    assert_eq!(Purge::new().tag("y").send(), denied("purge:tag=y"));
    assert!(matches!(Purge::new().send(), Err(PurgeError::Invalid(_))));
    assert!(matches!(Purge::new().url("a b").send(), Err(PurgeError::Invalid(_))));
    assert_eq!(node.purged(), told, "nothing of what was refused is done");
    let flood = |_: Request| {
        let sent = (0..70).take_while(|_| Purge::new().tag("x").send().is_ok()).count();
        Response::text(sent.to_string())
    };
    assert_eq!(node.run(flood, Request::new("GET", "/")).body_text(), "64");
    assert_eq!(node.run(flood, Request::new("GET", "/")).body_text(), "64");
}

#[test]
fn requests_at_once_are_answered_in_their_order_and_counted_each() {
    let node = Node::start()
        .with_grants(&["http:a.example"])
        .with_upstream("http://a.example", |_| fetch::Incoming::new(200))
        .with_upstream("http://b.example", |_| fetch::Incoming::new(200));
    let get = |url: &str| fetch::get(url);
    let answers = fetch::all([get("http://a.example/"), get("http://b.example/"), get("x")]);
    assert!(answers[0].as_ref().is_ok_and(fetch::Incoming::is_success), "{answers:?}");
    assert!(matches!(answers[1], Err(fetch::Error::Denied(_))), "{answers:?}");
    assert!(matches!(answers[2], Err(fetch::Error::Invalid(_))), "{answers:?}");
    let answered = |count: usize| {
        let handle = move |_: Request| {
            let answers = fetch::all((0..count).map(|_| fetch::get("http://a.example/")));
            let answers = answers.into_iter().chain(fetch::all([fetch::get("http://a.example/")]));
            Response::text(answers.flatten().count().to_string())
        };
        node.run(handle, Request::new("GET", "/")).body_text().to_owned()
    };
    // One more is sent afterwards.
    assert_eq!([10, 63, 64, 65].map(answered), ["11", "64", "64", "1"]);
}
