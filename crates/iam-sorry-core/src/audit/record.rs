//! A record's place in the chain: its canonical line, and the hash that the next one carries.

use std::fmt;

use aws_lc_rs::digest;
use serde::Deserialize;

use super::canonical::{Object, from_hex, hex};
use super::event::{Event, Phase};

/// The version of the format, in every record and checkpoint.
pub const VERSION: u32 = 1;

/// Keeps the hash of a record apart from every other use of SHA-256.
const RECORD_TAG: &[u8] = b"iam-sorry audit record v1\n";
const GENESIS_TAG: &[u8] = b"iam-sorry audit chain v1\n";

/// Names one audit trail; drawn at random when the store is made, so that two services' trails can't be mixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId([u8; 16]);

/// A SHA-256 hash in the chain.
pub type Hash = [u8; 32];

/// A sealed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place, from 1, without gaps.
    pub seq: u64,
    /// The hash of the record before; of the first, [`ChainId::genesis`].
    pub previous: Hash,
    /// The hash of this one.
    pub hash: Hash,
    /// The canonical bytes, one line of JSON without its newline.
    pub line: String,
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

/// What the chain itself needs of a record; the rest may grow without this program knowing it.
#[derive(Deserialize)]
pub(super) struct Head<'a> {
    pub(super) v: u32,
    pub(super) seq: u64,
    pub(super) previous: &'a str,
    pub(super) phase: Phase,
    #[serde(borrow)]
    pub(super) operation: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) action: Option<std::borrow::Cow<'a, str>>,
}

impl ChainId {
    /// From 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the 32 hexadecimal digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// What record 1 carries as the hash of the record before it.
    pub fn genesis(self) -> Hash {
        sha256(GENESIS_TAG, &self.0)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainId({self})")
    }
}

impl Record {
    /// Puts an event into its place: behind the record whose hash is `previous`.
    pub fn seal(seq: u64, previous: Hash, event: &Event) -> Self {
        let line = canonical_line(seq, &previous, event);
        Self { seq, previous, hash: sha256(RECORD_TAG, line.as_bytes()), line }
    }

    /// Reads a canonical line back and hashes it. Whether it fits its neighbours is the caller's to check.
    ///
    /// # Errors
    /// [`InvalidRecord`].
    pub fn parse(line: &str) -> Result<Self, InvalidRecord> {
        let head = Head::parse(line)?;
        Self::from_head(&head, line)
    }

    pub(super) fn from_head(head: &Head<'_>, line: &str) -> Result<Self, InvalidRecord> {
        let previous = from_hex(head.previous)
            .ok_or_else(|| InvalidRecord::Garbage("its previous hash is none".to_owned()))?;
        Ok(Self { seq: head.seq, previous, hash: hash_of(line), line: line.to_owned() })
    }

    /// What it says.
    ///
    /// # Errors
    /// [`InvalidRecord::Garbage`] where it lacks what this program knows every event to have.
    pub fn event(&self) -> Result<Event, InvalidRecord> {
        serde_json::from_str(&self.line).map_err(|e| InvalidRecord::Garbage(e.to_string()))
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

const LINE_START: &str = "{\"hash\":\"";
const LINE_MIDDLE: &str = "\",\"record\":";

/// Takes an export line apart: the hash as written, and the record's bytes.
pub(super) fn split_export_line(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix(LINE_START)?;
    let (hash, rest) = rest.split_once('"')?;
    let record = rest.strip_prefix(&LINE_MIDDLE[1..])?.strip_suffix('}')?;
    record.starts_with('{').then_some((hash, record))
}

/// The first line of every export.
///
/// `filtered` says that records were left out on purpose, so that the chain can't be followed through it.
pub fn export_header(chain: ChainId, filtered: bool) -> String {
    let filtered = if filtered { ",\"filtered\":1" } else { "" };
    format!("{{\"chain\":\"{chain}\"{filtered},\"format\":\"{FORMAT}\",\"v\":{VERSION}}}")
}

/// What an export is called in its first line.
pub(super) const FORMAT: &str = "iam-sorry-audit";

pub(super) fn hash_of(line: &str) -> Hash {
    sha256(RECORD_TAG, line.as_bytes())
}

impl<'a> Head<'a> {
    pub(super) fn parse(line: &'a str) -> Result<Self, InvalidRecord> {
        let head: Self = serde_json::from_str(line).map_err(|e| InvalidRecord::Garbage(e.to_string()))?;
        if head.v == VERSION { Ok(head) } else { Err(InvalidRecord::Version(head.v)) }
    }
}

fn sha256(tag: &[u8], bytes: &[u8]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(tag);
    context.update(bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Every field of [`Event`] in its sorted place; a round-trip test notices one that is forgotten here.
fn canonical_line(seq: u64, previous: &Hash, event: &Event) -> String {
    let mut line = String::with_capacity(768);
    let mut object = Object::open(&mut line);
    object
        .string("action", &event.action)
        .string("address", &event.address)
        .strings("aws_request_ids", &event.aws_request_ids)
        .optional("decision", event.decision.map(super::Decision::as_str))
        .map("details", &event.details)
        .string("instance", &event.instance)
        .optional("operation", event.operation.as_deref())
        .optional("outcome", event.outcome.map(super::Outcome::as_str));
    let mut person = Object::open(object.key("person"));
    person
        .strings("groups", &event.person.groups)
        .string("id", &event.person.id)
        .optional("method", event.person.method.map(crate::identity::Method::as_str))
        .string("name", &event.person.name);
    person.close();
    object
        .string("phase", event.phase.as_str())
        .string("previous", &hex(previous))
        .string("request_id", &event.request_id)
        .string("resource", &event.resource)
        .strings("rules", &event.rules)
        .optional("rules_digest", event.rules_digest.as_deref())
        .integer("seq", seq)
        .integer("time_ms", event.time_ms)
        .integer("v", VERSION);
    object.close();
    line
}
