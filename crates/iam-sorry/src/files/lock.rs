//! A lock between processes, also on homes shared over NFS, where flock may have no effect or not exist.
//!
//! A holder has two things: flock(2) on a lock file that is never removed, which is released when the holder dies and
//! lets one process per machine continue; and a claim, a file created by link(2), which is atomic on NFS too. The claim
//! names its holder. A claim whose process is dead on this machine is taken over at once; another machine's becomes
//! stale when its heartbeat stops. A holder that was stopped for so long calls `is_still_held` before it writes.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::atomic::{folder_of, random};
use super::claim::{ClaimOutcome, Holder, PendingClaim, suffixed, touch};
use super::error::LockError;

const HEARTBEAT: Duration = Duration::from_secs(5);
/// Six missed heartbeats.
const STALE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Held until dropped. Must not be held across exec(2): the new program would keep the flock.
pub struct Lock {
    claim: PathBuf,
    holder: Holder,
    heartbeat: Option<(Sender<()>, JoinHandle<()>)>,
    /// Closed last, which releases the flock.
    _flock: File,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("claim", &self.claim).finish_non_exhaustive()
    }
}

/// How waiting for a lock ended.
#[derive(Debug)]
pub enum LockOutcome<T> {
    /// This process holds it.
    Acquired(Lock),
    /// It is no longer needed.
    Ready(T),
}

impl Lock {
    /// Waits for the lock at `path`, at most `timeout`.
    pub fn acquire(path: &Path, timeout: Duration) -> Result<Self, LockError> {
        match Self::acquire_unless(path, timeout, || None::<Never>)? {
            LockOutcome::Acquired(lock) => Ok(lock),
            LockOutcome::Ready(never) => match never {},
        }
    }

    /// Waits for the lock, or until `ready` returns a value; `ready` is called before each attempt. So hundreds of
    /// processes that wait for one process's result continue when it is there, and the lock need not pass through each
    /// of them.
    pub fn acquire_unless<T>(
        path: &Path,
        timeout: Duration,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<LockOutcome<T>, LockError> {
        acquire_with(path, timeout, LockOptions { flock: true, stale: STALE }, ready)
    }

    /// False if another process has taken the claim over, which can happen if this one was stopped for half a minute.
    pub fn is_still_held(&self) -> bool {
        Holder::read(&self.claim).is_some_and(|holder| holder == self.holder)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.heartbeat.take() {
            drop(stop);
            let _ = thread.join();
        }
        if self.is_still_held() {
            let _ = std::fs::remove_file(&self.claim);
        }
    }
}

enum Never {}

/// Parameters that tests vary.
#[derive(Clone, Copy)]
pub(super) struct LockOptions {
    pub(super) flock: bool,
    pub(super) stale: Duration,
}

pub(super) fn acquire_with<T>(
    path: &Path,
    timeout: Duration,
    means: LockOptions,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<LockOutcome<T>, LockError> {
    let failed = |source: io::Error| LockError::Io { path: path.to_owned(), source };
    let deadline = Instant::now() + timeout;
    let claim = suffixed(path, ".owner");
    let mut pause = Pause::new();
    let mut file = None;
    let mut pending = None;
    loop {
        if let Some(done) = ready() {
            return Ok(LockOutcome::Ready(done));
        }
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(open_lock_file(path)?),
        };
        // Taking a flock that is already held has no effect.
        if !means.flock || try_flock(file).map_err(failed)? {
            let pending = match &mut pending {
                Some(pending) => pending,
                None => pending.insert(PendingClaim::beside(path).map_err(failed)?),
            };
            match pending.claim(&claim, means.stale).map_err(failed)? {
                ClaimOutcome::Acquired { holder, file: claimed } => {
                    let _flock = file.try_clone().map_err(failed)?;
                    return Ok(LockOutcome::Acquired(Lock {
                        claim,
                        holder,
                        heartbeat: start_heartbeat(claimed),
                        _flock,
                    }));
                }
                ClaimOutcome::Removed => continue,
                ClaimOutcome::NotRegular => return Err(LockError::NotRegular { path: claim }),
                ClaimOutcome::Held => {}
            }
        }
        if Instant::now() >= deadline {
            let holder = Holder::read(&claim)
                .map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
            return Err(LockError::Timeout { path: path.to_owned(), holder });
        }
        pause.sleep_until(deadline);
    }
}

/// Opens the lock file, 0600. Follows no link, and does not block on a pipe.
fn open_lock_file(path: &Path) -> Result<File, LockError> {
    let failed = |source: io::Error| LockError::Io { path: path.to_owned(), source };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) => {
            let planted = std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
            return Err(if planted {
                LockError::NotRegular { path: path.to_owned() }
            } else {
                failed(error)
            });
        }
    };
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(LockError::NotRegular { path: path.to_owned() });
    }
    // Created by root in a user's folder, it would lock the user out.
    if found.len() == 0
        && let Ok(folder) = std::fs::metadata(folder_of(path))
        && found.uid() == 0
        && folder.uid() != 0
    {
        let _ = std::os::unix::fs::fchown(&file, Some(folder.uid()), Some(folder.gid()));
    }
    Ok(file)
}

/// True if this process holds the flock, or if the file system has none and the claim must suffice.
fn try_flock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Touches the claim until stopped. The time is the file server's, so that machines' clocks need not agree.
fn start_heartbeat(claim: File) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel();
    let thread = move || {
        while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            let _ = touch(&claim);
        }
    };
    // Without the thread the claim may become stale; the holder will notice through `is_still_held`.
    std::thread::Builder::new()
        .name("lock heartbeat".to_owned())
        .spawn(thread)
        .ok()
        .map(|thread| (stop, thread))
}

/// Growing pauses with jitter, so that hundreds of waiting processes don't try in step.
struct Pause {
    length: Duration,
    jitter: u64,
}

impl Pause {
    fn new() -> Self {
        Self { length: Duration::from_millis(1), jitter: random() }
    }

    fn sleep_until(&mut self, deadline: Instant) {
        // Knuth's MMIX generator: it only spreads, and no security depends on it.
        self.jitter =
            self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let percent = 50 + (self.jitter >> 33) % 100;
        let pause = self.length * percent as u32 / 100;
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        self.length = (self.length * 3 / 2).min(MAX_PAUSE);
    }
}
