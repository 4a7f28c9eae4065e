//! A SQLite database in memory that all instances of a simulation share, at the simulation's time.
//!
//! There is one connection. An instance's transaction runs to its end without waiting, so transactions never overlap, as they
//! do on PostgreSQL, where row locks and unique indexes hold them apart: that is tried with PostgreSQL itself
//! (`tests/conformance/side_by_side.rs`). Everything between [`Shared::mark`] and [`Shared::reset`]
//! happens inside one outer transaction, of which an instance's own are savepoints: to begin anew costs a rollback, and the
//! prepared statements stay.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::functions::FunctionFlags;

use super::sqlite::Sqlite;
use super::{Connection, DbError, Dialect, Limit, Param, Row};
use crate::simulation::{Commit, Fault, Link, Step};
use crate::{StoreError, schema, thread};

/// The database.
pub(crate) struct Shared {
    sqlite: Mutex<Sqlite>,
    /// Milliseconds since 1970: what `@NOW` is.
    now_ms: Arc<AtomicI64>,
}

impl Shared {
    /// With the schema, and nothing in it.
    pub(crate) fn new() -> Result<Self, StoreError> {
        let connection = rusqlite::Connection::open_in_memory().map_err(super::sqlite::failed)?;
        let now_ms = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&now_ms);
        let flags = FunctionFlags::SQLITE_UTF8;
        // In the place of SQLite's own: the database has a clock that is simulated too.
        connection
            .create_scalar_function("unixepoch", 1, flags, move |_| {
                let ms = clock.load(Ordering::Relaxed);
                // Half a millisecond more, so that the product with 1000 is cut to `ms` whatever the quotient was rounded to.
                Ok((ms as f64 + 0.5) / 1000.0)
            })
            .map_err(super::sqlite::failed)?;
        // The trail's id.
        connection
            .create_scalar_function("randomblob", 1, flags, |context| {
                let length = usize::try_from(context.get::<i64>(0)?).unwrap_or_default();
                Ok(vec![0x5A_u8; length])
            })
            .map_err(super::sqlite::failed)?;
        let mut sqlite = Sqlite::in_memory(connection)?;
        sqlite.begin()?;
        schema::steps(&mut sqlite, &schema::MIGRATIONS)?;
        sqlite.commit()?;
        Ok(Self { sqlite: Mutex::new(sqlite), now_ms })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Sqlite> {
        thread::locked(&self.sqlite)
    }

    pub(crate) fn set_time(&self, ms: i64) {
        self.now_ms.store(ms, Ordering::Relaxed);
    }

    /// What is written from here on, [`Shared::reset`] forgets.
    pub(crate) fn mark(&self) -> Result<(), DbError> {
        self.lock().begin()
    }

    pub(crate) fn reset(&self) {
        self.lock().rollback();
    }
}

/// An instance's connection to it.
pub(crate) struct Simulated {
    link: Link,
    /// A savepoint is open.
    open: bool,
    broken: bool,
}

impl Simulated {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, open: false, broken: false }
    }

    fn sqlite(&self) -> MutexGuard<'_, Sqlite> {
        self.link.shared.lock()
    }

    fn step(&mut self, step: Step) -> Result<(), DbError> {
        match self.link.wire.fault(step) {
            None => Ok(()),
            Some(fault) => Err(self.note(failed(fault))),
        }
    }

    fn note(&mut self, error: DbError) -> DbError {
        self.broken |= matches!(error, DbError::Lost(_) | DbError::Unknown(_) | DbError::ReadOnly(_));
        error
    }

    /// As the engine of a server does for a connection that is gone.
    fn abandon(&mut self) {
        if std::mem::take(&mut self.open) {
            let undone = self.sqlite().script("ROLLBACK TO transaction_; RELEASE transaction_");
            debug_assert!(undone.is_ok(), "{undone:?}");
        }
    }
}

impl Connection for Simulated {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        self.step(Step::Statement)?;
        self.sqlite().execute(sql, params)
    }

    fn deferred(&mut self, sql: &str, params: &[Param<'_>]) -> Result<(), DbError> {
        self.execute(sql, params).map(drop)
    }

    fn flush(&mut self) -> Result<(), DbError> {
        Ok(())
    }

    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        self.step(Step::Statement)?;
        self.sqlite().query(sql, params)
    }

    fn script(&mut self, sql: &str) -> Result<(), DbError> {
        self.step(Step::Statement)?;
        self.sqlite().script(sql)
    }

    fn begin(&mut self) -> Result<(), DbError> {
        self.step(Step::Begin)?;
        self.sqlite().script("SAVEPOINT transaction_")?;
        self.open = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), DbError> {
        let fate = self.link.wire.commit();
        if let Commit::Failed(fault) = fate {
            return Err(self.note(failed(fault)));
        }
        if fate == (Commit::Unknown { committed: false }) {
            self.abandon();
        } else {
            self.sqlite().script("RELEASE transaction_")?;
            self.open = false;
            self.link.wire.committed();
        }
        match fate {
            Commit::Unknown { .. } => Err(self.note(DbError::Unknown("the connection went away".into()))),
            _ => Ok(()),
        }
    }

    fn rollback(&mut self) {
        self.abandon();
    }

    fn limit(&mut self, _: Option<Limit>) -> Result<(), DbError> {
        Ok(())
    }

    fn is_broken(&self) -> bool {
        self.broken
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn failed(fault: Fault) -> DbError {
    match fault {
        Fault::Lost => DbError::Lost("the connection went away".into()),
        Fault::Busy => DbError::Busy("deadlock".into()),
        Fault::Full => DbError::Full("no space left on device".into()),
        Fault::ReadOnly => DbError::ReadOnly("this is a standby".into()),
    }
}
