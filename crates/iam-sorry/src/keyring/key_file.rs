//! Key files on disk: read once, checked for permissions, parsed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use iam_sorry_core::ssh::{KeyFile, KeyFileError, PublicKey, PublicKeyError};
use zeroize::Zeroizing;

use super::errors::KeyError;

/// A longer file holds no Ed25519 key.
const MAX_BYTES: u64 = 64 * 1024;

/// A private-key file.
pub(super) struct KeyOnDisk {
    pub(super) path: PathBuf,
    pub(super) key: KeyFile,
}

/// What a configured path turned out to be.
pub(super) enum Configured {
    /// A private key.
    Private(KeyOnDisk),
    /// A public key without a private one beside it: it names a key in the agent, as with ssh's IdentityFile.
    PublicOnly(PublicKey),
}

/// Reads a private-key file and checks its permissions.
pub(super) fn read(path: &Path) -> Result<KeyOnDisk, KeyError> {
    let bytes = read_bytes(path)?;
    let key = KeyFile::parse(&bytes).map_err(|source| key_file(path, source))?;
    Ok(KeyOnDisk { path: path.to_owned(), key })
}

/// Reads a path from the user, which may also be a `.pub` file.
pub(super) fn read_configured(path: &Path) -> Result<Configured, KeyError> {
    match read(path) {
        Ok(key) => Ok(Configured::Private(key)),
        // Anybody may read a .pub file, so its mode does not matter.
        Err(
            error @ (KeyError::KeyFile { source: KeyFileError::PublicKey, .. }
            | KeyError::OpenToOthers { .. }),
        ) => {
            if let Some(Err(PublicKeyError::Weak(why))) = public_line(path) {
                return Err(key_file(path, KeyFileError::Weak(why)));
            }
            let Some((public, private)) = read_public(path).zip(private_beside(path)) else {
                return Err(error);
            };
            if private.exists() {
                read(&private).map(Configured::Private)
            } else {
                Ok(Configured::PublicOnly(public))
            }
        }
        Err(error) => Err(error),
    }
}

/// `~/.ssh/id_ed25519`.
pub(super) fn default_path(home: &Path) -> PathBuf {
    home.join(".ssh/id_ed25519")
}

/// The private keys in `~/.ssh` whose `.pub` file holds a key that `wanted` accepts, sorted by name.
pub(super) fn beside_matching_public(home: &Path, wanted: impl Fn(&PublicKey) -> bool) -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(home.join(".ssh")) else { return Vec::new() };
    let mut paths: Vec<_> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let matches = |path: &PathBuf| read_public(path).is_some_and(|key| wanted(&key));
    paths.iter().filter_map(|path| private_beside(path).filter(|_| matches(path))).collect()
}

pub(super) fn key_file(path: &Path, source: KeyFileError) -> KeyError {
    KeyError::KeyFile { path: path.to_owned(), source }
}

fn private_beside(public: &Path) -> Option<PathBuf> {
    (public.extension()? == "pub").then(|| public.with_extension(""))
}

fn read_public(path: &Path) -> Option<PublicKey> {
    public_line(path)?.ok()
}

/// The public key in a `.pub` file; `None` if the file has another name or can't be read.
fn public_line(path: &Path) -> Option<Result<PublicKey, PublicKeyError>> {
    private_beside(path)?;
    let mut line = String::new();
    open(path).ok()?.take(MAX_BYTES).read_to_string(&mut line).ok()?;
    Some(PublicKey::parse_line(&line).map(|(key, _)| key))
}

pub(super) fn read_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyError::NoKeyFile { path: path.to_owned() },
        _ => KeyError::Io { path: path.to_owned(), source },
    };
    let file = open(path).map_err(failed)?;
    check_access(path, &file)?;
    // Allocated once: a growing buffer would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_BYTES).unwrap_or(0) + 1));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<File> {
    // NONBLOCK: a FIFO in the key's place would wait for a writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// As in OpenSSH, only the owner may read the file, and the owner is the user. (Root may use anybody's key: folders
/// mounted into a container keep their owners.)
fn check_access(path: &Path, file: &File) -> Result<(), KeyError> {
    let metadata = file.metadata().map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyError::OpenToOthers { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    if user != 0 && metadata.uid() != user {
        return Err(KeyError::WrongOwner { path: path.to_owned(), owner: metadata.uid() });
    }
    Ok(())
}
