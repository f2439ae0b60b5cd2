//! Who belongs to the cluster, by the facts that travel in streams, syncs and reports.

use super::Settings;
use super::status::Role;
use super::vector::{Mark, Vector};
use crate::limits::MEMBER_COUNT_MAX;
use crate::wire::frame::{Member, Report};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Every process that this node knows of, dead ones included.
#[derive(Debug)]
pub(super) struct Members {
    me: Uuid,
    known: BTreeMap<Uuid, Known>,
}

/// One process.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) member: Member,
    /// It will not come back.
    pub(super) gone: bool,
    /// When this node last heard a report of it, or learned of it; ms.
    pub(super) heard_ms: Option<u64>,
    /// What it last said of itself.
    pub(super) report: Option<Report>,
    /// An administrator said that it will not come back, when this was the version of its report.
    pub(super) forgotten: Option<u64>,
}

impl Known {
    fn new(member: Member, heard_ms: Option<u64>) -> Known {
        Known { member, gone: false, heard_ms, report: None, forgotten: None }
    }
}

impl Members {
    pub(super) fn new(settings: &Settings, me: Uuid, now_ms: u64) -> Members {
        let member =
            Member { origin: me, name: settings.name.as_str().into(), role: settings.role };
        let this = Known::new(member, Some(now_ms));
        Members { me, known: BTreeMap::from([(me, this)]) }
    }

    /// Notes that a process exists. `heard_ms` is when it spoke, if it did.
    pub(super) fn learn(&mut self, member: &Member, heard_ms: Option<u64>) {
        if let Some(known) = self.known.get_mut(&member.origin) {
            if known.member.name.is_empty() && !member.name.is_empty() {
                known.member.name.clone_from(&member.name);
                self.supersede(&member.name.clone());
            }
            if let Some(known) = self.known.get_mut(&member.origin) {
                known.heard_ms = known.heard_ms.max(heard_ms);
            }
            return;
        }
        if self.known.len() >= MEMBER_COUNT_MAX {
            // Only a peer that makes them up can be the reason; what it makes up is not needed.
            return;
        }
        self.known.insert(member.origin, Known::new(member.clone(), heard_ms));
        self.supersede(&member.name);
    }

    /// Of the processes with one name only the newest is not gone. Ids are ordered by time.
    fn supersede(&mut self, name: &str) {
        if name.is_empty() {
            return;
        }
        let newest = self
            .known
            .iter()
            .filter(|(_, known)| &*known.member.name == name)
            .map(|(id, _)| *id)
            .max();
        for (id, known) in &mut self.known {
            if &*known.member.name == name && Some(*id) != newest && *id != self.me {
                known.gone = true;
            }
        }
    }

    /// The name and role of a process, as far as they are known.
    pub(super) fn describe(&self, origin: Uuid) -> Member {
        match self.known.get(&origin) {
            Some(known) => known.member.clone(),
            None => Member { origin, name: "".into(), role: Role::Master },
        }
    }

    /// Whether a newer process has this one's name.
    pub(super) fn is_superseded(&self) -> bool {
        let Some(mine) = self.known.get(&self.me) else { return false };
        let newer = self.known.range(self.me..).skip(1);
        newer.into_iter().any(|(_, known)| known.member.name == mine.member.name)
    }

    pub(super) fn get(&self, origin: Uuid) -> Option<&Known> {
        self.known.get(&origin)
    }

    pub(super) fn get_mut(&mut self, origin: Uuid) -> Option<&mut Known> {
        self.known.get_mut(&origin)
    }

    /// Whether no other process was ever heard of.
    pub(super) fn is_single(&self) -> bool {
        self.known.len() == 1
    }

    /// Everyone, gone or not, by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Everyone who is gone, by id.
    pub(super) fn gone(&self) -> Vec<Uuid> {
        self.known.iter().filter(|(_, known)| known.gone).map(|(id, _)| *id).collect()
    }

    /// Marks a process as gone because another node says so, unless this one has heard it itself.
    pub(super) fn believe_gone(&mut self, origin: Uuid) {
        if let Some(known) = self.known.get_mut(&origin).filter(|known| known.heard_ms.is_none()) {
            known.gone = origin != self.me;
        }
    }

    /// Marks those as gone whom nobody has heard of since `before_ms`. Those whom nobody ever
    /// heard count from the start, at `started_ms`.
    pub(super) fn expire(&mut self, before_ms: u64, started_ms: u64) {
        for (id, known) in &mut self.known {
            if *id != self.me && known.heard_ms.unwrap_or(started_ms) < before_ms {
                known.gone = true;
            }
        }
    }

    /// A process that was taken for gone has spoken: it is not, unless a newer one has its name.
    pub(super) fn revive(&mut self, origin: Uuid) {
        let Some(known) = self.known.get_mut(&origin) else { return };
        (known.gone, known.forgotten) = (false, None);
        let name = known.member.name.clone();
        self.supersede(&name);
    }

    /// Marks a process as gone for good, because an administrator says so. It speaks up, should it
    /// come back all the same.
    pub(super) fn forget(&mut self, origin: Uuid) {
        let version = self.get(origin).and_then(|known| known.report.as_ref());
        let version = version.map_or(0, |report| report.version);
        self.forget_as_of(origin, version);
    }

    /// The same, told by another node: where this one has heard no later report than of `version`.
    /// Returns whether that is news.
    pub(super) fn forget_as_of(&mut self, origin: Uuid, version: u64) -> bool {
        let known = self.known.get_mut(&origin).filter(|_| origin != self.me);
        let Some(known) = known.filter(|known| known.forgotten.is_none()) else { return false };
        if known.report.as_ref().is_some_and(|report| report.version > version) {
            return false;
        }
        (known.gone, known.forgotten) = (true, Some(version));
        true
    }

    /// Whom an administrator has called gone for good, each as of the version of its report.
    pub(super) fn forgotten(&self) -> Vec<(Uuid, u64)> {
        let forgotten = |(id, known): (&Uuid, &Known)| Some((*id, known.forgotten?));
        self.known.iter().filter_map(forgotten).collect()
    }

    /// Whose word this node's floor waits for: masters that are not gone, and itself. A replica
    /// holds nobody's floor but its own.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Uuid, &Known)> {
        let rows = self.known.iter().map(|(id, known)| (*id, known));
        rows.filter(|(id, known)| {
            *id == self.me || (!known.gone && known.member.role == Role::Master)
        })
    }

    /// Origins whose ops may still be missing somewhere: all that are known, but those that are
    /// gone and of whom every master has all that there is. `settled`, ascending, are the gone of
    /// whom this node, whose vector is `mine`, holds nothing that is in nobody's stream.
    pub(super) fn columns<'a>(
        &'a self,
        settled: &'a [Uuid],
        mine: &'a Vector,
    ) -> impl Iterator<Item = Uuid> + 'a {
        let masters = self.known.iter().filter(|(_, known)| known.member.role == Role::Master);
        let is_settled = |id: &Uuid| settled.binary_search(id).is_ok();
        masters
            .filter(move |(id, _)| !(is_settled(id) && self.is_retired(**id, mine)))
            .map(|(id, _)| *id)
    }

    /// Whether every master agrees that `origin` is gone, and has fewer of its ops than `held`.
    pub(super) fn have_let_go(&self, origin: Uuid, held: u64) -> bool {
        self.have_let_go_where(origin, |has| has.seq < held)
    }

    /// Whether every master agrees that `origin` is gone, and `is_so` of what each has of it.
    pub(super) fn have_let_go_where(&self, origin: Uuid, is_so: impl Fn(Mark) -> bool) -> bool {
        let mut reports = self
            .rows()
            .filter_map(|(_, known)| {
                let is_master = known.member.role == Role::Master;
                known.report.as_ref().filter(|_| is_master)
            })
            .peekable();
        reports.peek().is_some()
            && reports
                .all(|report| report.gone.contains(&origin) && is_so(report.vector.get(origin)))
    }

    /// Whether everyone who counts agrees that `origin` is gone, and has as much of it as this
    /// node, whose vector is `mine`.
    fn is_retired(&self, origin: Uuid, mine: &Vector) -> bool {
        let held = mine.seq(origin);
        self.rows().filter(|(id, _)| *id != self.me).all(|(_, known)| {
            known.report.as_ref().is_some_and(|report| {
                // Who has never heard of it holds nothing of it.
                let seq = report.vector.seq(origin);
                let unknown =
                    seq == 0 && report.members.iter().all(|member| member.origin != origin);
                (report.gone.contains(&origin) || unknown) && seq == held
            })
        })
    }
}
