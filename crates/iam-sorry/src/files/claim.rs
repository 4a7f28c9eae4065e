//! A claim says which process holds a lock: a small file created by link(2), which is atomic on NFS too, where flock
//! may not work.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, futimens};
use rustix::process::{Pid, test_kill_process};

use super::atomic::{create_new, folder_of, random, remove_abandoned};

/// A process, distinct from every other that had or will have its PID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pid: i32,
    /// In clock ticks since boot (proc(5), stat, field 22).
    started: u64,
    /// Boot and PID namespace, within which the PID is unique. Two containers of one machine differ.
    namespace: String,
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
        let pid_namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let host = rustix::system::uname().nodename().to_string_lossy().replace(char::is_whitespace, "_");
        let pid = rustix::process::getpid().as_raw_pid();
        Self {
            pid,
            started: state_of(pid).map_or(0, |(_, started)| started),
            namespace: format!("{}/{}", boot.trim(), pid_namespace.display())
                .replace(char::is_whitespace, "_"),
            host: if host.is_empty() { "-".to_owned() } else { host },
            nonce: random(),
        }
    }

    fn text(&self) -> String {
        let Self { pid, started, namespace, host, nonce } = self;
        format!("1 {pid} {started} {nonce:016x} {namespace} {host}\n")
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let fields: Vec<&str> = text.split(' ').collect();
        let &["1", pid, started, nonce, namespace, host] = fields.as_slice() else { return None };
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
            nonce: u64::from_str_radix(nonce, 16).ok()?,
            namespace: namespace.to_owned(),
            host: host.to_owned(),
        })
    }

    /// The holder that a claim names, if it can be read.
    pub(super) fn read(claim: &Path) -> Option<Self> {
        Self::parse(&contents(claim).ok()?.0)
    }

    /// Whether the process is known to be dead. Nothing is known about processes of other machines or namespaces.
    fn is_dead(&self, here: &Self) -> bool {
        if self.namespace != here.namespace || self.host != here.host {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.pid) else { return true };
        // EPERM: another user's process has this PID, so it is alive.
        if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            return true;
        }
        // A zombie holds nothing any more; a different start time means a different process.
        state_of(self.pid)
            .is_some_and(|(state, started)| matches!(state, 'Z' | 'X') || started != self.started)
    }
}

/// State and start time of a process (proc(5)). Its name, in brackets, may contain anything, hence the last bracket.
fn state_of(pid: i32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

pub(super) enum ClaimOutcome {
    /// With the claim's file, which is touched while the lock is held.
    Acquired {
        holder: Holder,
        file: File,
    },
    /// A dead holder's claim was removed: try again.
    Removed,
    Held,
    /// Not a regular file.
    NotRegular,
}

/// This process's claim under a temporary name, ready to be linked into place.
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

    /// Puts the claim in place, or finds whose claim is there. A claim whose holder is dead, or silent for `stale`, is
    /// removed.
    pub(super) fn claim(&self, claim: &Path, stale: Duration) -> io::Result<ClaimOutcome> {
        match std::fs::hard_link(&self.path, claim) {
            Ok(()) => {
                return Ok(ClaimOutcome::Acquired {
                    holder: self.holder.clone(),
                    file: self.file.try_clone()?,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // File systems without hard links (FAT, some FUSE) support exclusive creation.
            Err(error) if no_links(&error) => match create_new(claim) {
                Ok(mut file) => {
                    file.write_all(self.holder.text().as_bytes())?;
                    return Ok(ClaimOutcome::Acquired { holder: self.holder.clone(), file });
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
            // Removed in the meantime; or unreadable, and then it can't be judged.
            let gone = !claim.exists();
            return Ok(if gone { ClaimOutcome::Removed } else { ClaimOutcome::Held });
        };
        let dead = Holder::parse(&found).is_some_and(|holder| holder.is_dead(&self.holder));
        if dead || self.now()?.duration_since(last_beat).is_ok_and(|silence| silence > stale) {
            return self.remove(claim, &found);
        }
        Ok(ClaimOutcome::Held)
    }

    /// The file server's time, as in the heartbeats.
    fn now(&self) -> io::Result<SystemTime> {
        touch(&self.file)?;
        self.file.metadata()?.modified()
    }

    /// Removes the claim that was judged, and no other: another waiter may have put its own in place since.
    fn remove(&self, claim: &Path, judged: &[u8]) -> io::Result<ClaimOutcome> {
        let aside = suffixed(&self.path, "-aside");
        match std::fs::rename(claim, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ClaimOutcome::Removed),
            renamed => renamed?,
        }
        let same = contents(&aside).is_ok_and(|(found, _)| found == judged);
        if !same {
            // Put it back. If a third process was faster, the second will notice through `is_still_held`.
            let _ = std::fs::hard_link(&aside, claim);
        }
        std::fs::remove_file(&aside)?;
        // If one process died, others may have too and left pending claims. Those of waiting processes are touched.
        let offers = format!("{}-", claim.file_name().unwrap_or_default().to_string_lossy());
        remove_abandoned(folder_of(claim), self.now()?, |name| name.starts_with(&offers));
        Ok(if same { ClaimOutcome::Removed } else { ClaimOutcome::Held })
    }
}

fn no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

/// A claim's bytes and its last heartbeat. Follows no link, and does not block on a pipe.
fn contents(claim: &Path) -> io::Result<(Vec<u8>, SystemTime)> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    // Opening asks the NFS server, so this is not a time from this machine's cache.
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
