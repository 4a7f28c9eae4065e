//! The first line of an export, and of each file of a sink.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::canonical::Object;
use super::lane::{ChainId, LaneHeads};
use super::record::{VERSION, VERSION_1};

/// What an export is called in its first line.
const FORMAT: &str = "iam-sorry-audit";

/// What an export says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportHeader {
    /// The trail.
    pub chain: ChainId,
    /// Records were left out on purpose, so that the chain can't be followed through it.
    pub filtered: bool,
    /// Where it goes on from: the states of the lanes that an earlier export, or an earlier file of the same sink, ended with.
    /// Those that had ended themselves are left out, but for the last one. Empty: it begins with the trail.
    pub begins: LaneHeads,
}

/// A line that is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidHeader {
    /// Something else.
    Garbage,
    /// Of a version that this program does not know.
    Version(u32),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default)]
    begins: BTreeMap<&'a str, &'a str>,
    chain: &'a str,
    #[serde(default)]
    filtered: u8,
    format: &'a str,
    v: u32,
}

impl ExportHeader {
    /// Of an export that begins with the trail.
    pub fn new(chain: ChainId) -> Self {
        Self { chain, filtered: false, begins: LaneHeads::default() }
    }

    /// The line, without its newline.
    pub fn line(&self) -> String {
        self.write(VERSION)
    }

    /// Reads [`ExportHeader::line`], also of version 1, and no other spelling.
    pub fn parse(line: &str) -> Option<Self> {
        Self::read(line).ok()
    }

    pub(super) fn read(line: &str) -> Result<Self, InvalidHeader> {
        let fields: Fields<'_> = serde_json::from_str(line).map_err(|_| InvalidHeader::Garbage)?;
        if fields.format == FORMAT && !(VERSION_1..=VERSION).contains(&fields.v) {
            return Err(InvalidHeader::Version(fields.v));
        }
        let header = Self {
            chain: ChainId::parse(fields.chain).ok_or(InvalidHeader::Garbage)?,
            filtered: fields.filtered == 1,
            begins: LaneHeads::from_pairs(fields.begins, 0).ok_or(InvalidHeader::Garbage)?,
        };
        if header.write(fields.v) == line { Ok(header) } else { Err(InvalidHeader::Garbage) }
    }

    fn write(&self, version: u32) -> String {
        let mut line = String::with_capacity(160);
        let mut object = Object::open(&mut line);
        if !self.begins.is_empty() {
            object.pairs("begins", self.begins.to_pairs());
        }
        object.string("chain", &self.chain.to_string());
        if self.filtered {
            object.integer("filtered", 1);
        }
        object.string("format", FORMAT).integer("v", version);
        object.close();
        line
    }
}
