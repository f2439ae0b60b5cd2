//! Whether a node takes reads and writes at the moment, and in which words it refuses them.
//!
//! Decided here alone; every door asks for the result, which is one byte, before it looks at a key.

use crate::replica::status::{Readiness, Role};

/// Why a read or a write is refused. Nothing was looked at or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node only follows others.
    #[error("this node is a read-only replica; write to a master")]
    ReadOnly,
    /// Its clock is too far from the others': its writes would win or lose unjustly.
    #[error(
        "this node's clock is too far from its peers'; writes are refused until it is set right"
    )]
    Skewed,
    /// Another process runs under the node's name, and started later.
    #[error("another process runs under this node's name; writes are refused here")]
    Superseded,
    /// It is cut off from the majority, or has yet to catch up, and was told not to serve what may
    /// be old.
    #[error("this node is not linked to a majority of its peers and serves nothing stale")]
    NoQuorum,
}

/// What a node's clients may do at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permission(u8);

/// What a permission follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether the node takes writes at all.
    pub role: Role,
    /// What replication makes of the node.
    pub readiness: Readiness,
    /// What to do with reads that may be old.
    pub stale_reads: StaleReads,
    /// Links of the node.
    pub links: Links,
}

/// Whether a node answers while it may miss what others wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaleReads {
    /// Always.
    #[default]
    Served,
    /// Only while it is linked to a majority and has caught up once.
    Refused,
}

impl StaleReads {
    /// The word for it, as Redis' `replica-serve-stale-data` has it: `yes` or `no`.
    pub fn as_str(self) -> &'static str {
        match self {
            StaleReads::Served => "yes",
            StaleReads::Refused => "no",
        }
    }
}

/// How many of a node's configured peers it is linked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Configured, the node itself left out.
    pub configured: usize,
    /// Of these, linked.
    pub up: usize,
}

impl Links {
    /// Whether this node and those it is linked to are more than half of all.
    pub fn has_quorum(self) -> bool {
        let (reached, all) = (self.up + 1, self.configured + 1);
        reached * 2 > all
    }
}

/// The refusals by their codes; 0 is none.
const REFUSALS: [Refusal; 4] =
    [Refusal::ReadOnly, Refusal::Skewed, Refusal::Superseded, Refusal::NoQuorum];
/// Bits of a code; reads have the lower ones, writes the upper.
const CODE_BITS: u32 = 4;

impl Permission {
    /// What follows from `circumstances`.
    pub fn of(circumstances: Circumstances) -> Permission {
        let Circumstances { role, readiness, stale_reads, links } = circumstances;
        let is_behind =
            !links.has_quorum() || matches!(readiness, Readiness::Joining | Readiness::Stale);
        let read = match stale_reads {
            StaleReads::Refused if is_behind => Some(Refusal::NoQuorum),
            _ => None,
        };
        // A write's answer tells what was there, so it is as stale as a read.
        let write = match (role, readiness) {
            (Role::Replica, _) => Some(Refusal::ReadOnly),
            (_, Readiness::Skewed) => Some(Refusal::Skewed),
            (_, Readiness::Superseded) => Some(Refusal::Superseded),
            _ => read,
        };
        Permission(code(read) | code(write) << CODE_BITS)
    }

    /// The permission behind [`Permission::as_byte`].
    #[inline]
    pub fn from_byte(byte: u8) -> Permission {
        Permission(byte)
    }

    /// For an atomic.
    pub fn as_byte(self) -> u8 {
        self.0
    }

    /// Whether keys may be read.
    #[inline]
    pub fn read(self) -> Result<(), Refusal> {
        refusal(self.0 & ((1 << CODE_BITS) - 1))
    }

    /// Whether keys may be written.
    #[inline]
    pub fn write(self) -> Result<(), Refusal> {
        refusal(self.0 >> CODE_BITS)
    }
}

fn code(refusal: Option<Refusal>) -> u8 {
    let index = refusal.and_then(|refusal| REFUSALS.iter().position(|known| *known == refusal));
    index.map_or(0, |index| index as u8 + 1)
}

#[inline]
fn refusal(code: u8) -> Result<(), Refusal> {
    if code == 0 {
        return Ok(());
    }
    // No code is larger than there are refusals.
    Err(REFUSALS[(usize::from(code) - 1).min(REFUSALS.len() - 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Circumstances = Circumstances {
        role: Role::Master,
        readiness: Readiness::Ready,
        stale_reads: StaleReads::Served,
        links: Links { configured: 0, up: 0 },
    };

    #[track_caller]
    fn check(circumstances: Circumstances, read: Option<Refusal>, write: Option<Refusal>) {
        let permission = Permission::from_byte(Permission::of(circumstances).as_byte());
        assert_eq!((permission.read().err(), permission.write().err()), (read, write));
    }

    #[test]
    fn a_node_takes_everything_unless_something_is_wrong() {
        check(ALONE, None, None);
        assert_eq!(Permission::default(), Permission::of(ALONE));
        check(Circumstances { readiness: Readiness::Joining, ..ALONE }, None, None);
        check(Circumstances { readiness: Readiness::Stale, ..ALONE }, None, None);
        check(Circumstances { links: Links { configured: 3, up: 0 }, ..ALONE }, None, None);
    }

    #[test]
    fn each_reason_to_refuse_writes_has_its_own_words() {
        let replica = Circumstances { role: Role::Replica, ..ALONE };
        check(replica, None, Some(Refusal::ReadOnly));
        let skewed = Circumstances { readiness: Readiness::Skewed, ..ALONE };
        check(skewed, None, Some(Refusal::Skewed));
        let superseded = Circumstances { readiness: Readiness::Superseded, ..ALONE };
        check(superseded, None, Some(Refusal::Superseded));
        check(
            Circumstances { readiness: Readiness::Skewed, ..replica },
            None,
            Some(Refusal::ReadOnly),
        );
        for readiness in [Readiness::Skewed, Readiness::Superseded] {
            assert!(readiness.refuses_writes());
        }
    }

    #[test]
    fn four_nodes_serve_at_three_and_refuse_at_two() {
        let four = |up| Circumstances {
            stale_reads: StaleReads::Refused,
            links: Links { configured: 3, up },
            ..ALONE
        };
        check(four(3), None, None);
        check(four(2), None, None);
        check(four(1), Some(Refusal::NoQuorum), Some(Refusal::NoQuorum));
        check(four(0), Some(Refusal::NoQuorum), Some(Refusal::NoQuorum));
    }

    #[test]
    fn half_is_no_majority_and_one_alone_is_its_own() {
        let links = |configured, up| Links { configured, up }.has_quorum();
        assert!(links(0, 0));
        assert!(!links(1, 0) && links(1, 1));
        assert!(!links(2, 0) && links(2, 1));
        assert!(!links(3, 1) && links(3, 2));
    }

    #[test]
    fn who_serves_nothing_stale_waits_until_it_has_caught_up_once() {
        for readiness in [Readiness::Joining, Readiness::Stale] {
            let behind = Circumstances { readiness, stale_reads: StaleReads::Refused, ..ALONE };
            check(behind, Some(Refusal::NoQuorum), Some(Refusal::NoQuorum));
        }
    }
}
