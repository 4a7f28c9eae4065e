//! The one place where the service's programs make files: private, whole, and never over what is there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The new file's name is this process's own.
static REPLACING: Mutex<()> = Mutex::new(());

/// Makes a folder, and those above it, that only its owner may enter.
///
/// # Errors
/// The system's.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a file with this content, which is on the disk afterwards. Where there is one of that name, nothing is changed.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`], or the system's.
pub fn make(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key is worse than none.
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Opens a file of lines to add to it, made where it isn't there; never through a symbolic link.
///
/// # Errors
/// The system's.
pub fn open_to_append(path: &Path, mode: u32) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

/// Opens a file to read it; never through a symbolic link.
///
/// # Errors
/// The system's.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// The text of a file of at most so many bytes.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where it is longer or no text, or the system's.
pub fn read_short(path: &Path, longest: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_to_read(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::ErrorKind::InvalidData.into());
    }
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Puts a file with this content in the place of what is there, whole or not at all; it is on the disk afterwards. Root
/// leaves it to whom the old one, or else the folder, belongs: the service must still be able to replace it.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let _one_at_a_time = REPLACING.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, new) = beside(path)?;
    let mut file = make_beside(&new)?;
    let replaced = (|| {
        if rustix::process::geteuid().is_root() {
            let owner = std::fs::symlink_metadata(path).or_else(|_| std::fs::metadata(&folder))?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(&folder)?.sync_all()
    })();
    if replaced.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    replaced
}

/// Whether [`replace`] can work, found out by making a file beside it for a moment.
///
/// # Errors
/// The system's.
pub fn can_replace(path: &Path) -> io::Result<()> {
    let _one_at_a_time = REPLACING.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, new) = beside(path)?;
    make_beside(&new)?;
    std::fs::remove_file(&new)
}

/// The folder, and a name in it that no other process uses.
fn beside(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(format!(".{}.new", std::process::id()));
    Ok((folder.to_owned(), folder.join(new)))
}

/// One that a killed process of the same number left is in nobody's use.
fn make_beside(new: &Path) -> io::Result<File> {
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)
}

/// Gives a file another name.
///
/// # Errors
/// The system's.
pub fn set_aside(path: &Path, name: &Path) -> io::Result<()> {
    std::fs::rename(path, name)
}

/// Opens a file for output that somebody asked for by name; what was in it is gone.
///
/// # Errors
/// The system's.
pub fn output(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
