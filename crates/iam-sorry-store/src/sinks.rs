//! How far each sink has come.

use iam_sorry_core::audit::RecordId;

use crate::engine::{DbError, params};
use crate::lanes::{RowNumber, lane_id, number};
use crate::trail::{TrailPosition, name_of, number_of};
use crate::writer::{Fault, Tx};
use crate::{Store, StoreError};

/// How many lanes a position may name: those that are open, and some that were begun and not read to their end.
const LANES: i64 = 20_000;

/// What a sink has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkPosition {
    /// The records.
    pub records: TrailPosition,
    /// The record that was sent last.
    pub last: Option<RecordId>,
    /// The number of the checkpoint that was sent last; 0 where none was.
    pub checkpoint: u64,
}

impl Store {
    /// What a sink has; none where it never had anything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sink_position(&self, name: &str) -> Result<Option<SinkPosition>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let sql = "SELECT next, last, checkpoint FROM sink_positions WHERE name = ?1";
            let Some(row) = connection.query(sql, params![&name])?.into_iter().next() else {
                return Ok(None);
            };
            let (next, last, checkpoint) = (row.seq(0)?, row.int(1)?, row.seq(2)?);
            let sql = "SELECT s.lane, l.name, s.seq FROM sink_lanes s JOIN lanes l ON l.n = s.lane
                 WHERE s.sink = ?1 ORDER BY s.lane LIMIT ?2";
            let rows = connection.query(sql, params![&name, LANES])?;
            let lanes =
                rows.into_iter().map(|mut row| Ok((row.seq(0)?, (lane_id(&row.text(1)?)?, row.seq(2)?))));
            let lanes = lanes.collect::<Result<_, DbError>>()?;
            let last = if last == 0 { None } else { Some(name_of(connection, last)?) };
            Ok(Some(SinkPosition { records: TrailPosition { next, lanes }, last, checkpoint }))
        })
        .await
    }

    /// Says what a sink has.
    ///
    /// # Errors
    /// [`StoreError`]: it may be sent some records again.
    pub async fn set_sink_position(&self, name: &str, position: &SinkPosition) -> Result<(), StoreError> {
        let (name, position) = (name.to_owned(), position.clone());
        self.write(move |tx| {
            let last = match position.last {
                None => 0,
                Some(id) => {
                    let n = number_of(tx.connection, id.lane)?;
                    n.map_or(0, |n| RowNumber::new(n, id.seq).to_column())
                }
            };
            tx.deferred(
                "INSERT INTO sink_positions (name, next, last, checkpoint) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET next = excluded.next, last = excluded.last, checkpoint = excluded.checkpoint",
                params![&name, number(position.records.next), last, number(position.checkpoint)],
            )?;
            tx.deferred("DELETE FROM sink_lanes WHERE sink = ?1", params![&name])?;
            for (lane, (_, seq)) in &position.records.lanes {
                let sql = "INSERT INTO sink_lanes (sink, lane, seq) VALUES (?1, ?2, ?3)";
                tx.deferred(sql, params![&name, number(*lane), number(*seq)])?;
            }
            Ok(())
        })
        .await
    }
}

/// After a break: no sink has what is not there any more. `event` is the record of the break, in a lane of its own.
pub(crate) fn take_back(tx: &mut Tx<'_>, event: i64) -> Result<(), Fault> {
    let lane = number(RowNumber::from_column(event).lane);
    tx.deferred("DELETE FROM sink_lanes WHERE lane >= ?1", params![lane])?;
    tx.deferred(
        "UPDATE sink_lanes SET seq = (SELECT l.seq FROM lanes l WHERE l.n = sink_lanes.lane)
         WHERE seq > (SELECT l.seq FROM lanes l WHERE l.n = sink_lanes.lane)",
        &[],
    )?;
    tx.deferred("UPDATE sink_positions SET next = ?1 WHERE next > ?1", params![lane])?;
    let sql = "UPDATE sink_positions SET last = 0 WHERE NOT EXISTS (SELECT 1 FROM audit WHERE seq = last)";
    tx.deferred(sql, &[])?;
    let sql = "UPDATE sink_positions SET checkpoint = (SELECT coalesce(max(number), 0) FROM checkpoints)
         WHERE checkpoint > (SELECT coalesce(max(number), 0) FROM checkpoints)";
    tx.deferred(sql, &[])?;
    Ok(())
}
