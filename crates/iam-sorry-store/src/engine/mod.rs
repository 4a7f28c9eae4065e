//! The one small door to a database: run a statement, read rows, run a script. Both engines sit behind it, so that
//! every statement and all logic exist once.
//!
//! Statements are written in SQLite's form: `?1`, `?2` for parameters (`$1` on PostgreSQL). What differs between the
//! dialects is a token: `@NOW`, `@INT`, `@BLOB`, `@STRICT`, `@RANDOM`, `@LOCK`. All functions block; they are called
//! on the store's own threads only.

mod database_file;
mod postgres;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
mod sqlite;

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iam_sorry_core::ids::AccountName;
use iam_sorry_core::names::InvalidName;
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::StoreError;
use crate::settings::{Engine, Settings};

pub(crate) use database_file::{DatabaseFile, InstanceLock};

/// Makes the connections of one store, all to the same database.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    settings: Settings,
    /// The SQLite file that was there at first.
    file: Option<Arc<DatabaseFile>>,
    /// In the place of both: a simulator's database, as an instance reaches it.
    #[cfg(feature = "simulation")]
    simulated: Option<crate::simulation::Link>,
}

impl Connector {
    /// With the SQLite file that is there; made where there is none and `make` says so.
    pub(crate) fn new(settings: &Settings, make: bool) -> Result<Self, DbError> {
        let file = match &settings.engine {
            Engine::Sqlite { path } if make => Some(DatabaseFile::open_or_make(path)?),
            Engine::Sqlite { path } => Some(DatabaseFile::open(path)?),
            Engine::Postgres { .. } => None,
        };
        Ok(Self {
            settings: settings.clone(),
            file,
            #[cfg(feature = "simulation")]
            simulated: None,
        })
    }

    /// To a simulator's database.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(settings: &Settings, link: crate::simulation::Link) -> Self {
        Self { settings: settings.clone(), file: None, simulated: Some(link) }
    }

    /// The only instance's lock, where there can be only one.
    pub(crate) fn lock(&self) -> Result<Option<InstanceLock>, StoreError> {
        self.file.clone().map(InstanceLock::take).transpose()
    }

    /// Opens a connection; `writes` on the one that will write.
    pub(crate) fn connect(&self, writes: bool) -> Result<Box<dyn Connection>, DbError> {
        #[cfg(feature = "simulation")]
        if let Some(link) = &self.simulated {
            return link.connect();
        }
        if let Some(file) = &self.file {
            if writes {
                file.forget_log();
            }
            // Never to another file than before.
            if let Some(why) = file.misplaced() {
                return Err(DbError::Lost(why.to_owned()));
            }
        }
        connect(&self.settings, writes)
    }

    /// What became of the SQLite file behind our back.
    pub(crate) fn misplaced(&self) -> Option<&'static str> {
        self.file.as_ref()?.misplaced()
    }

    /// After a commit.
    pub(crate) fn committed(&self) {
        if let Some(file) = &self.file {
            file.note_log();
        }
    }
}

/// Opens a connection; `writes` on the one that will write.
fn connect(settings: &Settings, writes: bool) -> Result<Box<dyn Connection>, DbError> {
    Ok(match &settings.engine {
        Engine::Sqlite { path } => Box::new(sqlite::Sqlite::open(path, writes)?),
        Engine::Postgres { url, ca_pem } => {
            Box::new(postgres::Postgres::open(url, ca_pem.as_deref(), settings.timeout, writes)?)
        }
    })
}

/// Whether the URL can be read, and what it asks for is safe.
pub(crate) fn check_url(url: &SecretString) -> Result<(), String> {
    postgres::check(url)
}

/// Which SQL a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// SQLite 3, STRICT tables.
    Sqlite,
    /// PostgreSQL 15 or later.
    Postgres,
}

impl Dialect {
    /// The statement as this engine reads it.
    pub(crate) fn translate(self, sql: &str) -> Cow<'_, str> {
        let mut text = Cow::Borrowed(sql);
        if sql.contains('@') {
            for (token, sqlite, postgres) in [
                // The database's own clock, in milliseconds: two instances never compare their own clocks.
                (
                    "@NOW",
                    "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
                    "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
                ),
                ("@INT", "INTEGER", "BIGINT"),
                ("@BLOB", "BLOB", "BYTEA"),
                ("@STRICT", "STRICT", ""),
                // The table is its primary key's tree: https://sqlite.org/withoutrowid.html.
                ("@CLUSTERED", "STRICT, WITHOUT ROWID", ""),
                ("@RANDOM", "lower(hex(randomblob(16)))", "replace(gen_random_uuid()::text, '-', '')"),
                ("@LOCK", "", "FOR UPDATE"),
            ] {
                if text.contains(token) {
                    let with = if self == Self::Sqlite { sqlite } else { postgres };
                    text = Cow::Owned(text.replace(token, with));
                }
            }
        }
        if self == Self::Postgres && text.contains('?') {
            text = Cow::Owned(text.replace('?', "$"));
        }
        text
    }
}

/// When a read must end: its time is over, or nobody waits for it any more.
#[derive(Clone)]
pub(crate) struct Limit {
    pub(crate) until: Instant,
    pub(crate) caller: Arc<Caller>,
}

/// Whether anybody still waits for a read.
#[derive(Default)]
pub(crate) struct Caller {
    gone: AtomicBool,
    notify: Notify,
}

impl Caller {
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

impl Limit {
    pub(crate) fn is_over(&self) -> bool {
        self.caller.is_gone() || Instant::now() >= self.until
    }

    /// Waits until it is over.
    async fn over(&self) {
        tokio::select! {
            () = tokio::time::sleep_until(self.until) => {}
            // `notify_one` keeps a permit for a waiter who comes later.
            () = self.caller.notify.notified() => {}
        }
    }
}

/// One connection.
pub(crate) trait Connection: Send {
    /// Which SQL it speaks.
    fn dialect(&self) -> Dialect;
    /// Runs one statement; says how many rows it touched.
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError>;
    /// Runs one statement whose count nobody needs, at the latest with the next that is waited for: on PostgreSQL they travel
    /// together, and what would have been its error is theirs.
    fn deferred(&mut self, sql: &str, params: &[Param<'_>]) -> Result<(), DbError>;
    /// Waits for everything that was put off.
    fn flush(&mut self) -> Result<(), DbError>;
    /// Runs one statement; gives all its rows. Callers bound them with LIMIT.
    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError>;
    /// Runs several statements without parameters.
    fn script(&mut self, sql: &str) -> Result<(), DbError>;
    /// Begins a transaction that may write.
    fn begin(&mut self) -> Result<(), DbError>;
    /// Commits; [`DbError::Unknown`] where it can't be known whether it did.
    fn commit(&mut self) -> Result<(), DbError>;
    /// Rolls back, whatever state it is in.
    fn rollback(&mut self);
    /// Stops whatever runs from now on when the limit is over ([`DbError::Stopped`]); none lifts it.
    fn limit(&mut self, limit: Option<Limit>) -> Result<(), DbError>;
    /// Whether it is of no more use, so that the next job wants a new one.
    fn is_broken(&self) -> bool;
}

/// Why a statement could not.
#[derive(Debug)]
pub(crate) enum DbError {
    /// The connection is gone or hangs; an open transaction is rolled back by the server.
    Lost(String),
    /// Locked by somebody else, or chosen as a deadlock's victim: may work the next time.
    Busy(String),
    /// Stopped in the engine at its [`Limit`].
    Stopped,
    /// No room.
    Full(String),
    /// The disk can't be written for another reason than room: it fails, or a quota is used up.
    Unwritable(String),
    /// The database takes no writes: a standby, or one that is set to read-only. The text has the way out.
    ReadOnly(String),
    /// The server lets the service not in, or not do this: only the operator can change that. The text has the way out.
    Denied(String),
    /// The connection went away while it committed.
    Unknown(String),
    /// A row that may be there only once is there.
    Duplicate(String),
    /// The database's own structure is damaged.
    Damaged(String),
    /// A mistake of ours, or a damaged database.
    Other(String),
}

impl DbError {
    /// Its words, of whatever kind it is.
    fn into_text(self) -> String {
        match self {
            Self::Lost(text)
            | Self::Busy(text)
            | Self::Full(text)
            | Self::Unwritable(text)
            | Self::ReadOnly(text)
            | Self::Denied(text)
            | Self::Unknown(text)
            | Self::Duplicate(text)
            | Self::Damaged(text)
            | Self::Other(text) => text,
            Self::Stopped => "stopped at its time limit".to_owned(),
        }
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Lost(text) | DbError::Busy(text) => Self::Unavailable(text),
            DbError::Unknown(text) => Self::OutcomeUnknown(text),
            DbError::Stopped => Self::TooSlow,
            DbError::Full(text) => Self::Full(text),
            DbError::Unwritable(text) => Self::Unwritable(text),
            DbError::ReadOnly(text) => Self::ReadOnly(text),
            DbError::Denied(text) => Self::Denied(text),
            DbError::Duplicate(text) | DbError::Damaged(text) | DbError::Other(text) => Self::Corrupt(text),
        }
    }
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Param<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
    Blob(Cow<'a, [u8]>),
}

impl Param<'_> {
    fn into_owned(self) -> Param<'static> {
        match self {
            Self::Null => Param::Null,
            Self::Int(number) => Param::Int(number),
            Self::Text(text) => Param::Text(text.into_owned().into()),
            Self::Blob(bytes) => Param::Blob(bytes.into_owned().into()),
        }
    }
}

impl<'a> From<&'a str> for Param<'a> {
    /// A NUL, which PostgreSQL can't store, becomes U+FFFD on both engines.
    fn from(text: &'a str) -> Self {
        Self::Text(if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() })
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}

impl<'a> From<&'a AccountName> for Param<'a> {
    fn from(name: &'a AccountName) -> Self {
        name.as_str().into()
    }
}

impl From<i64> for Param<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Param<'_> {
    fn from(truth: bool) -> Self {
        Self::Int(truth.into())
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Blob(bytes.into())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Param<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::Blob(bytes.as_slice().into())
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// `params![a, b]`: a list of parameters from whatever converts.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::engine::Param::from($value)),*] };
}
pub(crate) use params;

/// A value that came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// A row that came back; columns are taken out by position.
#[derive(Debug)]
pub(crate) struct Row(pub(crate) Vec<Cell>);

impl Row {
    pub(crate) fn int(&self, column: usize) -> Result<i64, DbError> {
        match self.0.get(column) {
            Some(Cell::Int(number)) => Ok(*number),
            other => Err(unexpected(column, "a number", other)),
        }
    }

    pub(crate) fn optional_int(&self, column: usize) -> Result<Option<i64>, DbError> {
        if self.is_null(column) { Ok(None) } else { self.int(column).map(Some) }
    }

    pub(crate) fn bool(&self, column: usize) -> Result<bool, DbError> {
        Ok(self.int(column)? != 0)
    }

    pub(crate) fn seq(&self, column: usize) -> Result<u64, DbError> {
        u64::try_from(self.int(column)?)
            .map_err(|_| DbError::Other(format!("column {column} holds a negative number")))
    }

    /// Takes the text out of the row; a second time it is empty.
    pub(crate) fn text(&mut self, column: usize) -> Result<String, DbError> {
        match self.0.get_mut(column) {
            Some(Cell::Text(text)) => Ok(std::mem::take(text)),
            other => Err(unexpected(column, "text", other.as_deref())),
        }
    }

    /// Text that has a form, such as an account's name.
    pub(crate) fn parsed<T: FromStr<Err = InvalidName>>(&mut self, column: usize) -> Result<T, DbError> {
        self.text(column)?
            .parse()
            .map_err(|InvalidName(why)| DbError::Other(format!("column {column}: {why}")))
    }

    pub(crate) fn optional_text(&mut self, column: usize) -> Result<Option<String>, DbError> {
        if self.is_null(column) { Ok(None) } else { self.text(column).map(Some) }
    }

    /// Takes the bytes out of the row; a second time there are none.
    pub(crate) fn blob(&mut self, column: usize) -> Result<Vec<u8>, DbError> {
        match self.0.get_mut(column) {
            Some(Cell::Blob(bytes)) => Ok(std::mem::take(bytes)),
            other => Err(unexpected(column, "bytes", other.as_deref())),
        }
    }

    /// A SHA-256.
    pub(crate) fn hash(&self, column: usize) -> Result<[u8; 32], DbError> {
        match self.0.get(column) {
            Some(Cell::Blob(bytes)) => bytes
                .as_slice()
                .try_into()
                .map_err(|_| DbError::Other(format!("column {column} holds {} bytes, not 32", bytes.len()))),
            other => Err(unexpected(column, "bytes", other)),
        }
    }

    pub(crate) fn optional_hash(&self, column: usize) -> Result<Option<[u8; 32]>, DbError> {
        if self.is_null(column) { Ok(None) } else { self.hash(column).map(Some) }
    }

    fn is_null(&self, column: usize) -> bool {
        self.0.get(column) == Some(&Cell::Null)
    }
}

/// Says the type that was found, never the value.
fn unexpected(column: usize, wanted: &str, found: Option<&Cell>) -> DbError {
    let found = match found {
        None => "no such column",
        Some(Cell::Null) => "nothing",
        Some(Cell::Int(_)) => "a number",
        Some(Cell::Text(_)) => "text",
        Some(Cell::Blob(_)) => "bytes",
    };
    DbError::Other(format!("column {column} should hold {wanted} and holds {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_and_placeholder_is_translated() {
        let sql = "SELECT @NOW WHERE a = ?1 AND b = ?12 @LOCK";
        assert_eq!(
            Dialect::Postgres.translate(sql),
            "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) WHERE a = $1 AND b = $12 FOR UPDATE"
        );
        assert!(!Dialect::Sqlite.translate(sql).contains('@'));
    }

    #[test]
    fn nul_becomes_a_character_that_both_engines_store() {
        assert_eq!(Param::from("a\0b"), Param::Text("a\u{FFFD}b".into()));
    }
}
