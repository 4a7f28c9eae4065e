//! The two AWS files, shared with every other tool: read without a lock, edited under one.
//!
//! Other tools (`aws configure set`) take no lock and write in place. So an edit compares the file once more right
//! before it replaces it, and a file that looks half written is read again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use iam_sorry_core::aws_files::{Document, FileKind, ParseError};
use zeroize::Zeroizing;

use super::atomic::{FileMode, create_folder_of, folder_of, replace_if, resolve, restrict_to_owner};
use super::error::{FileError, IoContext};
use super::lock::Lock;
use super::notice::Notice;

/// No credentials or config file is larger than this many bytes.
pub(super) const LARGEST: u64 = 32 << 20;
/// Longer than [`super::lock`] waits for the claim of a dead machine, so that such a death alone causes no error.
const LOCK_TIMEOUT: Duration = Duration::from_secs(45);
/// How often an edit is repeated because another tool has changed the file.
const ATTEMPTS: u32 = 10;

/// One of the shared AWS files.
#[derive(Debug, Clone)]
pub struct AwsFile {
    path: PathBuf,
    kind: FileKind,
    lock_folder: Option<PathBuf>,
}

/// A file as it was read.
#[derive(Debug)]
pub struct LoadedDocument {
    /// The file's contents; empty if there is no file.
    pub document: Document,
    /// What the user should know.
    pub notices: Vec<Notice>,
}

impl AwsFile {
    /// A file at `path`. The lock lies beside it, or in `lock_folder` (for homes on a network file system).
    pub fn new(path: PathBuf, kind: FileKind, lock_folder: Option<PathBuf>) -> Self {
        Self { path, kind, lock_folder }
    }

    /// The path that was given to [`AwsFile::new`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file without a lock, since writers replace it in one step. A missing file counts as empty.
    pub fn load(&self) -> Result<LoadedDocument, FileError> {
        self.load_with(|bytes| Document::parse(bytes, self.kind))
    }

    /// As [`AwsFile::load`], but only one profile can be looked up; so a file with thousands costs little more than one
    /// with ten.
    pub fn load_for(&self, profile: &str) -> Result<LoadedDocument, FileError> {
        self.load_with(|bytes| Document::parse_for(bytes, self.kind, profile))
    }

    fn load_with(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<Document, ParseError>,
    ) -> Result<LoadedDocument, FileError> {
        let found = read(&self.path)?;
        let notices = match (&found.file, self.kind) {
            (Some(file), FileKind::Credentials) => {
                let mode = file.metadata().when("look at", &self.path)?.mode() & 0o7777;
                let path = self.path.clone();
                (mode & 0o077 != 0).then_some(Notice::OthersCanRead { path, mode }).into_iter().collect()
            }
            _ => Vec::new(),
        };
        let document =
            parse(&found.bytes).map_err(|source| FileError::Parse { path: self.path.clone(), source })?;
        Ok(LoadedDocument { document, notices })
    }

    /// Edits the file under its lock. `edit` may run again if another tool has changed the file.
    ///
    /// If `edit` fails or changes no byte, nothing is written. Credentials become 0600; config keeps its mode.
    ///
    /// # Errors
    /// `edit`'s own, or a [`FileError`]; the file is unchanged.
    pub fn update<T, E: From<FileError>>(
        &self,
        mut edit: impl FnMut(&mut Document) -> Result<T, E>,
    ) -> Result<(T, Vec<Notice>), E> {
        let target = resolve(&self.path)?;
        if std::fs::symlink_metadata(&target).is_ok_and(|found| !found.is_file()) {
            return Err(FileError::NotRegular { path: target }.into());
        }
        create_folder_of(&target)?;
        let lock_path = self.lock_path(&target)?;
        for _ in 0..ATTEMPTS {
            let lock = Lock::acquire(&lock_path, LOCK_TIMEOUT).map_err(FileError::from)?;
            let found = read(&target)?;
            let mut document = self.parse(&found.bytes)?;
            let done = edit(&mut document)?;
            let bytes = Zeroizing::new(document.render());
            if *bytes == *found.bytes {
                return Ok((done, self.restricted(&found, &target)?));
            }
            let unchanged = || Ok(lock.is_still_held() && *read(&target)?.bytes == *found.bytes);
            let (replaced, notices) = replace_if(&target, &bytes, self.mode(), unchanged)?;
            if replaced {
                return Ok((done, notices));
            }
        }
        Err(FileError::Contended { path: target }.into())
    }

    fn parse(&self, bytes: &[u8]) -> Result<Document, FileError> {
        Document::parse(bytes, self.kind)
            .map_err(|source| FileError::Parse { path: self.path.clone(), source })
    }

    fn mode(&self) -> FileMode {
        match self.kind {
            FileKind::Credentials => FileMode::Private,
            FileKind::Config => FileMode::Unchanged,
        }
    }

    fn restricted(&self, found: &FileContents, target: &Path) -> Result<Vec<Notice>, FileError> {
        match (&found.file, self.mode()) {
            (Some(file), FileMode::Private) => Ok(restrict_to_owner(file, target)?.into_iter().collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// The lock lies beside the target, so that processes which reach it through different links share it; in a lock
    /// folder, its name is a hash of the target's absolute path.
    fn lock_path(&self, target: &Path) -> Result<PathBuf, FileError> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let Some(folder) = &self.lock_folder else {
            return Ok(target.with_file_name(format!(".{name}.iam-sorry.lock")));
        };
        let whole = std::fs::canonicalize(folder_of(target)).when("find the folder of", target)?;
        let hash =
            whole.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        let user = rustix::process::geteuid().as_raw();
        let path = folder.join(format!("{name}-{user}-{hash:016x}.lock"));
        create_folder_of(&path)?;
        Ok(path)
    }
}

/// The bytes of a file, wiped on drop, and the file itself.
struct FileContents {
    bytes: Zeroizing<Vec<u8>>,
    file: Option<File>,
}

/// Reads a file, which may be missing; repeats that while another tool seems to be writing in place.
fn read(path: &Path) -> Result<FileContents, FileError> {
    let mut found = read_once(path)?;
    for _ in 0..10 {
        let Some(file) = &found.file else { break };
        let whole = found.bytes.ends_with(b"\n");
        let just_written = || {
            let age = file.metadata().and_then(|found| found.modified()).map(|time| time.elapsed());
            matches!(age, Ok(Ok(age)) if age < Duration::from_secs(1))
        };
        // `aws configure set` truncates the file before it writes it: an edit at that moment would lose everything.
        if whole || !just_written() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        found = read_once(path)?;
    }
    Ok(found)
}

fn read_once(path: &Path) -> Result<FileContents, FileError> {
    // NONBLOCK: a pipe in its place would wait for a writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(FileContents { bytes: Zeroizing::default(), file: None });
        }
        Err(error) => return Err(error).when("read", path),
    };
    let metadata = file.metadata().when("read", path)?;
    // /dev/null is a common way to say "no file".
    if !metadata.is_file() && !metadata.file_type().is_char_device() {
        return Err(FileError::NotRegular { path: path.to_owned() });
    }
    if metadata.len() > LARGEST {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    // One allocation of the right size: a growing buffer would leave copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    (&file).take(LARGEST + 1).read_to_end(&mut bytes).when("read", path)?;
    if bytes.len() as u64 > LARGEST {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    let file = metadata.is_file().then_some(file);
    Ok(FileContents { bytes, file })
}
