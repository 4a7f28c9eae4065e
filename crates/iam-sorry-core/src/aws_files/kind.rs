//! Which of the two files.

use std::fmt;

/// The two files differ in how a profile's section is named: `[X]` in credentials, `[profile X]` in config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// `~/.aws/credentials`
    Credentials,
    /// `~/.aws/config`
    Config,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => "credentials",
            Self::Config => "config",
        })
    }
}
