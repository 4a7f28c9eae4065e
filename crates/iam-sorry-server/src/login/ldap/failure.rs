//! Why a directory gave no answer.

use crate::login::error::LoginError;

/// Why the directory gave no answer that can be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No server could be reached, or the connection broke: known at once.
    #[error("{0}")]
    Connection(String),
    /// No answer in time.
    #[error("{0}")]
    Hangs(String),
    /// More entries than were asked for.
    #[error("more entries match than were asked for")]
    TooMany,
    /// It answered, but not with what was asked for.
    #[error("{0}")]
    Answer(String),
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connection(what) | Failure::Hangs(what) | Failure::Answer(what) => {
                Self::Unavailable(what)
            }
            Failure::TooMany => Self::Unavailable(failure.to_string()),
        }
    }
}
