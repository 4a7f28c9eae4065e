//! One piece of work at a time, and one result for all who asked meanwhile: hundreds of jobs of a batch system that start
//! in the same second make one request (ByteNess/aws-vault#291, aws-sso-cli#1084).
//!
//! A failure is shared too: the holder leaves a note, and those who were waiting take it for their own instead of asking a
//! service in trouble, or a person, again, one after the other. Who comes later tries anew.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use iam_sorry_core::credentials::Credentials;

use super::cache_path::{CacheKey, CachePaths};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{FileError, FileMode, Lock, LockOutcome, replace_atomically};

/// Longer than a renewal through a manager may take, whose new key AWS may not know for a minute.
const WAIT_LIMIT: Duration = Duration::from_secs(300);
/// What fails sooner asked nobody, neither AWS nor a person.
const LOCAL_FAILURE: Duration = Duration::from_millis(500);

/// Does `work` unless another process does it already; then its result comes from `ready`.
///
/// # Errors
/// `work`'s own, here or in the process that we waited for.
pub fn run(
    paths: &CachePaths,
    key: &CacheKey,
    mut ready: impl FnMut() -> Option<Result<Credentials>>,
    work: impl FnOnce() -> Result<Credentials>,
) -> Result<Credentials> {
    let failure_note = paths.failure_note(key);
    // Told apart by what the file is, not by its time: the machines of a cluster don't agree about that.
    let before = FileIdentity::of(&failure_note);
    let mut done = || {
        ready().or_else(|| {
            let now = FileIdentity::of(&failure_note);
            if now.is_some() && now != before { read_failure_note(&failure_note).map(Err) } else { None }
        })
    };
    let lock = match Lock::acquire_unless(&paths.lock(key), WAIT_LIMIT, &mut done).map_err(FileError::from)? {
        LockOutcome::Ready(result) => return result,
        LockOutcome::Held(lock) => lock,
    };
    // The last holder may have finished between our look and its letting go.
    if let Some(result) = done() {
        return result;
    }
    let began = Instant::now();
    let result = work();
    if let Err(error) = &result
        && is_shared(error, began.elapsed())
    {
        let text = format!("{}\n{}", error.kind.exit_code(), error.text);
        let _ = replace_atomically(&failure_note, text.as_bytes(), FileMode::Private);
    }
    drop(lock);
    result
}

/// What went wrong with AWS goes wrong for all. A missing agent or manager may be this process's alone, and is soon
/// found out by the next; but nobody wants to decline the same question a hundred times.
fn is_shared(error: &Error, took: Duration) -> bool {
    match error.kind {
        ErrorKind::Aws => true,
        ErrorKind::Interrupted | ErrorKind::BrokenPipe => false,
        _ => took > LOCAL_FAILURE,
    }
}

fn read_failure_note(path: &Path) -> Option<Error> {
    let text = std::fs::read_to_string(path).ok()?;
    let (code, text) = text.split_once('\n')?;
    let kinds = [ErrorKind::Other, ErrorKind::Usage, ErrorKind::Profile, ErrorKind::Aws, ErrorKind::Key];
    let kind = kinds.into_iter().find(|kind| Ok(kind.exit_code()) == code.parse())?;
    Some(Error::new(kind, text))
}

/// A file as it is now: replaced or written to, it is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity(u64, u64, i64, i64, u64);

impl FileIdentity {
    /// `None` where there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self(found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    }
}
