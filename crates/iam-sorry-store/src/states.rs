//! What was last recorded of rules, configuration and keys; and which instances started without having stopped. Each
//! write goes with its record of the trail, in one transaction.

use std::time::Duration;

use iam_sorry_core::audit::Event;

use crate::engine::{DbError, params};
use crate::instances::millis;
use crate::lanes::number;
use crate::{Store, StoreError};

/// What was recorded of something that can change: a name, and JSON that only the service reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedState {
    /// `rules`, `configuration` or `keys`.
    pub name: String,
    /// JSON: the digest of each part.
    pub digests: String,
}

/// An instance that started, and was not heard of again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostInstance {
    /// Its id.
    pub id: String,
    /// When it last said that it lives, milliseconds since 1970, by the database's clock; none where it has left no word.
    pub beat_ms: Option<i64>,
}

/// What a record says of the instance that writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Nothing new.
    Unchanged,
    /// It has started.
    Started,
    /// It has stopped.
    Stopped,
}

impl Store {
    /// What was recorded last under this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recorded_state(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let sql = "SELECT digests FROM recorded_states WHERE name = ?1";
            let row = connection.query(sql, params![&name])?.into_iter().next();
            Ok(row.map(|mut row| row.text(0)).transpose()?)
        })
        .await
    }

    /// Writes records together with the states that they speak of, and whether this instance runs. Where it stops, the last
    /// of them closes its lane of the trail.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is written (`Unavailable`: all or nothing).
    pub async fn record_states(
        &self,
        events: Vec<Event>,
        states: Vec<RecordedState>,
        running: Running,
    ) -> Result<(), StoreError> {
        let me = self.inner.instance.clone();
        self.write(move |tx| {
            for (n, event) in events.iter().enumerate() {
                match running == Running::Stopped && n + 1 == events.len() {
                    true => tx.append_last(event)?,
                    false => tx.append(event)?,
                };
            }
            for state in &states {
                tx.deferred(
                    "INSERT INTO recorded_states (name, digests) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET digests = excluded.digests",
                    params![&state.name, &state.digests],
                )?;
            }
            let running = match running {
                Running::Unchanged => return Ok(()),
                Running::Started => 1,
                Running::Stopped => 0,
            };
            // The row is there in any case but one: somebody took it out by hand.
            tx.deferred(
                "INSERT INTO instances (id, started_ms, beat_ms, running) VALUES (?1, @NOW, @NOW, ?2)
                 ON CONFLICT (id) DO UPDATE SET running = excluded.running",
                params![&me, number(running)],
            )?;
            Ok(())
        })
        .await
    }

    /// Instances that are at work, as far as the trail goes (they recorded their start and not their end, or their lane is
    /// open), and have not beaten for `silent`; zero: every other one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lost_instances(&self, silent: Duration) -> Result<Vec<LostInstance>, StoreError> {
        let (me, silent) = (self.inner.instance.clone(), millis(silent));
        self.read(move |connection| {
            // What version 1 wrote (no instance) is ended by the first new lane.
            let rows = connection.query(
                "SELECT id, beat_ms FROM instances WHERE running = 1 AND id <> ?1 AND beat_ms <= @NOW - ?2
                 UNION SELECT l.instance, i.beat_ms FROM lanes l LEFT JOIN instances i ON i.id = l.instance
                 WHERE l.is_open = 1 AND l.n > 0 AND l.instance <> ?1 AND (i.id IS NULL OR i.beat_ms <= @NOW - ?2)
                 ORDER BY 2, 1 LIMIT 1000",
                params![&me, silent],
            )?;
            let lost = rows.into_iter().map(|mut row| {
                Ok(LostInstance { id: row.text(0)?, beat_ms: row.optional_int(1)? })
            });
            lost.collect()
        })
        .await
    }

    /// Records that an instance was lost: `event` ends its lane of the trail, and what it still writes is refused. False where
    /// another instance has recorded it already, or where it has beaten within `silent` (zero: where there can be no other).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_lost(&self, id: &str, silent: Duration, event: Event) -> Result<bool, StoreError> {
        let (id, silent) = (id.to_owned(), millis(silent));
        self.write(move |tx| {
            // Whoever writes or beats at this moment is waited for, in the order in which it takes these locks itself.
            let sql = "SELECT n FROM lanes WHERE is_open = 1 AND instance = ?1 ORDER BY n @LOCK";
            let lanes = tx.connection.query(sql, params![&id])?;
            let lanes = lanes.into_iter().map(|row| row.seq(0)).collect::<Result<Vec<_>, DbError>>()?;
            tx.first("SELECT id FROM instances WHERE id = ?1 @LOCK", params![&id])?;
            let sql = "SELECT running FROM instances WHERE id = ?1 AND ?2 > 0 AND beat_ms > @NOW - ?2";
            if id == tx.instance || tx.first(sql, params![&id, silent])?.is_some() {
                return Ok(false);
            }
            let sql = "UPDATE instances SET running = 0 WHERE id = ?1 AND running = 1";
            let ran = tx.execute(sql, params![&id])? > 0;
            if !ran && lanes.is_empty() {
                return Ok(false);
            }
            tx.append_ending(&event, &lanes)?;
            Ok(true)
        })
        .await
    }
}
