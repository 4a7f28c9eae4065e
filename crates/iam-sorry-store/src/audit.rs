//! Reading the audit trail, plain records, checkpoints, and how far each sink has come.

use iam_sorry_core::audit::{Checkpoint, Event, Hash, Record};

use crate::chain::{DAY_MS, Head, indexed, number, record};
use crate::cursor::{Cursor, List, Window};
use crate::engine::{DbError, Row, params};
use crate::grants::Query;
use crate::{AuditCount, AuditFilter, PageOf, PageRequest, Store, StoreError};

/// How many records one read gives at most: about 2 MB.
const RANGE: u32 = 2_000;
/// How many lines a chart's count may have.
const COUNTS: i64 = 20_000;

impl Store {
    /// Writes records that stand alone: sign-ins, refusals, readings. Gives their places in the trail.
    ///
    /// # Errors
    /// [`StoreError`]: none of them is written (`Unavailable`: all or none).
    pub async fn record(&self, events: Vec<Event>) -> Result<Vec<u64>, StoreError> {
        self.write(move |tx| events.iter().map(|event| tx.append(event)).collect()).await
    }

    /// The end of the chain: the last record's place (0: none yet) and hash.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head(&self) -> Result<(u64, Hash), StoreError> {
        self.read(|connection| {
            let head = Head::read(connection)?;
            Ok((head.seq, head.hash))
        })
        .await
    }

    /// Records that fit a filter, newest first (by time, then place).
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] and others.
    pub async fn audit_page(
        &self,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<PageOf<Record>, StoreError> {
        let window = Window::new(List::Audit, &page)?;
        // The cursor's text is the record's place.
        let after = window.after.as_ref().map(|after| {
            let seq = after.text.parse::<i64>().map_err(|_| StoreError::BadCursor)?;
            Ok::<_, StoreError>((after.number, seq))
        });
        let after = after.transpose()?;
        self.read(move |connection| {
            let mut query = Query::new("SELECT seq, hash, line, time_ms FROM audit");
            narrow_text(&mut query, &filter);
            narrow_time(&mut query, "time_ms", filter.from_ms, filter.to_ms);
            if let Some((time, seq)) = after {
                let marks = [query.mark(time), query.mark(seq)];
                query.and(&format!("(time_ms, seq) < ({})", marks.join(", ")));
            }
            let rows = query.run(connection, "time_ms DESC, seq DESC", window.rows())?;
            let records = rows
                .into_iter()
                .map(|row| Ok((row.int(3)?, record(row)?)))
                .collect::<Result<Vec<_>, DbError>>()?;
            let page = window.page(records, |(time, record)| Cursor::new(*time, record.seq.to_string()));
            Ok(PageOf { items: page.items.into_iter().map(|(_, record)| record).collect(), next: page.next })
        })
        .await
    }

    /// Records in the chain's order from `from_seq` on, at most `limit` (and at most 2,000); fewer mean the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_range(&self, from_seq: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        let limit = i64::from(limit.min(RANGE));
        self.read(move |connection| {
            let sql = "SELECT seq, hash, line FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
            let rows = connection.query(sql, params![number(from_seq), limit])?;
            Ok(rows.into_iter().map(record).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// How many things happened, by day (UTC) and action; intents are not counted, their outcomes are. Cheap where the filter
    /// has neither `name` nor `resource` and begins and ends at midnight; otherwise every record that fits is looked at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_counts(&self, filter: AuditFilter) -> Result<Vec<AuditCount>, StoreError> {
        self.read(move |connection| {
            let whole_days =
                [filter.from_ms, filter.to_ms].into_iter().flatten().all(|time| time % DAY_MS == 0);
            let rows = if whole_days && filter.name.is_none() && filter.resource.is_none() {
                // CAST: PostgreSQL's sum is NUMERIC.
                let mut query = Query::new("SELECT day, action, CAST(sum(count) AS @INT) FROM audit_days");
                narrow_text(&mut query, &filter);
                narrow_time(&mut query, "day", filter.from_ms.map(day), filter.to_ms.map(day));
                query.grouped(connection, "day, action", COUNTS)?
            } else {
                let mut query = Query::new("SELECT time_ms / 86400000 AS day, action, count(*) FROM audit");
                query.and("phase <> 0");
                narrow_text(&mut query, &filter);
                narrow_time(&mut query, "time_ms", filter.from_ms, filter.to_ms);
                query.grouped(connection, "day, action", COUNTS)?
            };
            let count = |mut row: Row| {
                Ok(AuditCount { day_ms: row.int(0)? * DAY_MS, action: row.text(1)?, count: row.seq(2)? })
            };
            Ok(rows.into_iter().map(count).collect::<Result<_, DbError>>()?)
        })
        .await
    }

    /// Keeps a signed checkpoint. One for the same record again changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.write(move |tx| {
            tx.later(
                "INSERT INTO checkpoints (seq, line) VALUES (?1, ?2) ON CONFLICT (seq) DO NOTHING",
                params![number(checkpoint.seq), &checkpoint.export_line()],
            )?;
            Ok(())
        })
        .await
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.read(|connection| {
            let rows = connection.query("SELECT line FROM checkpoints ORDER BY seq DESC LIMIT 1", &[])?;
            Ok(rows.into_iter().next().map(checkpoint).transpose()?)
        })
        .await
    }

    /// Checkpoints over `from_seq` and later records, in order, at most `limit` (and at most 2,000).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoints(&self, from_seq: u64, limit: u32) -> Result<Vec<Checkpoint>, StoreError> {
        let limit = i64::from(limit.min(RANGE));
        self.read(move |connection| {
            let sql = "SELECT line FROM checkpoints WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
            let rows = connection.query(sql, params![number(from_seq), limit])?;
            Ok(rows.into_iter().map(checkpoint).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The last record that a sink has; none where it never had one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sink_position(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let rows = connection.query("SELECT seq FROM sinks WHERE name = ?1", params![&name])?;
            Ok(rows.first().map(|row| row.seq(0)).transpose()?)
        })
        .await
    }

    /// Says how far a sink has come.
    ///
    /// # Errors
    /// [`StoreError`]: it may be sent some records again.
    pub async fn set_sink_position(&self, name: &str, seq: u64) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write(move |tx| {
            tx.later(
                "INSERT INTO sinks (name, seq) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq",
                params![&name, number(seq)],
            )?;
            Ok(())
        })
        .await
    }
}

fn narrow_text<'a>(query: &mut Query<'a>, filter: &'a AuditFilter) {
    for (column, value) in [
        ("person", &filter.person),
        ("name", &filter.name),
        ("action", &filter.action),
        ("resource", &filter.resource),
    ] {
        if let Some(value) = value {
            let mark = query.mark(indexed(value));
            query.and(&format!("{column} = {mark}"));
        }
    }
}

fn narrow_time(query: &mut Query<'_>, column: &str, from: Option<i64>, to: Option<i64>) {
    for (comparison, value) in [(">=", from), ("<", to)] {
        if let Some(value) = value {
            let mark = query.mark(value);
            query.and(&format!("{column} {comparison} {mark}"));
        }
    }
}

fn day(time_ms: i64) -> i64 {
    time_ms.div_euclid(DAY_MS)
}

fn checkpoint(mut row: Row) -> Result<Checkpoint, DbError> {
    Checkpoint::parse(&row.text(0)?).map_err(|error| DbError::Other(error.to_string()))
}
