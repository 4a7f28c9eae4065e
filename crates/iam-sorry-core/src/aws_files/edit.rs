//! Edits. Each makes the new text of the sections it touches, reads that back, and only then takes it over.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::header::{is_identifier, section_header};
use super::scan::{Entry, content, is_silent, scan, slice};
use super::{Document, EditError, Read, Section, View, hash, name_of};

impl Document {
    /// Sets one setting of a profile.
    ///
    /// An existing one is replaced where it stands, with its spacing and line ending; every duplicate gets the new value
    /// too, so that no stale secret stays behind. A comment on the same line moves to a line of its own, because botocore
    /// would read it as part of the value. A new one goes below the section's last setting, a new section to the end.
    /// After an error the document is as it was.
    pub fn set(&mut self, profile: &str, key: &str, value: &str) -> Result<(), EditError> {
        let header = section_header(self.kind, profile)?;
        // botocore splits at : as well as at =
        if !is_identifier(key) || key.contains(':') {
            return Err(EditError::Key { key: key.to_owned() });
        }
        if value.chars().any(char::is_control) {
            return Err(EditError::ControlCharacter { profile: profile.to_owned(), key: key.to_owned() });
        }
        let differently = || EditError::ReadsDifferently { profile: profile.to_owned(), key: key.to_owned() };
        if value.trim() != value {
            return Err(differently()); // botocore trims white space of every kind
        }

        let mut changes = Vec::new();
        for index in self.sections_of(profile) {
            let view = self.view(index);
            let stale = |e: &Entry| e.is(view.text, key) && e.value_in(view.text) != value;
            if view.entries.iter().any(stale) {
                let expected = expected(view, |e| e.is(view.text, key).then_some(Some(value)));
                let text = rewritten(view, self.line_ending, |e| stale(e).then_some(Some(value)));
                changes.push((index, self.verified(text, Some(profile), &expected).ok_or_else(differently)?));
            }
        }
        let counting = self.counting_sections_of(profile);
        let present = counting.iter().any(|index| {
            let view = self.view(*index);
            view.entries.iter().any(|e| e.is(view.text, key))
        });
        let mut appended = None;
        match counting.last() {
            _ if present => {}
            Some(index) => {
                let view = self.view(*index);
                let mut expected = expected(view, |_| None);
                expected.push((key, value));
                let text = with_line_added(view, self.line_ending, key, value);
                changes
                    .push((*index, self.verified(text, Some(profile), &expected).ok_or_else(differently)?));
            }
            None => {
                let end = self.line_ending;
                let text = Zeroizing::new(format!("{header}{end}{key} = {value}{end}"));
                appended = Some(self.verified(text, Some(profile), &[(key, value)]).ok_or_else(differently)?);
                changes.extend(self.with_gap_after_last().ok_or_else(|| damage(profile))?);
            }
        }
        self.take_over(changes);
        self.sections.extend(appended);
        Ok(())
    }

    /// Removes every occurrence of a setting, with its continuation lines; false when there was none.
    pub fn remove(&mut self, profile: &str, key: &str) -> bool {
        let mut changes = Vec::new();
        for index in self.sections_of(profile) {
            let view = self.view(index);
            if view.entries.iter().any(|e| e.is(view.text, key)) {
                let without = |e: &Entry| e.is(view.text, key).then_some(None);
                let expected = expected(view, without);
                let text = rewritten(view, self.line_ending, without);
                match self.verified(text, Some(profile), &expected) {
                    Some(section) => changes.push((index, section)),
                    None => return false,
                }
            }
        }
        let any = !changes.is_empty();
        self.take_over(changes);
        any
    }

    /// Removes a profile: all its sections, with the comments inside them; false when there was none.
    ///
    /// A comment that stands right above the next section belongs to that one and stays.
    pub fn remove_profile(&mut self, profile: &str) -> bool {
        let mut without = self.clone();
        let indexes: Vec<usize> = self.sections_of(profile).collect();
        for index in indexes.iter().rev() {
            let view = without.view(*index);
            let kept = &view.text[removable_end(view, index + 1 == without.sections.len())..];
            if !kept.is_empty() {
                let before = without.view(index - 1); // the preamble is no profile's, so there is one
                let text = joined(&[before.text, kept]);
                match self.verified(text, before.name(), &expected(before, |_| None)) {
                    Some(section) => without.sections[index - 1] = section,
                    None => return false,
                }
            }
            without.sections.remove(*index);
        }
        *self = without;
        !indexes.is_empty()
    }

    /// Renames a profile in its section lines; what follows the brackets stays.
    pub fn rename_profile(&mut self, old: &str, new: &str) -> Result<(), EditError> {
        let header = section_header(self.kind, new)?;
        if !self.contains(old) {
            return Err(EditError::NoSuchProfile { profile: old.to_owned() });
        }
        if self.contains(new) {
            return Err(EditError::ProfileExists { profile: new.to_owned() });
        }
        let mut changes = Vec::new();
        for index in self.sections_of(old) {
            let view = self.view(index);
            let text = joined(&[&header, &view.text[view.scanned.brackets.end as usize..]]);
            let section = self.verified(text, Some(new), &expected(view, |_| None));
            changes.push((index, section.ok_or_else(|| damage(old))?));
        }
        let mut renamed = self.clone();
        renamed.take_over(changes);
        // A [default] that didn't count beside [profile default] would begin to.
        if renamed.entries(new) != self.entries(old) {
            return Err(damage(old));
        }
        *self = renamed;
        Ok(())
    }

    fn take_over(&mut self, changes: Vec<(usize, Section)>) {
        for (index, section) in changes {
            self.sections[index] = section;
        }
    }

    /// The section that `text` is, if it reads as one section of that profile with exactly these settings.
    fn verified(
        &self,
        text: Zeroizing<String>,
        profile: Option<&str>,
        expected: &[(&str, &str)],
    ) -> Option<Section> {
        let mut scan = scan(&text, self.kind).ok()?;
        let scanned = scan.sections.pop()?;
        let alone = scanned.text == (0..text.len() as u32);
        let entries = || scan.entries.iter().map(|e| (slice(&text, &e.key), e.value_in(&text)));
        let name = name_of(&scanned, &text);
        if !alone || name != profile || !entries().eq(expected.iter().copied()) {
            return None;
        }
        let name_hash = hash(name.unwrap_or_default());
        Some(Section { name_hash, scanned, edited: Some(Arc::new(Read { text, entries: scan.entries })) })
    }

    /// The last section with a blank line at its end, to set a new one apart; nothing in an empty file.
    fn with_gap_after_last(&self) -> Option<Option<(usize, Section)>> {
        let index = self.sections.len() - 1;
        let last = self.view(index);
        let line = last.text.split_inclusive('\n').next_back().unwrap_or_default();
        let gap = match (line.ends_with('\n'), is_blank(line)) {
            (true, true) => return Some(None),
            (_, true) if last.text.is_empty() => return Some(None),
            (true, false) | (false, true) => self.line_ending.to_owned(),
            (false, false) => self.line_ending.repeat(2),
        };
        let text = joined(&[last.text, &gap]);
        Some(Some((index, self.verified(text, last.name(), &expected(last, |_| None))?)))
    }
}

impl Entry {
    fn is(&self, section: &str, key: &str) -> bool {
        self.valid && slice(section, &self.key).eq_ignore_ascii_case(key)
    }
}

fn damage(profile: &str) -> EditError {
    EditError::WouldDamage { profile: profile.to_owned() }
}

/// What `change` says about a setting: None leaves it, Some(None) removes it, Some(Some(value)) replaces it.
type Change<'v> = Option<Option<&'v str>>;

/// The settings that must be read after `change`, keys as they are written.
fn expected<'a>(view: View<'a>, change: impl Fn(&Entry) -> Change<'a>) -> Vec<(&'a str, &'a str)> {
    let after = |e: &'a Entry| {
        let value = change(e).unwrap_or_else(|| Some(e.value_in(view.text)))?;
        Some((slice(view.text, &e.key), value))
    };
    view.entries.iter().filter_map(after).collect()
}

/// The section's text after `change`. Comment and blank lines among continuation lines stay.
fn rewritten<'v>(
    view: View<'_>,
    default_end: &str,
    change: impl Fn(&Entry) -> Change<'v>,
) -> Zeroizing<String> {
    let mut parts: Vec<&str> = Vec::new();
    let mut copied = 0;
    for entry in view.entries {
        let Some(new) = change(entry) else { continue };
        let (start, line_end) = (entry.line.start as usize, entry.line.end as usize);
        parts.push(&view.text[copied..start]);
        if let Some(value) = new {
            let line = &view.text[start..line_end];
            let (comment, value_at) = (slice(view.text, &entry.comment), &entry.value);
            let ending = &line[content(line).len()..];
            if !comment.is_empty() {
                parts.extend([comment, if ending.is_empty() { default_end } else { ending }]);
            }
            let before = &view.text[start..value_at.start as usize];
            parts.push(before);
            // `key =` without a value: keep the spacing that its writer uses.
            if value_at.is_empty() && before.ends_with(" =") && !value.is_empty() {
                parts.push(" ");
            }
            parts.push(value);
            parts.push(if comment.is_empty() { &view.text[value_at.end as usize..line_end] } else { ending });
        }
        let below = view.text[line_end..entry.end as usize].split_inclusive('\n');
        parts.extend(below.filter(|line| is_silent(content(line))));
        copied = entry.end as usize;
    }
    parts.push(&view.text[copied..]);
    joined(&parts)
}

/// The section's text with a line below its last setting, or below the section line.
fn with_line_added(view: View<'_>, default_end: &str, key: &str, value: &str) -> Zeroizing<String> {
    let at = view.entries.last().map_or(view.scanned.header_end, |e| e.end) as usize;
    let (above, below) = view.text.split_at(at);
    let (separator, end) = match above {
        _ if above.ends_with("\r\n") => ("", "\r\n"),
        _ if above.ends_with('\n') => ("", "\n"),
        _ => (default_end, default_end),
    };
    joined(&[above, separator, key, " = ", value, end, below])
}

/// Where the part of a section ends that goes with it when it is removed: its settings, the comment right below them
/// (unless it stands right above the next section line), and the blank lines after that.
fn removable_end(view: View<'_>, is_last: bool) -> usize {
    let settings_end = view.entries.last().map_or(view.scanned.header_end, |e| e.end) as usize;
    let below = &view.text[settings_end..];
    let comment: usize = below.split_inclusive('\n').take_while(|line| !is_blank(line)).map(str::len).sum();
    let mut end = settings_end;
    if comment < below.len() || is_last {
        end += comment;
    }
    let gap = view.text[end..].split_inclusive('\n').take_while(|line| is_blank(line));
    end + gap.map(str::len).sum::<usize>()
}

fn is_blank(line: &str) -> bool {
    content(line).trim_matches([' ', '\t']).is_empty()
}

/// Strings put together in one buffer of the right size, so that no copy of a secret is left by a reallocation.
fn joined(parts: &[&str]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        text.push_str(part);
    }
    text
}
