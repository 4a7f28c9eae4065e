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
use crate::failure::{Failure, Kind, Result};
use crate::files::{Access, FileError, Lock, Waited, replace_atomically};

/// Longer than a renewal through a manager may take, whose new key AWS may not know for a minute.
const WAIT_LIMIT: Duration = Duration::from_secs(300);
/// What fails sooner asked nobody, neither AWS nor a person.
const LOCAL: Duration = Duration::from_millis(500);

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
    let note = paths.failure_note(key);
    // Told apart by what the file is, not by its time: the machines of a cluster don't agree about that.
    let before = FileIdentity::of(&note);
    let mut done = || {
        ready().or_else(|| {
            let now = FileIdentity::of(&note);
            if now.is_some() && now != before { read_note(&note).map(Err) } else { None }
        })
    };
    let lock = match Lock::acquire_unless(&paths.lock(key), WAIT_LIMIT, &mut done).map_err(FileError::from)? {
        Waited::Ready(result) => return result,
        Waited::Held(lock) => lock,
    };
    // The last holder may have finished between our look and its letting go.
    if let Some(result) = done() {
        return result;
    }
    let began = Instant::now();
    let result = work();
    if let Err(failure) = &result
        && is_everybodys(failure, began.elapsed())
    {
        let text = format!("{}\n{}", failure.kind.code(), failure.text);
        let _ = replace_atomically(&note, text.as_bytes(), Access::Private);
    }
    drop(lock);
    result
}

/// What went wrong with AWS goes wrong for all. A missing agent or manager may be this process's alone, and is soon
/// found out by the next; but nobody wants to decline the same question a hundred times.
fn is_everybodys(failure: &Failure, took: Duration) -> bool {
    match failure.kind {
        Kind::Aws => true,
        Kind::Interrupted | Kind::BrokenPipe => false,
        _ => took > LOCAL,
    }
}

fn read_note(path: &Path) -> Option<Failure> {
    let text = std::fs::read_to_string(path).ok()?;
    let (code, text) = text.split_once('\n')?;
    let kinds = [Kind::Other, Kind::Usage, Kind::Profile, Kind::Aws, Kind::Key];
    let kind = kinds.into_iter().find(|kind| Ok(kind.code()) == code.parse())?;
    Some(Failure::new(kind, text))
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
