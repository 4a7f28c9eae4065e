//! A record's place in its lane: its canonical line, and the hash that the next one carries.
//!
//! Records of version 1, from before there were lanes, are read and verified as they are; this program writes version 2.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use super::approval::Approval;
use super::canonical::{Object, from_hex, hex, sha256};
use super::event::{Event, Phase};
use super::groups::{digest_of_long, groups_digest};
use super::lane::{ChainId, Hash, LaneHead, LaneHeads, LaneId, RecordId};
use super::signature::RequestSignature;

/// The version of the format, in every record and checkpoint that is written.
pub const VERSION: u32 = 2;
/// One chain for all instances; written until schema 2.
pub(super) const VERSION_1: u32 = 1;

/// Keeps the hash of a record apart from every other use of SHA-256. The same for both versions: a record names its own.
const RECORD_TAG: &[u8] = b"iam-sorry audit record v1\n";
const CHAIN_TAG: &[u8] = b"iam-sorry audit chain v1\n";
const LANE_TAG: &[u8] = b"iam-sorry audit lane v2\n";

/// A sealed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its lane.
    pub lane: LaneId,
    /// Its place in the lane, from 1, without gaps.
    pub seq: u64,
    /// The hash of the record before; of the first, [`ChainId::genesis`].
    pub previous: Hash,
    /// The hash of this one.
    pub hash: Hash,
    /// The canonical bytes, one line of JSON without its newline.
    pub line: String,
}

/// What a record says of lanes, besides what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// In the first record of a lane: the states of the other lanes that its writer knew. So none of them can be left out.
    pub heads: Option<LaneHeads>,
    /// Lanes of instances that died: each ends with the state that is named here, and nothing may follow it.
    pub ends: LaneHeads,
    /// The last record of its lane: its writer stopped.
    pub closes: bool,
}

impl Links {
    /// The states of other lanes that it names.
    pub(super) fn names(&self) -> impl Iterator<Item = LaneHead> + '_ {
        self.heads.iter().flat_map(LaneHeads::iter).chain(self.ends.iter())
    }
}

/// A line that is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Not JSON, or without what every record has.
    #[error("this is no audit record: {0}")]
    Garbage(String),
    /// Made by a newer program.
    #[error("the record is of version {0}, which this program does not know\nUse a newer iam-sorry")]
    Version(u32),
}

/// What a verification needs of a record; the rest may grow without this program knowing it.
#[derive(Deserialize)]
pub(super) struct Fields<'a> {
    v: u32,
    lane: Option<&'a str>,
    pub(super) seq: u64,
    previous: &'a str,
    #[serde(default)]
    pub(super) time_ms: i64,
    pub(super) phase: Phase,
    #[serde(borrow)]
    pub(super) operation: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) action: Option<Cow<'a, str>>,
    #[serde(borrow)]
    heads: Option<HashMap<&'a str, &'a str>>,
    #[serde(borrow)]
    ends: Option<HashMap<&'a str, &'a str>>,
    #[serde(default)]
    closes: u8,
    #[serde(borrow)]
    person: Option<PersonFields<'a>>,
    pub(super) signature: Option<RequestSignature>,
    pub(super) approval: Option<Approval>,
}

#[derive(Deserialize)]
struct PersonFields<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    groups: Option<Vec<String>>,
    groups_digest: Option<&'a str>,
}

impl ChainId {
    /// What the first record of a lane carries as the hash of the record before it.
    pub fn genesis(self, lane: LaneId) -> Hash {
        match lane {
            LaneId::ZERO => sha256(CHAIN_TAG, &self.0),
            lane => sha256(LANE_TAG, &[self.0.as_slice(), lane.as_bytes()].concat()),
        }
    }
}

impl Record {
    /// Reads a canonical line back and hashes it. Whether it fits its neighbours is the caller's to check.
    ///
    /// # Errors
    /// [`InvalidRecord`].
    pub fn parse(line: &str) -> Result<Self, InvalidRecord> {
        let fields = Fields::parse(line)?;
        let (lane, previous) = (fields.lane()?, fields.previous()?);
        Ok(Self { lane, seq: fields.seq, previous, hash: hash_of(line), line: line.to_owned() })
    }

    /// What it says. Groups that it names by their digest alone are not in it: see [`Record::groups_digest`].
    ///
    /// # Errors
    /// [`InvalidRecord::Garbage`] where it lacks what this program knows every event to have.
    pub fn event(&self) -> Result<Event, InvalidRecord> {
        serde_json::from_str(&self.line).map_err(|e| InvalidRecord::Garbage(e.to_string()))
    }

    /// The digest of the list of groups that stands in an earlier record of its lane; `None` where the list is in it, or empty.
    pub fn groups_digest(&self) -> Option<Hash> {
        self.named_groups(false)
    }

    /// The digest of the list that it has for the first time in its lane, and that later ones name.
    pub fn introduced_groups(&self) -> Option<Hash> {
        self.named_groups(true)
    }

    fn named_groups(&self, with_list: bool) -> Option<Hash> {
        // Hardly any record is parsed for it: the key is in every one that names a list, and in few others.
        if !self.line.contains("\"groups_digest\"") {
            return None;
        }
        let person = Fields::parse(&self.line).ok()?.person?;
        person.groups_digest.filter(|_| person.groups.is_some() == with_list).and_then(from_hex)
    }

    /// What it says of lanes.
    ///
    /// # Errors
    /// [`InvalidRecord`].
    pub fn links(&self) -> Result<Links, InvalidRecord> {
        Fields::parse(&self.line)?.links()
    }

    /// Its name.
    pub fn id(&self) -> RecordId {
        self.lane.record(self.seq)
    }

    /// The state of its lane after it.
    pub fn head(&self) -> LaneHead {
        LaneHead { lane: self.lane, seq: self.seq, hash: self.hash }
    }

    /// The hash, as it is written everywhere.
    pub fn hash_hex(&self) -> String {
        hex(&self.hash)
    }

    /// Reads [`Record::export_line`] back, where the hash is that of the content.
    ///
    /// # Errors
    /// [`InvalidRecord`].
    pub fn parse_export_line(line: &str) -> Result<Self, InvalidRecord> {
        let (stated, text) = split_export_line(line)
            .ok_or_else(|| InvalidRecord::Garbage("it is no line of an export".to_owned()))?;
        let record = Self::parse(text)?;
        match record.hash_hex() == stated {
            true => Ok(record),
            false => Err(InvalidRecord::Garbage("its hash is not that of its content".to_owned())),
        }
    }

    /// Its line in an export, without the newline: `{"hash":"...","record":{...}}`. The hash is over the bytes of the
    /// inner object as they stand.
    pub fn export_line(&self) -> String {
        let mut out = String::with_capacity(self.line.len() + 90);
        out.push_str(LINE_START);
        out.push_str(&self.hash_hex());
        out.push_str(LINE_MIDDLE);
        out.push_str(&self.line);
        out.push('}');
        out
    }
}

/// Writes the records of one lane, each behind the one before.
#[derive(Clone, Debug)]
pub struct LaneWriter {
    head: LaneHead,
    /// The lists of groups that stand in the lane, and the first record that has each.
    groups: HashMap<Hash, u64>,
}

impl LaneWriter {
    /// A lane without a record.
    pub fn new(chain: ChainId, lane: LaneId) -> Self {
        let head = LaneHead { lane, seq: 0, hash: chain.genesis(lane) };
        Self { head, groups: HashMap::new() }
    }

    /// The state after the last record; `seq` 0 and the genesis where there is none.
    pub fn head(&self) -> LaneHead {
        self.head
    }

    /// Puts an event into its place. A list of groups that is long is written out once in a lane and named by its digest
    /// afterwards.
    pub fn seal(&mut self, event: &Event, links: &Links) -> Record {
        let LaneHead { lane, seq, hash: previous } = self.head;
        let seq = seq + 1;
        let long = digest_of_long(&event.person.groups);
        let groups = match long {
            None => Groups::Plain,
            Some(digest) if self.groups.contains_key(&digest) => Groups::Named(digest),
            Some(digest) => {
                self.groups.insert(digest, seq);
                Groups::Introduced(digest)
            }
        };
        let line = canonical_line(lane.record(seq), &previous, groups, links, event);
        let record = Record { lane, seq, previous, hash: hash_of(&line), line };
        self.head = record.head();
        record
    }

    /// Whether the last record that was sealed is the one that has this list for the first time; then its digest.
    pub fn introduced(&self, groups: &[String]) -> Option<Hash> {
        digest_of_long(groups).filter(|digest| self.groups.get(digest) == Some(&self.head.seq))
    }

    /// Takes back what was sealed behind an earlier state of this lane: it was not kept.
    pub fn back_to(&mut self, head: LaneHead) {
        if head.seq < self.head.seq {
            self.groups.retain(|_, seq| *seq <= head.seq);
        }
        self.head = head;
    }
}

/// How a record has its person's groups.
enum Groups {
    /// Written out; there are few.
    Plain,
    /// Written out, with the digest that names them from here on.
    Introduced(Hash),
    /// By their digest.
    Named(Hash),
}

const LINE_START: &str = "{\"hash\":\"";
const LINE_MIDDLE: &str = "\",\"record\":";

/// Takes an export line apart: the hash as written, and the record's bytes.
pub(super) fn split_export_line(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix(LINE_START)?;
    let (hash, rest) = rest.split_once('"')?;
    let record = rest.strip_prefix(&LINE_MIDDLE[1..])?.strip_suffix('}')?;
    record.starts_with('{').then_some((hash, record))
}

pub(super) fn hash_of(line: &str) -> Hash {
    sha256(RECORD_TAG, line.as_bytes())
}

impl<'a> Fields<'a> {
    pub(super) fn parse(line: &'a str) -> Result<Self, InvalidRecord> {
        let fields: Self = serde_json::from_str(line).map_err(|e| InvalidRecord::Garbage(e.to_string()))?;
        if (VERSION_1..=VERSION).contains(&fields.v) {
            Ok(fields)
        } else {
            Err(InvalidRecord::Version(fields.v))
        }
    }

    pub(super) fn lane(&self) -> Result<LaneId, InvalidRecord> {
        match (self.v, self.lane) {
            (VERSION_1, None) => Ok(LaneId::ZERO),
            (VERSION, Some(lane)) => LaneId::parse(lane)
                .filter(|lane| *lane != LaneId::ZERO)
                .ok_or_else(|| garbage("its lane is none")),
            _ => Err(garbage("it is of no lane")),
        }
    }

    pub(super) fn previous(&self) -> Result<Hash, InvalidRecord> {
        from_hex(self.previous).ok_or_else(|| garbage("its previous hash is none"))
    }

    pub(super) fn links(&self) -> Result<Links, InvalidRecord> {
        if self.v == VERSION_1 {
            return Ok(Links::default()); // fields of another program's, if they are there
        }
        let heads = |pairs: &HashMap<&str, &str>| {
            let pairs = pairs.iter().map(|(lane, state)| (*lane, *state));
            LaneHeads::from_pairs(pairs, 1).ok_or_else(|| garbage("a state of a lane in it is none"))
        };
        Ok(Links {
            heads: self.heads.as_ref().map(heads).transpose()?,
            ends: self.ends.as_ref().map(heads).transpose()?.unwrap_or_default(),
            closes: self.closes != 0,
        })
    }

    pub(super) fn person_id(&self) -> Option<&str> {
        self.person.as_ref()?.id.as_deref()
    }

    /// The person's groups: the list, the digest that is stated, or both.
    pub(super) fn groups(&self) -> Result<(Option<&[String]>, Option<Hash>), InvalidRecord> {
        let Some(person) = &self.person else { return Ok((None, None)) };
        let digest = person.groups_digest.filter(|_| self.v != VERSION_1);
        let digest = digest.map(|text| from_hex(text).ok_or_else(|| garbage("its digest of groups is none")));
        Ok((person.groups.as_deref(), digest.transpose()?))
    }
}

fn garbage(why: &str) -> InvalidRecord {
    InvalidRecord::Garbage(why.to_owned())
}

/// Whether a list is the one that a digest names.
pub(super) fn is_list_of(groups: &[String], digest: &Hash) -> bool {
    groups_digest(groups) == *digest
}

/// Every field in its sorted place; a round-trip test notices one that is forgotten here. What is absent or empty is not
/// written.
fn canonical_line(id: RecordId, previous: &Hash, groups: Groups, links: &Links, event: &Event) -> String {
    let mut line = String::with_capacity(768);
    let mut object = Object::open(&mut line);
    object
        .optional("account", event.account.as_deref())
        .string("action", &event.action)
        .nonempty("address", &event.address);
    if let Some(approval) = &event.approval {
        write_approval(object.key("approval"), approval);
    }
    object.strings("aws_request_ids", &event.aws_request_ids);
    if links.closes {
        object.integer("closes", 1);
    }
    object.optional("decision", event.decision.map(super::Decision::as_str));
    if !event.details.is_empty() {
        object.pairs("details", &event.details);
    }
    if !links.ends.is_empty() {
        object.pairs("ends", links.ends.to_pairs());
    }
    if let Some(heads) = &links.heads {
        object.pairs("heads", heads.to_pairs());
    }
    object
        .string("instance", &event.instance)
        .string("lane", &id.lane.to_string())
        .optional("operation", event.operation.as_deref())
        .optional("outcome", event.outcome.map(super::Outcome::as_str));
    write_person(object.key("person"), &event.person, groups);
    object
        .string("phase", event.phase.as_str())
        .string("previous", &hex(previous))
        .nonempty("request_id", &event.request_id)
        .nonempty("resource", &event.resource)
        .strings("rules", &event.rules)
        .optional("rules_digest", event.rules_digest.as_deref())
        .integer("seq", id.seq);
    if let Some(signature) = &event.signature {
        signature.write(object.key("signature"));
    }
    object.integer("time_ms", event.time_ms).integer("v", VERSION).optional("via", event.via.as_deref());
    object.close();
    line
}

fn write_person(out: &mut String, person: &super::Person, groups: Groups) {
    let mut object = Object::open(out);
    let digest = match groups {
        Groups::Plain => {
            object.strings("groups", &person.groups);
            None
        }
        Groups::Introduced(digest) => {
            object.strings("groups", &person.groups);
            Some(digest)
        }
        Groups::Named(digest) => Some(digest),
    };
    object
        .optional("groups_digest", digest.map(|digest| hex(&digest)).as_deref())
        .string("id", &person.id)
        .optional("method", person.method.map(crate::identity::Method::as_str))
        .string("name", &person.name);
    object.close();
}

fn write_approval(out: &mut String, approval: &Approval) {
    let mut object = Object::open(out);
    if !approval.approvers.is_empty() {
        let out = object.key("approvers");
        out.push('[');
        for (index, approver) in approval.approvers.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            let mut one = Object::open(out);
            one.string("person", &approver.person).string("record", &approver.record);
            one.close();
        }
        out.push(']');
    }
    object.string("request", &approval.request);
    object.close();
}
