//! What a route changes in the messages that go through it, and that the cache stays right.

use super::origin::{Act, Message, Origin, ask, node_before, response};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");

fn is_hit(answer: &Message) -> bool {
    answer.field("cache-status").contains("; hit")
}

#[test]
fn a_cookie_that_is_dropped_neither_reaches_the_upstream_nor_makes_variants() {
    let origin = Origin::start(|_, _| {
        let fields = [FRESH, ("Vary", "Cookie")];
        Act::Send(response(200, &fields, "page"))
    });
    let node = node_before(&origin, "drop_cookies = [\"_ga*\", \"seen\"]");
    let cookies = ["", "_ga=1; seen=2", "_gat=9", "seen=3"];
    for (number, cookie) in cookies.into_iter().enumerate() {
        let fields: &[_] = if cookie.is_empty() { &[] } else { &[("Cookie", cookie)] };
        let answer = ask(&node, "GET", "/a", fields);
        assert_eq!(is_hit(&answer), number > 0, "{cookie:?}: {answer:?}");
    }
    let answer = ask(&node, "GET", "/a", &[("Cookie", "_ga=1; user=7")]);
    assert!(!is_hit(&answer), "another user is another variant");
    assert!(is_hit(&ask(&node, "GET", "/a", &[("Cookie", "user=7; _ga=2")])));
    let seen: Vec<_> = origin.seen("/a").iter().map(|request| request.field("cookie")).collect();
    assert_eq!(seen, ["", "user=7"]);
}

#[test]
fn fields_are_changed_on_the_way_there_and_back_and_what_is_stored_has_them() {
    let origin = Origin::start(|request, _| {
        let fields = [("Server", "secret/1.0"), ("ETag", "\"a\""), ("Link", "</a>")];
        match request.field("if-none-match").as_str() {
            "" => Act::Send(response(200, &fields, "page")),
            _ => Act::Send(response(304, &fields[1..2], "")),
        }
    });
    let node = node_before(
        &origin,
        "request_headers = { set = { X-Edge = \"1\", Via = \"edge\" }, remove = [\"Authorization\"] }\n\
         [route.response_headers]\nremove = [\"Server\"]\nadd = { Link = \"</b>\" }\n\
         set = { \"Atoll-Cache-Control\" = \"max-age=60\", Vary = \"X-Edge\" }",
    );
    for number in 0..3 {
        // Credentials that the upstream does not see do not keep others from its answer.
        let user = format!("Basic {number}");
        let answer = ask(&node, "GET", "/a", &[("Authorization", &user), ("X-Edge", &user)]);
        assert_eq!(is_hit(&answer), number > 0, "{answer:?}");
        assert_eq!(answer.field("link"), "</a>, </b>");
        assert_eq!((answer.field("server"), answer.text()), (String::new(), "page".into()));
    }
    // Validated: the lines that were added stay what they are.
    let answer = ask(&node, "GET", "/a", &[("Cache-Control", "no-cache")]);
    assert!(answer.field("cache-status").contains("fwd-status=304"), "{answer:?}");
    assert_eq!(answer.field("link"), "</a>, </b>");
    let seen = origin.seen("/a");
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].field("x-edge"), seen[0].field("via"), seen[0].field("authorization")),
        ("1".to_owned(), "edge".to_owned(), String::new())
    );
    assert_eq!(seen[1].field("if-none-match"), "\"a\"");
}

#[test]
fn a_rewritten_path_is_the_upstreams_and_keys_and_purges_are_about_the_clients() {
    let origin = Origin::start(|request, _| {
        let fields: &[_] = match request.start.starts_with("POST") {
            true => &[("Location", "/v2/b")],
            false => &[FRESH],
        };
        Act::Send(response(200, fields, request.path()))
    });
    let node = node_before(&origin, "strip_prefix = \"/shop\"\nadd_prefix = \"/v2\"");
    for number in 0..2 {
        let answer = ask(&node, "GET", "/shop/b?c=/shop", &[]);
        assert_eq!((answer.text().as_str(), is_hit(&answer)), ("/v2/b?c=/shop", number > 0));
        assert_eq!(is_hit(&ask(&node, "GET", "/shop/b", &[])), number > 0);
    }
    assert_eq!(origin.seen("/v2/b")[0].field("x-forwarded-prefix"), "/shop");
    // What a response names is the upstream's, and takes back what clients know by another name.
    ask(&node, "POST", "/shop/new", &[]);
    assert!(!is_hit(&ask(&node, "GET", "/shop/b", &[])));
    assert!(is_hit(&ask(&node, "GET", "/shop/b?c=/shop", &[])));
    let purge = br#"{"urls": ["http://example.com/shop/b"]}"#;
    assert_eq!(node.http("POST", node.api, "/v1/purge", purge).status, 200);
    assert!(!is_hit(&ask(&node, "GET", "/shop/b", &[])));
}

#[test]
fn one_path_may_stand_for_all() {
    let origin = Origin::start(|request, _| Act::Send(response(200, &[FRESH], request.path())));
    let node = node_before(&origin, "replace_path = \"/index.html\"");
    for path in ["/", "/a/b", "/a?b"] {
        let want = if path.contains('?') { "/index.html?b" } else { "/index.html" };
        assert_eq!(ask(&node, "GET", path, &[]).text(), want);
    }
}

#[test]
fn references_to_what_the_upstream_knows_become_what_the_client_knows() {
    let origin = Origin::start(|request, _| {
        let own = format!("http://{}/v2/made/1", request.field("host"));
        let location = match request.path() {
            "/v2/absolute" => own.as_str(),
            "/v2/other" => "https://other.example/v2/a",
            "/v2/outside" => "/elsewhere",
            "/v2/relative" => "made/1?a#b",
            _ => "/v2/made/1?a#b",
        };
        let prefix = request.field("x-forwarded-prefix");
        let fields = [FRESH, ("Location", location), ("X-Prefix", prefix.as_str())];
        Act::Send(match request.path() {
            "/v2/made/1" => response(200, &[FRESH], "made"),
            _ if request.start.starts_with("POST") => {
                response(201, &[("Location", location), ("Content-Location", location)], "")
            }
            _ => response(302, &fields, ""),
        })
    });
    let prefixes = "strip_prefix = \"/shop\"\nadd_prefix = \"/v2\"\n";
    let plain = node_before(&origin, prefixes);
    let told = ask(&plain, "GET", "/shop/path", &[]);
    assert_eq!(
        (told.field("location"), told.field("x-prefix")),
        ("/v2/made/1?a#b".into(), "/shop".into())
    );
    let rewriting = format!("{prefixes}rewrite_location = true\n");
    let node = node_before(&origin, &rewriting);
    for (path, want) in [
        ("/shop/path", "/shop/made/1?a#b"),
        ("/shop/absolute", "http://example.com/shop/made/1"),
        ("/shop/other", "https://other.example/v2/a"),
        ("/shop/outside", "/elsewhere"),
        ("/shop/relative", "made/1?a#b"),
        ("/path", "/made/1?a#b"),
    ] {
        for number in 0..2 {
            let answer = ask(&node, "GET", path, &[]);
            assert_eq!(answer.field("location"), want, "{path}");
            assert_eq!(answer.field("x-prefix"), "", "it does not name what this node adds");
            assert_eq!((answer.status(), is_hit(&answer)), (302, number > 0), "{path}");
        }
    }
    // What a write says it has changed is what clients have asked for, and no longer stored.
    assert!(!is_hit(&ask(&node, "GET", "/shop/made/1", &[])));
    assert!(is_hit(&ask(&node, "GET", "/shop/made/1", &[])));
    let answer = ask(&node, "POST", "/shop/new", &[]);
    assert_eq!(answer.field("content-location"), "/shop/made/1?a#b");
    ask(&node, "POST", "/shop/absolute", &[]);
    assert!(!is_hit(&ask(&node, "GET", "/shop/made/1", &[])));
    // The upstream's own name is none for clients.
    let node = node_before(&origin, "host = \"upstream\"\nrewrite_location = true\n");
    assert_eq!(ask(&node, "GET", "/v2/absolute", &[]).field("location"), "/v2/made/1");
    assert_eq!(ask(&node, "GET", "/v2/other", &[]).field("location"), "https://other.example/v2/a");
}
