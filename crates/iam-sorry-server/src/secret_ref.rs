//! Where a secret is kept: a file or an environment variable, never the configuration itself.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

/// `{ file = "/etc/iam-sorryd/bind-password" }` or `{ variable = "BIND_PASSWORD" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// The whole file without its last newline; nobody but owner and group may read it.
    File(PathBuf),
    /// The variable's value (systemd: `LoadCredential=` and a file is better).
    Variable(String),
}

/// Why the secret can't be had. Never shows it.
#[derive(Debug, thiserror::Error)]
pub enum SecretRefError {
    /// The file can't be read.
    #[error("The secret file {path} can't be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Everybody on the machine may read it.
    #[error("The secret file {0} can be read by everybody.\nMake it private: chmod 600 {0}")]
    Open(PathBuf),
    /// No such variable, or an empty one.
    #[error("The variable {0}, which holds a secret, is not set")]
    Unset(String),
    /// Nothing in it.
    #[error("The secret file {0} is empty")]
    Empty(PathBuf),
}

impl SecretRef {
    /// The secret.
    ///
    /// # Errors
    /// [`SecretRefError`]: unreadable, empty, or open to everybody.
    pub fn read(&self) -> Result<SecretString, SecretRefError> {
        match self {
            Self::File(path) => read_file(path),
            Self::Variable(name) => match std::env::var(name) {
                Ok(value) if !value.is_empty() => Ok(value.into()),
                _ => Err(SecretRefError::Unset(name.clone())),
            },
        }
    }
}

fn read_file(path: &PathBuf) -> Result<SecretString, SecretRefError> {
    use std::os::unix::fs::MetadataExt;
    let unreadable = |source| SecretRefError::Unreadable { path: path.clone(), source };
    let mode = std::fs::metadata(path).map_err(unreadable)?.mode();
    if mode & 0o007 != 0 {
        return Err(SecretRefError::Open(path.clone()));
    }
    let mut text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
    let kept = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(kept);
    if text.is_empty() {
        return Err(SecretRefError::Empty(path.clone()));
    }
    Ok(text.as_str().into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_file_is_read_without_its_newline_and_only_when_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "s3cret \n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let reference = SecretRef::File(path.clone());
        assert_eq!(reference.read().unwrap().expose_secret(), "s3cret ");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = reference.read().unwrap_err().to_string();
        assert!(error.contains("chmod 600") && !error.contains("s3cret"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(reference.read(), Err(SecretRefError::Empty(_))));
        assert!(matches!(
            SecretRef::File(folder.path().join("none")).read(),
            Err(SecretRefError::Unreadable { .. })
        ));
    }

    #[test]
    fn both_forms_are_read_from_toml() {
        #[derive(Deserialize)]
        struct Settings {
            password: SecretRef,
        }
        let of = |text: &str| toml::from_str::<Settings>(text).map(|s| s.password);
        assert_eq!(of("password = { file = \"/x\" }").unwrap(), SecretRef::File("/x".into()));
        assert_eq!(of("password = { variable = \"X\" }").unwrap(), SecretRef::Variable("X".into()));
        assert!(of("password = \"hunter2\"").is_err());
    }
}
