//! What a client asks of other nodes: to hold its write (`?wait=`), or to have told this one of an
//! earlier write (`Atoll-Session`).
//!
//! A write that fewer nodes hold in time than were asked for has been made all the same, and goes
//! on to the others by itself. It is answered with 202: no error, or clients would repeat it and
//! count twice, and not the status of a wish fulfilled either. `Atoll-Replicas` is the true number.

use super::super::Api;
use super::super::query::Query;
use super::insert;
use crate::problem::Problem;
use crate::replication::progress::Wish;
use atoll_core::limits::{
    COPY_COUNT_MAX, COPY_WAIT_MS_DEFAULT, COPY_WAIT_MS_MAX, SESSION_COUNT_MAX, SESSION_WAIT_MS,
};
use axum::response::Response;
use http::{HeaderMap, HeaderName, StatusCode};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Names the latest write of a process that a client knows of: `ORIGIN:SEQ`.
const SESSION: HeaderName = HeaderName::from_static("atoll-session");
/// How many other nodes hold a write.
const REPLICAS: HeaderName = HeaderName::from_static("atoll-replicas");

/// How many other nodes a client wants to hold its write, and how long it waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copies {
    count: usize,
    timeout: Duration,
}

/// The parameters of a write: its own, and those about copies.
pub(super) fn write_query(text: Option<&str>, own: &[&str]) -> Result<Query, Problem> {
    Query::parse(text, &[own, &["wait", "timeout"]].concat())
}

impl Copies {
    /// `None` where the client did not ask.
    pub(super) fn of(query: &Query) -> Result<Option<Copies>, Problem> {
        let number = |name| {
            let text = query.get(name).map(std::str::from_utf8);
            text.map(|text| text.ok().and_then(|text| text.parse::<u64>().ok()))
        };
        let bad = |detail: String| Err(Problem::bad_request("bad-wait", detail));
        let count = match number("wait") {
            None if number("timeout").is_some() => {
                return bad("timeout is the longest wait for other nodes; give wait too".to_owned());
            }
            None => return Ok(None),
            Some(count) => count.filter(|count| *count <= COPY_COUNT_MAX),
        };
        let Some(count) = count else {
            return bad(format!("wait is a number of other nodes, 0 to {COPY_COUNT_MAX}"));
        };
        let timeout_ms = number("timeout").unwrap_or(Some(COPY_WAIT_MS_DEFAULT));
        match timeout_ms.filter(|timeout_ms| *timeout_ms <= COPY_WAIT_MS_MAX) {
            Some(timeout_ms) => {
                let timeout = Duration::from_millis(timeout_ms);
                Ok(Some(Copies { count: count as usize, timeout }))
            }
            None => bad(format!("timeout is a number of ms, 0 to {COPY_WAIT_MS_MAX}")),
        }
    }
}

/// Waits for the copies that were asked for, and names the write to the client.
pub(super) async fn conclude(
    api: &Api,
    copies: Option<Copies>,
    mut response: Response,
) -> Response {
    // Of this write at least: others may have written since.
    let seq = api.node.store().written_seq();
    let session = format!("{}:{seq}", api.node.store().origin());
    insert(response.headers_mut(), SESSION, &session);
    let Some(Copies { count, timeout }) = copies else { return response };
    let progress = api.node.replication().progress();
    let deadline = Some(Instant::now() + timeout);
    let holder_count = tokio::select! {
        holder_count = progress.wait(Wish { seq, count }, deadline) => holder_count,
        // The node stops: the truth so far is better than none.
        () = api.shutdown.cancelled() => progress.holder_count(seq),
    };
    insert(response.headers_mut(), REPLICAS, &holder_count.to_string());
    if holder_count < count {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response
}

/// Waits until this node has the writes that the client names, for [`SESSION_WAIT_MS`] at most.
pub(super) async fn catch_up(api: &Api, headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(SESSION) {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_millis(SESSION_WAIT_MS);
    for (origin, seq) in sessions(headers)? {
        if !covers(api, (origin, seq), deadline).await {
            return Err(behind(api, (origin, seq)));
        }
    }
    Ok(())
}

async fn covers(api: &Api, (origin, seq): (Uuid, u64), deadline: Instant) -> bool {
    // What this process has numbered it holds, and what it has not it will not be told by others.
    if origin == api.node.store().origin() {
        return api.node.store().seq() >= seq;
    }
    tokio::select! {
        covers = api.node.replication().progress().covers(origin, seq, deadline) => covers,
        () = api.shutdown.cancelled() => false,
    }
}

/// The writes that a client names: the latest of each process.
fn sessions(headers: &HeaderMap) -> Result<BTreeMap<Uuid, u64>, Problem> {
    let mut sessions = BTreeMap::new();
    let bad = || {
        let detail = "Atoll-Session is what a write was answered with, ORIGIN:SEQ; several are \
                      separated by commas";
        Problem::bad_request("bad-session", detail)
    };
    for line in headers.get_all(SESSION) {
        let line = line.to_str().map_err(|_| bad())?;
        for token in line.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            let (origin, seq) = token.rsplit_once(':').ok_or_else(bad)?;
            let origin = origin.parse().map_err(|_| bad())?;
            let seq: u64 = seq.parse().map_err(|_| bad())?;
            let latest = sessions.entry(origin).or_insert(0);
            *latest = seq.max(*latest);
            if sessions.len() > SESSION_COUNT_MAX {
                let detail = format!("Atoll-Session names at most {SESSION_COUNT_MAX} processes");
                return Err(Problem::bad_request("bad-session", detail));
            }
        }
    }
    Ok(sessions)
}

fn behind(api: &Api, (origin, seq): (Uuid, u64)) -> Problem {
    let has = if origin == api.node.store().origin() {
        api.node.store().seq()
    } else {
        api.node.replication().progress().covered_seq(origin)
    };
    let detail = format!(
        "this node has not yet received write {seq} of process {origin}, only up to {has}; try \
         again, ask the node that took the write, or leave Atoll-Session out to use what is here"
    );
    Problem::busy("session-behind", detail, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, want: Result<Option<(usize, u64)>, &str>) {
        let copies = write_query(Some(query), &["ttl"]).and_then(|query| Copies::of(&query));
        let got = copies.map(|copies| copies.map(|c| (c.count, c.timeout.as_millis() as u64)));
        assert_eq!(got.map_err(|problem| problem.code()), want, "{query}");
    }

    #[test]
    fn a_wish_for_copies_is_a_number_and_a_time() {
        check("", Ok(None));
        check("ttl=1", Ok(None));
        check("wait=0", Ok(Some((0, COPY_WAIT_MS_DEFAULT))));
        check("wait=2&timeout=250", Ok(Some((2, 250))));
        check("timeout=60000&w%61it=1", Ok(Some((1, 60_000))));
        for bad in
            ["wait", "wait=", "wait=-1", "wait=all", "wait=1001", "timeout=5", "wait=1&timeout=x"]
        {
            check(bad, Err("bad-wait"));
        }
        check("wait=1&timeout=60001", Err("bad-wait"));
        check("wait=1&wait=2", Err("repeated-parameter"));
        check("wiat=1", Err("unknown-parameter"));
    }

    #[track_caller]
    fn check_sessions(lines: &[&str], want: Option<&[(u128, u64)]>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SESSION, line.parse().expect("a header"));
        }
        let got = sessions(&headers).ok();
        let got = got.map(|got| got.into_iter().map(|(o, seq)| (o.as_u128(), seq)).collect());
        assert_eq!(got, want.map(<[_]>::to_vec), "{lines:?}");
    }

    #[test]
    fn several_sessions_are_joined() {
        let one = "00000000-0000-0000-0000-000000000001";
        let two = "00000000-0000-0000-0000-000000000002";
        check_sessions(&[&format!("{one}:5")], Some(&[(1, 5)]));
        check_sessions(&[""], Some(&[]));
        check_sessions(
            &[&format!("{one}:5, {two}:1,"), &format!("{one}:3,{two}:2")],
            Some(&[(1, 5), (2, 2)]),
        );
        for bad in [one, "5", "x:5", &format!("{one}:x"), &format!("{one}:-1"), &format!("{one}:")]
        {
            check_sessions(&[bad], None);
        }
        let many: Vec<_> =
            (0..=SESSION_COUNT_MAX as u128).map(|o| format!("{}:1", Uuid::from_u128(o))).collect();
        check_sessions(&[&many.join(",")], None);
        let fit = &many[1..];
        assert_eq!(fit.len(), SESSION_COUNT_MAX);
        let want: Vec<_> = (1..=SESSION_COUNT_MAX as u128).map(|o| (o, 1)).collect();
        check_sessions(&[&fit.join(",")], Some(&want));
    }
}
