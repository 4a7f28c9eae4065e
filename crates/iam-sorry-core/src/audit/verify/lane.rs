//! One lane of an export, followed record by record. What was found once is not reported again for the records behind it:
//! after a gap or a changed record, the check goes on from what is written there.
//!
//! A line that stands there again, byte by byte the same, is counted and is no finding: whoever forwards records sends
//! some again after a lost answer. One that differs in anything was put in.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::super::lane::{Hash, LaneHead, LaneId};
use super::finding::{Finding, Report};

/// A record as it came, and what it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) previous: Hash,
    pub(super) time_ms: i64,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A record that was not there before.
    New,
    /// One that was there before, or may have been: see [`Repeat`].
    Repeated,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    seq: u64,
    hash: Hash,
    time_ms: i64,
}

/// Records that stand there again, from farther back than hashes are remembered. Each must carry the hash of the one before:
/// then the first that is remembered vouches for all of them, since its hash covers theirs.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    first: u64,
    last: (u64, Hash),
    lines: u64,
}

/// A lane that records are in, or that something names.
#[derive(Debug)]
pub(super) struct Lane {
    id: LaneId,
    begins_at: u64,
    /// Whether the record that it is meant to begin with must be there.
    is_awaited: bool,
    /// The record behind which it goes on, as a header says.
    begun: Option<u64>,
    first: Option<(u64, Hash)>,
    head: Option<Seen>,
    /// Gaps: first and last missing record. Few, or the export is hopeless.
    missing: BTreeMap<u64, u64>,
    /// The last records, as many as the verifier remembers.
    recent: VecDeque<Seen>,
    repeat: Option<Repeat>,
    /// States that are known and whose record has not come yet.
    known: BTreeMap<u64, Vec<Hash>>,
    /// The lists of groups that stand in it.
    groups: HashSet<Hash>,
    /// Its last record, once it is closed, or another lane says that its instance died.
    end: Option<u64>,
    /// The last record that a record of another lane names.
    named: u64,
    signed_to: u64,
    /// The first record that no checkpoint covers, and its time.
    uncovered: Option<(u64, i64)>,
    /// Which of its records name which states of other lanes: a signature over the one covers the other.
    pub(super) links: Vec<(u64, LaneId, u64)>,
}

impl Lane {
    pub(super) fn new(id: LaneId) -> Self {
        Self {
            id,
            begins_at: 1,
            is_awaited: false,
            begun: None,
            first: None,
            head: None,
            missing: BTreeMap::new(),
            recent: VecDeque::new(),
            repeat: None,
            known: BTreeMap::new(),
            groups: HashSet::new(),
            end: None,
            named: 0,
            signed_to: 0,
            uncovered: None,
            links: Vec::new(),
        }
    }

    pub(super) fn begins_at(&mut self, seq: u64) {
        self.begins_at = seq;
        self.is_awaited = true;
    }

    /// The export is meant to begin behind record `seq`; nothing of it may come.
    pub(super) fn goes_on_from(&mut self, seq: u64) {
        (self.begins_at, self.begun) = (seq + 1, Some(seq));
    }

    /// Takes the next record of the lane. The caller remembers it ([`Lane::forget`] undoes that).
    pub(super) fn take(&mut self, entry: Entry, report: &mut Report) -> Taken {
        let seq = entry.seq;
        if self.is_repeated(entry, report) {
            return Taken::Repeated;
        }
        report.records += 1;
        if self.end.is_some_and(|end| seq > end) {
            report.find(Finding::AfterEnd(self.id.record(seq)));
        }
        match self.head {
            None => {
                self.first = Some((seq, entry.previous));
                if seq > self.begins_at {
                    self.missing.insert(self.begins_at, seq - 1);
                }
                // What came before is not here; a state that is known of it may still vouch for it.
                if let Some(before) = self.known.remove(&(seq - 1)) {
                    self.compare(seq - 1, &entry.previous, &before, report);
                }
                self.known = self.known.split_off(&seq);
            }
            Some(last) if seq == last.seq + 1 => {
                if entry.previous != last.hash {
                    report.find(Finding::Unlinked(self.id.record(seq)));
                }
            }
            Some(last) if seq > last.seq => {
                self.missing.insert(last.seq + 1, seq - 1);
            }
            Some(_) => {
                self.late(seq, &entry.hash, report);
                return Taken::New;
            }
        }
        let seen = Seen { seq, hash: entry.hash, time_ms: entry.time_ms };
        self.head = Some(seen);
        self.recent.push_back(seen);
        if seq > self.signed_to {
            self.uncovered.get_or_insert((seq, entry.time_ms));
        }
        if let Some(known) = self.known.remove(&seq) {
            self.compare(seq, &entry.hash, &known, report);
        }
        Taken::New
    }

    /// How many records are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.recent.len()
    }

    /// Forgets the oldest record that is remembered.
    pub(super) fn forget(&mut self) {
        self.recent.pop_front();
    }

    /// Whether the line is one that was there before, or may be: see [`Repeat`].
    fn is_repeated(&mut self, entry: Entry, report: &mut Report) -> bool {
        let Entry { seq, hash, previous, .. } = entry;
        let begun = self.repeat.take();
        let follows = begun.filter(|it| it.last.0 + 1 == seq && it.last.1 == previous);
        if let (Some(begun), None) = (begun, follows) {
            report.find(Finding::Again(self.id.record(begun.first)));
        }
        let lines = follows.map_or(0, |it| it.lines) + 1;
        if self.seen(seq) == Some(hash) {
            report.repeated += lines;
            return true;
        }
        let oldest = self.recent.front().map_or(u64::MAX, |oldest| oldest.seq);
        let forgotten = seq < oldest
            && self.head.is_some_and(|head| seq < head.seq)
            && self.first.is_some_and(|(first, _)| seq >= first)
            && !self.is_missing(seq);
        if forgotten {
            let first = follows.map_or(seq, |it| it.first);
            self.repeat = Some(Repeat { first, last: (seq, hash), lines });
        } else if let Some(begun) = follows {
            report.find(Finding::Again(self.id.record(begun.first)));
        }
        forgotten
    }

    /// The hash of a record that is remembered; that of the last one always is.
    fn seen(&self, seq: u64) -> Option<Hash> {
        if let Some(head) = self.head.filter(|head| head.seq == seq) {
            return Some(head.hash);
        }
        let at = self.recent.binary_search_by_key(&seq, |seen| seen.seq).ok()?;
        self.recent.get(at).map(|seen| seen.hash)
    }

    fn is_missing(&self, seq: u64) -> bool {
        self.missing.range(..=seq).next_back().is_some_and(|(_, to)| seq <= *to)
    }

    /// A record whose number lies behind that of an earlier line.
    fn late(&mut self, seq: u64, hash: &Hash, report: &mut Report) {
        let gap = self.missing.range(..=seq).next_back().map(|(from, to)| (*from, *to));
        match gap.filter(|(_, to)| seq <= *to) {
            Some((from, to)) => {
                self.missing.remove(&from);
                if from < seq {
                    self.missing.insert(from, seq - 1);
                }
                if seq < to {
                    self.missing.insert(seq + 1, to);
                }
                report.find(Finding::OutOfOrder(self.id.record(seq)));
                if let Some(known) = self.known.remove(&seq) {
                    self.compare(seq, hash, &known, report);
                }
            }
            None => report.find(Finding::Again(self.id.record(seq))),
        }
    }

    /// Compares the record with a state that is known of it, now or when it comes. False: it is too far back for that.
    pub(super) fn expect(&mut self, seq: u64, hash: Hash, report: &mut Report) -> bool {
        let last = self.head.map_or(0, |head| head.seq);
        if seq > last || self.is_missing(seq) {
            self.known.entry(seq).or_default().push(hash);
        } else if let Some(seen) = self.seen(seq) {
            self.compare(seq, &seen, &[hash], report);
        } else if let Some((first, previous)) = self.first
            && seq < first
        {
            if seq + 1 == first {
                self.compare(seq, &previous, &[hash], report);
            }
        } else {
            return false;
        }
        true
    }

    fn compare(&self, seq: u64, hash: &Hash, known: &[Hash], report: &mut Report) {
        if known.iter().any(|known| known != hash) {
            report.find(Finding::Rebuilt(self.id.record(seq)));
        }
    }

    /// Its last record is this one: it says so itself, or another lane does.
    pub(super) fn end_at(&mut self, seq: u64, report: &mut Report) {
        let end = self.end.map_or(seq, |end| end.min(seq));
        let differs = self.end.is_some_and(|other| other != seq);
        if differs || self.head.is_some_and(|head| head.seq > seq) {
            report.find(Finding::AfterEnd(self.id.record(end + 1)));
        }
        self.end = Some(end);
        self.groups = HashSet::new(); // nothing that could name one follows
    }

    /// A record of another lane names this one's state after record `seq`.
    pub(super) fn is_named_at(&mut self, seq: u64) {
        self.named = self.named.max(seq);
    }

    /// Whether it has ended in a state that a record of another lane names, so that it need not be signed by itself.
    pub(super) fn is_settled(&self) -> bool {
        self.end.is_some_and(|end| self.named >= end)
    }

    /// A list of groups stands in a record of it.
    pub(super) fn introduce(&mut self, groups: Hash) {
        self.groups.insert(groups);
    }

    pub(super) fn has_groups(&self, groups: &Hash) -> bool {
        self.groups.contains(groups)
    }

    pub(super) fn is_signed_to(&self, seq: u64) -> bool {
        self.signed_to >= seq
    }

    /// A checkpoint covers it up to `seq`; gives the states of other lanes that are covered by that as well.
    pub(super) fn sign(&mut self, seq: u64) -> Vec<(LaneId, u64)> {
        if seq <= self.signed_to {
            return Vec::new();
        }
        self.signed_to = seq;
        if self.uncovered.is_some_and(|(first, _)| first <= seq) {
            let next = self.recent.partition_point(|seen| seen.seq <= seq);
            self.uncovered = self.recent.get(next).map(|seen| (seen.seq, seen.time_ms));
        }
        self.links.extract_if(.., |(at, ..)| *at <= seq).map(|(_, lane, to)| (lane, to)).collect()
    }

    /// Its last record.
    pub(super) fn head(&self) -> Option<LaneHead> {
        self.head.map(|head| LaneHead { lane: self.id, seq: head.seq, hash: head.hash })
    }

    /// The hash that its first record carries, where that is record 1.
    pub(super) fn genesis(&self) -> Option<Hash> {
        self.first.filter(|(seq, _)| *seq == 1).map(|(_, previous)| previous)
    }

    /// Whether all that is here comes behind `seq` and the state after it.
    pub(super) fn is_behind(&self, seq: u64) -> bool {
        self.first.is_some_and(|(first, _)| seq + 1 < first)
    }

    /// The first record that no checkpoint covers, and its time.
    pub(super) fn uncovered(&self) -> Option<(u64, i64)> {
        self.uncovered
    }

    /// The records that no checkpoint covers: the first, and how many.
    pub(super) fn unsigned(&self) -> Option<(u64, u64)> {
        let ((first, _), head) = self.first.zip(self.head)?;
        let from = (self.signed_to + 1).max(first);
        (from <= head.seq).then(|| (from, head.seq - from + 1))
    }

    /// What is missing of it, now that nothing comes any more. `part`: the export does not begin with the trail, so lanes may be
    /// named that are not in it.
    pub(super) fn finish(&mut self, part: bool, report: &mut Report) {
        if let Some(repeat) = self.repeat.take() {
            report.find(Finding::Again(self.id.record(repeat.first)));
        }
        for (from, to) in std::mem::take(&mut self.missing) {
            report.find(Finding::Missing { lane: self.id, from, to });
        }
        let known = self.known.last_key_value().map_or(0, |(known, _)| *known);
        match self.head {
            Some(head) if known > head.seq => {
                report.find(Finding::CutTail { last: self.id.record(head.seq), known });
            }
            Some(_) => {}
            None => {
                let goes_on = self.begun.is_some_and(|begun| known > begun);
                if self.is_awaited || goes_on || (known > 0 && !part) {
                    let known = if self.is_awaited { known.max(self.begins_at) } else { known };
                    report.find(Finding::DroppedLane { known: self.id.record(known) });
                }
            }
        }
    }
}
