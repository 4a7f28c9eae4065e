//! A private folder (0700) for as long as the command runs: it holds the endpoint's token, and copies of the shared
//! files without the [default] credentials that would take precedence over the endpoint.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use iam_sorry_core::aws_files::Document;

use crate::app::App;
use crate::error::{Error, Result};
use crate::files::{FileMode, replace_atomically};
use crate::profile::{ID, PROCESS, SECRET, TOKEN};

/// Settings of a profile from which SDKs get credentials.
const SOURCES: [&str; 11] = [
    ID,
    SECRET,
    TOKEN,
    PROCESS,
    "role_arn",
    "source_profile",
    "credential_source",
    "web_identity_token_file",
    "sso_session",
    "sso_start_url",
    "login_session",
];

/// Removed with its contents on drop. After a kill -9 they remain but open nothing, since the endpoint is gone.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates a folder in the first of `places` that permits it.
    pub fn new(places: &[PathBuf]) -> Result<Self> {
        let mut name = [0; 8];
        super::endpoint::random(&mut name)?;
        let name = format!("iam-sorry-{:016x}", u64::from_ne_bytes(name));
        let mut last = Error::other("There is no folder for temporary files\nSet TMPDIR to one");
        for place in places.iter().filter(|place| place.is_absolute()) {
            let path = place.join(&name);
            // Fails if the name exists, so another user can't have prepared it.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) => last = failed("make", &path, &error),
            }
        }
        Err(last)
    }

    /// Writes a new file, 0600, in it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        replace_atomically(&path, bytes, FileMode::Private)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::other(format!("Can't {what} {}: {error}", path.display()))
        .hint("Set TMPDIR to a folder with room that is yours")
}

/// SDKs prefer the [default] profile to a container's endpoint, so a [default] with credentials would make the command
/// act as another user. The command sees files without them.
pub fn hide_default(app: &App, folder: &Folder, child: &mut Command) -> Result<()> {
    let (credentials, mut config) = app.documents()?;
    let has_source = |document: &Document| SOURCES.iter().any(|key| document.value("default", key).is_some());
    if has_source(&credentials) {
        child.env("AWS_SHARED_CREDENTIALS_FILE", folder.write("credentials", b"")?);
        app.out.warn(
            "SDKs would take the credentials of [default] before the served ones, so the command sees an empty credentials file",
        );
    }
    if has_source(&config) {
        for key in SOURCES {
            config.remove("default", key);
        }
        child.env("AWS_CONFIG_FILE", folder.write("config", &config.render())?);
        app.out.warn(
            "SDKs would take the credentials of [default] before the served ones, so the command sees the config file without them",
        );
    }
    Ok(())
}
