//! Sets of pages of a memory, and how to join what lies close together.

use std::ops::Range;

/// Pages by their number in a memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    is_in: Vec<bool>,
}

impl Pages {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.is_in.iter().filter(|is_in| **is_in).count()
    }

    /// Adds those of another set. Returns whether one of them was new.
    pub(super) fn add(&mut self, others: &Pages) -> bool {
        if self.is_in.len() < others.is_in.len() {
            self.is_in.resize(others.is_in.len(), false);
        }
        let mut is_news = false;
        for (mine, theirs) in self.is_in.iter_mut().zip(&others.is_in) {
            is_news |= *theirs && !*mine;
            *mine |= theirs;
        }
        is_news
    }

    /// Those that are not in another set.
    pub(super) fn without(&self, others: &Pages) -> Pages {
        let theirs = others.is_in.iter().copied().chain(std::iter::repeat(false));
        Pages {
            is_in: self.is_in.iter().zip(theirs).map(|(mine, other)| *mine && !other).collect(),
        }
    }

    /// Pages without a gap between them, one stretch after the other.
    pub(super) fn stretches(&self) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let from = at + self.is_in.get(at..)?.iter().position(|is_in| *is_in)?;
            let len = self.is_in[from..].iter().take_while(|is_in| **is_in).count();
            at = from + len;
            Some(from..at)
        })
    }

    /// These, and those of the shortest gaps between them, so that there are `stretches_max` stretches
    /// at most.
    pub(super) fn joined(&self, stretches_max: usize) -> Pages {
        let stretches: Vec<Range<usize>> = self.stretches().collect();
        let mut gaps: Vec<Range<usize>> =
            stretches.windows(2).map(|pair| pair[0].end..pair[1].start).collect();
        gaps.sort_by_key(ExactSizeIterator::len);
        let surplus = stretches.len().saturating_sub(stretches_max);
        let mut joined = self.clone();
        for gap in gaps.into_iter().take(surplus) {
            joined.is_in[gap].fill(true);
        }
        joined
    }
}

impl FromIterator<bool> for Pages {
    fn from_iter<I: IntoIterator<Item = bool>>(is_in: I) -> Pages {
        Pages { is_in: is_in.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(text: &str) -> Pages {
        text.bytes().map(|byte| byte == b'x').collect()
    }

    #[test]
    fn the_shortest_gaps_are_joined_first() {
        let written = pages("x.x..xx...x..");
        assert_eq!(written.stretches().collect::<Vec<_>>(), [0..1, 2..3, 5..7, 10..11]);
        assert_eq!(written.joined(4), written);
        assert_eq!(written.joined(3), pages("xxx..xx...x.."));
        assert_eq!(written.joined(2), pages("xxxxxxx...x.."));
        assert_eq!(written.joined(1), pages("xxxxxxxxxxx.."));
        assert_eq!(pages("...").joined(1), pages("..."));
        assert_eq!(pages("").stretches().next(), None);
    }

    #[test]
    fn what_was_written_adds_up_over_memories_of_any_length() {
        let mut all = pages("x..");
        assert!(!all.add(&pages("x")));
        assert!(all.add(&pages("x...x")));
        assert!(!all.add(&pages("....x")));
        assert_eq!(all, pages("x...x"));
        assert_eq!(all.without(&pages("x.x")), pages("....x"));
        assert_eq!(all.len(), 2);
    }
}
