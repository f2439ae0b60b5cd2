//! Letting go of a node that will not come back, on the word of an administrator.

use super::Replication;
use atoll_core::replica::status::{MemberStatus, Status};
use tracing::info;

/// A node that was heard of so lately may be alive, in ms.
const ALIVE_MS: u64 = 10_000;

/// Why a node was not forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForgetError {
    /// No such node is known. Says which are.
    #[error("no node of the cluster is called {name:?}; known are {known}")]
    Unknown { name: String, known: String },
    /// A node does not forget itself.
    #[error("{0} is this node itself; ask another node to forget it, once it has stopped")]
    Itself(String),
    /// It is linked with this node.
    #[error("{0} is linked with this node and so alive; stop it first")]
    Linked(String),
    /// It was heard of through others.
    #[error("{name} was heard of {ago_ms} ms ago, through others; stop it and wait 10 s")]
    Alive { name: String, ago_ms: u64 },
    /// Nobody took it in.
    #[error("this node's links are busy or have ended; try again")]
    Busy,
}

impl Replication {
    /// Lets go of the node called `name`, which may be the id of its process, too: it no longer
    /// holds back what may be forgotten. All other nodes hear of it. Should it come back all the
    /// same, it is taken for one that was away for very long. Returns its name.
    pub(crate) fn forget(&self, name: &str) -> Result<String, ForgetError> {
        let status = self.status();
        let member = find(&status, name)?;
        let forgetter = self.forgetter.get().ok_or(ForgetError::Busy)?;
        if !forgetter(member.origin) {
            return Err(ForgetError::Busy);
        }
        info!(node = shown(member), origin = %member.origin, "node forgotten");
        Ok(shown(member))
    }
}

/// The one that is meant, if it may be let go.
fn find<'s>(status: &'s Status, name: &str) -> Result<&'s MemberStatus, ForgetError> {
    let is_meant = |member: &&MemberStatus| {
        (!member.name.is_empty() && member.name == name) || member.origin.to_string() == name
    };
    let Some(member) = status.members.iter().find(is_meant) else {
        let others = status.members.iter().filter(|member| member.origin != status.origin);
        let known: Vec<String> = others.map(shown).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(ForgetError::Unknown { name: name.to_owned(), known });
    };
    if member.origin == status.origin {
        return Err(ForgetError::Itself(shown(member)));
    }
    if member.linked {
        return Err(ForgetError::Linked(shown(member)));
    }
    if member.silent_ms < ALIVE_MS {
        return Err(ForgetError::Alive { name: shown(member), ago_ms: member.silent_ms });
    }
    Ok(member)
}

fn shown(member: &MemberStatus) -> String {
    if member.name.is_empty() { member.origin.to_string() } else { member.name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::{Identity, Settings};
    use std::sync::{Arc, Mutex};
    use uuid::Uuid;

    fn member(number: u128, name: &str, silent_ms: u64) -> MemberStatus {
        let (origin, name) = (Uuid::from_u128(number), name.to_owned());
        MemberStatus { name, origin, silent_ms, linked: number == 2, ..MemberStatus::default() }
    }

    #[test]
    fn only_a_node_that_is_known_and_silent_is_forgotten() {
        let identity = Identity { name: "self".to_owned(), origin: Uuid::from_u128(1) };
        let board = Replication::new(identity, Settings::default()).expect("no peers");
        let members = vec![
            member(1, "self", 0),
            member(2, "linked", 50_000),
            member(3, "heard", ALIVE_MS - 1),
            member(4, "gone", ALIVE_MS),
            member(5, "", 60_000),
        ];
        board.publish_status(Status { members, ..Status::clone(&board.status()) });
        assert_eq!(board.forget("gone"), Err(ForgetError::Busy), "no transport");
        let told = Arc::new(Mutex::new(Vec::new()));
        let inlet = Arc::clone(&told);
        board.set_forgetter(Box::new(move |origin| {
            inlet.lock().unwrap().push(origin.as_u128());
            true
        }));
        let nameless = Uuid::from_u128(5).to_string();
        let known = format!("linked, heard, gone, {nameless}");
        let unknown = ForgetError::Unknown { name: "x".to_owned(), known };
        assert_eq!(board.forget("x"), Err(unknown));
        assert_eq!(board.forget("self"), Err(ForgetError::Itself("self".to_owned())));
        assert_eq!(board.forget("linked"), Err(ForgetError::Linked("linked".to_owned())));
        assert!(matches!(board.forget("heard"), Err(ForgetError::Alive { .. })));
        assert!(matches!(board.forget(""), Err(ForgetError::Unknown { .. })));
        assert!(told.lock().unwrap().is_empty());
        assert_eq!(board.forget("gone"), Ok("gone".to_owned()));
        assert_eq!(board.forget(&nameless), Ok(nameless));
        assert_eq!(*told.lock().unwrap(), [4, 5]);
    }
}
