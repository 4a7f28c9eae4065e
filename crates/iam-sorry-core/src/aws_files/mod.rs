//! `~/.aws/credentials` and `~/.aws/config` as a document that keeps every byte it was not asked to change.
//!
//! These files belong to the user and are shared with every other AWS tool: comments, order, spacing, line endings,
//! nested blocks, duplicates and unknown sections stay as they are. Values are read as the AWS SDK for Rust reads them
//! (aws-runtime, env_config), and an edit is read back before it counts: what the grammar would read differently is
//! refused. The document is offsets into the text; an edited section owns its new text.

mod edit;
mod error;
mod header;
mod kind;
mod only;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

pub use error::{EditError, ParseError, ParseReason};
pub use header::{every_sdk_reads, section_header};
pub use kind::FileKind;
use scan::{Entry, Name, Role, ScannedSection, scan, slice};

/// One shared AWS file. Its text is wiped from memory when the last clone goes.
#[derive(Clone)]
pub struct Document {
    kind: FileKind,
    read: Arc<Read>,
    /// In the order of the file; the first is what stands before the first section line.
    sections: Vec<Section>,
    line_ending: &'static str,
}

/// What was parsed, shared by clones and by the sections that were not edited.
struct Read {
    text: Zeroizing<String>,
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Section {
    scanned: ScannedSection,
    name_hash: u32,
    /// The section after an edit; `scanned` then counts from its beginning.
    edited: Option<Arc<Read>>,
}

/// A section with its own text: all offsets in `entries` count from the beginning of `text`.
#[derive(Clone, Copy)]
struct View<'a> {
    text: &'a str,
    scanned: &'a ScannedSection,
    entries: &'a [Entry],
}

impl Document {
    /// Reads a file's bytes.
    ///
    /// Fails where the AWS SDK fails, with the line, and on bytes that aren't UTF-8 (the SDK takes such a file for
    /// empty, botocore refuses it; to write to it would lose what it holds).
    pub fn parse(bytes: &[u8], kind: FileKind) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(bytes).map_err(|error| ParseError {
            line: 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count(),
            reason: ParseReason::NotUtf8,
        })?;
        let scan = scan(text, kind)?;
        let sections = scan.sections.into_iter().map(|scanned| {
            let name_hash = hash(name_of(&scanned, &text[scanned.text.start as usize..]).unwrap_or_default());
            Section { scanned, name_hash, edited: None }
        });
        let first_line_end = text.find('\n').unwrap_or(0);
        Ok(Self {
            kind,
            sections: sections.collect(),
            line_ending: if text[..first_line_end].ends_with('\r') { "\r\n" } else { "\n" },
            read: Arc::new(Read { text: Zeroizing::new(text.to_owned()), entries: scan.entries }),
        })
    }

    /// Reads a file's bytes for the sake of one profile: what it says of the others is checked but not kept. Not for
    /// editing.
    ///
    /// # Errors
    /// As [`Document::parse`].
    pub fn parse_for(bytes: &[u8], kind: FileKind, profile: &str) -> Result<Self, ParseError> {
        let part = std::str::from_utf8(bytes).ok().and_then(|text| only::sections_about(text, profile));
        match part.map(|part| Self::parse(part.as_bytes(), kind)) {
            Some(Ok(document)) => Ok(document),
            // Also after an error in the part: only the whole knows the number of its line.
            Some(Err(_)) | None => Self::parse(bytes, kind),
        }
    }

    /// A file that doesn't exist yet.
    pub fn empty(kind: FileKind) -> Self {
        let preamble =
            ScannedSection { text: 0..0, role: Role::Preamble, brackets: 0..0, header_end: 0, entries: 0..0 };
        Self {
            kind,
            read: Arc::new(Read { text: Zeroizing::new(String::new()), entries: Vec::new() }),
            sections: vec![Section { scanned: preamble, name_hash: hash(""), edited: None }],
            line_ending: "\n",
        }
    }

    /// The bytes of the file: of an unedited document exactly those that were parsed. They hold secrets.
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.views().map(|view| view.text.len()).sum());
        for view in self.views() {
            bytes.extend_from_slice(view.text.as_bytes());
        }
        bytes
    }

    /// Which of the two files this is.
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// The profiles' names, in the order of their first appearance.
    pub fn profiles(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        self.views().filter_map(View::name).filter(|name| seen.insert(*name)).collect()
    }

    /// Whether the file has a section for this profile, be it empty.
    pub fn contains(&self, profile: &str) -> bool {
        self.sections_of(profile).next().is_some()
    }

    /// A setting as the AWS SDK reads it: sections of one name are merged, the last one wins, keys ignore case.
    ///
    /// A value of several lines has them joined by `\n`, without the space around each; a nested block (`s3 =`) begins
    /// with `\n`.
    pub fn value(&self, profile: &str, key: &str) -> Option<&str> {
        self.counting_sections_of(profile).into_iter().rev().find_map(|index| {
            let view = self.view(index);
            let mut entries = view.entries.iter().rev();
            let entry = entries.find(|e| e.valid && slice(view.text, &e.key).eq_ignore_ascii_case(key))?;
            Some(entry.value_in(view.text))
        })
    }

    /// All settings of a profile as the SDK reads them, keys in lower case, in the order of their first appearance.
    pub fn entries(&self, profile: &str) -> Vec<(&str, &str)> {
        let mut place = HashMap::new();
        let mut merged = Vec::new();
        for index in self.counting_sections_of(profile) {
            let view = self.view(index);
            for entry in view.entries.iter().filter(|entry| entry.valid) {
                let (key, value) = (entry.key_in(view.text), entry.value_in(view.text));
                let at = *place.entry(key).or_insert(merged.len());
                if at == merged.len() {
                    merged.push((key, value));
                } else {
                    merged[at].1 = value;
                }
            }
        }
        merged
    }

    /// A setting of one service in `[services NAME]`, which profiles of the config file refer to with `services = NAME`
    /// (AWS SDKs and Tools Reference Guide, "Service-specific endpoints"); the last one wins, keys ignore case.
    pub fn service_value(&self, services: &str, service: &str, key: &str) -> Option<&str> {
        self.views()
            .filter(|view| self.kind == FileKind::Config && view.is_services(services))
            .rev()
            .find_map(|view| {
                let mut entries = view.entries.iter().rev();
                let block = entries.find(|e| e.valid && e.key_in(view.text) == service)?.value_in(view.text);
                // A nested block begins with a line break.
                let mut pairs =
                    block.strip_prefix('\n')?.lines().rev().filter_map(|line| line.split_once('='));
                pairs.find(|(k, _)| k.trim().eq_ignore_ascii_case(key)).map(|(_, value)| value.trim())
            })
    }

    fn views(&self) -> impl DoubleEndedIterator<Item = View<'_>> {
        (0..self.sections.len()).map(|index| self.view(index))
    }

    fn view(&self, index: usize) -> View<'_> {
        let section = &self.sections[index];
        let read = section.edited.as_ref().unwrap_or(&self.read);
        let scanned = &section.scanned;
        let entries = &read.entries[scanned.entries.start as usize..scanned.entries.end as usize];
        View { text: slice(&read.text, &scanned.text), scanned, entries }
    }

    /// Every section of this name, also a `[default]` that doesn't count.
    fn sections_of<'a>(&'a self, profile: &'a str) -> impl Iterator<Item = usize> + 'a {
        // Comparing hashes first keeps this a few microseconds in a file of 10,000 profiles.
        let wanted = hash(profile);
        (0..self.sections.len()).filter(move |index| {
            self.sections[*index].name_hash == wanted && self.view(*index).name() == Some(profile)
        })
    }

    /// The sections that the SDK reads: in config `[profile default]` replaces `[default]` (normalize.rs).
    fn counting_sections_of(&self, profile: &str) -> Vec<usize> {
        let all: Vec<usize> = self.sections_of(profile).collect();
        let plain = |index: &usize| matches!(self.sections[*index].scanned.role, Role::PlainDefault);
        if all.iter().all(plain) { all } else { all.into_iter().filter(|index| !plain(index)).collect() }
    }
}

/// Names no value, so that a document can stand in a log.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("kind", &self.kind)
            .field("sections", &(self.sections.len() - 1))
            .finish_non_exhaustive()
    }
}

impl<'a> View<'a> {
    fn name(self) -> Option<&'a str> {
        name_of(self.scanned, self.text)
    }

    fn is_services(self, name: &str) -> bool {
        let inside = slice(self.text, &self.scanned.brackets).trim_matches(['[', ']', ' ', '\t']);
        matches!(self.scanned.role, Role::Other)
            && inside
                .split_once([' ', '\t'])
                .is_some_and(|(what, said)| what == "services" && said.trim() == name)
    }
}

/// The profile that a section belongs to; `text` begins with the section.
fn name_of<'a>(scanned: &'a ScannedSection, text: &'a str) -> Option<&'a str> {
    match &scanned.role {
        Role::Profile(Name::At(span)) => Some(slice(text, span)),
        Role::Profile(Name::Decoded(name)) => Some(name),
        Role::PlainDefault => Some("default"),
        Role::Preamble | Role::Other => None,
    }
}

/// FNV-1a. Only saves comparisons; nothing rests on its strength.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
