//! The audit trail as people read it: pages and counts, newest first; and records that stand alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use iam_sorry_core::audit::{Event, Hash, InvalidRecord, LaneId, Record, RecordId};

use crate::cursor::{Cursor, List, Window};
use crate::engine::{Connection, DbError, Row, params};
use crate::lanes::{RowNumber, indexed, lane_id, number, record};
use crate::postings::{self, DAY_MS, Lookup};
use crate::query::Query;
use crate::readers::Queue;
use crate::trail::{number_of, record_at};
use crate::{AuditCount, AuditFilter, PageOf, PageRequest, Store, StoreError};

/// How many lines a chart's count may have.
const COUNTS: i64 = 20_000;
/// How many records are looked up at once to be counted.
const COUNTED: usize = 512;

/// A record with the list of groups that it names by its digest, looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The record.
    pub record: Record,
    /// The list; none where the record has its own, or where it can't be found any more.
    pub groups: Option<Vec<String>>,
}

impl AuditEntry {
    /// What the record says, groups included.
    ///
    /// # Errors
    /// [`InvalidRecord`] where it holds no event that this program knows.
    pub fn event(&self) -> Result<Event, InvalidRecord> {
        let mut event = self.record.event()?;
        if let Some(groups) = &self.groups {
            event.person.groups.clone_from(groups);
        }
        Ok(event)
    }
}

impl Store {
    /// Writes records that stand alone: sign-ins, refusals, readings. Gives their places in the trail.
    ///
    /// # Errors
    /// [`StoreError`]: none of them is written (`Unavailable`: all or none).
    pub async fn record(&self, events: Vec<Event>) -> Result<Vec<RecordId>, StoreError> {
        self.write(move |tx| events.iter().map(|event| Ok(tx.append(event)?.id)).collect()).await
    }

    /// Records that fit a filter, newest first (by time, then place).
    ///
    /// # Errors
    /// [`StoreError::BadCursor`], [`StoreError::TooSlow`], [`StoreError::Crowded`] and others.
    pub async fn audit_page(
        &self,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<PageOf<AuditEntry>, StoreError> {
        let window = Window::new(List::Audit, &page)?;
        // The cursor's text is the record's number in the database.
        let after = window.after.as_ref().map(|after| {
            let number = after.text.parse::<i64>().map_err(|_| StoreError::BadCursor)?;
            Ok::<_, StoreError>((after.number, number))
        });
        let after = after.transpose()?;
        self.read_in(Queue::Audit, move |connection| {
            const COLUMNS: &str = "a.seq, a.hash, a.line, a.time_ms";
            let mut rows = Vec::new();
            let mut add = |row: Row| {
                rows.push((row.int(3)?, row.int(0)?, row));
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
            rows.sort_by_key(|(time, number, _)| Reverse((*time, *number)));
            let page = window.page(rows, |(time, number, _)| Cursor::new(*time, number.to_string()));
            let mut reader = EntryReader::default();
            let items = page.items.into_iter().map(|(_, _, row)| reader.entry(connection, row));
            Ok(PageOf { items: items.collect::<Result<_, _>>()?, next: page.next })
        })
        .await
    }

    /// One record, with its groups.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_entry(&self, id: RecordId) -> Result<Option<AuditEntry>, StoreError> {
        self.read(move |connection| {
            let Some(record) = record_at(connection, id)? else { return Ok(None) };
            let groups = groups_of(connection, &record)?;
            Ok(Some(AuditEntry { record, groups }))
        })
        .await
    }

    /// The list of groups that a record names by its digest. None where it has its own, or where the list can't be found.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn groups_of(&self, record: &Record) -> Result<Option<Vec<String>>, StoreError> {
        if record.groups_digest().is_none() {
            return Ok(None);
        }
        let record = record.clone();
        self.read(move |connection| Ok(groups_of(connection, &record)?)).await
    }

    /// How many things happened, by day (UTC) and action; intents are not counted, their outcomes are. Cheap where the filter
    /// has neither `name` nor `resource` and begins and ends at midnight; otherwise every record that fits is looked at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_counts(&self, filter: AuditFilter) -> Result<Vec<AuditCount>, StoreError> {
        self.read_in(Queue::Audit, move |connection| {
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
}

/// Makes entries of rows, and looks up what many of them need once.
#[derive(Default)]
struct EntryReader {
    lanes: HashMap<u64, LaneId>,
    lists: HashMap<(u64, Hash), Option<Vec<String>>>,
}

impl EntryReader {
    /// From a row of `seq, hash, line`.
    fn entry(&mut self, connection: &mut dyn Connection, row: Row) -> Result<AuditEntry, DbError> {
        let n = RowNumber::from_column(row.int(0)?).lane;
        let lane = match self.lanes.get(&n) {
            Some(lane) => *lane,
            None => {
                let row = connection.query("SELECT name FROM lanes WHERE n = ?1", params![number(n)])?;
                let mut row =
                    row.into_iter().next().ok_or_else(|| DbError::Other(format!("there is no lane {n}")))?;
                *self.lanes.entry(n).or_insert(lane_id(&row.text(0)?)?)
            }
        };
        let record = record(row, lane)?;
        let groups = match record.groups_digest() {
            None => None,
            Some(digest) => match self.lists.get(&(n, digest)) {
                Some(list) => list.clone(),
                None => {
                    let list = list_in(connection, n, &digest)?;
                    self.lists.entry((n, digest)).or_insert(list).clone()
                }
            },
        };
        Ok(AuditEntry { record, groups })
    }
}

/// The list of groups that a record names by its digest.
pub(crate) fn groups_of(
    connection: &mut dyn Connection,
    record: &Record,
) -> Result<Option<Vec<String>>, DbError> {
    let Some(digest) = record.groups_digest() else { return Ok(None) };
    match number_of(connection, record.lane)? {
        Some(n) => list_in(connection, n, &digest),
        None => Ok(None),
    }
}

/// Out of the record of the lane that has it. A trail that was changed may have none, or another one: then none.
fn list_in(
    connection: &mut dyn Connection,
    lane: u64,
    digest: &Hash,
) -> Result<Option<Vec<String>>, DbError> {
    let sql =
        "SELECT a.line FROM audit_groups g JOIN audit a ON a.seq = g.seq WHERE g.lane = ?1 AND g.digest = ?2";
    let row = connection.query(sql, params![number(lane), digest])?.into_iter().next();
    let Some(mut row) = row else { return Ok(None) };
    let event = Record::parse(&row.text(0)?).and_then(|record| record.event());
    let list = event.ok().map(|event| event.person.groups);
    Ok(list.filter(|list| iam_sorry_core::audit::groups_digest(list) == *digest))
}

fn day(time_ms: i64) -> i64 {
    time_ms.div_euclid(DAY_MS)
}
