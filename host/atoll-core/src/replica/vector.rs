//! The version vector: what a node's state includes.

use crate::clock::{Hlc, Stamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How far a node has one origin.
///
/// Its state includes the effect of every op of the origin up to `seq`, and of every op stamped up
/// to `head`: the origin has promised to stamp all further ops later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Number of the latest op.
    pub seq: u64,
    /// Nothing stamped up to here is missing.
    pub head: Hlc,
}

impl Mark {
    /// The larger of each part.
    #[must_use]
    pub fn max(self, other: Mark) -> Mark {
        Mark { seq: self.seq.max(other.seq), head: self.head.max(other.head) }
    }

    /// The smaller of each part.
    #[must_use]
    pub fn min(self, other: Mark) -> Mark {
        Mark { seq: self.seq.min(other.seq), head: self.head.min(other.head) }
    }
}

/// What a node's state includes, by origin. An origin that is not named is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Uuid, Mark)>", into = "Vec<(Uuid, Mark)>")]
pub struct Vector {
    /// By origin, ascending.
    marks: Vec<(Uuid, Mark)>,
}

impl From<Vec<(Uuid, Mark)>> for Vector {
    fn from(marks: Vec<(Uuid, Mark)>) -> Vector {
        marks.into_iter().collect()
    }
}

impl From<Vector> for Vec<(Uuid, Mark)> {
    fn from(vector: Vector) -> Vec<(Uuid, Mark)> {
        vector.marks
    }
}

impl FromIterator<(Uuid, Mark)> for Vector {
    fn from_iter<I: IntoIterator<Item = (Uuid, Mark)>>(marks: I) -> Vector {
        let mut vector = Vector::default();
        for (origin, mark) in marks {
            vector.raise(origin, mark);
        }
        vector
    }
}

impl Vector {
    /// Includes whatever these origins have written and ever will.
    pub fn of_all(origins: impl IntoIterator<Item = Uuid>) -> Vector {
        let all = Mark { seq: u64::MAX, head: Hlc::MAX };
        origins.into_iter().map(|origin| (origin, all)).collect()
    }

    /// How far `origin` is included; nothing where it is not known.
    pub fn get(&self, origin: Uuid) -> Mark {
        match self.find(origin) {
            Ok(at) => self.marks[at].1,
            Err(_) => Mark::default(),
        }
    }

    /// Where the mark of `origin` is, or would be.
    fn find(&self, origin: Uuid) -> Result<usize, usize> {
        // As numbers they have the same order, and compare in an instruction or two.
        let origin = origin.as_u128();
        self.marks.binary_search_by_key(&origin, |(id, _)| id.as_u128())
    }

    /// Number of the latest op of `origin` that is included.
    pub fn seq(&self, origin: Uuid) -> u64 {
        self.get(origin).seq
    }

    /// Includes more of `origin`; never less. Returns whether that was news.
    pub fn raise(&mut self, origin: Uuid, to: Mark) -> bool {
        match self.find(origin) {
            Ok(at) => {
                let before = self.marks[at].1;
                self.marks[at].1 = before.max(to);
                self.marks[at].1 != before
            }
            Err(at) => {
                self.marks.insert(at, (origin, to));
                true
            }
        }
    }

    /// Includes what `other` includes.
    pub fn join(&mut self, other: &Vector) {
        for (origin, mark) in other.iter() {
            self.raise(origin, mark);
        }
    }

    /// Whether a write with this stamp is included.
    pub fn covers(&self, stamp: Stamp) -> bool {
        stamp == Stamp::ZERO || stamp.hlc <= self.get(stamp.origin).head
    }

    /// The origins and how far each is included, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, Mark)> + '_ {
        self.marks.iter().copied()
    }

    /// The origins of whom this includes ops that `other` does not, and how far each is included.
    pub fn beyond<'a>(&'a self, other: &'a Vector) -> impl Iterator<Item = (Uuid, Mark)> + 'a {
        let mut theirs = other.iter().peekable();
        self.iter().filter(move |(origin, mark)| {
            while theirs.next_if(|(id, _)| id.as_u128() < origin.as_u128()).is_some() {}
            theirs.peek().filter(|(id, _)| id == origin).map_or(0, |(_, mark)| mark.seq) < mark.seq
        })
    }

    /// Whether this includes all ops that `other` does.
    pub fn has_all_of(&self, other: &Vector) -> bool {
        other.beyond(self).next().is_none()
    }

    /// Whether `origin` is named, even if none of its ops are included.
    pub fn names(&self, origin: Uuid) -> bool {
        self.find(origin).is_ok()
    }

    /// Whether this names an origin of whom `other` includes ops: one names everyone of whom one has
    /// seen a write, covered or not.
    pub fn shares_with(&self, other: &Vector) -> bool {
        other.iter().any(|(origin, mark)| mark.seq > 0 && self.names(origin))
    }

    /// How many origins are known.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_only_grows_and_covers_by_head() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let hlc = Hlc::from_bits;
        let mut vector = Vector::default();
        assert!(vector.raise(two, Mark { seq: 5, head: hlc(50) }));
        assert!(!vector.raise(two, Mark { seq: 4, head: hlc(40) }));
        assert!(vector.raise(two, Mark { seq: 4, head: hlc(60) }), "a beacon moves the head alone");
        assert_eq!(vector.get(two), Mark { seq: 5, head: hlc(60) });
        assert!(vector.covers(Stamp { hlc: hlc(60), origin: two }));
        assert!(!vector.covers(Stamp { hlc: hlc(61), origin: two }));
        assert!(!vector.covers(Stamp { hlc: hlc(1), origin: one }), "an unknown origin");
        assert!(vector.covers(Stamp::ZERO), "what was never written");
    }

    #[test]
    fn a_vector_is_beyond_another_where_it_has_more_ops() {
        #[track_caller]
        fn check(mine: &[(u128, u64)], theirs: &[(u128, u64)], want: &[u128]) {
            let vector = |marks: &[(u128, u64)]| -> Vector {
                let mark = |seq| Mark { seq, head: Hlc::ZERO };
                marks.iter().map(|(id, seq)| (Uuid::from_u128(*id), mark(*seq))).collect()
            };
            let (mine, theirs) = (vector(mine), vector(theirs));
            let ids: Vec<u128> = mine.beyond(&theirs).map(|(id, _)| id.as_u128()).collect();
            assert_eq!(ids, want);
        }
        check(&[], &[(1, 5)], &[]);
        check(&[(1, 5)], &[], &[1]);
        check(&[(1, 5), (2, 5), (3, 5)], &[(1, 5), (2, 4), (3, 6)], &[2]);
        check(&[(2, 1), (4, 1), (6, 0)], &[(1, 9), (3, 9), (5, 9)], &[2, 4]);
    }
}
