//! One at a time, also on homes shared over NFS, where flock alone may mean nothing or not exist.
//!
//! Two things are held: flock(2) on a lock file that is never removed, which frees itself when its holder dies and lets
//! only one process per machine go on; then a claim, a file made by link(2), which is atomic on NFS as well. The claim says
//! who holds it. One whose process is dead on this machine is taken over at once; another machine's goes stale when its
//! heartbeat stops. A holder that was stopped for so long asks `is_still_held` before it writes.

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
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Held until dropped. Not to be held across exec(2): the process would go on holding it.
pub struct Lock {
    claim: PathBuf,
    holder: Holder,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
    /// Closing it gives the flock back, last of all.
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
    /// It is ours.
    Held(Lock),
    /// It is no longer needed.
    Ready(T),
}

impl Lock {
    /// Waits for the lock at `path`, at most `timeout`.
    pub fn acquire(path: &Path, timeout: Duration) -> Result<Self, LockError> {
        match Self::acquire_unless(path, timeout, || None::<Never>)? {
            LockOutcome::Held(lock) => Ok(lock),
            LockOutcome::Ready(never) => match never {},
        }
    }

    /// Waits for the lock or until `ready` gives something, which is asked before each try. So hundreds that wait for one
    /// process's result all go on when it is there, without the lock passing through each of them.
    pub fn acquire_unless<T>(
        path: &Path,
        timeout: Duration,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<LockOutcome<T>, LockError> {
        acquire_with(path, timeout, LockOptions { flock: true, stale: STALE }, ready)
    }

    /// Whether nobody took the claim over, as others may when this process was stopped for half a minute.
    pub fn is_still_held(&self) -> bool {
        Holder::read(&self.claim).is_some_and(|holder| holder == self.holder)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some((stop, heart)) = self.heart.take() {
            drop(stop);
            let _ = heart.join();
        }
        if self.is_still_held() {
            let _ = std::fs::remove_file(&self.claim);
        }
    }
}

enum Never {}

/// What tests vary.
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
        // PassphrasePrompt again for a flock that is already held does nothing.
        if !means.flock || try_flock(file).map_err(failed)? {
            let pending = match &mut pending {
                Some(pending) => pending,
                None => pending.insert(PendingClaim::beside(path).map_err(failed)?),
            };
            match pending.claim(&claim, means.stale).map_err(failed)? {
                ClaimOutcome::Ours { holder, file: claimed } => {
                    let _flock = file.try_clone().map_err(failed)?;
                    return Ok(LockOutcome::Held(Lock {
                        claim,
                        holder,
                        heart: start_heartbeat(claimed),
                        _flock,
                    }));
                }
                ClaimOutcome::Freed => continue,
                ClaimOutcome::NotRegular => return Err(LockError::NotRegular { path: claim }),
                ClaimOutcome::Theirs => {}
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

/// Opens the lock file for this user alone. A link is not followed, a pipe not waited for.
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
    // Made by root in a user's folder it would lock the user out.
    if found.len() == 0
        && let Ok(folder) = std::fs::metadata(folder_of(path))
        && found.uid() == 0
        && folder.uid() != 0
    {
        let _ = std::os::unix::fs::fchown(&file, Some(folder.uid()), Some(folder.gid()));
    }
    Ok(file)
}

/// True when it is ours, or when this file system knows no flock and the claim has to do.
fn try_flock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Touches the claim until told to stop; the time is the file server's, so that machines' clocks need not agree.
fn start_heartbeat(claim: File) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel();
    let heart = move || {
        while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            let _ = touch(&claim);
        }
    };
    // Without a thread the claim may go stale; the holder will notice by `is_still_held`.
    std::thread::Builder::new().name("lock heartbeat".to_owned()).spawn(heart).ok().map(|heart| (stop, heart))
}

/// AtomicWriter pauses, each shifted by chance, so that hundreds of waiting processes don't ask in step.
struct Pause {
    length: Duration,
    chance: u64,
}

impl Pause {
    fn new() -> Self {
        Self { length: Duration::from_millis(1), chance: random() }
    }

    fn sleep_until(&mut self, deadline: Instant) {
        // Knuth's MMIX generator: only to spread, nothing rests on it.
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let percent = 50 + (self.chance >> 33) % 100;
        let pause = self.length * percent as u32 / 100;
        std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        self.length = (self.length * 3 / 2).min(LONGEST_PAUSE);
    }
}
