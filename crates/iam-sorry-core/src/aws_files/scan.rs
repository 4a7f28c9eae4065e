//! The grammar, line by line, as the AWS SDK for Rust reads it (aws-runtime, env_config/parse.rs).
//!
//! One pass over the text finds the sections and their settings as offsets; nothing is copied but values of several
//! lines. A section reads the same wherever it stands, so an edited section is scanned again alone.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::header::{BLANK, Meaning, is_identifier, meaning};
use super::kind::FileKind;
use super::{ParseError, ParseReason};

/// Offsets into the text of the section.
pub(super) type Span = std::ops::Range<u32>;

pub(super) fn slice<'a>(text: &'a str, span: &Span) -> &'a str {
    &text[span.start as usize..span.end as usize]
}

/// One `[section]` with everything up to the next one; or what stands before the first.
#[derive(Clone)]
pub(super) struct ScannedSection {
    /// Where it stands in the text that was scanned.
    pub(super) text: Span,
    pub(super) role: Role,
    /// `[...]` with its brackets; empty for what stands before the first section.
    pub(super) brackets: Span,
    /// The end of the section line, with its line ending.
    pub(super) header_end: u32,
    /// Its settings, as a range of all that were found.
    pub(super) entries: Span,
}

/// What a section is to us. The name is a span where it can be (quoted names with escapes can't).
#[derive(Clone)]
pub(super) enum Role {
    Preamble,
    Profile(Name),
    PlainDefault,
    Other,
}

#[derive(Clone)]
pub(super) enum Name {
    At(Span),
    Decoded(Box<str>),
}

/// One `key = value`, with its continuation lines. All offsets count from the beginning of the section.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) line: Span,
    /// After the last continuation line; `line.end` when there is none.
    pub(super) end: u32,
    pub(super) key: Span,
    /// The key in lower case, where it is written otherwise.
    pub(super) lower_key: Option<Box<str>>,
    /// The value on the first line, without the space and the comment around it.
    pub(super) value: Span,
    /// The comment on the first line, from its # or ;, empty when there is none.
    pub(super) comment: Span,
    /// The whole value, where it has continuation lines. Boxed because that is rare.
    pub(super) joined: Option<Box<Zeroizing<String>>>,
    /// The SDK skips keys with other characters than those of an identifier.
    pub(super) valid: bool,
}

impl Entry {
    /// The key in lower case, as the SDK compares it.
    pub(super) fn key_in<'a>(&'a self, section: &'a str) -> &'a str {
        self.lower_key.as_deref().unwrap_or_else(|| slice(section, &self.key))
    }

    pub(super) fn value_in<'a>(&'a self, section: &'a str) -> &'a str {
        match &self.joined {
            Some(joined) => joined.as_str(),
            None => slice(section, &self.value),
        }
    }
}

/// Everything that was found, in the order of the text. The first section is always the preamble.
pub(super) struct Scan {
    pub(super) sections: Vec<ScannedSection>,
    pub(super) entries: Vec<Entry>,
}

pub(super) fn scan(text: &str, kind: FileKind) -> Result<Scan, ParseError> {
    if text.starts_with('\u{feff}') {
        return Err(ParseError { line: 1, reason: ParseReason::ByteOrderMark });
    }
    let end = u32::try_from(text.len()).map_err(|_| ParseError { line: 1, reason: ParseReason::TooLarge })?;
    let preamble =
        ScannedSection { text: 0..end, role: Role::Preamble, brackets: 0..0, header_end: 0, entries: 0..0 };
    let mut scanner = Scanner { text, kind, sections: vec![preamble], entries: Vec::new() };
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        scanner.line(line, at).map_err(|reason| ParseError { line: number + 1, reason })?;
        at += line.len() as u32; // fits: the whole text does
    }
    Ok(Scan { sections: scanner.sections, entries: scanner.entries })
}

/// A line without its ending: `\n` or `\r\n`, as `str::lines` has it (a lone `\r` stays).
pub(super) fn content(line: &str) -> &str {
    match line.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => line,
    }
}

/// Whether a line says nothing: blank, or a comment. Comments begin in the first column; an indented # continues a value.
pub(super) fn is_silent(line: &str) -> bool {
    trim(line).is_empty() || line.starts_with(['#', ';'])
}

struct Scanner<'a> {
    text: &'a str,
    kind: FileKind,
    sections: Vec<ScannedSection>,
    entries: Vec<Entry>,
}

impl Scanner<'_> {
    fn line(&mut self, line: &str, at: u32) -> Result<(), ParseReason> {
        let text = content(line);
        if is_silent(text) {
            return Ok(());
        }
        let line = at..at + line.len() as u32;
        if text.starts_with('[') {
            self.header(text, line)
        } else if text.starts_with(BLANK) {
            self.continuation(text, line.end)
        } else {
            self.property(text, line)
        }
    }

    fn header(&mut self, text: &str, line: Span) -> Result<(), ParseReason> {
        let (said, _) = split_comment(text, false);
        let inside =
            said.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or(ParseReason::HeaderNotClosed)?;
        let role = match meaning(self.kind, inside) {
            Meaning::Profile(Cow::Borrowed(name)) => Role::Profile(Name::At(span_within(text, name))),
            Meaning::Profile(Cow::Owned(name)) => Role::Profile(Name::Decoded(name.into())),
            Meaning::PlainDefault => Role::PlainDefault,
            Meaning::Other => Role::Other,
        };
        let last = self.sections.len() - 1;
        let end = std::mem::replace(&mut self.sections[last].text.end, line.start);
        let first_entry = self.entries.len() as u32; // fewer than bytes
        self.sections.push(ScannedSection {
            brackets: 0..said.len() as u32,
            header_end: line.end - line.start,
            text: line.start..end,
            role,
            entries: first_entry..first_entry,
        });
        Ok(())
    }

    fn property(&mut self, text: &str, line: Span) -> Result<(), ParseReason> {
        let Some(section) = self.sections[1..].last_mut() else { return Err(ParseReason::OutsideSection) };
        let (said, comment) = split_comment(text, true);
        let (key, value) = key_value(said).map_err(|fault| match fault {
            Fault::NoEquals => ParseReason::NoEquals,
            Fault::NoKey => ParseReason::NoKey,
        })?;
        let base = line.start - section.text.start;
        let here = |part: &str| {
            let span = span_within(text, part);
            base + span.start..base + span.end
        };
        self.entries.push(Entry {
            line: base..line.end - section.text.start,
            end: line.end - section.text.start,
            key: here(key),
            lower_key: key.bytes().any(|b| b.is_ascii_uppercase()).then(|| key.to_ascii_lowercase().into()),
            value: here(value),
            comment: here(comment),
            joined: None,
            valid: is_identifier(key),
        });
        section.entries.end += 1;
        Ok(())
    }

    fn continuation(&mut self, text: &str, end: u32) -> Result<(), ParseReason> {
        let Some(section) = self.sections[1..].last() else { return Err(ParseReason::OutsideSection) };
        let entry = match self.entries.last_mut() {
            Some(entry) if !section.entries.is_empty() => entry,
            _ => return Err(ParseReason::ContinuesNothing),
        };
        // Lines below an empty value are a nested block (`s3 =`): checked, and kept as text.
        if entry.value.is_empty() {
            key_value(split_comment(text, true).0).map_err(|fault| match fault {
                Fault::NoEquals => ParseReason::NestedNoEquals,
                Fault::NoKey => ParseReason::NestedNoKey,
            })?;
        }
        let first = slice(&self.text[section.text.start as usize..], &entry.value);
        let joined = entry.joined.get_or_insert_with(|| Box::new(Zeroizing::new(first.to_owned())));
        joined.push('\n');
        joined.push_str(trim(text)); // a comment at its end is part of the value
        entry.end = end - section.text.start;
        Ok(())
    }
}

enum Fault {
    NoEquals,
    NoKey,
}

/// `key = value`, both without the space around them.
fn key_value(said: &str) -> Result<(&str, &str), Fault> {
    let (key, value) = said.split_once('=').ok_or(Fault::NoEquals)?;
    let key = trim(key);
    if key.is_empty() {
        return Err(Fault::NoKey);
    }
    // The line was trimmed before, so an empty value is the place right after the = sign.
    Ok((key, trim(value)))
}

/// Without blanks and tabs around it. Most of the time of reading a large file is spent here, hence by bytes.
fn trim(text: &str) -> &str {
    let said = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = text.bytes().position(|b| said(&b)).unwrap_or(text.len());
    let end = text.bytes().rposition(|b| said(&b)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// Splits a line into what it says, without the space around it, and its comment (empty when there is none).
///
/// On a section line # and ; begin a comment anywhere; on a setting only after white space, of any kind (`prepare_line`).
fn split_comment(line: &str, needs_space: bool) -> (&str, &str) {
    let mut after_space = false;
    let text = trim(line);
    let mut found = text.len();
    if text.bytes().any(|b| b == b'#' || b == b';') {
        for (at, c) in text.char_indices() {
            if matches!(c, '#' | ';') && (after_space || !needs_space) {
                found = at;
                break;
            }
            after_space = c.is_whitespace();
        }
    }
    (trim(&text[..found]), &text[found..])
}

/// Where `part`, a slice of `whole`, stands in it.
fn span_within(whole: &str, part: &str) -> Span {
    let start = (part.as_ptr() as usize - whole.as_ptr() as usize) as u32;
    start..start + part.len() as u32
}
