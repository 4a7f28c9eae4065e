//! The one place where the service's programs make files: private, whole, and never over what is there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

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
