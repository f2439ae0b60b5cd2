//! `--wait all`: until every node of the cluster serves a version, a line for each.

use super::super::client::{Ask, COMPILE_WAIT, Client, escape, text};
use super::super::output::{print, visible};
use super::OTHER_VERSION;
use anyhow::{Context, bail};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use ureq::http::Method;

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// A node that was heard longer ago is not waited for.
const SILENT_MS_MAX: u64 = 10_000;

#[derive(Debug, Deserialize)]
struct Cluster {
    replication: Replication,
}

#[derive(Debug, Deserialize)]
struct Replication {
    members: Vec<Member>,
}

/// A process of the cluster.
#[derive(Debug, Deserialize)]
struct Member {
    name: String,

    is_self: bool,
    role: String,
    silent_ms: u64,
}

#[derive(Debug, Deserialize)]
struct States {
    nodes: Vec<State>,
}

/// What a node says of a handler.
#[derive(Debug, Deserialize)]
struct State {
    node: String,
    version: u64,
    error: Option<String>,
    /// Where its API listens, as it says itself.
    #[serde(default)]
    api: Option<String>,
}

/// A node beside the one that was asked, and where its API listens, if it has said so.
pub(super) struct Other {
    pub(super) node: String,
    pub(super) api: Option<String>,
}

/// The other nodes that were heard lately and know this handler.
pub(super) fn others(client: &Client, name: &str) -> anyhow::Result<Vec<Other>> {
    let members = ask::<Cluster>(client, "/v1/cluster")?.replication.members;
    let is_other = |node: &str| {
        let heard = |member: &&Member| !member.is_self && member.silent_ms < SILENT_MS_MAX;
        members.iter().filter(heard).any(|member| member.name == node)
    };
    let path = format!("/v1/handlers/{}/nodes", escape(name.as_bytes()));
    let states = ask::<States>(client, &path)?.nodes.into_iter();
    let others = states.filter(|state| is_other(&state.node));
    Ok(others.map(|State { node, api, .. }| Other { node, api }).collect())
}

/// Waits, and prints a line as each node comes. An error says who did not.
pub(super) fn wait(client: &Client, name: &str, version: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    let mut failed = 0;
    loop {
        let expected = expected(&ask::<Cluster>(client, "/v1/cluster")?.replication.members);
        let path = format!("/v1/handlers/{}/nodes", escape(name.as_bytes()));
        for state in ask::<States>(client, &path)?.nodes {
            if state.version >= version && told.insert(state.node.clone()) {
                failed += usize::from(state.error.is_some());
                print(line(&state, began.elapsed()))?;
            }
        }
        let missing: Vec<&str> =
            expected.iter().filter(|node| !told.contains(*node)).map(String::as_str).collect();
        if missing.is_empty() {
            break;
        }
        if began.elapsed() > COMPILE_WAIT {
            bail!("still waiting for {}: see their logs", visible(&missing.join(", ")));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} of {} nodes cannot run it and stay at what they had", told.len()),
    }
}

/// Those that can say what they have: a replica may not write.
fn expected(members: &[Member]) -> BTreeSet<String> {
    let heard = |member: &&Member| member.is_self || member.silent_ms < SILENT_MS_MAX;
    let masters = members.iter().filter(|member| member.role == "master");
    masters.filter(heard).map(|member| member.name.clone()).collect()
}

fn line(state: &State, after: Duration) -> String {
    let (node, version) = (visible(&state.node), state.version);
    match &state.error {
        None => format!("{node}  serves version {version} after {:.1} s\n", after.as_secs_f64()),
        Some(error) => format!("{node}  cannot run version {version}: {}\n", visible(error)),
    }
}

fn ask<T: for<'a> Deserialize<'a>>(client: &Client, path: &str) -> anyhow::Result<T> {
    let answer = text(client.fetch(Ask::new(Method::GET, path))?)?;
    serde_json::from_str(&answer).context(OTHER_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_that_are_there_are_waited_for() {
        let member = |name: &str, is_self, role: &str, silent_ms| Member {
            name: name.to_owned(),
            is_self,
            role: role.to_owned(),
            silent_ms,
        };
        let members = [
            member("this", true, "master", 20_000),
            member("near", false, "master", 100),
            member("dead", false, "master", 60_000),
            member("replica", false, "replica", 100),
        ];
        let want = ["near", "this"].map(str::to_owned);
        assert_eq!(expected(&members), BTreeSet::from(want));
    }

    #[test]
    fn a_node_is_a_line() {
        let mut state = State { node: "faro".into(), version: 3, error: None, api: None };
        assert_eq!(
            line(&state, Duration::from_millis(1_234)),
            "faro  serves version 3 after 1.2 s\n"
        );
        state.error = Some("too\nlarge".into());
        assert_eq!(line(&state, Duration::ZERO).lines().count(), 1);
    }
}
