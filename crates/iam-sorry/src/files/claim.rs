//! Who holds a lock: a small file put in place by link(2), which is atomic also on NFS, where flock may not be.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, futimens};
use rustix::process::{Pid, test_kill_process};

use super::atomic::{create_new, folder_of, random, remove_abandoned};

/// A process, told apart from any other that had or will have its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pid: i32,
    /// In clock ticks since boot (proc(5), stat, field 22).
    started: u64,
    /// Boot and PID namespace: only there does the number say anything. Two containers of one machine differ.
    place: String,
    host: String,
    nonce: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

impl Holder {
    fn this() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let host = rustix::system::uname().nodename().to_string_lossy().replace(char::is_whitespace, "_");
        let pid = rustix::process::getpid().as_raw_pid();
        Self {
            pid,
            started: state_of(pid).map_or(0, |(_, started)| started),
            place: format!("{}/{}", boot.trim(), namespace.display()).replace(char::is_whitespace, "_"),
            host: if host.is_empty() { "-".to_owned() } else { host },
            nonce: random(),
        }
    }

    fn text(&self) -> String {
        let Self { pid, started, place, host, nonce } = self;
        format!("1 {pid} {started} {nonce:016x} {place} {host}\n")
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let fields: Vec<&str> = text.split(' ').collect();
        let &["1", pid, started, nonce, place, host] = fields.as_slice() else { return None };
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
            nonce: u64::from_str_radix(nonce, 16).ok()?,
            place: place.to_owned(),
            host: host.to_owned(),
        })
    }

    /// The owner that a claim names, if it can be read.
    pub(super) fn read(claim: &Path) -> Option<Self> {
        Self::parse(&contents(claim).ok()?.0)
    }

    /// Whether the process is known to be gone. Of other places nothing is known.
    fn is_dead(&self, here: &Self) -> bool {
        if self.place != here.place || self.host != here.host {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.pid) else { return true };
        // EPERM: it is somebody else's, hence alive.
        if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            return true;
        }
        // A zombie holds nothing any more; another start time is another process.
        state_of(self.pid)
            .is_some_and(|(state, started)| matches!(state, 'Z' | 'X') || started != self.started)
    }
}

/// State and start time of a process (proc(5)); its name in brackets may hold anything, hence the last bracket.
fn state_of(pid: i32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

pub(super) enum ClaimOutcome {
    /// With the file, to be touched while it is held.
    Ours {
        holder: Holder,
        file: File,
    },
    /// A dead owner's claim was removed: try again.
    Freed,
    Theirs,
    /// Not a regular file.
    NotRegular,
}

/// Our claim under a name of its own, ready to be linked into place.
pub(super) struct PendingClaim {
    path: PathBuf,
    file: File,
    holder: Holder,
}

impl Drop for PendingClaim {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl PendingClaim {
    pub(super) fn beside(lock: &Path) -> io::Result<Self> {
        let holder = Holder::this();
        let path = suffixed(lock, &format!(".owner-{:016x}", holder.nonce));
        let file = create_new(&path)?;
        let mut pending = Self { path, file, holder };
        pending.file.write_all(pending.holder.text().as_bytes())?;
        Ok(pending)
    }

    /// Puts the claim in place, or finds out whose is there; one that is dead or silent for `stale` is removed.
    pub(super) fn claim(&self, claim: &Path, stale: Duration) -> io::Result<ClaimOutcome> {
        match std::fs::hard_link(&self.path, claim) {
            Ok(()) => {
                return Ok(ClaimOutcome::Ours { holder: self.holder.clone(), file: self.file.try_clone()? });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // File systems without hard links (FAT, some FUSE) know exclusive creation.
            Err(error) if no_links(&error) => match create_new(claim) {
                Ok(mut file) => {
                    file.write_all(self.holder.text().as_bytes())?;
                    return Ok(ClaimOutcome::Ours { holder: self.holder.clone(), file });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
        if std::fs::symlink_metadata(claim).is_ok_and(|found| !found.is_file()) {
            return Ok(ClaimOutcome::NotRegular);
        }
        let Ok((found, last_beat)) = contents(claim) else {
            // Gone meanwhile, or not for us to read: then it is not for us to judge either.
            let gone = !claim.exists();
            return Ok(if gone { ClaimOutcome::Freed } else { ClaimOutcome::Theirs });
        };
        let dead = Holder::parse(&found).is_some_and(|holder| holder.is_dead(&self.holder));
        if dead || self.now()?.duration_since(last_beat).is_ok_and(|silence| silence > stale) {
            return self.remove(claim, &found);
        }
        Ok(ClaimOutcome::Theirs)
    }

    /// The file server's time, since both this and the heartbeat are its.
    fn now(&self) -> io::Result<SystemTime> {
        touch(&self.file)?;
        self.file.metadata()?.modified()
    }

    /// Removes the claim that was judged, and no other: another waiter may have put its own there meanwhile.
    fn remove(&self, claim: &Path, judged: &[u8]) -> io::Result<ClaimOutcome> {
        let aside = suffixed(&self.path, "-aside");
        match std::fs::rename(claim, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ClaimOutcome::Freed),
            renamed => renamed?,
        }
        let right = contents(&aside).is_ok_and(|(found, _)| found == judged);
        if !right {
            // Back with it. Where a third was faster, the second will notice by `is_still_held`.
            let _ = std::fs::hard_link(&aside, claim);
        }
        std::fs::remove_file(&aside)?;
        // Where one process died others may have, leaving offers. Those of waiting processes are touched.
        let offers = format!("{}-", claim.file_name().unwrap_or_default().to_string_lossy());
        remove_abandoned(folder_of(claim), self.now()?, |name| name.starts_with(&offers));
        Ok(if right { ClaimOutcome::Freed } else { ClaimOutcome::Theirs })
    }
}

fn no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

/// A claim's bytes and its last heartbeat. A link is not followed, a pipe not waited for.
fn contents(claim: &Path) -> io::Result<(Vec<u8>, SystemTime)> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    // Opening asks the NFS server anew, so that the time isn't one that this machine remembers.
    let file = OpenOptions::new().read(true).custom_flags(flags).open(claim)?;
    let mut bytes = Vec::new();
    (&file).take(4096).read_to_end(&mut bytes)?;
    Ok((bytes, file.metadata()?.modified()?))
}

pub(super) fn touch(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
