//! `--wait all`: until every node of the cluster serves a version, a line for each.

use super::super::client::{Ask, COMPILE_WAIT, Client, escape, text};
use super::super::output::{print, visible};
use super::{Handler, OTHER_VERSION};
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

/// A version, told from others of the same number: two nodes may have given it at the same time, and
/// after a removal numbers begin anew.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Newest {
    pub(super) version: u64,
    /// Empty where an older node says it.
    #[serde(default)]
    pub(super) digest: String,
    #[serde(default)]
    pub(super) deployed_ms: u64,
}

impl Newest {
    /// Whether a node that says this has what was waited for, or what has come after it by now.
    fn is_reached(&self, wanted: &Newest, current: &Newest) -> bool {
        let is_old_node = self.digest.is_empty() && self.version >= wanted.version;
        self == wanted || self == current || is_old_node
    }

    /// Errs where another version has taken this one's place, and not come after it.
    fn check_stands(&self, current: &Newest, name: &str) -> anyhow::Result<()> {
        if self == current || self.version < current.version {
            return Ok(());
        }
        bail!(
            "another deployment of {} came at the same time and has won: it is version {} on all \
             nodes, with the component {}, and this one is none; look at it and deploy again",
            visible(name),
            current.version,
            visible(current.digest.get(..12).unwrap_or(&current.digest)),
        )
    }
}

/// What a node says of a handler.
#[derive(Debug, Deserialize)]
struct State {
    node: String,
    #[serde(flatten)]
    newest: Newest,
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
pub(super) fn wait(client: &Client, name: &str, wanted: &Newest) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    let mut failed = 0;
    loop {
        let expected = expected(&ask::<Cluster>(client, "/v1/cluster")?.replication.members);
        let path = format!("/v1/handlers/{}", escape(name.as_bytes()));
        let current = ask::<Handler>(client, &path)
            .context("the handler cannot be looked at any more")?
            .newest();
        wanted.check_stands(&current, name)?;
        for state in ask::<States>(client, &(path + "/nodes"))?.nodes {
            let is_reached = state.newest.is_reached(wanted, &current);
            if is_reached && told.insert(state.node.clone()) {
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
    let (node, version) = (visible(&state.node), state.newest.version);
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

    fn newest(version: u64, digest: &str) -> Newest {
        Newest { version, digest: digest.to_owned(), deployed_ms: 1 }
    }

    #[test]
    fn what_has_the_same_number_is_not_what_was_waited_for() {
        let (wanted, other, later) = (newest(3, "ab"), newest(3, "cd"), newest(4, "cd"));
        let stale = newest(9, "ef");
        assert!(wanted.is_reached(&wanted, &later) && later.is_reached(&wanted, &later));
        assert!(!other.is_reached(&wanted, &wanted) && !other.is_reached(&wanted, &later));
        assert!(!stale.is_reached(&wanted, &wanted), "it is of a handler that was removed");
        assert!(newest(3, "").is_reached(&wanted, &wanted), "an older node says no more");
        for stands in [&wanted, &later] {
            assert!(wanted.check_stands(stands, "page").is_ok());
        }
        for (won, version) in [(&other, 3), (&newest(2, "cd"), 2)] {
            let error = wanted.check_stands(won, "page").expect_err("it has won").to_string();
            let want =
                format!("of page came at the same time and has won: it is version {version}");
            assert!(error.contains(&want), "{error}");
        }
    }

    #[test]
    fn a_node_is_a_line() {
        let newest = newest(3, "ab");
        let mut state = State { node: "faro".into(), newest, error: None, api: None };
        assert_eq!(
            line(&state, Duration::from_millis(1_234)),
            "faro  serves version 3 after 1.2 s\n"
        );
        state.error = Some("too\nlarge".into());
        assert_eq!(line(&state, Duration::ZERO).lines().count(), 1);
    }
}
