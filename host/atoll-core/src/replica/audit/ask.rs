//! The side of an audit that asks: it narrows down what differs, from groups to keys.

use super::super::{Circumstances, LinkId, Replica, Violation};
use super::heal::{Found, Suspect};
use super::{LEAF_COUNT, Sums, leaf_of, look_at, name_of};
use crate::clock::Hlc;
use crate::key::BucketName;
use crate::limits::{
    AUDIT_GROUP_COUNT, AUDIT_GROUPS_ASKED_MAX, AUDIT_LEAF_COUNT_MAX, AUDIT_LIST_BYTES_MAX,
    AUDIT_SUSPECT_COUNT_MAX,
};
use crate::store::Store;
use crate::store::survey::Survey;
use crate::wire::audit::{Audit, Sight, Terms, read_listing};
use crate::wire::op::BucketRef;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;

/// What a listed key costs beside its bytes.
const LISTED_BYTES: usize = 100;

/// An audit that this node has asked for.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) link: LinkId,
    pub(super) number: u64,
    pub(super) terms: Terms,
    ends_ms: u64,
    stage: Stage,
    pub(super) found: Found,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The other has yet to agree.
    Asked,
    /// The store is being summed, and so is the other's.
    Summing { survey: Survey, sums: Sums, is_summed: bool, theirs: Option<Vec<u64>> },
    /// The sums of some groups' leaves are on their way.
    Narrowing { sums: Sums, groups: Vec<u8>, leaves: Vec<u16> },
    /// The keys of the leaves that differ are being listed.
    Listing { survey: Survey, mine: Listed },
    /// The other's keys are coming.
    Comparing { mine: Listed, suspects: VecDeque<Suspect>, floor: Hlc },
    /// Those that differ are looked at again.
    Checking { suspects: VecDeque<Suspect>, floor: Hlc, batch: Vec<Suspect> },
}

/// Keys of some leaves, and how they look here.
#[derive(Debug)]
pub(super) struct Listed {
    leaves: HashSet<u16>,
    keys: HashMap<(BucketName, Box<[u8]>), Sight>,
    bytes: usize,
}

impl Asking {
    pub(super) fn new((link, number): (LinkId, u64), terms: Terms, ends_ms: u64) -> Asking {
        let (stage, found) = (Stage::Asked, Found::default());
        Asking { link, number, terms, ends_ms, stage, found }
    }

    pub(super) fn is_late(&self, at_ms: u64) -> bool {
        at_ms >= self.ends_ms
    }
}

/// What comes of a step.
pub(super) enum Next {
    /// The audit goes on.
    On(Stage),
    /// It is over: all that differs has been looked at.
    Over,
    /// It came to nothing.
    Nothing,
}

impl Replica {
    /// Goes on with an audit that this node has asked for, for so many steps through the store.
    pub(super) fn go_on_asking(
        &mut self,
        around: Circumstances<'_>,
        mut asking: Asking,
        steps: u64,
    ) {
        let mut stage = asking.stage;
        for _ in 0..steps {
            stage = match stage {
                Stage::Summing { mut survey, mut sums, is_summed: false, theirs } => {
                    let is_summed = sums.go_on(around.store, &mut survey, asking.terms);
                    if survey.has_moved() {
                        self.say(asking.link, asking.number, Audit::Done);
                        return self.fail_audit(around.now.at_ms);
                    }
                    Stage::Summing { survey, sums, is_summed, theirs }
                }
                Stage::Listing { mut survey, mut mine } => {
                    if mine.go_on(around.store, &mut survey, asking.terms) {
                        let leaves = mine.leaves.iter().copied().collect();
                        self.say(asking.link, asking.number, Audit::WantKeys(leaves));
                        let suspects = VecDeque::new();
                        Stage::Comparing { mine, suspects, floor: Hlc::ZERO }
                    } else {
                        Stage::Listing { survey, mine }
                    }
                }
                stage => stage,
            };
        }
        asking.stage = Stage::Asked;
        let next = match stage {
            Stage::Summing { sums, is_summed: true, theirs: Some(theirs), .. } => {
                self.compare_groups(&asking, sums, &theirs)
            }
            Stage::Checking { suspects, floor, batch } if batch.is_empty() => {
                self.check(around, &asking, (suspects, floor))
            }
            stage => Next::On(stage),
        };
        self.follow(around, asking, next);
    }

    fn follow(&mut self, around: Circumstances<'_>, asking: Asking, next: Next) {
        match next {
            Next::On(stage) => self.audits.asking = Some(Asking { stage, ..asking }),
            Next::Over => self.end_audit(around, asking),
            Next::Nothing => {
                self.say(asking.link, asking.number, Audit::Done);
                self.fail_audit(around.now.at_ms);
            }
        }
    }

    /// Deals with a message of the one who answers.
    pub(super) fn take_answer(
        &mut self,
        around: Circumstances<'_>,
        (id, number): (LinkId, u64),
        audit: Audit,
    ) -> Result<(), Violation> {
        let is_this = |asking: &mut Asking| (asking.link, asking.number) == (id, number);
        // An answer may come after the asking was given up.
        let Some(mut asking) = self.audits.asking.take_if(is_this) else { return Ok(()) };
        let stage = std::mem::replace(&mut asking.stage, Stage::Asked);
        let next = match (stage, audit) {
            (_, Audit::Decline) => Next::Nothing,
            (Stage::Asked, Audit::Agree(terms)) => {
                if terms.cut > asking.terms.cut || terms.until_ms != asking.terms.until_ms {
                    return Err(Violation::new("agrees to an audit that nobody asked for"));
                }
                asking.terms = terms;
                let (survey, sums) = (Survey::new(around.store), Sums::new());
                Next::On(Stage::Summing { survey, sums, is_summed: false, theirs: None })
            }
            (Stage::Summing { survey, sums, is_summed, theirs: None }, Audit::Groups(theirs)) => {
                if theirs.len() != AUDIT_GROUP_COUNT {
                    return Err(Violation::new("sends too few sums"));
                }
                Next::On(Stage::Summing { survey, sums, is_summed, theirs: Some(theirs) })
            }
            (Stage::Narrowing { sums, groups, leaves }, Audit::Leaves(theirs)) => {
                self.compare_leaves(around, &mut asking, (sums, groups, leaves), &theirs)?
            }
            (
                Stage::Comparing { mine, suspects, floor },
                Audit::Keys { floor: theirs, keys, done },
            ) => {
                let floor = floor.max(theirs);
                self.compare_keys(&mut asking, (mine, suspects, floor), (&keys, done))?
            }
            (Stage::Checking { suspects, floor, batch }, Audit::Checked { keys, entries })
                if !batch.is_empty() =>
            {
                let left = self.judge(around, &mut asking, batch, (&keys, entries.into()))?;
                let suspects = left.into_iter().chain(suspects).collect();
                Next::On(Stage::Checking { suspects, floor, batch: Vec::new() })
            }
            _ => return Err(Violation::new("answers an audit out of turn")),
        };
        self.follow(around, asking, next);
        Ok(())
    }

    fn compare_groups(&mut self, asking: &Asking, sums: Sums, theirs: &[u64]) -> Next {
        let mine = sums.groups();
        let differ = |group: &u8| mine[usize::from(*group)] != theirs[usize::from(*group)];
        let groups: Vec<u8> = (0..=u8::MAX).filter(differ).collect();
        self.narrow(asking, (sums, groups, Vec::new()))
    }

    /// Asks for the leaves of the next groups that differ.
    fn narrow(
        &mut self,
        asking: &Asking,
        (sums, groups, leaves): (Sums, Vec<u8>, Vec<u16>),
    ) -> Next {
        if groups.is_empty() {
            return Next::Over;
        }
        let now = groups.iter().copied().take(AUDIT_GROUPS_ASKED_MAX).collect();
        self.say(asking.link, asking.number, Audit::WantLeaves(now));
        Next::On(Stage::Narrowing { sums, groups, leaves })
    }

    fn compare_leaves(
        &mut self,
        around: Circumstances<'_>,
        asking: &mut Asking,
        (sums, mut groups, mut leaves): (Sums, Vec<u8>, Vec<u16>),
        theirs: &[u64],
    ) -> Result<Next, Violation> {
        let later = groups.split_off(groups.len().min(AUDIT_GROUPS_ASKED_MAX));
        if theirs.len() != groups.len() * AUDIT_GROUP_COUNT {
            return Err(Violation::new("sends sums of other leaves than was asked"));
        }
        for (group, theirs) in groups.iter().zip(theirs.chunks(AUDIT_GROUP_COUNT)) {
            for (at, (mine, theirs)) in sums.group(*group).iter().zip(theirs).enumerate() {
                if mine != theirs {
                    leaves.push(u16::from(*group) << 8 | at as u16);
                }
            }
        }
        let room = leaves_max(around.store);
        asking.found.is_partial |= leaves.len() > room;
        leaves.truncate(room);
        if !later.is_empty() && leaves.len() < room {
            return Ok(self.narrow(asking, (sums, later, leaves)));
        }
        asking.found.is_partial |= !later.is_empty();
        if leaves.is_empty() {
            return Ok(Next::Over);
        }
        let (survey, mine) = (Survey::new(around.store), Listed::of(leaves));
        Ok(Next::On(Stage::Listing { survey, mine }))
    }

    fn compare_keys(
        &mut self,
        asking: &mut Asking,
        (mut mine, mut suspects, floor): (Listed, VecDeque<Suspect>, Hlc),
        (theirs, done): (&[u8], bool),
    ) -> Result<Next, Violation> {
        let mut suspect = |suspect: Suspect| {
            let differs = suspect.mine != suspect.theirs;
            if !differs || suspect.mine == Sight::Moving || suspect.theirs == Sight::Moving {
                return;
            }
            if suspects.len() < AUDIT_SUSPECT_COUNT_MAX {
                suspects.push_back(suspect);
            } else {
                asking.found.is_partial = true;
            }
        };
        let read = read_listing(theirs, |bucket, key, theirs| {
            if mine.leaves.contains(&leaf_of(name_of(bucket, key))) {
                let at = (bucket.to_name(), Box::from(key));
                let found = mine.keys.remove(&at).unwrap_or(Sight::Nothing);
                let (bucket, key) = at;
                suspect(Suspect { bucket, key, mine: found, theirs });
            }
            ControlFlow::Continue(())
        });
        read.map_err(|error| Violation::new(error.to_string()))?;
        if !done {
            self.say(asking.link, asking.number, Audit::WantMore);
            return Ok(Next::On(Stage::Comparing { mine, suspects, floor }));
        }
        for ((bucket, key), sight) in mine.keys {
            if mine.leaves.contains(&leaf_of(name_of(BucketRef::of(&bucket), &key))) {
                suspect(Suspect { bucket, key, mine: sight, theirs: Sight::Nothing });
            }
        }
        Ok(Next::On(Stage::Checking { suspects, floor, batch: Vec::new() }))
    }
}

/// Leaves whose keys may be listed: as many as fit in the memory for that, by their mean size.
fn leaves_max(store: &Store) -> usize {
    let key_count: usize = store.buckets().iter().map(|bucket| bucket.stats().key_count).sum();
    let leaf_bytes = key_count.div_ceil(LEAF_COUNT) * (LISTED_BYTES + 32);
    (AUDIT_LIST_BYTES_MAX / leaf_bytes.max(1)).clamp(1, AUDIT_LEAF_COUNT_MAX)
}

impl Listed {
    fn of(leaves: Vec<u16>) -> Listed {
        Listed { leaves: leaves.into_iter().collect(), keys: HashMap::new(), bytes: 0 }
    }

    /// Lists more of the keys. Returns whether those were the last.
    fn go_on(&mut self, store: &Store, survey: &mut Survey, terms: Terms) -> bool {
        store.survey_outlines(survey, usize::MAX, |bucket, key, entry| {
            let name = name_of(BucketRef::of(bucket.name()), key);
            let sight = look_at(name, entry, (terms, store.flushed(bucket)));
            if sight == Sight::Nothing || !self.leaves.contains(&leaf_of(name)) {
                return 0;
            }
            if self.bytes + key.len() + LISTED_BYTES > AUDIT_LIST_BYTES_MAX {
                // A leaf is compared as a whole or not at all.
                self.leaves.remove(&leaf_of(name));
                return 0;
            }
            self.bytes += key.len() + LISTED_BYTES;
            self.keys.insert((bucket.name().clone(), key.into()), sight);
            0
        })
    }
}
