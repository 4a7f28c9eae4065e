//! What can be wrong with a shared AWS file, or with an edit of one.
//!
//! The texts are what the user reads. They carry line numbers and names, never a value: a value here is a secret.

use super::kind::FileKind;

/// The file isn't one that AWS tools read. Nothing is guessed: the whole file is refused, with the line to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong on that line.
    pub reason: ParseReason,
}

/// What is wrong on a line. The first ones are the AWS SDK's own refusals (aws-runtime, env_config/parse.rs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseReason {
    /// A setting or an indented line stands before the first `[section]`.
    #[error("a setting stands before the first section\nPut it below a [section] line.")]
    OutsideSection,
    /// A line that begins with `[` doesn't end with `]` (before its comment, if any).
    #[error(
        "a section line must end with ]\nWrite it as [NAME]; a name can't hold # or ;, which begin a comment."
    )]
    HeaderNotClosed,
    /// A line that is neither a section, a comment nor a setting.
    #[error("no = sign\nWrite the setting as: key = value")]
    NoEquals,
    /// `= value`.
    #[error("a setting without a name\nWrite it as: key = value")]
    NoKey,
    /// An indented line right below a `[section]` line.
    #[error(
        "an indented line right below a section line continues no setting\nTake the spaces at its beginning away."
    )]
    ContinuesNothing,
    /// An indented line below an empty setting (as `s3 =`) that is no `key = value`.
    #[error("an indented line below an empty setting must be key = value")]
    NestedNoEquals,
    /// As above, `= value`.
    #[error("an indented setting without a name")]
    NestedNoKey,
    /// The SDK takes such a file for empty and botocore refuses it.
    #[error("not UTF-8 text, so AWS tools can't read this file\nSave the file as UTF-8.")]
    NotUtf8,
    /// Some Windows editors put these three bytes in front; no AWS tool reads such a file.
    #[error(
        "the file begins with a byte order mark, so AWS tools can't read it\nSave the file as UTF-8 without BOM."
    )]
    ByteOrderMark,
    /// Over 4 GiB.
    #[error("the file is too large for an AWS credentials or config file")]
    TooLarge,
}

/// An edit that was refused. The document is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// A profile name that not every tool would read back as it was given.
    #[error(
        "profile name {profile:?} can't be written to the AWS {kind} file: {why}\nChoose a name of letters, digits and _ - . / @ % : +"
    )]
    ProfileName {
        /// The name as it was given.
        profile: String,
        /// The file that it was meant for.
        kind: FileKind,
        /// What is wrong with the name.
        why: &'static str,
    },
    /// A key that not every tool would read back as it was given.
    #[error("setting name {key:?} can't be written to an AWS file: use letters, digits and _ - . / @ % +")]
    Key {
        /// The key as it was given.
        key: String,
    },
    /// A value with a line break or another control character: it would forge further settings.
    #[error("the value of {key} for profile '{profile}' has a line break or control character in it")]
    ControlCharacter {
        /// The profile that was to be edited.
        profile: String,
        /// The setting; its value is not told.
        key: String,
    },
    /// A value that the grammar reads as something else (a comment in it, space at its ends).
    #[error(
        "the value of {key} for profile '{profile}' would be read back differently by AWS tools, so it was not written\nIt begins or ends with a space, or has a # or ; after a space, which begins a comment."
    )]
    ReadsDifferently {
        /// The profile that was to be edited.
        profile: String,
        /// The setting; its value is not told.
        key: String,
    },
    /// The file has no such profile.
    #[error("there is no profile '{profile}' in this file")]
    NoSuchProfile {
        /// The name that was looked for.
        profile: String,
    },
    /// Renaming would merge two profiles.
    #[error("a profile '{profile}' exists already\nChoose another name, or remove that profile first.")]
    ProfileExists {
        /// The name that is taken.
        profile: String,
    },
    /// An edit whose result doesn't read as it should: a mistake of ours, caught before it reached the file.
    #[error("editing profile '{profile}' would have changed something else, so nothing was written")]
    WouldDamage {
        /// The profile that was to be edited.
        profile: String,
    },
}
