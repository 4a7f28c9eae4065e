//! Reading the audit trail, plain records, checkpoints, and how far each sink has come.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use iam_sorry_core::audit::{Checkpoint, Event, Hash, Record};

use crate::chain::{Head, indexed, number, record};
use crate::cursor::{Cursor, List, Window};
use crate::engine::{DbError, Row, params};
use crate::postings::{self, DAY_MS, Lookup};
use crate::query::Query;
use crate::readers::Lane;
use crate::{AuditCount, AuditFilter, PageOf, PageRequest, Store, StoreError};

/// How many records one read gives at most: about 2 MB.
const RANGE: u32 = 2_000;
/// How many lines a chart's count may have.
const COUNTS: i64 = 20_000;
/// How many records are looked up at once to be counted.
const COUNTED: usize = 512;

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
    /// [`StoreError::BadCursor`], [`StoreError::TooSlow`], [`StoreError::Crowded`] and others.
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
        self.read_as(Lane::Audit, move |connection| {
            const COLUMNS: &str = "a.seq, a.hash, a.line, a.time_ms";
            let mut records = Vec::new();
            let mut add = |row: Row| {
                records.push((row.int(3)?, record(row)?));
                Ok::<_, DbError>(())
            };
            let Lookup { matches, rest, order: (time, seq) } =
                postings::look_up(connection, &filter, COLUMNS, after)?;
            let order = format!("{time} DESC, {seq} DESC");
            rest.run(connection, &order, window.rows())?.into_iter().try_for_each(&mut add)?;
            if let Some(mut matches) = matches {
                let places = matches.next(connection, window.rows() as usize)?;
                postings::at(connection, &places, COLUMNS, "", add)?;
            }
            records.sort_by_key(|(time, record)| Reverse((*time, record.seq)));
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
        self.range(Lane::Work, from_seq, limit).await
    }

    /// As [`Store::audit_range`], for a person who reads the trail: it waits for other such readers, not for the service's
    /// own work, which does not wait for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_export(&self, from_seq: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.range(Lane::Audit, from_seq, limit).await
    }

    async fn range(&self, lane: Lane, from_seq: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        let limit = i64::from(limit.min(RANGE));
        self.read_as(lane, move |connection| {
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
        self.read_as(Lane::Audit, move |connection| {
            let whole_days =
                [filter.from_ms, filter.to_ms].into_iter().flatten().all(|time| time % DAY_MS == 0);
            let mut counts = BTreeMap::new();
            let mut add = |mut row: Row| {
                *counts.entry((row.int(0)?, row.text(1)?)).or_default() += row.seq(2)?;
                Ok::<_, DbError>(())
            };
            if whole_days && filter.name.is_none() && filter.resource.is_none() {
                let mut query = Query::new(&postings::days());
                for (column, value) in [("person", &filter.person), ("action", &filter.action)] {
                    if let Some(value) = value {
                        query.and_equal(column, indexed(value));
                    }
                }
                query.and_between("day", filter.from_ms.map(day), filter.to_ms.map(day));
                query.grouped(connection, "day, action", COUNTS)?.into_iter().try_for_each(&mut add)?;
            } else {
                let columns = format!("a.time_ms / {DAY_MS} AS day, a.action, count(*)");
                let Lookup { matches, mut rest, .. } =
                    postings::look_up(connection, &filter, &columns, None)?;
                rest.and("a.phase <> 0");
                rest.grouped(connection, "day, a.action", COUNTS)?.into_iter().try_for_each(&mut add)?;
                if let Some(mut matches) = matches {
                    loop {
                        let places = matches.next(connection, COUNTED)?;
                        let more = "AND a.phase <> 0 GROUP BY day, a.action";
                        postings::at(connection, &places, &columns, more, &mut add)?;
                        if places.len() < COUNTED {
                            break;
                        }
                    }
                }
            }
            let count = |((day, action), count)| AuditCount { day_ms: day * DAY_MS, action, count };
            Ok(counts.into_iter().map(count).collect())
        })
        .await
    }

    /// Keeps a signed checkpoint. One for the same record again changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.write(move |tx| {
            tx.deferred(
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
        self.set_sink_positions(vec![(name.to_owned(), seq)]).await
    }

    /// Several at once: all or none.
    ///
    /// # Errors
    /// [`StoreError`]: they may be sent some records again.
    pub async fn set_sink_positions(&self, positions: Vec<(String, u64)>) -> Result<(), StoreError> {
        self.write(move |tx| {
            for (name, seq) in &positions {
                tx.deferred(
                    "INSERT INTO sinks (name, seq) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq",
                    params![name, number(*seq)],
                )?;
            }
            Ok(())
        })
        .await
    }
}

fn day(time_ms: i64) -> i64 {
    time_ms.div_euclid(DAY_MS)
}

fn checkpoint(mut row: Row) -> Result<Checkpoint, DbError> {
    Checkpoint::parse(&row.text(0)?).map_err(|error| DbError::Other(error.to_string()))
}
