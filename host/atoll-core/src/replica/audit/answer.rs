//! The side of an audit that answers.

use super::super::{Circumstances, LinkId, Replica, Violation};
use super::{Sums, leaf_of, look, look_at, name_of};
use crate::clock::Hlc;
use crate::store::survey::Survey;
use crate::wire::audit::{Audit, Listing, Sight, Terms, read_listing};
use crate::wire::chunk::{ChunkWriter, Item};
use crate::wire::frame::Farewell;
use crate::wire::op::BucketRef;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// An audit that is being answered.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) link: LinkId,
    pub(super) number: u64,
    terms: Terms,
    ends_ms: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The store is being summed.
    Summing { survey: Survey, sums: Sums },
    /// The sums are known.
    Summed(Sums),
    /// The next part of the listing is being made.
    Listing { walk: Walk, listing: Listing },
    /// A part is on its way.
    Listed(Walk),
    /// All of them are.
    Checking { question: Option<Question> },
}

/// A walk through the store for the keys of some leaves.
#[derive(Debug)]
struct Walk {
    survey: Survey,
    leaves: HashSet<u16>,
}

/// Keys that are to be looked at again.
#[derive(Debug)]
struct Question {
    /// What the asker may have forgotten is stamped no later.
    floor: Hlc,
    keys: Vec<u8>,
}

impl Answering {
    pub(super) fn is_late(&self, at_ms: u64) -> bool {
        at_ms >= self.ends_ms
    }
}

impl Replica {
    /// Deals with a message of one who asks.
    pub(super) fn take_question(
        &mut self,
        around: Circumstances<'_>,
        (id, number): (LinkId, u64),
        audit: Audit,
    ) -> Result<(), Violation> {
        if let Audit::Ask(terms) = audit {
            self.agree(around, (id, number), terms);
            return Ok(());
        }
        let is_this =
            |answering: &mut Answering| (answering.link, answering.number) == (id, number);
        let Some(mut answering) = self.audits.answering.take_if(is_this) else {
            if !matches!(audit, Audit::Done) {
                // Of one that this node has given up, or never begun.
                self.say(id, number, Audit::Decline);
            }
            return Ok(());
        };
        answering.stage = match (answering.stage, audit) {
            (_, Audit::Done) => return Ok(()),
            (Stage::Summed(sums), Audit::WantLeaves(groups)) => {
                let leaves = groups.iter().flat_map(|group| sums.group(*group)).copied().collect();
                self.say(id, number, Audit::Leaves(leaves));
                Stage::Summed(sums)
            }
            (Stage::Summed(_), Audit::WantKeys(leaves)) => {
                let (survey, leaves) = (Survey::new(around.store), leaves.into_iter().collect());
                Stage::Listing { walk: Walk { survey, leaves }, listing: Listing::default() }
            }
            (Stage::Listed(walk), Audit::WantMore) => {
                Stage::Listing { walk, listing: Listing::default() }
            }
            (Stage::Checking { question: None }, Audit::Check { floor, keys }) => {
                Stage::Checking { question: Some(Question { floor, keys }) }
            }
            _ => return Err(Violation::new("asks for a part of an audit out of turn")),
        };
        self.audits.answering = Some(answering);
        Ok(())
    }

    /// Begins to answer, on terms that hold here, too.
    fn agree(&mut self, around: Circumstances<'_>, (id, number): (LinkId, u64), asked: Terms) {
        let is_busy = self.audits.answering.as_ref().is_some_and(|answering| answering.link != id);
        if is_busy || !self.may_audit() {
            self.say(id, number, Audit::Decline);
            return;
        }
        let terms = Terms { cut: asked.cut.min(self.common_cut(id)), ..asked };
        let stage = Stage::Summing { survey: Survey::new(around.store), sums: Sums::new() };
        let ends_ms = around.now.at_ms + self.settings.tuning.audit_patience_ms;
        self.audits.answering = Some(Answering { link: id, number, terms, ends_ms, stage });
        self.say(id, number, Audit::Agree(terms));
    }

    /// Goes on with an audit that is being answered, for so many steps through the store.
    pub(super) fn go_on_answering(
        &mut self,
        around: Circumstances<'_>,
        mut answering: Answering,
        steps: u64,
    ) {
        let (id, number, terms) = (answering.link, answering.number, answering.terms);
        for _ in 0..steps {
            answering.stage = match answering.stage {
                Stage::Summing { mut survey, mut sums } => {
                    let done = sums.go_on(around.store, &mut survey, terms);
                    if survey.has_moved() {
                        // The sums would be wrong.
                        return self.say(id, number, Audit::Decline);
                    }
                    if done {
                        self.say(id, number, Audit::Groups(sums.groups()));
                        Stage::Summed(sums)
                    } else {
                        Stage::Summing { survey, sums }
                    }
                }
                Stage::Listing { walk, listing } => {
                    self.list(around, (id, number), (walk, listing, terms))
                }
                stage => stage,
            };
        }
        if let Stage::Checking { question } = &mut answering.stage
            && let Some(question) = question.take_if(|question| self.floor.first >= question.floor)
        {
            if self.floor.first.millis() > terms.until_ms {
                return self.say(id, number, Audit::Decline);
            }
            match self.look_again(around, terms, &question.keys) {
                Ok(answer) => self.say(id, number, answer),
                Err(violation) => {
                    return self.close(id, Farewell::Refused(violation.to_string()));
                }
            }
        }
        self.audits.answering = Some(answering);
    }

    /// Lists more of the keys that are wanted, and sends them once they are many.
    fn list(
        &mut self,
        around: Circumstances<'_>,
        (id, number): (LinkId, u64),
        (mut walk, mut listing, terms): (Walk, Listing, Terms),
    ) -> Stage {
        let room = self.settings.tuning.chunk_bytes;
        let (store, leaves) = (around.store, &walk.leaves);
        let done = store.survey_outlines(&mut walk.survey, room, |bucket, key, entry| {
            let name = name_of(BucketRef::of(bucket.name()), key);
            if !leaves.contains(&leaf_of(name)) {
                return 0;
            }
            let sight = look_at(name, entry, (terms, store.flushed(bucket)));
            let before = listing.len();
            if sight != Sight::Nothing {
                listing.push(bucket.name(), key, sight);
            }
            listing.len() - before
        });
        if !done && listing.len() < room {
            return Stage::Listing { walk, listing };
        }
        let (floor, keys) = (self.floor.first, listing.finish());
        self.say(id, number, Audit::Keys { floor, keys, done });
        if done { Stage::Checking { question: None } } else { Stage::Listed(walk) }
    }

    /// Says how keys look now, as many as there is room for, and what is held where that is not as
    /// it looks to the asker.
    fn look_again(
        &self,
        around: Circumstances<'_>,
        terms: Terms,
        asked: &[u8],
    ) -> Result<Audit, Violation> {
        let (mut seen, mut entries) = (Listing::default(), ChunkWriter::default());
        let room = self.settings.tuning.chunk_bytes;
        let read = read_listing(asked, |bucket, key, theirs| {
            let mine = look(around.store, (bucket, key), terms);
            let name = bucket.to_name();
            seen.push(&name, key, mine);
            if mine != theirs && mine != Sight::Moving {
                let found = around.store.find_bucket(&name);
                let entry = found.and_then(|found| around.store.entry(&found, key));
                let entry = entry.unwrap_or_default();
                entries.push(&Item::Entry { bucket, key, entry });
            }
            match entries.len() < room {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        read.map_err(|error| Violation::new(error.to_string()))?;
        Ok(Audit::Checked { keys: seen.finish(), entries: entries.finish().into() })
    }
}
