//! How a command ends when it does not succeed: what happened, what to type next, and the exit code that follows.
//!
//! Libraries have their own error types; this is where each becomes one of the exit codes that scripts rely on.

use std::fmt;

use iam_sorry_core::aws_files::EditError;
use iam_sorry_core::names::InvalidName;

use crate::files::FileError;
use crate::keyring::KeyError;

/// What kind of thing went wrong; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything that has no code of its own (1).
    Other,
    /// The command line itself (2).
    Usage,
    /// A profile or its credentials are missing or unusable (3).
    Profile,
    /// AWS refused, or could not be reached (4).
    Aws,
    /// The SSH key, the agent or a sealed value (5).
    Key,
    /// Ctrl-C (130).
    Interrupted,
    /// The reader of our output went away: nothing to say, nothing failed.
    BrokenPipe,
}

impl Kind {
    /// The exit code (`iam-sorry --help`, EXIT STATUS).
    pub fn code(self) -> u8 {
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

/// A failure as the user sees it. The first line says what happened, the following ones what to do.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub text: String,
}

/// What commands return.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Kind::Usage, text)
    }
    pub fn profile(text: impl Into<String>) -> Self {
        Self::new(Kind::Profile, text)
    }
    pub fn other(text: impl Into<String>) -> Self {
        Self::new(Kind::Other, text)
    }
    pub fn key(text: impl Into<String>) -> Self {
        Self::new(Kind::Key, text)
    }

    /// Adds a line that says what to do next.
    #[must_use]
    pub fn hint(mut self, line: impl AsRef<str>) -> Self {
        self.text.push('\n');
        self.text.push_str(line.as_ref());
        self
    }

    /// Adds what went wrong where the work was taken back because of this.
    #[must_use]
    pub fn unless_undone(self, undone: std::result::Result<(), iam_sorry_aws::AwsError>) -> Self {
        match undone {
            Ok(()) => self,
            Err(left) => self.hint(left.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<FileError> for Failure {
    fn from(e: FileError) -> Self {
        Self::new(if e.is_about_contents() { Kind::Profile } else { Kind::Other }, e.to_string())
    }
}

impl From<EditError> for Failure {
    fn from(e: EditError) -> Self {
        Self::profile(e.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(e: KeyError) -> Self {
        let kind = if matches!(e, KeyError::Interrupted) { Kind::Interrupted } else { Kind::Key };
        Self::new(kind, e.to_string())
    }
}

impl From<InvalidName> for Failure {
    fn from(e: InvalidName) -> Self {
        Self::usage(e.to_string())
    }
}

impl From<iam_sorry_aws::AwsError> for Failure {
    fn from(e: iam_sorry_aws::AwsError) -> Self {
        let kind = match e {
            iam_sorry_aws::AwsError::Interrupted => Kind::Interrupted,
            // A folder of this machine, about which AWS was never asked.
            iam_sorry_aws::AwsError::Journal { .. } => Kind::Other,
            _ => Kind::Aws,
        };
        Self::new(kind, e.to_string())
    }
}
