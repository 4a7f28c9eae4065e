//! Paths of locks, cached sessions and failure notes: in the state folder, or, if the home can't be written, in a
//! private folder of this machine.

use std::fmt;
use std::fs::{DirBuilder, symlink_metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{Access, access};

use crate::app::App;
use crate::error::{Error, Result};

/// Identifies a result by everything that it depends on. Shown in hexadecimal; contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheKey(String);

impl CacheKey {
    /// SHA-256 over the parts, each with its length, so that different lists of parts differ.
    pub fn of(parts: &[&str]) -> Self {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        let hash = digest(&SHA256, &bytes);
        Self(hash.as_ref().iter().take(20).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The two folders, which may be the same.
#[derive(Clone, Debug)]
pub struct CachePaths {
    locks: PathBuf,
    files: PathBuf,
}

impl CachePaths {
    /// Entries go to the state folder. So do locks, unless a node-local folder is configured for them (homes on NFS).
    pub fn find(app: &App) -> Result<Self> {
        let settings = &app.settings;
        let files = settings.state_dir.join("cache");
        let files = if usable(&files) { files } else { fallback(app)? };
        let locks = match &settings.lock_dir {
            Some(folder) if usable(folder) => folder.clone(),
            Some(folder) => {
                return Err(Error::other(format!("The lock folder {} can't be written", folder.display()))
                    .hint(
                        "Set another one: export IAM_SORRY_LOCK_DIR=/path, or lock_dir in the settings file",
                    ));
            }
            None => files.clone(),
        };
        Ok(Self { locks, files })
    }

    /// The lock for one result. Other users may share the lock folder, so its name contains the uid.
    pub fn lock(&self, key: &CacheKey) -> PathBuf {
        self.locks.join(format!("{key}-{}.lock", rustix::process::geteuid().as_raw()))
    }

    /// The file that caches a result.
    pub fn entry(&self, key: &CacheKey) -> PathBuf {
        self.files.join(format!("{key}.json"))
    }

    /// The note that informs waiting processes of a failure.
    pub fn failure_note(&self, key: &CacheKey) -> PathBuf {
        self.files.join(format!("{key}.failed"))
    }
}

/// Whether files can be created in the folder, which is created (0700) if it is missing. access(2) also detects
/// read-only mounts for root.
fn usable(folder: &Path) -> bool {
    let can_write = || access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    can_write() || (DirBuilder::new().recursive(true).mode(0o700).create(folder).is_ok() && can_write())
}

/// XDG_RUNTIME_DIR/iam-sorry, else the lock folder, else /tmp/iam-sorry-UID (not TMPDIR, which batch systems set for
/// each job). Never a folder that another user could have created.
fn fallback(app: &App) -> Result<PathBuf> {
    let own = format!("iam-sorry-{}", rustix::process::geteuid().as_raw());
    let runtime = app.settings.runtime_dir.as_deref().filter(|folder| private(folder));
    let candidates = [
        runtime.map(|folder| folder.join("iam-sorry")),
        app.settings.lock_dir.as_ref().map(|folder| folder.join(&own)),
        Some(Path::new("/tmp").join(&own)),
    ];
    candidates
        .into_iter()
        .flatten()
        .find(|folder| {
            let _ = DirBuilder::new().mode(0o700).create(folder);
            private(folder) && usable(folder)
        })
        .ok_or_else(|| {
            let state = app.settings.state_dir.display();
            Error::other(format!("There is no folder for locks: {state} can't be written, nor one in /tmp"))
                .hint("Set one that is yours alone: export IAM_SORRY_LOCK_DIR=/path")
        })
}

/// Whether it is a folder, not a link, of this user, without permissions for others.
fn private(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    symlink_metadata(folder).is_ok_and(|m| m.is_dir() && m.uid() == me && m.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn keys_differ_where_parts_do() {
        assert_eq!(CacheKey::of(&["a", "b"]), CacheKey::of(&["a", "b"]));
        assert_ne!(CacheKey::of(&["ab", ""]), CacheKey::of(&["a", "b"]));
        assert_ne!(CacheKey::of(&["a"]), CacheKey::of(&["a", ""]));
    }

    /// In /tmp, another user may have created a folder under a name that everybody knows.
    #[test]
    fn a_planted_folder_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o700);
        assert!(private(&folder));
        let link = base.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(!private(&link), "a link");
        for open in [0o770, 0o707, 0o701, 0o777] {
            mode(open);
            assert!(!private(&folder), "{open:o}");
        }
        std::fs::write(base.path().join("file"), "").unwrap();
        assert!(!private(&base.path().join("file")));
        assert!(!private(&base.path().join("none")));
        if rustix::process::geteuid().is_root() {
            mode(0o700);
            std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
            assert!(!private(&folder), "somebody else's");
        }
    }
}
