//! Singleflight: one process does the work, and all that need the result meanwhile share it. So hundreds of batch jobs
//! that start in the same second make one request (ByteNess/aws-vault#291, aws-sso-cli#1084).
//!
//! Errors are shared too: the process that failed leaves a note, and those that were waiting return its error, instead
//! of repeating the request or the prompt one after the other. Processes that come later try again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use iam_sorry_core::credentials::Credentials;

use super::cache_path::{CacheKey, CachePaths};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{FileError, FileMode, Lock, LockOutcome, replace_atomically};

/// Longer than a refresh through a manager, whose new key AWS may not accept for a minute.
const WAIT_LIMIT: Duration = Duration::from_secs(300);
/// An error within this time involved neither a request nor a prompt.
const LOCAL_FAILURE: Duration = Duration::from_millis(500);

/// Runs `work`, unless another process already does; then `ready` returns its result.
///
/// # Errors
/// `work`'s own, or that of the process that this one waited for.
pub fn run(
    paths: &CachePaths,
    key: &CacheKey,
    mut ready: impl FnMut() -> Option<Result<Credentials>>,
    work: impl FnOnce() -> Result<Credentials>,
) -> Result<Credentials> {
    let failure_note = paths.failure_note(key);
    // Compared by identity, not by time: the clocks of a cluster's machines differ.
    let before = FileIdentity::of(&failure_note);
    let mut done = || {
        ready().or_else(|| {
            let now = FileIdentity::of(&failure_note);
            if now.is_some() && now != before { read_failure_note(&failure_note).map(Err) } else { None }
        })
    };
    let lock = match Lock::acquire_unless(&paths.lock(key), WAIT_LIMIT, &mut done).map_err(FileError::from)? {
        LockOutcome::Ready(result) => return result,
        LockOutcome::Acquired(lock) => lock,
    };
    // The last holder may have finished after the check above and before it released the lock.
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

/// An error of AWS concerns every process. A missing agent or manager may concern only this one, and the next notices
/// it quickly; but nobody wants to decline the same prompt a hundred times.
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

/// A file's identity, which changes if the file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity(u64, u64, i64, i64, u64);

impl FileIdentity {
    /// `None` if there is no file.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self(found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
    }
}
