//! Where the store is, and how it is reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use crate::engine;

/// Where the SQLite file is when the configuration does not say: the folder that systemd and the package make.
const DEFAULT_PATH: &str = "/var/lib/iam-sorryd/store.db";

/// The `[store]` section: `path`, or one of `url_file` and `url_variable`; without any, a SQLite file in
/// `/var/lib/iam-sorryd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// The SQLite file. Its folder must exist.
    pub path: Option<PathBuf>,
    /// A file whose only line is the PostgreSQL URL, password included.
    pub url_file: Option<PathBuf>,
    /// A variable that holds the PostgreSQL URL.
    pub url_variable: Option<String>,
    /// PEM: who may vouch for the PostgreSQL server; the system's authorities where it is not set.
    pub ca_file: Option<PathBuf>,
    /// How many readers at once (1 to 32; default 2 on SQLite, 4 on PostgreSQL).
    pub readers: Option<usize>,
}

/// What is wrong with the section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSettings(pub String);

impl StoreSection {
    /// Checks what can be checked without reading anything.
    ///
    /// # Errors
    /// Says which setting is missing, too many or out of bounds.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let given = [self.path.is_some(), self.url_file.is_some(), self.url_variable.is_some()];
        let wrong = |text: &str| Err(InvalidSettings(text.to_owned()));
        if given.into_iter().filter(|given| *given).count() > 1 {
            return wrong("[store] has more than one of path, url_file and url_variable.\nKeep one of them.");
        }
        if self.sqlite_path().is_some() && self.ca_file.is_some() {
            return wrong(
                "[store] ca_file is for PostgreSQL; with path there is nothing to check.\nRemove it.",
            );
        }
        if self.path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return wrong("[store] path must be absolute.");
        }
        if self.readers.is_some_and(|readers| !(1..=32).contains(&readers)) {
            return wrong("[store] readers must be between 1 and 32.");
        }
        Ok(())
    }

    /// The SQLite file; none where it is PostgreSQL.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match (&self.path, &self.url_file, &self.url_variable) {
            (None, None, None) => Some(Path::new(DEFAULT_PATH)),
            (path, _, _) => path.as_deref(),
        }
    }
}

/// Which engine, and where.
#[derive(Clone, Debug)]
pub enum Engine {
    /// One file; one instance at a time.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A server; any number of instances.
    Postgres {
        /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
        url: SecretString,
        /// The content of `ca_file`.
        ca_pem: Option<Vec<u8>>,
    },
}

/// What [`crate::Store::open`] needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which engine, and where.
    pub engine: Engine,
    /// How many readers at once.
    pub readers: usize,
    /// How long any job may take before it is [`crate::StoreError::Unavailable`].
    pub timeout: Duration,
    /// How long a read of the audit trail may take, from its begin on, before it is [`crate::StoreError::TooSlow`].
    pub audit_limit: Duration,
}

impl Settings {
    /// SQLite in this file.
    pub fn sqlite(path: impl AsRef<Path>) -> Self {
        let engine = Engine::Sqlite { path: path.as_ref().to_owned() };
        Self { engine, readers: 2, timeout: TIMEOUT, audit_limit: AUDIT_LIMIT }
    }

    /// PostgreSQL at this URL. TLS is used, and the server's certificate checked, unless every host is this machine.
    ///
    /// # Errors
    /// Where the URL can't be read, or asks for a plain connection to another machine. The text never repeats the URL.
    pub fn postgres(url: SecretString, ca_pem: Option<Vec<u8>>) -> Result<Self, InvalidSettings> {
        engine::check_url(&url).map_err(InvalidSettings)?;
        let engine = Engine::Postgres { url, ca_pem };
        Ok(Self { engine, readers: 4, timeout: TIMEOUT, audit_limit: AUDIT_LIMIT })
    }

    /// With this many readers.
    #[must_use]
    pub fn with_readers(self, readers: Option<usize>) -> Self {
        Self { readers: readers.unwrap_or(self.readers).clamp(1, 32), ..self }
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);
const AUDIT_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_at_most_is_wanted() {
        let path = Some(PathBuf::from("/srv/store.db"));
        let none = StoreSection::default();
        none.check().unwrap();
        assert_eq!(none.sqlite_path(), Some(Path::new("/var/lib/iam-sorryd/store.db")));
        let one = StoreSection { path: path.clone(), ..Default::default() };
        one.check().unwrap();
        assert_eq!(one.sqlite_path(), path.as_deref());
        let postgres = StoreSection { url_variable: Some("X".into()), ..Default::default() };
        assert_eq!(postgres.sqlite_path(), None);
        let both = StoreSection { path, url_variable: Some("X".into()), ..Default::default() };
        assert!(both.check().unwrap_err().0.contains("more than one"));
    }

    #[test]
    fn a_plain_connection_to_another_machine_is_refused() {
        for (url, good) in [
            ("postgresql://u:geheim@db.example.org/x", true),
            ("postgresql://u:geheim@db.example.org/x?sslmode=disable", false),
            ("postgresql://u:geheim@127.0.0.1/x?sslmode=disable", true),
            ("postgresql://u:geheim@localhost/x?hostaddr=192.0.2.1&sslmode=disable", false),
            ("host=/run/postgresql dbname=x", true),
            ("postgresql://u:geheim@/x", false),
            ("mysql://u:geheim@localhost/x", false),
            ("postgresql://u:geheim@localhost,127.0.0.1/x?target_session_attrs=read-write", true),
            ("postgresql://u:geheim@localhost/x?target_session_attrs=read-only", false),
            ("postgresql://u:geheim@localhost/x?target_session_attrs=primary", false),
            ("postgresql://u:geheim@localhost:1,127.0.0.1:2/x?hostaddr=127.0.0.1", false),
        ] {
            let result = Settings::postgres(url.to_owned().into(), None);
            assert_eq!(result.is_ok(), good, "{url}");
            if let Err(error) = result {
                assert!(!error.0.contains("geheim"), "{error}");
            }
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let settings =
            Settings::postgres("postgresql://u:geheim@localhost/x".to_owned().into(), None).unwrap();
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
