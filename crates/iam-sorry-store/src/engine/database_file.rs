//! The SQLite file itself: which one it is, whether it is still there, and whose it is.
//!
//! The lock is flock(2) on the database's own inode, so it holds whatever names the file has and whatever lies beside it.
//! SQLite locks with fcntl(2), which is apart from flock on a local disk (a log in shared memory works on no other), but
//! closing *any* descriptor of a file drops all of the process's fcntl locks on it. So a process has one descriptor of
//! its own for each database, which is opened before SQLite's and closed after the last of them.

use std::collections::HashMap;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::DbError;
use crate::{StoreError, thread};

/// Device and inode.
type Id = (u64, u64);

/// The databases that this process has open.
static OPEN: Mutex<Option<HashMap<Id, Weak<DatabaseFile>>>> = Mutex::new(None);

/// A database file, as long as any connection of this process uses it.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    /// The name that SQLite goes by: symbolic links are followed.
    path: PathBuf,
    id: Id,
    file: File,
    locked: AtomicBool,
    /// The log beside it, once it was seen: while a connection is open, nobody may replace it.
    log: Mutex<Option<Id>>,
}

impl DatabaseFile {
    /// Opens what is at `path`.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, DbError> {
        Self::with(path, false).map_err(|error| failed(path, &error))
    }

    /// The same, made where there is none: readable by its owner alone, which SQLite's log and index follow.
    pub(crate) fn open_or_make(path: &Path) -> Result<Arc<Self>, DbError> {
        Self::with(path, true).map_err(|error| failed(path, &error))
    }

    fn with(path: &Path, make: bool) -> io::Result<Arc<Self>> {
        let mut open = thread::locked(&OPEN);
        let open = open.get_or_insert_with(HashMap::new);
        open.retain(|_, file| file.strong_count() > 0);
        let known = std::fs::metadata(path).ok().and_then(|found| open.get(&id(&found))?.upgrade());
        if let Some(known) = known {
            return Ok(known);
        }
        let file =
            OpenOptions::new().read(true).write(true).create(make).truncate(false).mode(0o600).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("this is not a file"));
        }
        // A second name has a log of its own, and two programs that don't see each other's log destroy the database.
        if found.nlink() > 1 {
            return Err(io::Error::other(format!(
                "the database has {} names (a hard link), and may have only one\nRemove the others; for a copy: sqlite3 {} \
                 \".backup COPY\"",
                found.nlink(),
                path.display()
            )));
        }
        let this = Arc::new(Self {
            path: path.canonicalize()?,
            id: id(&found),
            file,
            locked: AtomicBool::new(false),
            log: Mutex::new(None),
        });
        open.insert(this.id, Arc::downgrade(&this));
        Ok(this)
    }

    /// What became of the file behind our back; costs two looks at a folder.
    pub(crate) fn misplaced(&self) -> Option<&'static str> {
        match std::fs::metadata(&self.path) {
            Ok(found) if id(&found) == self.id => {}
            Ok(_) => return Some("another file is in the place of the database"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Some("the database is not there any more: its file is gone");
            }
            // A disk that does not answer: the statements that follow say so.
            Err(_) => return None,
        }
        let before = (*thread::locked(&self.log))?;
        match std::fs::metadata(self.log_path()) {
            Ok(found) if id(&found) == before => None,
            Ok(_) => Some("another file is in the place of the database's log"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some("the database's log is gone"),
            Err(_) => None,
        }
    }

    /// Remembers the log, after something was committed to it.
    pub(crate) fn note_log(&self) {
        let mut log = thread::locked(&self.log);
        if log.is_none() {
            *log = std::fs::metadata(self.log_path()).ok().map(|found| id(&found));
        }
    }

    /// Before a connection is made in the place of one that failed: with the last of them the log may have gone.
    pub(crate) fn forget_log(&self) {
        *thread::locked(&self.log) = None;
    }

    fn log_path(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push("-wal");
        PathBuf::from(name)
    }
}

/// That this process is the only instance on the file; the kernel lets it go when the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct InstanceLock(Arc<DatabaseFile>);

impl InstanceLock {
    /// Takes it, or says who is in the way.
    pub(crate) fn take(file: Arc<DatabaseFile>) -> Result<Self, StoreError> {
        let taken = || {
            StoreError::Taken(format!(
                "Another iam-sorryd is running on {}.\nStop it first; several instances need PostgreSQL.",
                file.path.display()
            ))
        };
        if file.locked.swap(true, Ordering::SeqCst) {
            return Err(taken());
        }
        match file.file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(error) => {
                file.locked.store(false, Ordering::SeqCst);
                Err(match error {
                    TryLockError::WouldBlock => taken(),
                    TryLockError::Error(error) => failed(&file.path, &error).into(),
                })
            }
        }
    }
}

impl Drop for InstanceLock {
    /// By name and not by closing: readers may still have the file open, and a process that is just being started elsewhere
    /// in this program may hold a copy of the descriptor for a moment (between fork and exec; flock(2)).
    fn drop(&mut self) {
        let _ = self.0.file.unlock();
        self.0.locked.store(false, Ordering::SeqCst);
    }
}

fn id(found: &Metadata) -> Id {
    (found.dev(), found.ino())
}

fn failed(path: &Path, error: &io::Error) -> DbError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull => DbError::Full(text),
        io::ErrorKind::QuotaExceeded => DbError::Unwritable(text),
        io::ErrorKind::ReadOnlyFilesystem => {
            DbError::ReadOnly(format!("{text}\nMount its file system for writing."))
        }
        _ => DbError::Lost(text),
    }
}
