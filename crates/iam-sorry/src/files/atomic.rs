//! Replaces a file in one step: every reader sees the old bytes or the new ones, whichever process dies.
//!
//! A temporary file in the same folder is written, flushed and renamed over the target (rename(2) is atomic), then the
//! folder is flushed. Symbolic links are followed to their target, and the target is replaced. A file with several hard
//! links gets a new inode under this name: the other names keep the old bytes, and a notice says so.

use std::collections::hash_map::RandomState;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::error::{FileError, IoContext};
use super::notice::Notice;

/// Between the file's name and the random part of a temporary file's name.
const MARK: &str = ".iam-sorry-";
/// A temporary file of this age belongs to a killed process: writing one takes milliseconds.
const ABANDONED: Duration = Duration::from_secs(60);

/// Who may read the file after it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// The owner alone, for secrets.
    Private,
    /// Whoever could before; the owner alone if the file is new.
    Unchanged,
}

/// Replaces a file, through symbolic links, and creates its folder (0700) if there is none. Returns what the user
/// should know.
///
/// # Errors
/// [`FileError`]; the file is unchanged, and no temporary file is left.
pub fn replace_atomically(path: &Path, bytes: &[u8], mode: FileMode) -> Result<Vec<Notice>, FileError> {
    let target = resolve(path)?;
    create_folder_of(&target)?;
    let (_, notices) = replace_if(&target, bytes, mode, || Ok(true))?;
    Ok(notices)
}

/// As [`replace_atomically`] for a resolved path, if `unchanged` agrees at the last moment. False if it does not.
pub(super) fn replace_if(
    target: &Path,
    bytes: &[u8],
    mode: FileMode,
    unchanged: impl FnOnce() -> Result<bool, FileError>,
) -> Result<(bool, Vec<Notice>), FileError> {
    let before = match std::fs::symlink_metadata(target) {
        Ok(found) if found.is_file() => Some(found),
        Ok(_) => return Err(FileError::NotRegular { path: target.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).when("look at", target),
    };
    let mut temporary = Temporary::create(target)?;
    let written = temporary.fill(bytes, before.as_ref(), mode);
    written.when("write", target)?;
    temporary.remove_older(target);
    if !unchanged()? {
        return Ok((false, Vec::new()));
    }
    temporary.rename_to(target).when("replace", target)?;
    sync_folder_of(target).when("flush the folder of", target)?;
    let notices = before.map(|before| notices(target, &before, mode)).unwrap_or_default();
    Ok((true, notices))
}

/// Takes away the permissions of group and others, without writing the file.
pub(super) fn restrict_to_owner(file: &File, path: &Path) -> Result<Option<Notice>, FileError> {
    let mode = file.metadata().when("look at", path)?.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    let path = path.to_owned();
    Ok(Some(match file.set_permissions(Permissions::from_mode(mode & 0o600 | 0o400)) {
        Ok(()) => Notice::ModeRestricted { path, mode },
        // Another user's file, or a file system without permissions. Nothing had to be written, so this is no error.
        Err(_) => Notice::OthersCanRead { path, mode },
    }))
}

fn notices(target: &Path, before: &Metadata, wanted: FileMode) -> Vec<Notice> {
    let mode = before.mode() & 0o7777;
    let mut notices = Vec::new();
    if wanted == FileMode::Private && mode & 0o077 != 0 {
        notices.push(Notice::ModeRestricted { path: target.to_owned(), mode });
    }
    if before.nlink() > 1 {
        notices.push(Notice::HardLinks { path: target.to_owned(), count: before.nlink() - 1 });
    }
    notices
}

/// The end of a chain of symbolic links. The file need not exist.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let mut target = path.to_owned();
    for _ in 0..40 {
        // Linux gives up after 40 links too.
        match std::fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            // EINVAL: it exists and is no link.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(target);
            }
            Err(error) => return Err(error).when("look at", &target),
        }
    }
    Err(FileError::LinkLoop { path: path.to_owned() })
}

/// Creates the folder of a file and those above it, 0700. Existing folders keep their mode.
pub fn create_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = folder_of(path);
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).when("create the folder", folder)
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A number for names that nobody can guess: the standard library seeds its hash keys from the system's randomness.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Creates a file, 0600. An existing file or link of that name is not opened (O_EXCL).
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A temporary file, removed on drop unless it was renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<Self, FileError> {
        let folder = folder_of(target);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mut tries = 0;
        loop {
            let path = folder.join(format!(".{name}{MARK}{:016x}.tmp", random()));
            match create_new(&path) {
                Ok(file) => return Ok(Self { path, file, renamed: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 16 => tries += 1,
                Err(error) => return Err(error).when("write a new file beside", target),
            }
        }
    }

    fn fill(&mut self, bytes: &[u8], before: Option<&Metadata>, wanted: FileMode) -> io::Result<()> {
        self.file.write_all(bytes)?;
        let mut mode = match before {
            Some(before) => before.mode() & 0o777,
            None => 0o600,
        };
        if let Some(before) = before {
            mode &= self.keep_owner(before)?;
        }
        if wanted == FileMode::Private {
            mode &= 0o600;
        }
        // Set after the owner, and independent of the umask; the owner can always read it.
        self.file.set_permissions(Permissions::from_mode(mode | 0o400))?;
        self.file.sync_all()
    }

    /// Keeps owner and group if permitted. Returns a mask of the permissions that may stay.
    fn keep_owner(&self, before: &Metadata) -> io::Result<u32> {
        let ours = self.file.metadata()?;
        if ours.uid() != before.uid() {
            // Only root may change the owner; otherwise the file becomes this user's.
            let _ = std::os::unix::fs::fchown(&self.file, Some(before.uid()), None);
        }
        let lost_group = ours.gid() != before.gid()
            && std::os::unix::fs::fchown(&self.file, None, Some(before.gid())).is_err();
        // Permissions of the old group are not for another group.
        Ok(if lost_group { 0o707 } else { 0o777 })
    }

    /// Removes what killed writers of the same file left: temporary files and pending claims.
    fn remove_older(&self, target: &Path) {
        let Ok(now) = self.file.metadata().and_then(|found| found.modified()) else { return };
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = format!(".{name}{MARK}");
        let pending = format!(".{name}.iam-sorry.lock.owner-");
        remove_abandoned(folder_of(target), now, |found| {
            found.starts_with(&pending) || (found.starts_with(&temporary) && found.ends_with(".tmp"))
        });
    }

    fn rename_to(&mut self, target: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, target)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a file piece by piece, 0600; the file gets its name once it is complete.
pub struct AtomicWriter {
    target: PathBuf,
    temporary: Temporary,
}

impl AtomicWriter {
    /// Begins a file that will replace the regular file at `path`, if there is one.
    ///
    /// # Errors
    /// If nothing can be written in the folder.
    pub fn begin(path: &Path) -> Result<Self, FileError> {
        let target = resolve(path)?;
        if std::fs::symlink_metadata(&target).is_ok_and(|found| !found.is_file()) {
            return Err(FileError::NotRegular { path: target });
        }
        Ok(Self { temporary: Temporary::create(&target)?, target })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If the disk is full, for example. Dropping the writer then leaves nothing behind.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.temporary.file.write_all(bytes).when("write", &self.target)
    }

    /// Flushes the file and gives it its name.
    ///
    /// # Errors
    /// [`FileError`]; the previous file is unchanged.
    pub fn finish(mut self) -> Result<(), FileError> {
        self.temporary.file.sync_all().when("write", &self.target)?;
        self.temporary.rename_to(&self.target).when("replace", &self.target)?;
        sync_folder_of(&self.target).when("flush the folder of", &self.target)
    }
}

fn sync_folder_of(target: &Path) -> io::Result<()> {
    match File::open(folder_of(target)).and_then(|folder| folder.sync_all()) {
        // Some network file systems can't flush a folder, and a folder without read permission can't be opened.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Removes what killed processes left in a folder: files with a name that `is_ours` accepts, of this user, older than
/// [`ABANDONED`].
///
/// `now` is the modification time of a file just written there, so that the clocks of machines and file server need not
/// agree.
pub(super) fn remove_abandoned(folder: &Path, now: SystemTime, is_ours: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let me = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        if !is_ours(&entry.file_name().to_string_lossy()) {
            continue;
        }
        // DirEntry's metadata does not follow links.
        let Ok(found) = entry.metadata() else { continue };
        let age = found.modified().ok().and_then(|time| now.duration_since(time).ok());
        if found.is_file() && found.uid() == me && age.is_some_and(|age| age > ABANDONED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
