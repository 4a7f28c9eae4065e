//! Checks an export, line by line: needs nothing but the lines and the public key.
//!
//! Every finding names the record that it is about. What was found once is not reported again for the records behind
//! it: after a gap or a changed record, the check goes on from what is written there.
//!
//! A line that stands there again, byte by byte the same, is counted and is no finding: whoever forwards records sends
//! some again after a lost answer. One that differs in anything was put in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use serde::Deserialize;

use super::canonical::{from_hex, hex};
use super::checkpoint::{Checkpoint, CheckpointKey};
use super::event::Phase;
use super::record::{
    ChainId, FORMAT, Hash, Head, InvalidRecord, VERSION, export_header, hash_of, split_export_line,
};

/// Findings beyond this many are counted only: a file of something else must not fill the memory.
const MOST_FINDINGS: usize = 1000;
/// How far behind its record a checkpoint may stand. Sinks write it moments later.
const REMEMBERED: usize = 16_384;

/// A state of the chain that is known from elsewhere: a sink, a checkpoint, a note on paper (`SEQ:HASH`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The record.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Expected {
    /// Reads `SEQ:HASH`.
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, hash) = text.trim().split_once(':')?;
        Some(Self { seq: seq.parse().ok().filter(|seq| *seq > 0)?, hash: from_hex(hash)? })
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, hex(&self.hash))
    }
}

/// One thing that is wrong with an export.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A line that is neither record nor checkpoint. Counted from 1.
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
    Changed {
        /// The record.
        seq: u64,
    },
    /// A record does not carry the hash of the one before: one of the two was replaced.
    Unlinked {
        /// The later one.
        seq: u64,
    },
    /// Records are not there.
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A record stands behind a later one.
    OutOfOrder {
        /// The record.
        seq: u64,
    },
    /// A sequence number stands there again, and it is not the same record: one was put in.
    Again {
        /// The record.
        seq: u64,
    },
    /// Record 1 does not begin the chain that the export or its checkpoints name.
    OtherGenesis,
    /// Lines of two trails in one export.
    TwoChains {
        /// The line's number.
        line: u64,
    },
    /// Records at the end are not there, though a later state is known.
    CutTail {
        /// The last that is there.
        last: u64,
        /// The last that is known to have been.
        known: u64,
    },
    /// A signed checkpoint, or a state known from elsewhere, has another hash for this record: the chain was made anew.
    Rebuilt {
        /// The record.
        seq: u64,
    },
    /// The signature does not fit the checkpoint.
    BadSignature {
        /// The record that it covers.
        seq: u64,
    },
    /// A checkpoint is signed with a key that was not given.
    UnknownKey {
        /// The record that it covers.
        seq: u64,
        /// The key.
        key_id: String,
    },
    /// The checkpoint before this one was taken away.
    MissingCheckpoint {
        /// The record that the missing one covers.
        seq: u64,
    },
    /// More records than allowed follow the last checkpoint, or there is none at all.
    Unsigned {
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
    pub seq: u64,
    /// The operator's reason.
    pub reason: String,
    /// The trail before it, and its last known state, where that is known.
    pub expected: Option<(String, Expected)>,
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
    /// Details of its record: its last known state, `SEQ:HASH`.
    pub const STATE: &str = "expected-state";

    fn read(seq: u64, text: &str) -> Option<Self> {
        let event: super::Event = serde_json::from_str(text).ok()?;
        let detail = |name: &str| event.details.get(name).cloned();
        let expected = detail(Self::CHAIN).zip(detail(Self::STATE).and_then(|state| Expected::parse(&state)));
        Some(Self { seq, reason: detail(Self::REASON).unwrap_or_default(), expected })
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Record {} continues the trail after a break: {}.",
            self.seq,
            self.reason.trim_end_matches('.')
        )?;
        match &self.expected {
            Some((chain, state)) => write!(f, " Known before it: {state} of the trail {chain}."),
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
    /// The first record.
    pub first: Option<u64>,
    /// The last record, with its hash: what to note for the next verification (`--expect`).
    pub head: Option<Expected>,
    /// The trail.
    pub chain: Option<ChainId>,
    /// How many checkpoints were verified.
    pub checkpoints: u64,
    /// The last record that a verified checkpoint covers.
    pub signed_to: Option<u64>,
    /// Operations whose outcome is not there, with the record of their intent: they may still have been under way.
    pub open: Vec<(u64, String)>,
    /// Where an operator continued the trail on a restored or new database. What was known before such a record may differ
    /// from what is here, or be missing.
    pub breaks: Vec<Break>,
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
}

/// Takes an export line by line. Of a sound one it keeps little more than its last 16,384 hashes.
#[derive(Debug, Default)]
pub struct Verifier {
    keys: Vec<CheckpointKey>,
    longest_unsigned: Option<u64>,
    begins_at: Option<u64>,
    report: Report,
    line: u64,
    first_previous: Option<Hash>,
    /// Gaps: first and last missing record. Few, or the export is hopeless.
    missing: BTreeMap<u64, u64>,
    recent: VecDeque<Expected>,
    /// Signatures of checkpoints that were verified, by the record that they cover.
    signatures: BTreeMap<u64, [u8; 64]>,
    repeat: Option<Repeat>,
    /// States that are known and whose record has not come yet.
    known: BTreeMap<u64, Vec<Hash>>,
    open: HashMap<String, u64>,
    filtered: bool,
    last_checkpoint: Option<u64>,
}

/// Records that stand there again, from farther back than hashes are remembered. Each must carry the hash of the one before:
/// then the first that is remembered vouches for all of them, since its hash covers theirs.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    first: u64,
    last: Expected,
    lines: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    chain: &'a str,
    #[serde(default)]
    filtered: u8,
    format: &'a str,
    v: u32,
}

impl Verifier {
    /// With the public keys whose checkpoints count. Without any, checkpoints are passed over and nothing is proved against
    /// somebody who can write the database.
    pub fn new(keys: Vec<CheckpointKey>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// States that are known from elsewhere.
    #[must_use]
    pub fn expect(mut self, expected: impl IntoIterator<Item = Expected>) -> Self {
        for state in expected {
            self.known.entry(state.seq).or_default().push(state.hash);
        }
        self
    }

    /// The record that the export is meant to begin with, where it is not the first: what lies before is not missed.
    #[must_use]
    pub fn begins_at(mut self, seq: u64) -> Self {
        self.begins_at = Some(seq);
        self
    }

    /// How many records may follow the last checkpoint.
    #[must_use]
    pub fn longest_unsigned(mut self, records: u64) -> Self {
        self.longest_unsigned = Some(records);
        self
    }

    /// The next line, without its newline. Empty lines are no lines of an export either.
    pub fn line(&mut self, text: &str) {
        self.line += 1;
        if let Some((hash, record)) = split_export_line(text) {
            return self.record(hash, record);
        }
        if let Ok(checkpoint) = Checkpoint::parse(text) {
            return self.checkpoint(&checkpoint);
        }
        let line = self.line;
        let garbage = || Finding::Garbage { line, why: "neither a record nor a checkpoint".to_owned() };
        let header = serde_json::from_str::<Header<'_>>(text).ok().filter(|header| header.format == FORMAT);
        let Some(header) = header else { return self.find(garbage()) };
        if header.v != VERSION {
            return self.find(Finding::Version { line, version: header.v });
        }
        match ChainId::parse(header.chain) {
            // One spelling, as everywhere.
            Some(chain) if export_header(chain, header.filtered == 1) == text => {
                self.filtered |= header.filtered == 1;
                self.on_chain(chain);
            }
            _ => self.find(garbage()),
        }
    }

    /// The result.
    pub fn finish(mut self) -> Report {
        if let Some(repeat) = self.repeat.take() {
            self.find(Finding::Again { seq: repeat.first });
        }
        for (from, to) in std::mem::take(&mut self.missing) {
            self.find(Finding::Missing { from, to });
        }
        match (self.report.first, self.report.chain, self.first_previous) {
            (None, ..) => self.find(Finding::Empty),
            (Some(1), Some(chain), Some(previous)) if previous != chain.genesis() && !self.filtered => {
                self.find(Finding::OtherGenesis);
            }
            _ => {}
        }
        if self.filtered {
            self.find(Finding::Filtered);
        }
        let (first, last) = (self.report.first.unwrap_or(0), self.report.head.map_or(0, |head| head.seq));
        let known = self.known.keys().next_back().copied().filter(|known| *known > last);
        if let Some(known) = known {
            self.find(Finding::CutTail { last, known });
        }
        let signed_to = self.report.signed_to.unwrap_or(0).max(first.saturating_sub(1));
        let unsigned = last.saturating_sub(signed_to);
        let none = self.report.signed_to.is_none() && last > 0;
        if !self.keys.is_empty() && (none || self.longest_unsigned.is_some_and(|most| unsigned > most)) {
            self.find(Finding::Unsigned { from: signed_to + 1, to: last });
        }
        let mut open: Vec<(u64, String)> = self.open.into_iter().map(|(id, seq)| (seq, id)).collect();
        open.sort_unstable();
        self.report.open = open;
        self.report
    }

    fn record(&mut self, stated: &str, text: &str) {
        let line = self.line;
        let head = match Head::parse(text) {
            Ok(head) => head,
            Err(InvalidRecord::Version(version)) => return self.find(Finding::Version { line, version }),
            Err(InvalidRecord::Garbage(why)) => return self.find(Finding::Garbage { line, why }),
        };
        let (Some(stated), Some(previous)) = (from_hex::<32>(stated), from_hex::<32>(head.previous)) else {
            return self.find(Finding::Garbage { line, why: "a hash in it is none".into() });
        };
        let seq = head.seq;
        if seq == 0 {
            return self.find(Finding::Garbage { line, why: "records begin at 1".into() });
        }
        if hash_of(text) != stated {
            self.find(Finding::Changed { seq });
        }
        let state = Expected { seq, hash: stated };
        if !self.filtered && self.is_repeated(state, &previous) {
            return;
        }
        self.report.records += 1;
        self.note_phase(&head);
        if head.action.as_deref() == Some(Break::ACTION) && self.report.breaks.len() < MOST_FINDINGS {
            self.report.breaks.extend(Break::read(seq, text));
        }
        if self.filtered {
            self.report.first.get_or_insert(seq);
            self.report.head = self.report.head.max_by_seq(state);
            return;
        }
        match self.report.head {
            None => {
                self.report.first = Some(seq);
                self.first_previous = Some(previous);
                let meant = self.begins_at.unwrap_or(1);
                if seq > meant {
                    self.missing.insert(meant, seq - 1);
                }
                // What came before is not here; a state that is known of it may still vouch for it.
                if let Some(before) = self.known.remove(&(seq - 1)) {
                    self.compare(seq - 1, &previous, &before);
                }
                self.known = self.known.split_off(&seq);
            }
            Some(last) if seq == last.seq + 1 => {
                if previous != last.hash {
                    self.find(Finding::Unlinked { seq });
                }
            }
            Some(last) if seq > last.seq => {
                self.missing.insert(last.seq + 1, seq - 1);
            }
            Some(_) => return self.late(seq, &stated),
        }
        self.remember(state);
        if let Some(known) = self.known.remove(&seq) {
            self.compare(seq, &stated, &known);
        }
    }

    /// Whether the line is one that was there before, or may be: see [`Repeat`].
    fn is_repeated(&mut self, state: Expected, previous: &Hash) -> bool {
        let begun = self.repeat.take();
        let follows = begun.filter(|it| it.last.seq + 1 == state.seq && it.last.hash == *previous);
        if let (Some(begun), None) = (begun, follows) {
            self.find(Finding::Again { seq: begun.first });
        }
        let lines = follows.map_or(0, |it| it.lines) + 1;
        if self.seen(state.seq) == Some(state.hash) {
            self.report.repeated += lines;
            return true;
        }
        let forgotten = self.recent.front().is_some_and(|oldest| state.seq < oldest.seq)
            && self.report.first.is_some_and(|first| state.seq >= first)
            && !self.is_missing(state.seq);
        if forgotten {
            let first = follows.map_or(state.seq, |it| it.first);
            self.repeat = Some(Repeat { first, last: state, lines });
        } else if let Some(begun) = follows {
            self.find(Finding::Again { seq: begun.first });
        }
        forgotten
    }

    /// The hash of a record that is remembered.
    fn seen(&self, seq: u64) -> Option<Hash> {
        let at = self.recent.binary_search_by_key(&seq, |seen| seen.seq).ok()?;
        self.recent.get(at).map(|seen| seen.hash)
    }

    fn is_missing(&self, seq: u64) -> bool {
        self.missing.range(..=seq).next_back().is_some_and(|(_, to)| seq <= *to)
    }

    /// A record whose number lies behind that of an earlier line.
    fn late(&mut self, seq: u64, hash: &Hash) {
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
                self.find(Finding::OutOfOrder { seq });
                if let Some(known) = self.known.remove(&seq) {
                    self.compare(seq, hash, &known);
                }
            }
            None => self.find(Finding::Again { seq }),
        }
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let seq = checkpoint.seq;
        if self.keys.is_empty() {
            return; // says nothing, in either direction
        }
        let Some(key) = self.keys.iter().find(|key| key.id() == checkpoint.key_id) else {
            let key_id = checkpoint.key_id.clone();
            return self.find(Finding::UnknownKey { seq, key_id });
        };
        if !checkpoint.verify(key) {
            return self.find(Finding::BadSignature { seq });
        }
        self.on_chain(checkpoint.chain);
        if self.report.chain != Some(checkpoint.chain) {
            return;
        }
        // The key signs one text for it, so the same signature is the same line.
        if self.signatures.get(&seq) == Some(&checkpoint.signature) {
            self.report.repeated += 1;
            return;
        }
        if self.signatures.len() == REMEMBERED {
            self.signatures.pop_first();
        }
        self.signatures.insert(seq, checkpoint.signature);
        self.report.checkpoints += 1;
        let before = self.last_checkpoint;
        self.last_checkpoint = before.max(Some(seq));
        if before.is_some_and(|before| before < checkpoint.previous_seq) {
            self.find(Finding::MissingCheckpoint { seq: checkpoint.previous_seq });
        }
        self.report.signed_to = self.report.signed_to.max(Some(seq));
        let last = self.report.head.map_or(0, |head| head.seq);
        if seq > last || self.is_missing(seq) {
            self.known.entry(seq).or_default().push(checkpoint.hash);
            return;
        }
        if let Some(hash) = self.seen(seq) {
            self.compare(seq, &hash, &[checkpoint.hash]);
        } else if self.report.first == Some(seq + 1)
            && let Some(previous) = self.first_previous
        {
            self.compare(seq, &previous, &[checkpoint.hash]);
        } else if self.report.first.is_some_and(|first| seq >= first) {
            let line = self.line;
            let why =
                format!("a checkpoint for record {seq} stands more than {REMEMBERED} records behind it");
            self.find(Finding::Garbage { line, why });
        }
    }

    fn compare(&mut self, seq: u64, hash: &Hash, known: &[Hash]) {
        if known.iter().any(|known| known != hash) {
            self.find(Finding::Rebuilt { seq });
        }
    }

    /// Files of one trail may be put together, each with its header.
    fn on_chain(&mut self, chain: ChainId) {
        if *self.report.chain.get_or_insert(chain) != chain {
            let line = self.line;
            self.find(Finding::TwoChains { line });
        }
    }

    fn remember(&mut self, state: Expected) {
        self.report.head = Some(state);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(state);
    }

    fn note_phase(&mut self, head: &Head<'_>) {
        match (head.phase, &head.operation) {
            (Phase::Intent, Some(operation)) => {
                self.open.insert(operation.to_string(), head.seq);
            }
            (Phase::Outcome, Some(operation)) => {
                self.open.remove(operation.as_ref());
            }
            _ => {}
        }
    }

    fn find(&mut self, finding: Finding) {
        self.report.count += 1;
        if self.report.findings.len() < MOST_FINDINGS {
            self.report.findings.push(finding);
        }
    }
}

trait Later {
    fn max_by_seq(self, other: Expected) -> Self;
}

impl Later for Option<Expected> {
    fn max_by_seq(self, other: Expected) -> Self {
        Some(self.filter(|head| head.seq > other.seq).unwrap_or(other))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage { line, why } => write!(f, "line {line} can't be read: {why}"),
            Self::Version { line, version } => {
                write!(f, "line {line} is of version {version}, which this program does not know")
            }
            Self::Changed { seq } => {
                write!(f, "record {seq} was changed: its hash is not that of its content")
            }
            Self::Unlinked { seq } => write!(
                f,
                "record {seq} does not follow the record before it: one of the two was changed and hashed anew"
            ),
            Self::Missing { from, to } if from == to => write!(f, "record {from} is missing"),
            Self::Missing { from, to } => write!(f, "records {from} to {to} are missing"),
            Self::OutOfOrder { seq } => write!(f, "record {seq} stands behind a later one"),
            Self::Again { seq } => write!(f, "a second record {seq} was put in, behind its place"),
            Self::OtherGenesis => f.write_str("record 1 does not begin this trail: it is of another one"),
            Self::TwoChains { line } => write!(f, "line {line} is of another trail"),
            Self::CutTail { last, known } => {
                write!(f, "the end was cut off: it stops at record {last}, and record {known} is known")
            }
            Self::Rebuilt { seq } => write!(
                f,
                "record {seq} is not the one that was signed or noted: the chain was made anew before it"
            ),
            Self::BadSignature { seq } => {
                write!(f, "the signature of the checkpoint for record {seq} does not fit")
            }
            Self::UnknownKey { seq, key_id } => {
                write!(
                    f,
                    "the checkpoint for record {seq} is signed with a key that was not given ({key_id})"
                )
            }
            Self::MissingCheckpoint { seq } => {
                write!(f, "the checkpoint for record {seq} was taken away: a later one names it")
            }
            Self::Unsigned { from, to } => {
                write!(f, "no checkpoint covers records {from} to {to}: they could have been made anew")
            }
            Self::Filtered => f.write_str(
                "records were left out of this export on purpose: only a whole one can be verified",
            ),
            Self::Empty => f.write_str("there is no record in it"),
        }
    }
}
