//! The files on disk. The only module that writes credential files: under a lock, in one step, 0600.
//!
//! [`AwsFile`] is one of the two shared AWS files; [`replace_atomically`] and [`Lock`] serve our own state files as well.

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
