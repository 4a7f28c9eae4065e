//! File errors as the user reads them: which file, why, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use iam_sorry_core::aws_files::ParseError;

/// A file could not be read or written. In each case the file on disk is complete: the old one or the new one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused an operation.
    #[error("can't {doing} {}: {source}{}", path.display(), hint(source, path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// A verb, as in "can't write FILE".
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The file has no syntax that AWS tools accept.
    #[error("{}, {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        source: ParseError,
    },
    /// Larger than any credentials or config file.
    #[error("{} is larger than 32 MiB, which is no AWS credentials or config file\nCheck AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE.", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A folder, pipe or device is in the file's place.
    #[error("{} is not a regular file\nCheck AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE.", path.display())]
    NotRegular {
        /// Its path.
        path: PathBuf,
    },
    /// Symbolic links form a loop.
    #[error("{} is a symbolic link that leads nowhere\nLook at it with: ls -l {}", path.display(), path.display())]
    LinkLoop {
        /// The first link.
        path: PathBuf,
    },
    /// Another tool changed the file before each attempt to write it.
    #[error("{} was changed by another program each time it was about to be written; nothing was written\nTry again in a moment.", path.display())]
    Contended {
        /// The file.
        path: PathBuf,
    },
    /// The lock could not be acquired, or was lost.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl FileError {
    /// Whether the file's contents are at fault (exit code 3), not the machine (exit code 1).
    pub fn is_about_contents(&self) -> bool {
        matches!(self, Self::Parse { .. } | Self::TooLarge { .. } | Self::NotRegular { .. })
    }
}

/// A lock could not be acquired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    #[error("{holder} has held the lock {} for too long\nIf it hangs, end it and try again.", path.display())]
    Timeout {
        /// The lock file.
        path: PathBuf,
        /// The process, as far as is known.
        holder: String,
    },
    /// A link, folder or pipe is in its place. Somebody may have planted it, so it is left alone.
    #[error("{} is not a regular file, so it is not used as a lock\nLook at it with: ls -l {}\nThen remove it.", path.display(), path.display())]
    NotRegular {
        /// The lock file.
        path: PathBuf,
    },
    /// The operating system refused an operation.
    #[error("can't lock {}: {source}{}", path.display(), hint(source, path))]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What to do about an error, beginning with a line break; empty if there is nothing to say.
fn hint(error: &io::Error, path: &Path) -> String {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("\nThe file is as it was. Make room (df -h {folder}; quota), then try again.")
        }
        io::ErrorKind::FileTooLarge => {
            "\nThe file is as it was. Raise the limit on file sizes (ulimit -f), then try again.".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "\nThe file is as it was: its file system is mounted read-only.".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("\nIt must be yours, in a folder of yours. Look with: ls -ld {folder} {}", path.display())
        }
        _ => String::new(),
    }
}

pub(super) trait IoContext<T> {
    fn when(self, doing: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn when(self, doing: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|error| FileError::Io { path: path.to_owned(), doing, source: error.into() })
    }
}
