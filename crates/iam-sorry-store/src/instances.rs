//! Which instances live, and who may do what only one may do. All by the database's own clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::{Connection, DbError, params};
use crate::{Store, StoreError, schema};

const BEAT: &str =
    "INSERT INTO instances (id, started_ms, beat_ms, binary_version) VALUES (?1, @NOW, @NOW, ?2)
     ON CONFLICT (id) DO UPDATE SET beat_ms = excluded.beat_ms";

/// Larger than what any one request writes, so that a request finds room where this did.
const BALLAST: usize = 256 * 1024;

/// The first beat, before anything else is done; `program` is the schema that the instance's program has. An instance that is
/// alone waits for nobody's lease: who held one is dead.
pub(crate) fn announce(
    connection: &mut dyn Connection,
    instance: &str,
    program: u32,
    alone: bool,
) -> Result<(), DbError> {
    connection.execute(BEAT, params![instance, i64::from(program)])?;
    if alone {
        connection.execute("DELETE FROM leases", &[])?;
    }
    Ok(())
}

impl Store {
    /// Says that this instance lives; gives how long it had been silent, by the database's clock. It went through the same
    /// writer and disk as any operation, so a success also says that operations can be written.
    ///
    /// # Errors
    /// [`StoreError`]: act on nothing until one succeeds again. [`StoreError::Schema`]: a newer program has changed the schema
    /// in a way that this one can't work with.
    pub async fn beat(&self) -> Result<Duration, StoreError> {
        let (me, program) = (self.inner.instance.clone(), self.inner.program);
        let sql = format!("SELECT (SELECT @NOW - beat_ms FROM instances WHERE id = ?1), {}", schema::NOW);
        self.write(move |tx| {
            // First the lock, then the time: whoever takes something over from this instance at the moment is waited for.
            tx.first("SELECT id FROM instances WHERE id = ?1 @LOCK", params![&me])?;
            let row = tx.first(&sql, params![&me])?.ok_or_else(|| DbError::Other("no answer".into()))?;
            schema::check_now(row.int(1)?, row.optional_int(2)?, program)?;
            tx.deferred(BEAT, params![&me, i64::from(program)])?;
            // No row: it was swept out, after a day.
            let silent = row.optional_int(0)?.unwrap_or(i64::MAX);
            Ok(Duration::from_millis(silent.max(0).unsigned_abs()))
        })
        .await
    }

    /// Writes more than any one request does, and takes it away again: after it [`Store::no_room`] is over. A beat is too small
    /// to show that, since it may fit where nothing else does.
    ///
    /// # Errors
    /// [`StoreError`]: there is still no room.
    pub async fn prove_room(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let (me, ballast) = (self.inner.instance.clone(), ballast());
        self.write(move |tx| {
            let sql = "INSERT INTO room (instance, ballast) VALUES (?1, ?2)
                 ON CONFLICT (instance) DO UPDATE SET ballast = excluded.ballast";
            tx.deferred(sql, params![&me, ballast.as_slice()])?;
            Ok(())
        })
        .await?;
        // That of an instance that was killed in between goes too.
        self.write(|tx| {
            tx.deferred("DELETE FROM room", &[])?;
            Ok(())
        })
        .await?;
        self.inner.writer.has_room_since(began);
        Ok(())
    }

    /// A first look for [`Store::claim`], which decides: the instances with open operations that have not beaten for `timeout`, and those that ended without finishing theirs.
    /// Zero means everybody but this one: on SQLite there can be no other.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dead_instances(&self, timeout: Duration) -> Result<Vec<String>, StoreError> {
        let (me, timeout) = (self.inner.instance.clone(), millis(timeout));
        self.read(move |connection| {
            let rows = connection.query(
                "SELECT DISTINCT o.instance FROM operations o LEFT JOIN instances i ON i.id = o.instance
                 WHERE o.state = 0 AND o.instance <> ?1 AND (i.id IS NULL OR ?2 = 0 OR i.beat_ms <= @NOW - ?2)
                 ORDER BY o.instance LIMIT 1000",
                params![&me, timeout],
            )?;
            Ok(rows.into_iter().map(|mut row| row.text(0)).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The instances that have beaten within `timeout`, this one included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn instances_alive(&self, timeout: Duration) -> Result<Vec<String>, StoreError> {
        let timeout = millis(timeout);
        self.read(move |connection| {
            let rows = connection.query(
                "SELECT id FROM instances WHERE beat_ms > @NOW - ?1 ORDER BY id LIMIT 1000",
                params![timeout],
            )?;
            Ok(rows.into_iter().map(|mut row| row.text(0)).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Forgets this instance: its last act. If it leaves an operation open, its row stays, and the operation is taken over once
    /// the row is old: a request of it may still be on its way to AWS.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn leave(&self) -> Result<(), StoreError> {
        let me = self.inner.instance.clone();
        self.write(move |tx| {
            tx.deferred("DELETE FROM leases WHERE holder = ?1", params![&me])?;
            tx.deferred(
                "DELETE FROM instances WHERE id = ?1
                 AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.instance = ?1 AND o.state = 0)",
                params![&me],
            )?;
            // Those that were killed leave a row behind; a day later nobody asks for it any more.
            tx.deferred(
                "DELETE FROM instances WHERE beat_ms < @NOW - 86400000 AND running = 0
                 AND id NOT IN (SELECT instance FROM operations WHERE state = 0)",
                &[],
            )?;
            Ok(())
        })
        .await
    }

    /// Takes or prolongs what one instance at a time may hold (`reconciler`, `checkpointer`). False: another holds it.
    ///
    /// # Errors
    /// [`StoreError`]: then it isn't held.
    pub async fn lease(&self, name: &str, ttl: Duration) -> Result<bool, StoreError> {
        let (me, name, ttl) = (self.inner.instance.clone(), name.to_owned(), millis(ttl));
        self.write(move |tx| {
            // Without a lock on its row, where another one holds it: that would be waited for.
            let sql = "SELECT holder FROM leases WHERE name = ?1 AND holder <> ?2 AND until_ms > @NOW";
            if tx.first(sql, params![&name, &me])?.is_some() {
                return Ok(false);
            }
            let rows = tx.execute(
                "INSERT INTO leases (name, holder, until_ms) VALUES (?1, ?2, @NOW + ?3)
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms
                 WHERE leases.holder = excluded.holder OR leases.until_ms <= @NOW",
                params![&name, &me, ttl],
            )?;
            Ok(rows == 1)
        })
        .await
    }

    /// Gives a lease back, where this instance holds it.
    ///
    /// # Errors
    /// [`StoreError`]: it ends by itself then.
    pub async fn release(&self, name: &str) -> Result<(), StoreError> {
        let (me, name) = (self.inner.instance.clone(), name.to_owned());
        self.write(move |tx| {
            tx.deferred("DELETE FROM leases WHERE name = ?1 AND holder = ?2", params![&name, &me])?;
            Ok(())
        })
        .await
    }
}

/// Bytes that don't compress, as PostgreSQL would.
fn ballast() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..BALLAST / 8).flat_map(|_| next()).collect()
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
