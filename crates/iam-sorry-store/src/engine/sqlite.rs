//! SQLite: WAL, `synchronous=FULL`, one file of mode 0600, a small cache.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::ffi::{self, ErrorCode};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, OpenFlags, ToSql};

use super::{Cell, Connection, DatabaseFile, DbError, Dialect, Limit, Param, Row};

/// How long a statement waits for another process (an export beside the service) to let go.
const BUSY: Duration = Duration::from_secs(4);

/// How many steps of SQLite's virtual machine lie between two looks at a read's limit: well under a millisecond.
const STEPS: i32 = 2_000;

/// A connection to the file.
pub(crate) struct Sqlite {
    connection: rusqlite::Connection,
    limit: Option<Limit>,
    /// Set after an error that leaves the page cache or the log in doubt.
    broken: bool,
    /// Kept open until SQLite has closed its own; none in memory.
    _file: Option<Arc<DatabaseFile>>,
}

impl Sqlite {
    pub(super) fn open(path: &Path, writes: bool) -> Result<Self, DbError> {
        let file = DatabaseFile::open(path)?;
        let connection = rusqlite::Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(64);
        // The values that are bound don't change a plan, so a statement is prepared once and not for each use.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
        // FULL: a commit is on disk when it returns (https://sqlite.org/pragma.html#pragma_synchronous).
        // 8 MB of cache for the writer and 2 MB for a reader, and sorting in files, keep memory flat whatever the
        // database's size. A log of 16 MB: a page that changes often is copied back once in 4,000, not in 1,000.
        // `query_only` is a belt over the braces: no read job holds a statement that writes.
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
                 PRAGMA trusted_schema = OFF; PRAGMA temp_store = FILE; PRAGMA mmap_size = 0;
                 PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 33554432;
                 PRAGMA cache_size = {}; PRAGMA query_only = {};",
                if writes { -8192 } else { -2048 },
                if writes { "OFF" } else { "ON" },
            ))
            .map_err(failed)?;
        Ok(Self { connection, limit: None, broken: false, _file: Some(file) })
    }

    /// On a database in memory.
    #[cfg(feature = "simulation")]
    pub(super) fn in_memory(connection: rusqlite::Connection) -> Result<Self, DbError> {
        connection.set_prepared_statement_cache_capacity(512);
        connection.execute_batch("PRAGMA foreign_keys = ON;").map_err(failed)?;
        Ok(Self { connection, limit: None, broken: false, _file: None })
    }

    fn run<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        with: impl FnOnce(&mut CachedStatement<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DbError> {
        // A short statement may end before the first look, and the next one must not begin.
        if self.limit.as_ref().is_some_and(Limit::is_over) {
            return Err(DbError::Stopped);
        }
        let sql = Dialect::Sqlite.translate(sql);
        let run = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            for (index, param) in params.iter().enumerate() {
                statement.raw_bind_parameter(index + 1, param)?;
            }
            with(&mut statement)
        };
        let result = run();
        result.map_err(|error| self.note(error))
    }

    fn note(&mut self, error: rusqlite::Error) -> DbError {
        let error = failed(error);
        self.broken |= matches!(error, DbError::Lost(_) | DbError::Unknown(_) | DbError::ReadOnly(_));
        error
    }
}

impl Connection for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        self.run(sql, params, |statement| statement.raw_execute().map(|count| count as u64))
    }

    fn deferred(&mut self, sql: &str, params: &[Param<'_>]) -> Result<(), DbError> {
        self.execute(sql, params).map(drop)
    }

    fn flush(&mut self) -> Result<(), DbError> {
        Ok(())
    }

    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        self.run(sql, params, |statement| {
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let cells = (0..columns).map(|column| row.get_ref(column).map(cell));
                all.push(Row(cells.collect::<Result<_, _>>()?));
            }
            Ok(all)
        })
    }

    fn script(&mut self, sql: &str) -> Result<(), DbError> {
        let result = self.connection.execute_batch(&Dialect::Sqlite.translate(sql));
        result.map_err(|error| self.note(error))
    }

    fn begin(&mut self) -> Result<(), DbError> {
        // IMMEDIATE: the write lock is waited for here, where the busy handler works, and not at the first write.
        self.script("BEGIN IMMEDIATE")
    }

    fn commit(&mut self) -> Result<(), DbError> {
        let result = self.connection.execute_batch("COMMIT");
        result.map_err(|error| match self.note(error) {
            DbError::Lost(text) => DbError::Unknown(text),
            other => other,
        })
    }

    fn rollback(&mut self) {
        // After SQLITE_FULL or SQLITE_IOERR the transaction may be rolled back already (lang_transaction.html).
        if !self.connection.is_autocommit() && self.connection.execute_batch("ROLLBACK").is_err() {
            self.broken = true;
        }
    }

    fn limit(&mut self, limit: Option<Limit>) -> Result<(), DbError> {
        self.limit.clone_from(&limit);
        // Interrupts the statement by itself (https://sqlite.org/c3ref/progress_handler.html).
        let result = self.connection.progress_handler(STEPS, limit.map(|limit| move || limit.is_over()));
        result.map_err(failed)
    }

    fn is_broken(&self) -> bool {
        self.broken
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Param::Null => ValueRef::Null,
            Param::Int(number) => ValueRef::Integer(*number),
            Param::Text(text) => ValueRef::Text(text.as_bytes()),
            Param::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        // No column is REAL; a sum that became one is a mistake that the row's accessor reports.
        ValueRef::Real(number) => Cell::Text(number.to_string()),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}

pub(super) fn failed(error: rusqlite::Error) -> DbError {
    let text = error.to_string();
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return DbError::Other(text) };
    match failure.code {
        ErrorCode::OperationInterrupted => DbError::Stopped,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => DbError::Busy(text),
        ErrorCode::DiskFull => DbError::Full(text),
        ErrorCode::ReadOnly => DbError::ReadOnly(format!(
            "{text}\nMake its file and folder writable for the service, and look whether their file system is mounted \
             read-only."
        )),
        ErrorCode::SystemIoFailure => match failure.extended_code {
            // A failed flush says nothing about what reached the disk: the connection is dropped and the log read anew.
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC | ffi::SQLITE_IOERR_CLOSE => {
                DbError::Lost(text)
            }
            ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ => DbError::Lost(text),
            // A quota that is used up is among them (EDQUOT), and a disk that fails.
            _ => DbError::Unwritable(text),
        },
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied => DbError::Lost(text),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => DbError::Damaged(text),
        ErrorCode::ConstraintViolation
            if matches!(
                failure.extended_code,
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            ) =>
        {
            DbError::Duplicate(text)
        }
        _ => DbError::Other(text),
    }
}
