//! What was last recorded of rules, configuration and keys; and which instances started without having stopped. Each
//! write goes with its record of the trail, in one transaction.

use std::time::Duration;

use iam_sorry_core::audit::Event;

use crate::chain::number;
use crate::engine::params;
use crate::instances::millis;
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
    /// When it last said that it lives, milliseconds since 1970, by the database's clock.
    pub beat_ms: i64,
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

    /// Writes records together with the states that they speak of, and whether this instance runs.
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
            for event in &events {
                tx.append(event)?;
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

    /// Instances that recorded their start, not their end, and have not beaten for `silent`; zero: every other one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lost_instances(&self, silent: Duration) -> Result<Vec<LostInstance>, StoreError> {
        let (me, silent) = (self.inner.instance.clone(), millis(silent));
        self.read(move |connection| {
            let rows = connection.query(
                "SELECT id, beat_ms FROM instances
                 WHERE running = 1 AND id <> ?1 AND beat_ms <= @NOW - ?2 ORDER BY beat_ms, id LIMIT 1000",
                params![&me, silent],
            )?;
            let lost =
                rows.into_iter().map(|mut row| Ok(LostInstance { id: row.text(0)?, beat_ms: row.int(1)? }));
            lost.collect()
        })
        .await
    }

    /// Records that an instance was lost; false where another instance has recorded it already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_lost(&self, id: &str, event: Event) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(move |tx| {
            let sql = "UPDATE instances SET running = 0 WHERE id = ?1 AND running = 1";
            if tx.execute(sql, params![&id])? == 0 {
                return Ok(false);
            }
            tx.append(&event)?;
            Ok(true)
        })
        .await
    }
}
