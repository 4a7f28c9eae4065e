//! One entry's file: how it is opened, locked, read, added to and removed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::clock::now_ms;
use crate::errors::AwsError;
use crate::journal::record::{Fact, Record};

/// An entry that this process holds. Dropping it leaves the file to recovery.
#[derive(Debug)]
pub(crate) struct OpenEntry {
    pub(super) folder: OwnedFd,
    pub(super) file: File,
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl OpenEntry {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a fact and flushes it.
    pub fn note(&self, fact: &Fact) -> Result<(), AwsError> {
        let append = || {
            let mut file = &self.file;
            file.seek(SeekFrom::End(0))?;
            // A leading newline closes a line that an earlier death left torn.
            file.write_all(format!("\n{}", fact.to_line()?).as_bytes())?;
            Ok(rustix::fs::fsync(file)?)
        };
        append().map_err(|source| AwsError::Journal { path: self.path.clone(), source })
    }

    /// A sign of life: the request is still under way. Explicitly by this machine's clock: on a network file system, the
    /// server's would set the time otherwise.
    pub fn heartbeat(&self, flush: bool) -> Result<(), AwsError> {
        let now = now_ms();
        let time = Timespec { tv_sec: now.div_euclid(1000), tv_nsec: now.rem_euclid(1000) * 1_000_000 };
        let beat = || {
            rustix::fs::futimens(&self.file, &Timestamps { last_access: time, last_modification: time })?;
            if flush { rustix::fs::fsync(&self.file) } else { Ok(()) }
        };
        beat().map_err(|e: Errno| AwsError::Journal { path: self.path.clone(), source: e.into() })
    }

    /// A sign of life, and whether the entry is still this process's. A run on another machine, which may not see this one's
    /// lock, takes over what gave no sign of life for 15 minutes, such as on a laptop that slept; from this one on it waits as
    /// long again.
    pub fn still_held(&self) -> Result<bool, AwsError> {
        self.heartbeat(true)?;
        let same = || match open_entry(&self.folder, &self.name) {
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e.into()),
            Ok(file) => {
                let (there, here) = (file.metadata()?, self.file.metadata()?);
                Ok::<_, io::Error>((there.dev(), there.ino()) == (here.dev(), here.ino()))
            }
        };
        same().map_err(|source| AwsError::Journal { path: self.path.clone(), source })
    }

    /// The entry as it is on disk now.
    pub fn reread(&self) -> Result<Record, AwsError> {
        read(&self.file).map_err(|source| AwsError::Journal { path: self.path.clone(), source })
    }

    /// Removes the entry: nothing that this program made is left in IAM.
    pub fn clear(self) -> Result<(), AwsError> {
        let remove = || {
            match rustix::fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty()) {
                Err(Errno::NOENT) | Ok(()) => {}
                Err(e) => return Err(e),
            }
            rustix::fs::fsync(&self.folder)
        };
        remove().map_err(|e| AwsError::Journal { path: self.path.clone(), source: e.into() })
    }
}

pub(super) fn open_entry(folder: &OwnedFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from)
}

/// Some network file systems have no flock; there, process and boot show who is alive.
pub(super) fn lock(file: impl AsFd) -> Result<(), Errno> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => Ok(()),
        other => other,
    }
}

pub(super) fn read(file: &File) -> io::Result<Record> {
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("not a regular file of this user"));
    }
    let mut text = String::new();
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    file.take(1 << 20).read_to_string(&mut text)?;
    let heartbeat_ms = meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000);
    Record::parse(&text, heartbeat_ms).map_err(|e| io::Error::other(e.to_owned()))
}
