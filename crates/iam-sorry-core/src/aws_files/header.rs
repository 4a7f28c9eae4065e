//! Section lines: which profile `[...]` means, and how a profile's name is written.
//!
//! The AWS SDK (aws-runtime, env_config/normalize.rs) reads names of `[A-Za-z0-9_\-/.%@:+]` only and skips other sections;
//! botocore reads any name, in config through Python's `shlex`. Both are honoured: what the SDK reads is read the same
//! way, and what only botocore reads (spaces, quotes, other scripts) is a profile here too.

use std::borrow::Cow;

use super::EditError;
use super::kind::FileKind;

/// What the SDK takes for white space; no other character counts.
pub(super) const BLANK: &[char] = &[' ', '\t'];

/// What a section line means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// The settings of a profile.
    Profile(Cow<'a, str>),
    /// `[default]` in config, which counts only where there is no `[profile default]`.
    PlainDefault,
    /// sso-session, services, names that nobody reads: never touched.
    Other,
}

/// Reads the text between the brackets.
pub(super) fn meaning(kind: FileKind, inside: &str) -> Meaning<'_> {
    let inside = inside.trim_matches(BLANK);
    // The SDK splits at a blank or tab, but trims white space of every kind off the two parts.
    let (prefix, name) = match inside.split_once(BLANK) {
        Some((prefix, name)) => (Some(prefix.trim()), name.trim()),
        None => (None, inside.trim()),
    };
    let profile = match (kind, prefix) {
        (FileKind::Config, None) if name == "default" => return Meaning::PlainDefault,
        (FileKind::Config, Some("profile")) => shell_word(name),
        (FileKind::Config, _) => None,
        (FileKind::Credentials, None) => Some(Cow::Borrowed(name)),
        (FileKind::Credentials, Some(_)) => Some(Cow::Borrowed(inside)),
    };
    match profile {
        Some(name) if fault(kind, &name).is_none() => Meaning::Profile(name),
        _ => Meaning::Other,
    }
}

/// The line `[...]` that makes `profile`'s section in a file of this kind.
///
/// Quotes like the AWS CLI (`[profile 'a b']`), so that its `configure set` finds the section instead of adding a
/// second one, which would hide ours from boto3.
pub fn section_header(kind: FileKind, profile: &str) -> Result<String, EditError> {
    if let Some(why) = fault(kind, profile) {
        return Err(EditError::ProfileName { profile: profile.to_owned(), kind, why });
    }
    Ok(match kind {
        FileKind::Credentials => format!("[{profile}]"),
        FileKind::Config if profile == "default" => "[default]".to_owned(),
        FileKind::Config if profile.contains(|c: char| c.is_whitespace() || "'\"\\".contains(c)) => {
            format!("[profile '{}']", profile.replace('\'', r#"'"'"'"#))
        }
        FileKind::Config => format!("[profile {profile}]"),
    })
}

/// Whether every AWS SDK reads a profile of this name; the others (spaces, other scripts) only the AWS CLI and boto3.
pub fn every_sdk_reads(profile: &str) -> bool {
    is_identifier(profile)
}

/// The SDK's `validate_identifier`, except that an empty one is none.
pub(super) fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/.%@:+".contains(&b))
}

/// Why a name can't be a profile's name in such a file; None when it can.
fn fault(kind: FileKind, name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    // Python's configparser copies the settings of [DEFAULT] into every other section of the file.
    if kind == FileKind::Credentials && name == "DEFAULT" {
        return Some("boto3 would add its settings to every other profile");
    }
    if is_identifier(name) {
        return None;
    }
    if name.chars().any(char::is_control) {
        return Some("it has a line break or control character in it");
    }
    if name.contains(['[', ']']) {
        return Some("it has a bracket in it");
    }
    if name.contains(['#', ';']) {
        return Some("it has a # or ; in it, which begins a comment");
    }
    if name.trim() != name {
        return Some("it begins or ends with a space");
    }
    if kind == FileKind::Credentials
        && matches!(name.split_once(BLANK), Some(("profile" | "sso-session" | "services", _)))
    {
        return Some("its first word stands for another kind of section");
    }
    None
}

/// One word as Python's `shlex.split` reads it (POSIX rules); None for several words or an open quote.
fn shell_word(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(|c: char| c.is_ascii_whitespace() || "'\"\\".contains(c)) {
        return Some(Cow::Borrowed(text));
    }
    let mut word = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    // Inside double quotes a backslash protects only a quote and itself.
                    '\\' => match chars.next()? {
                        c @ ('"' | '\\') => word.push(c),
                        c => word.extend(['\\', c]),
                    },
                    c => word.push(c),
                }
            },
            '\\' => word.push(chars.next()?),
            c if c.is_ascii_whitespace() => return None,
            c => word.push(c),
        }
    }
    Some(Cow::Owned(word))
}
