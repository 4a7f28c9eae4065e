//! What the user should know about a file, though nothing failed.

use std::fmt;
use std::path::PathBuf;

/// A warning for stderr, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Others could read the file; its mode was restricted.
    ModeRestricted {
        /// The file.
        path: PathBuf,
        /// Its mode before.
        mode: u32,
    },
    /// Others can read the file.
    OthersCanRead {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file had further hard links, which still hold the old bytes.
    HardLinks {
        /// The file.
        path: PathBuf,
        /// How many.
        count: u64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModeRestricted { path, mode } => {
                write!(
                    f,
                    "{} could be read by others (mode {mode:04o}); it is yours alone now",
                    path.display()
                )
            }
            Self::OthersCanRead { path, mode } => {
                let path = path.display();
                write!(f, "{path} can be read by others (mode {mode:04o}). Narrow it: chmod 600 {path}")
            }
            Self::HardLinks { path, count } => write!(
                f,
                "{path} had {count} more hard link(s); they keep the old contents. Find them: find ~ -xdev -samefile OLD",
                path = path.display()
            ),
        }
    }
}
