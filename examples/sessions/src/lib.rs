//! Sessions: whoever has logged in is known again on every node, for an hour after the last request.
//!
//! `POST /login` with `{"user":"ada"}` sets a cookie, `GET /me` says who is there, `POST /logout` ends
//! it. A session is the key `session:ID` of the bucket `default`, in JSON: `redis-cli get` reads it.
//! A real shop would check a password at the login, and be reached by https alone.
//!
//! That a session has ended is a key of its own, `logout:ID`. It would not do to delete the session
//! alone: a node that has not heard of it yet writes the session anew with its next request, and the
//! last write of a key wins, everywhere.

use std::time::Duration;

use atoll_guest::kv::{self, SetOptions};
use atoll_guest::{Request, Response, clock, handler, random};
use serde::{Deserialize, Serialize};

const COOKIE: &str = "sid";
/// How long a session lasts after the last request.
const LIFETIME: Duration = Duration::from_secs(3_600);

#[derive(Deserialize)]
struct Login {
    user: String,
}

#[derive(Serialize, Deserialize)]
struct Session {
    user: String,
    since_ms: u64,
    requests: u64,
}

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let last = request.path_segments().last().unwrap_or_default();
    match (request.method(), last.as_ref()) {
        ("POST", "login") => log_in(&request),
        ("POST", "logout") => log_out(&request),
        ("GET", "me") => me(&request),
        _ => Ok(Response::not_found()),
    }
}

fn log_in(request: &Request) -> Result<Response, kv::Error> {
    let login = match request.json::<Login>() {
        Ok(login) => login,
        Err(error) => return Ok(Response::text(format!("{error}\n")).status(400)),
    };
    let id: String = random::bytes(16).iter().map(|byte| format!("{byte:02x}")).collect();
    let session = Session { user: login.user, since_ms: clock::now_ms(), requests: 0 };
    let lasting = SetOptions::new().ttl(LIFETIME).if_absent();
    kv::open("default")?.json().set_with(&key(&id), &session, lasting)?;
    Ok(Response::json_of(&session).header("set-cookie", cookie(&id, LIFETIME)))
}

fn me(request: &Request) -> Result<Response, kv::Error> {
    let bucket = kv::open("default")?;
    let sessions = bucket.json::<Session>();
    let Some(id) = session_id(request) else { return Ok(nobody()) };
    if bucket.exists(&ended(id))? {
        return Ok(nobody());
    }
    let Some(mut session) = sessions.get(&key(id))? else { return Ok(nobody()) };
    session.requests += 1;
    // Each request begins the hour anew.
    sessions.set_with(&key(id), &session, SetOptions::new().ttl(LIFETIME))?;
    Ok(Response::json_of(&session).header("set-cookie", cookie(id, LIFETIME)))
}

fn log_out(request: &Request) -> Result<Response, kv::Error> {
    if let Some(id) = session_id(request) {
        let bucket = kv::open("default")?;
        // Outlives the session, whoever may write it once more.
        bucket.set_with(&ended(id), "", SetOptions::new().ttl(2 * LIFETIME))?;
        bucket.delete(&key(id))?;
    }
    Ok(Response::new(204).header("set-cookie", cookie("", Duration::ZERO)))
}

/// The id that the client sent, if it can be one of ours: it becomes a key.
fn session_id(request: &Request) -> Option<&str> {
    let id = request.cookie(COOKIE)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

fn key(id: &str) -> String {
    format!("session:{id}")
}

fn ended(id: &str) -> String {
    format!("logout:{id}")
}

fn cookie(id: &str, lifetime: Duration) -> String {
    let seconds = lifetime.as_secs();
    format!("{COOKIE}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax")
}

fn nobody() -> Response {
    Response::text("nobody is logged in\n").status(401).header("cache-control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    /// Logs in and returns the cookie that a browser would send back.
    fn log_in(node: &Node) -> String {
        let login = Request::new("POST", "/login").with_body(r#"{"user":"ada"}"#);
        let response = node.run(handle, login);
        assert_eq!(response.status_code(), 200);
        let cookie = response.header_value("set-cookie").expect("it sets a cookie");
        let cookie = str::from_utf8(cookie).expect("text");
        assert!(cookie.contains("HttpOnly"));
        cookie.split(';').next().expect("a pair").to_owned()
    }

    fn ask(node: &Node, method: &str, path: &str, cookie: &str) -> Response {
        node.run(handle, Request::new(method, path).with_header("cookie", cookie))
    }

    #[test]
    fn a_session_lasts_an_hour_after_the_last_request() {
        let node = Node::start();
        let cookie = log_in(&node);
        for _ in 0..3 {
            node.advance(LIFETIME - Duration::from_secs(1));
            let me = ask(&node, "GET", "/me", &cookie);
            assert!(me.body_text().contains(r#""user":"ada""#), "{}", me.body_text());
        }
        node.advance(LIFETIME);
        assert_eq!(ask(&node, "GET", "/me", &cookie).status_code(), 401);
    }

    #[test]
    fn a_session_that_was_ended_is_not_revived() {
        let node = Node::start();
        let cookie = log_in(&node);
        assert_eq!(ask(&node, "POST", "/logout", &cookie).status_code(), 204);
        assert_eq!(ask(&node, "GET", "/me", &cookie).status_code(), 401);
        let id = cookie.trim_start_matches("sid=");
        let late = r#"{"user":"ada","since_ms":0,"requests":1}"#;
        node.bucket("default").set(&key(id), late).expect("as another node may");
        assert_eq!(ask(&node, "GET", "/me", &cookie).status_code(), 401);
    }

    #[test]
    fn a_cookie_that_is_none_of_ours_finds_nobody() {
        let node = Node::start();
        node.bucket("default").set("session:../x", "{}").expect("it can be written");
        for cookie in ["sid=../x", "sid=", "sid=0123", "other=1"] {
            assert_eq!(ask(&node, "GET", "/me", cookie).status_code(), 401);
        }
        assert_eq!(node.run(handle, Request::new("POST", "/login")).status_code(), 400);
    }
}
