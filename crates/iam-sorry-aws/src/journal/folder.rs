//! The folder of entries: a new one, those that are there, and one that is taken over.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::clock::now_ms;
use crate::errors::AwsError;
use crate::journal::file::{OpenEntry, lock, open_entry, read};
use crate::journal::record::{Fact, Intent, MACHINE, Record, process_start};

/// How long the entries of another machine are left alone: one of them may be alive, unseen from here.
const ELSEWHERE: Duration = Duration::from_secs(15 * 60);

/// No living process takes this long between making a file and naming it.
const UNNAMED: Duration = Duration::from_secs(60);

/// The folder of journal entries. Nothing is read or made before it is needed.
#[derive(Clone, Debug)]
pub struct JournalFolder {
    folder: PathBuf,
}

/// Whether an entry's owner is still at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A living process holds it.
    Running,
    /// Its owner is gone: it is to be recovered.
    Dead,
    /// Written on another machine, not long enough ago to be sure that its owner is gone.
    Elsewhere {
        /// Seconds until it may be recovered from here.
        wait: i64,
    },
}

/// An entry that was found in the folder.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub record: Record,
    /// Whether somebody is at work on it.
    pub state: State,
}

/// What the folder holds.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Readable entries, oldest first.
    pub entries: Vec<Pending>,
    /// Files that are no entries, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl JournalFolder {
    /// A journal in `folder`, which is made (0700) when the first entry is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The entries on disk; none if there is no folder.
    ///
    /// # Errors
    /// [`AwsError::Journal`] if the folder can't be read.
    pub fn pending(&self) -> Result<Listing, AwsError> {
        self.list().map_err(|e| self.failed(&self.folder, e))
    }

    /// Removes an entry without looking at IAM: for a person who has dealt with the key by hand.
    ///
    /// # Errors
    /// [`AwsError::Journal`] if it can't be removed, or its owner is still at work.
    pub fn forget(&self, entry: &Pending) -> Result<(), AwsError> {
        match self.take(&entry.path)? {
            Some((open, _)) => open.clear(),
            None => Ok(()),
        }
    }

    /// Writes and flushes the intent to make a key. From here on the caller must clear the entry or leave it to
    /// recovery.
    pub(crate) fn begin(&self, intent: Intent) -> Result<OpenEntry, AwsError> {
        self.create(intent).map_err(|e| self.failed(&self.folder, e))
    }

    /// Takes over an entry whose owner is gone: locked, re-read. `None` if somebody else has finished it meanwhile.
    pub(crate) fn take(&self, path: &Path) -> Result<Option<(OpenEntry, Record)>, AwsError> {
        self.lock_and_read(path).map_err(|e| self.failed(path, e))
    }

    /// Whether the owner of an entry that was just taken has given a sign of life since the entry was listed: on another
    /// machine it may live without a lock that is seen here.
    pub(crate) fn owner_lives(record: &Record) -> bool {
        silent_elsewhere(record) != State::Dead
    }

    fn failed(&self, path: &Path, source: io::Error) -> AwsError {
        AwsError::Journal { path: path.to_owned(), source }
    }

    fn create(&self, intent: Intent) -> io::Result<OpenEntry> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let folder = self.open_folder()?;
        sweep(&folder);
        let id = unique_name();
        let (unnamed, name) = (format!(".{id}.new"), format!("{id}.json"));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&folder, unnamed.as_str(), flags, Mode::RUSR | Mode::WUSR)?);
        let written = (|| -> io::Result<()> {
            lock(&file)?;
            let mut file = &file;
            file.write_all(Fact::Intent(Box::new(intent)).to_line()?.as_bytes())?;
            rustix::fs::fsync(file)?;
            // The name comes last: whoever lists the folder sees complete entries only.
            rustix::fs::renameat(&folder, unnamed.as_str(), &folder, name.as_str())?;
            Ok(rustix::fs::fsync(&folder)?)
        })();
        if let Err(error) = written {
            let _ = rustix::fs::unlinkat(&folder, unnamed.as_str(), AtFlags::empty());
            let _ = rustix::fs::unlinkat(&folder, name.as_str(), AtFlags::empty());
            return Err(error);
        }
        let path = self.folder.join(&name);
        let entry = OpenEntry { folder, file, name, path };
        entry.heartbeat(false).map_err(io::Error::other)?;
        Ok(entry)
    }

    fn open_folder(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.folder, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&folder)?;
        // An entry names a key to delete, so nobody else may plant one.
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the folder belongs to another user",
            ));
        }
        if stat.st_mode & 0o077 != 0 {
            rustix::fs::fchmod(&folder, Mode::RWXU)?;
        }
        Ok(folder)
    }

    fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let folder = match self.open_folder() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(listing),
            folder => folder?,
        };
        let mut names = Vec::new();
        for item in rustix::fs::Dir::read_from(&folder)? {
            let name = item?.file_name().to_string_lossy().into_owned();
            match name.strip_suffix(".json") {
                Some(stem) if !stem.starts_with('.') => names.push(name),
                _ => {}
            }
        }
        names.sort();
        for name in names {
            let path = self.folder.join(&name);
            match open_entry(&folder, &name) {
                Err(Errno::NOENT) => {} // finished meanwhile
                Err(e) => listing.unreadable.push((path, io::Error::from(e).to_string())),
                Ok(file) => match read(&file) {
                    Err(e) => listing.unreadable.push((path, e.to_string())),
                    Ok(record) => {
                        let state = state(&file, &record);
                        listing.entries.push(Pending { path, record, state });
                    }
                },
            }
        }
        Ok(listing)
    }

    fn lock_and_read(&self, path: &Path) -> io::Result<Option<(OpenEntry, Record)>> {
        let name = path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        let name = name.ok_or_else(|| io::Error::other("no file name"))?;
        let folder = match self.open_folder() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            folder => folder?,
        };
        let file = match open_entry(&folder, &name) {
            Err(Errno::NOENT) => return Ok(None),
            file => file?,
        };
        lock(&file).map_err(|e| {
            let busy = e == Errno::WOULDBLOCK;
            if busy {
                io::Error::new(io::ErrorKind::WouldBlock, "another process is at work on it")
            } else {
                e.into()
            }
        })?;
        if file.metadata()?.nlink() == 0 {
            return Ok(None); // another run finished it between open and lock
        }
        let record = read(&file)?;
        Ok(Some((OpenEntry { folder, file, name, path: path.to_owned() }, record)))
    }
}

/// Removes what a run left that died before its entry got a name: no request was made then.
fn sweep(folder: &OwnedFd) {
    let Ok(items) = rustix::fs::Dir::read_from(folder) else { return };
    for item in items.flatten() {
        let name = item.file_name();
        let bytes = name.to_bytes();
        if !(bytes.starts_with(b".") && bytes.ends_with(b".new")) {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from) else {
            continue;
        };
        let made = file.metadata().and_then(|meta| meta.modified());
        let is_old = made.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNNAMED));
        // The lock alone would not do: a file is opened before it is locked.
        if is_old && lock(&file).is_ok() {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
    }
}

fn state(file: &File, record: &Record) -> State {
    let lock = rustix::fs::flock(file, FlockOperation::NonBlockingLockShared);
    if lock == Err(Errno::WOULDBLOCK) {
        return State::Running;
    }
    let intent = &record.intent;
    if !MACHINE.boot_id.is_empty() && intent.boot_id == MACHINE.boot_id {
        // The owner holds the lock for as long as it lives; if the file system has no locks, its process number says so.
        let alive =
            lock.is_err() && intent.process_start != 0 && process_start(intent.pid) == intent.process_start;
        return if alive { State::Running } else { State::Dead };
    }
    silent_elsewhere(record)
}

/// The same of an entry that no process of this boot holds.
fn silent_elsewhere(record: &Record) -> State {
    if record.intent.host == MACHINE.host {
        return State::Dead; // rebooted since, or held by nobody here
    }
    let age = now_ms().saturating_sub(record.touched_ms);
    let wait = i64::try_from(ELSEWHERE.as_millis()).unwrap_or(i64::MAX).saturating_sub(age);
    if wait > 0 { State::Elsewhere { wait: wait / 1000 + 1 } } else { State::Dead }
}

/// Sorts by time; unique because O_EXCL says so, unlikely to collide across machines that share a home.
fn unique_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let noise = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:013}-{}-{}-{noise:016x}", now_ms(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
