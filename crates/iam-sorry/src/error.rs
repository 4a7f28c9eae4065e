//! Why a command failed: what happened, what to type next, and the exit code.
//!
//! Libraries have their own error types. Here each of them gets one of the exit codes that scripts rely on.

use std::fmt;

use iam_sorry_core::aws_files::EditError;
use iam_sorry_core::names::InvalidName;

use crate::files::FileError;
use crate::keyring::KeyError;

/// The category of an error; it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Anything without an exit code of its own (1).
    Other,
    /// The command line itself is wrong (2).
    Usage,
    /// A profile or its credentials are missing or unusable (3).
    Profile,
    /// AWS or the department service refused, or could not be reached (4).
    Aws,
    /// The SSH key, the agent or a sealed value (5).
    Key,
    /// Ctrl-C (130).
    Interrupted,
    /// The reader of stdout is gone: nothing is printed, and the exit code is 0.
    BrokenPipe,
}

impl ErrorKind {
    /// The exit code (`iam-sorry --help`, "Exit status").
    pub fn exit_code(self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::Profile => 3,
            Self::Aws => 4,
            Self::Key => 5,
            Self::Interrupted => 130,
        }
    }
}

/// An error as the user reads it. The first line of the text says what happened, the following lines what to do.
#[derive(Debug)]
pub struct Error {
    pub kind: ErrorKind,
    pub text: String,
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, text)
    }
    pub fn profile(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Profile, text)
    }
    pub fn other(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Other, text)
    }
    pub fn key(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Key, text)
    }

    /// Appends a line that says what to do next.
    #[must_use]
    pub fn hint(mut self, line: impl AsRef<str>) -> Self {
        self.text.push('\n');
        self.text.push_str(line.as_ref());
        self
    }

    /// Appends the second error if undoing the work failed too.
    #[must_use]
    pub fn with_undo_result(self, undone: std::result::Result<(), iam_sorry_aws::AwsError>) -> Self {
        match undone {
            Ok(()) => self,
            Err(left) => self.hint(left.to_string()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<FileError> for Error {
    fn from(e: FileError) -> Self {
        Self::new(if e.is_about_contents() { ErrorKind::Profile } else { ErrorKind::Other }, e.to_string())
    }
}

impl From<EditError> for Error {
    fn from(e: EditError) -> Self {
        Self::profile(e.to_string())
    }
}

impl From<KeyError> for Error {
    fn from(e: KeyError) -> Self {
        let kind = if matches!(e, KeyError::Interrupted) { ErrorKind::Interrupted } else { ErrorKind::Key };
        Self::new(kind, e.to_string())
    }
}

impl From<InvalidName> for Error {
    fn from(e: InvalidName) -> Self {
        Self::usage(e.to_string())
    }
}

impl From<iam_sorry_aws::AwsError> for Error {
    fn from(e: iam_sorry_aws::AwsError) -> Self {
        let kind = match e {
            iam_sorry_aws::AwsError::Interrupted => ErrorKind::Interrupted,
            // The journal is a folder of this machine; no request was sent to AWS.
            iam_sorry_aws::AwsError::Journal { .. } => ErrorKind::Other,
            _ => ErrorKind::Aws,
        };
        Self::new(kind, e.to_string())
    }
}
