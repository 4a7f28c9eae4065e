//! Files on disk. Only this module writes credential files: under a lock, in one step, 0600.
//!
//! [`AwsFile`] is one of the two shared AWS files; [`replace_atomically`] and [`Lock`] also serve iam-sorry's own state
//! files.

mod atomic;
mod aws_file;
mod claim;
mod error;
mod lock;
mod notice;
#[cfg(test)]
mod tests;

pub use atomic::{AtomicWriter, FileMode, create_folder_of, replace_atomically};
pub use aws_file::AwsFile;
pub use error::FileError;
pub use lock::{Lock, LockOutcome};
pub use notice::Notice;
