//! What a verification says: what is wrong, where an operator continued the trail, and what there is.

use std::fmt;

use super::super::lane::{ChainId, LaneHead, LaneHeads, LaneId, RecordId};
use super::super::signature::InvalidSignature;

/// Findings beyond this many are counted only: a file of something else must not fill the memory.
pub(super) const MOST_FINDINGS: usize = 1000;

/// One thing that is wrong with an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A line that is none of an export. Counted from 1.
    Garbage {
        /// The line's number.
        line: u64,
        /// Why.
        why: String,
    },
    /// A record or export of a version that this program does not know.
    Version {
        /// The line's number.
        line: u64,
        /// The version.
        version: u32,
    },
    /// A record's hash is not that of its content: the content was changed.
    Changed(RecordId),
    /// A record does not carry the hash of the one before: one of the two was replaced.
    Unlinked(RecordId),
    /// Records are not there.
    Missing {
        /// The lane.
        lane: LaneId,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A record stands behind a later one of its lane.
    OutOfOrder(RecordId),
    /// A place in a lane stands there again, and it is not the same record: one was put in.
    Again(RecordId),
    /// The first record of a lane does not begin it: it is of another trail, or names no other lanes.
    OtherGenesis(LaneId),
    /// Lines of two trails in one export.
    TwoChains {
        /// The line's number.
        line: u64,
    },
    /// Records at the end of a lane are not there, though a later state is known.
    CutTail {
        /// The last that is there.
        last: RecordId,
        /// The last that is known to have been.
        known: u64,
    },
    /// No record of a lane is there, though a record, a checkpoint or a note names it.
    DroppedLane {
        /// The last record of the lane that is known to have been.
        known: RecordId,
    },
    /// A record stands behind the end of its lane: behind its closing record, or behind the state in which a dead instance left
    /// it.
    AfterEnd(RecordId),
    /// A signed checkpoint, a record of another lane, or a state known from elsewhere, has another hash for this record: the lane
    /// was made anew.
    Rebuilt(RecordId),
    /// A record names a list of groups that no record before it in its lane has.
    UnknownGroups(RecordId),
    /// A list of groups is not the one that its digest names.
    ChangedGroups {
        /// The line's number.
        line: u64,
    },
    /// A person's signature in a record proves nothing.
    ForgedSignature {
        /// The record.
        record: RecordId,
        /// Why.
        why: InvalidSignature,
    },
    /// A record names an approver's decision that is not there, or is another one.
    NoApproval {
        /// The record.
        record: RecordId,
        /// The decision, as it is named.
        decision: String,
    },
    /// The signature does not fit the checkpoint.
    BadSignature {
        /// The checkpoint.
        number: u64,
    },
    /// A checkpoint is signed with a key that was not given.
    UnknownKey {
        /// The checkpoint.
        number: u64,
        /// The key.
        key_id: String,
    },
    /// A checkpoint was taken away.
    MissingCheckpoint {
        /// The missing one.
        number: u64,
    },
    /// A checkpoint does not follow the one before it: two histories were signed.
    ForkedCheckpoint {
        /// The later one.
        number: u64,
    },
    /// A checkpoint leaves out a lane that the one before it covers, and that has not ended in a known state.
    OmittedLane {
        /// The later one.
        number: u64,
        /// The lane.
        lane: LaneId,
    },
    /// The last checkpoint does not cover a record that is much older: its lane was kept from being signed.
    LeftOut(RecordId),
    /// More records than allowed follow the last checkpoint, or there is none at all.
    Unsigned {
        /// The lane.
        lane: LaneId,
        /// The first that no checkpoint covers.
        from: u64,
        /// The last record.
        to: u64,
    },
    /// Records were left out on purpose: nothing can be said about the chain.
    Filtered,
    /// There is no record.
    Empty,
}

/// A record of the operator's command that continued the trail on another database (`audit restored`, `migrate --new`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The record.
    pub record: RecordId,
    /// The operator's reason.
    pub reason: String,
    /// The trail before it, and its last known states, where they are known.
    pub expected: Option<(String, LaneHeads)>,
}

impl Break {
    /// The action of its record.
    pub const ACTION: &str = "audit-restored";
    /// Details of its record: why, and what was found.
    pub const REASON: &str = "reason";
    /// See [`Break::REASON`].
    pub const FOUND: &str = "found";
    /// Details of its record: the trail that should have been there.
    pub const CHAIN: &str = "expected-chain";
    /// Details of its record: its last known states, as [`LaneHeads`] are written.
    pub const STATE: &str = "expected-state";

    pub(super) fn read(record: RecordId, text: &str) -> Option<Self> {
        let event: super::super::Event = serde_json::from_str(text).ok()?;
        let detail = |name: &str| event.details.get(name).cloned();
        let states = detail(Self::STATE).and_then(|states| LaneHeads::parse(&states));
        let expected = detail(Self::CHAIN).zip(states);
        Some(Self { record, reason: detail(Self::REASON).unwrap_or_default(), expected })
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.trim_end_matches('.');
        write!(f, "Record {} continues the trail after a break: {reason}.", self.record)?;
        match &self.expected {
            Some((chain, states)) => write!(f, " Known before it: {states} of the trail {chain}."),
            None => Ok(()),
        }
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many records there are, each counted once.
    pub records: u64,
    /// How many lines stand there again, identical to the first: no harm.
    pub repeated: u64,
    /// In how many lanes they are.
    pub lanes: u64,
    /// The last record of each lane that has not ended in a state that another lane's record names: what to note for the next
    /// verification (`--expect`).
    pub heads: LaneHeads,
    /// The trail.
    pub chain: Option<ChainId>,
    /// How many checkpoints were verified.
    pub checkpoints: u64,
    /// The last one.
    pub last_checkpoint: Option<u64>,
    /// How many records no verified checkpoint covers.
    pub unsigned: u64,
    /// How many records have a person's own signature that was verified.
    pub signatures: u64,
    /// Operations whose outcome is not there, with the record of their intent: they may still have been under way.
    pub open: Vec<(RecordId, String)>,
    /// Where an operator continued the trail on a restored or new database. What was known before such a record may differ
    /// from what is here, or be missing.
    pub breaks: Vec<Break>,
    /// States that were expected of records before those that are here: nothing could be compared.
    pub before: Vec<LaneHead>,
    /// What is wrong, at most 1,000.
    pub findings: Vec<Finding>,
    /// How many findings there were.
    pub count: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.count == 0
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.count += 1;
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// A lane in a sentence; lane zero is the trail itself, as far as version 1 goes.
struct Of(LaneId);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LaneId::ZERO => Ok(()),
            lane => write!(f, " of lane {lane}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage { line, why } => write!(f, "line {line} can't be read: {why}"),
            Self::Version { line, version } => {
                write!(f, "line {line} is of version {version}, which this program does not know")
            }
            Self::Changed(record) => {
                write!(f, "record {record} was changed: its hash is not that of its content")
            }
            Self::Unlinked(record) => write!(
                f,
                "record {record} does not follow the record before it: one of the two was changed and hashed anew"
            ),
            Self::Missing { lane, from, to } if from == to => {
                write!(f, "record {} is missing", lane.record(*from))
            }
            Self::Missing { lane, from, to } => write!(f, "records {from} to {to}{} are missing", Of(*lane)),
            Self::OutOfOrder(record) => write!(f, "record {record} stands behind a later one"),
            Self::Again(record) => write!(f, "a second record {record} was put in, behind its place"),
            Self::OtherGenesis(lane) => {
                write!(f, "record {} does not begin this trail: it is of another one", lane.record(1))
            }
            Self::TwoChains { line } => write!(f, "line {line} is of another trail"),
            Self::CutTail { last, known } => write!(
                f,
                "the end was cut off: it stops at record {last}, and record {} is known",
                last.lane.record(*known)
            ),
            Self::DroppedLane { known } => {
                write!(f, "lane {} was taken away: its record {} is known", known.lane, known.seq)
            }
            Self::AfterEnd(record) => {
                write!(f, "record {record} was put in behind the end of its lane")
            }
            Self::Rebuilt(record) => write!(
                f,
                "record {record} is not the one that was signed, named or noted: the chain was made anew before it"
            ),
            Self::UnknownGroups(record) => {
                write!(f, "record {record} names a list of groups that no record before it has")
            }
            Self::ChangedGroups { line } => {
                write!(f, "the list of groups in line {line} was changed: its digest is another one")
            }
            Self::ForgedSignature { record, why } => {
                write!(f, "the person's signature in record {record} proves nothing: {why}")
            }
            Self::NoApproval { record, decision } => {
                write!(f, "record {record} names an approval that is not there: {decision}")
            }
            Self::BadSignature { number } => write!(f, "the signature of checkpoint {number} does not fit"),
            Self::UnknownKey { number, key_id } => {
                write!(f, "checkpoint {number} is signed with a key that was not given ({key_id})")
            }
            Self::MissingCheckpoint { number } => {
                write!(f, "checkpoint {number} was taken away: a later one names it")
            }
            Self::ForkedCheckpoint { number } => {
                write!(f, "checkpoint {number} does not follow the one before it: two histories were signed")
            }
            Self::OmittedLane { number, lane } => {
                write!(f, "checkpoint {number} leaves out lane {lane}, which the one before it covers")
            }
            Self::LeftOut(record) => write!(
                f,
                "the last checkpoint does not cover record {record}, which is older by an hour: its lane was kept from being \
                 signed, or its instance's clock is wrong"
            ),
            Self::Unsigned { lane, from, to } => {
                write!(
                    f,
                    "no checkpoint covers records {from} to {to}{}: they could have been made anew",
                    Of(*lane)
                )
            }
            Self::Filtered => f.write_str(
                "records were left out of this export on purpose: only a whole one can be verified",
            ),
            Self::Empty => f.write_str("there is no record in it"),
        }
    }
}
