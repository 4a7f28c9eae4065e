//! Replacing a file in one step: whoever reads, and whatever dies, sees the old bytes or the new ones.
//!
//! A temporary file in the same folder is written, flushed and renamed over the target (rename(2) is atomic), then the
//! folder is flushed. Symbolic links are followed to their target, which is what is replaced. A file with several hard
//! links gets a new one under this name: the other names keep the old bytes, and a notice says so.

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
/// A temporary file of this age was left by a process that was killed: writing one takes milliseconds.
const ABANDONED: Duration = Duration::from_secs(60);

/// Who may read the file when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// The owner alone: secrets.
    Private,
    /// As it was; the owner alone where it is new.
    Unchanged,
}

/// Replaces a file by these bytes, through symbolic links, making its folder (0700) when there is none.
///
/// # Errors
/// The file is as it was, and no temporary file is left.
pub fn replace_atomically(path: &Path, bytes: &[u8], mode: FileMode) -> Result<Vec<Notice>, FileError> {
    let target = resolve(path)?;
    create_folder_of(&target)?;
    let (_, notices) = replace_if(&target, bytes, mode, || Ok(true))?;
    Ok(notices)
}

/// As [`replace_atomically`] on a resolved path, if `unchanged` says so at the last moment; false when it did not.
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

/// Takes the rights of others away from a file that need not be written.
pub(super) fn restrict_to_owner(file: &File, path: &Path) -> Result<Option<Notice>, FileError> {
    let mode = file.metadata().when("look at", path)?.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(None);
    }
    let path = path.to_owned();
    Ok(Some(match file.set_permissions(Permissions::from_mode(mode & 0o600 | 0o400)) {
        Ok(()) => Notice::ModeRestricted { path, mode },
        // Somebody else's file, or a file system without rights: nothing was to be written, so it is no error.
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

/// Where a path leads: the file itself, also one that doesn't exist yet at the end of a dangling link.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let mut target = path.to_owned();
    for _ in 0..40 {
        // Linux gives up after 40 links too.
        match std::fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            // EINVAL: it is there and is no link.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(target);
            }
            Err(error) => return Err(error).when("look at", &target),
        }
    }
    Err(FileError::LinkLoop { path: path.to_owned() })
}

/// Makes the folder of a file, and those above it, for the owner alone. What exists keeps its mode.
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

/// For names that nobody can foresee: the standard library seeds its hash keys from the system's randomness.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A new file for the owner alone. What somebody planted there, be it a link, is not opened (O_EXCL).
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A file that is removed again unless it was renamed.
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
        // Set after the owner, and whatever the umask: the owner can always read it.
        self.file.set_permissions(Permissions::from_mode(mode | 0o400))?;
        self.file.sync_all()
    }

    /// Keeps owner and group where we may; gives the rights that can stay.
    fn keep_owner(&self, before: &Metadata) -> io::Result<u32> {
        let ours = self.file.metadata()?;
        if ours.uid() != before.uid() {
            // Only root may give a file away; for anybody else it becomes theirs.
            let _ = std::os::unix::fs::fchown(&self.file, Some(before.uid()), None);
        }
        let lost_group = ours.gid() != before.gid()
            && std::os::unix::fs::fchown(&self.file, None, Some(before.gid())).is_err();
        // What the old group could read is not for another group.
        Ok(if lost_group { 0o707 } else { 0o777 })
    }

    /// Removes what killed writers of the same file left: temporary files, and offers for its lock.
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

/// A file that is written piece by piece, for the owner alone, and takes its name only when it is whole.
pub struct AtomicWriter {
    target: PathBuf,
    temporary: Temporary,
}

impl AtomicWriter {
    /// Begins a file that will replace whatever regular file is there.
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub fn begin(path: &Path) -> Result<Self, FileError> {
        let target = resolve(path)?;
        if std::fs::symlink_metadata(&target).is_ok_and(|found| !found.is_file()) {
            return Err(FileError::NotRegular { path: target });
        }
        Ok(Self { temporary: Temporary::create(&target)?, target })
    }

    /// The next piece.
    ///
    /// # Errors
    /// A full disk and the like; dropped, it leaves nothing behind.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.temporary.file.write_all(bytes).when("write", &self.target)
    }

    /// All is there: flushed, it gets its name.
    ///
    /// # Errors
    /// Where that fails; what was there before is there still.
    pub fn finish(mut self) -> Result<(), FileError> {
        self.temporary.file.sync_all().when("write", &self.target)?;
        self.temporary.rename_to(&self.target).when("replace", &self.target)?;
        sync_folder_of(&self.target).when("flush the folder of", &self.target)
    }
}

fn sync_folder_of(target: &Path) -> io::Result<()> {
    match File::open(folder_of(target)).and_then(|folder| folder.sync_all()) {
        // Some network file systems can't flush a folder; a folder without read permission can't be opened.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Removes what killed processes left in a folder: only files of our naming and our own, and no young ones.
///
/// `now` is the time of a file just written there, so that machines' clocks need not agree with the file server's.
pub(super) fn remove_abandoned(folder: &Path, now: SystemTime, is_ours: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let me = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        if !is_ours(&entry.file_name().to_string_lossy()) {
            continue;
        }
        // DirEntry's metadata doesn't follow links.
        let Ok(found) = entry.metadata() else { continue };
        let age = found.modified().ok().and_then(|time| now.duration_since(time).ok());
        if found.is_file() && found.uid() == me && age.is_some_and(|age| age > ABANDONED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
