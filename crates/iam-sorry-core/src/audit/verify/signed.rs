//! What checkpoints cover, and whether they follow each other.

use std::collections::BTreeMap;

use super::super::checkpoint::{Checkpoint, Previous};
use super::super::lane::{Hash, LaneHeads, LaneId};
use super::finding::{Finding, Report};
use super::lane::Lane;

/// How many checkpoints are remembered, to know one that comes again.
const REMEMBERED: usize = 16_384;
/// How much older than the last checkpoint a record may be that it does not cover: instances' clocks differ.
const CLOCKS: i64 = 3_600_000;

/// The checkpoints that were verified.
#[derive(Debug, Default)]
pub(super) struct Signed {
    /// Their signatures, by number.
    signatures: BTreeMap<u64, [u8; 64]>,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    number: u64,
    hash: Hash,
    heads: LaneHeads,
    time_ms: i64,
}

impl Signed {
    /// Whether it was there before: the key signs one text for it, so the same signature is the same line. One from farther
    /// back than signatures are remembered was.
    pub(super) fn has(&self, checkpoint: &Checkpoint) -> bool {
        let forgotten = self.signatures.len() == REMEMBERED
            && self.signatures.first_key_value().is_some_and(|(first, _)| checkpoint.number < *first);
        forgotten || self.signatures.get(&checkpoint.number) == Some(&checkpoint.signature)
    }

    /// Takes one that was verified.
    pub(super) fn take(
        &mut self,
        checkpoint: &Checkpoint,
        lanes: &mut BTreeMap<LaneId, Lane>,
        report: &mut Report,
    ) {
        if self.signatures.len() == REMEMBERED {
            self.signatures.pop_first();
        }
        self.signatures.insert(checkpoint.number, checkpoint.signature);
        report.checkpoints += 1;
        for head in checkpoint.heads.iter() {
            cover(lanes, head.lane, head.seq);
        }
        if let Some(last) = &self.last {
            last.is_followed_by(checkpoint, lanes, report);
        }
        if self.last.as_ref().is_none_or(|last| last.number < checkpoint.number) {
            report.last_checkpoint = Some(checkpoint.number);
            self.last = Some(Last {
                number: checkpoint.number,
                hash: checkpoint.hash(),
                heads: checkpoint.heads.clone(),
                time_ms: checkpoint.time_ms,
            });
        }
    }

    /// What no checkpoint covers.
    pub(super) fn finish(&self, lanes: &BTreeMap<LaneId, Lane>, longest: Option<u64>, report: &mut Report) {
        let unsigned: Vec<_> = lanes.iter().filter_map(|(id, lane)| Some((*id, lane.unsigned()?))).collect();
        report.unsigned = unsigned.iter().map(|(_, (_, count))| count).sum();
        let Some(last) = &self.last else {
            return unsigned.iter().for_each(|one| report.find(not_signed(one)));
        };
        for (id, lane) in lanes {
            if let Some((seq, _)) = lane.uncovered().filter(|(_, time_ms)| *time_ms < last.time_ms - CLOCKS) {
                report.find(Finding::LeftOut(id.record(seq)));
            }
        }
        if longest.is_some_and(|most| report.unsigned > most) {
            unsigned.iter().for_each(|one| report.find(not_signed(one)));
        }
    }
}

fn not_signed((lane, (from, count)): &(LaneId, (u64, u64))) -> Finding {
    Finding::Unsigned { lane: *lane, from: *from, to: from + count - 1 }
}

impl Last {
    fn is_followed_by(&self, next: &Checkpoint, lanes: &BTreeMap<LaneId, Lane>, report: &mut Report) {
        let number = next.number;
        match next.previous {
            Previous::Seq(previous) => {
                if self.number < previous {
                    report.find(Finding::MissingCheckpoint { number: previous });
                }
                return;
            }
            Previous::Hash(_) if number > self.number + 1 => {
                return report.find(Finding::MissingCheckpoint { number: number - 1 });
            }
            Previous::Hash(hash) if number == self.number + 1 && hash == Some(self.hash) => {}
            // A number that was there before, with other content; or the wrong one before it.
            Previous::Hash(_) => return report.find(Finding::ForkedCheckpoint { number }),
        }
        for before in self.heads.iter() {
            let lane = before.lane;
            let goes_on = next.heads.get(lane).is_some_and(|head| head.seq >= before.seq);
            let settled = lanes.get(&lane).is_some_and(Lane::is_settled);
            if !goes_on && !settled {
                report.find(Finding::OmittedLane { number, lane });
            }
        }
    }
}

/// A lane is covered up to `seq`, and with it what its records name.
pub(super) fn cover(lanes: &mut BTreeMap<LaneId, Lane>, lane: LaneId, seq: u64) {
    let mut due = vec![(lane, seq)];
    while let Some((lane, seq)) = due.pop() {
        if let Some(lane) = lanes.get_mut(&lane) {
            due.extend(lane.sign(seq));
        }
    }
}
