//! The last signed state of the trail in a file outside the database, beside the key: whoever restores or cuts the
//! database does not take it along. Its one line is the last checkpoint as an export has it.

use std::io;
use std::path::{Path, PathBuf};

use iam_sorry_core::audit::{Checkpoint, CheckpointKey};

use crate::files;

/// No state file is longer: a checkpoint names each open lane with a hundred bytes.
const LONGEST: u64 = 1024 * 1024;

/// The file, and the key that signs what is in it.
#[derive(Clone, Debug)]
pub(crate) struct SignedState {
    path: PathBuf,
    key: CheckpointKey,
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// There is no file.
    Nothing,
    /// The last checkpoint.
    State(Checkpoint),
    /// No checkpoint, or one whose signature does not fit.
    Damaged(String),
}

impl SignedState {
    pub(crate) fn new(path: PathBuf, key: CheckpointKey) -> Self {
        Self { path, key }
    }

    /// Which machine's file it is: the database notes for each whether there must be one.
    pub(crate) fn place(&self) -> String {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{host}:{}", self.path.display())
    }

    pub(crate) fn key_id(&self) -> String {
        self.key.id()
    }

    /// # Errors
    /// The file is there and can't be read.
    pub(crate) fn read(&self) -> io::Result<Held> {
        let text = match files::read_short(&self.path, LONGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::Nothing),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Ok(Held::Damaged("holds no checkpoint".to_owned()));
            }
            Err(error) => return Err(error),
        };
        let Ok(checkpoint) = Checkpoint::parse(text.trim_end_matches('\n')) else {
            return Ok(Held::Damaged("holds no checkpoint".to_owned()));
        };
        // After a change of keys the last one is another key's: what it says is compared all the same.
        if checkpoint.key_id == self.key.id() && !checkpoint.verify(&self.key) {
            return Ok(Held::Damaged("holds a checkpoint whose signature does not fit".to_owned()));
        }
        Ok(Held::State(checkpoint))
    }

    /// Replaces the state; it is on disk when this returns.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        files::replace(&self.path, format!("{}\n", checkpoint.export_line()).as_bytes())
    }
}

/// Whether a state can be kept in this file: a file can be made beside it, and it can be read where it is there.
///
/// # Errors
/// A text with the way out.
pub fn check(path: &Path) -> Result<(), String> {
    let tried = match files::read_short(path, LONGEST) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            Err(error)
        }
        _ => files::can_replace(path),
    };
    tried.map_err(|error| {
        format!(
            "audit.state_file {}: {error}\nThe service keeps the last signed state of the trail there: name a file in a \
             folder that it may write, apart from the database's.",
            path.display()
        )
    })
}
