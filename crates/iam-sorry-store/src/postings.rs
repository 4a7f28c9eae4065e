//! Finding records by their words (who, what, on what): filed a block at a time, so that a commit writes none of it.
//!
//! An index on each column would make every commit write a page for each. Instead the transaction that fills a block of
//! [`BLOCK`] records of a lane files all of them at once, in the order in which they are kept; what came after the last full
//! block of a lane that is still open is found by looking at each. A block is filed in the transaction that fills it, and the
//! rest of a lane in the one that ends it, so there is nothing to catch up with.
//!
//! A filter of several words is answered by merging their lists: each in turn is moved to where the others stand, in
//! the index and past everything in between. So the rarest word sets the pace, and a record is read only when all of
//! its words fit.

use std::collections::{BTreeMap, VecDeque};

use crate::AuditFilter;
use crate::engine::{Connection, DbError, Row, params};
use crate::lanes::{RowNumber, indexed};
use crate::query::Query;

/// How many records are filed together: at most so many of each open lane are looked at one by one.
pub(crate) const BLOCK: u64 = 256;

pub(crate) const DAY_MS: i64 = 86_400_000;

/// The last record of the last full block of a lane that ends at `seq`.
pub(crate) fn full_blocks(seq: u64) -> u64 {
    seq - seq % BLOCK
}

/// The columns that can be looked up.
fn words(filter: &AuditFilter) -> [(i64, &'static str, Option<&str>); 4] {
    [
        (1, "resource", filter.resource.as_deref()),
        (2, "person", filter.person.as_deref()),
        (3, "name", filter.name.as_deref()),
        (4, "action", filter.action.as_deref()),
    ]
}

/// Files the records of a lane behind `before`, up to `to`; gives what is filed then.
pub(crate) fn file(connection: &mut dyn Connection, lane: u64, before: u64, to: u64) -> Result<u64, DbError> {
    if to <= before {
        return Ok(before);
    }
    let [first, last] = [before, to].map(|seq| RowNumber::new(lane, seq).to_column());
    let columns = words(&AuditFilter::default()).map(|(kind, column, _)| {
        format!("SELECT {kind}, {column}, time_ms, seq FROM audit WHERE seq > ?1 AND seq <= ?2")
    });
    let columns = columns.join(" UNION ALL ");
    let words = format!("INSERT INTO audit_words (kind, word, time_ms, seq) {columns} ORDER BY 1, 2, 3, 4");
    connection.deferred(&words, params![first, last])?;
    // In order, so that two instances that file at once wait for each other's rows in the same one.
    let days = format!(
        "INSERT INTO audit_days (day, person, action, count)
         SELECT time_ms / {DAY_MS}, person, action, count(*) FROM audit
         WHERE seq > ?1 AND seq <= ?2 AND phase <> 0 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
         ON CONFLICT (day, person, action) DO UPDATE SET count = audit_days.count + excluded.count"
    );
    connection.deferred(&days, params![first, last])?;
    Ok(to)
}

/// `SELECT day, action, count` of what happened, from the counts of what is filed and the records behind it. One
/// statement, since between two a block may become full.
pub(crate) fn days() -> String {
    // CAST: PostgreSQL's sum is NUMERIC.
    format!(
        "SELECT day, action, CAST(sum(count) AS @INT) FROM (
             SELECT day, person, action, count FROM audit_days UNION ALL
             SELECT a.time_ms / {DAY_MS}, a.person, a.action, 1 FROM lanes l JOIN audit a
             ON a.seq > l.n * {size} + l.filed AND a.seq < (l.n + 1) * {size}
             WHERE l.is_open = 1 AND a.phase <> 0
         ) AS counted",
        size = RowNumber::end_of(0)
    )
}

/// What was filed at a moment: all lanes that had ended, and of the open ones their full blocks.
pub(crate) struct Filed {
    /// The last lane that there was.
    last: u64,
    /// The open ones, and what was filed of each.
    open: BTreeMap<u64, u64>,
}

impl Filed {
    fn read(connection: &mut dyn Connection) -> Result<Self, DbError> {
        // One statement: of two moments, a lane could have ended between them.
        let sql = "SELECT (SELECT coalesce(max(n), 0) FROM lanes), l.n, l.filed
             FROM (SELECT 1 AS one) AS o LEFT JOIN lanes l ON l.is_open = 1";
        let mut filed = Self { last: 0, open: BTreeMap::new() };
        for row in connection.query(sql, &[])? {
            filed.last = row.seq(0)?;
            if row.optional_int(1)?.is_some() {
                filed.open.insert(row.seq(1)?, row.seq(2)?);
            }
        }
        Ok(filed)
    }

    fn has(&self, row: i64) -> bool {
        let RowNumber { lane, seq } = RowNumber::from_column(row);
        lane <= self.last && self.open.get(&lane).is_none_or(|filed| seq <= *filed)
    }

    /// The condition for what was not filed then.
    fn others<'a>(&self, query: &mut Query<'a>) -> String {
        let mut ranges = Vec::new();
        for (lane, filed) in &self.open {
            let from = query.mark(RowNumber::new(*lane, *filed).to_column());
            let to = query.mark(RowNumber::end_of(*lane));
            ranges.push(format!("(a.seq > {from} AND a.seq < {to})"));
        }
        if ranges.is_empty() { "a.seq < 0".to_owned() } else { format!("({})", ranges.join(" OR ")) }
    }
}

/// A record's place in the order of pages: by time, then in the trail.
pub(crate) type Place = (i64, i64);

/// The records that fit a filter, in two parts without overlap.
pub(crate) struct Lookup<'a> {
    /// Those that are filed, by their words; none if the filter has no words.
    pub(crate) matches: Option<Matches<'a>>,
    /// A query for the others: all records, or those that are not filed.
    pub(crate) rest: Query<'a>,
    /// What `rest` is read in the order of.
    pub(crate) order: (&'static str, &'static str),
}

/// Looks up a filter from the newest record on, or from behind `after`. `columns` are those of `audit a`.
pub(crate) fn look_up<'a>(
    connection: &mut dyn Connection,
    filter: &'a AuditFilter,
    columns: &str,
    after: Option<Place>,
) -> Result<Lookup<'a>, DbError> {
    let given =
        words(filter).into_iter().filter_map(|(kind, column, word)| Some((kind, column, indexed(word?))));
    let given: Vec<_> = given.collect();
    let mut rest = Query::new(&format!("SELECT {columns} FROM audit a"));
    let (matches, order) = if given.is_empty() {
        (None, ("a.time_ms", "a.seq"))
    } else {
        // Read before both parts: what is filed between them is looked at in the second.
        let filed = Filed::read(connection)?;
        let others = filed.others(&mut rest);
        rest.and(&others);
        let mut newest = filter.to_ms.map_or((i64::MAX, i64::MAX), |to| (to.saturating_sub(1), i64::MAX));
        if let Some((time, seq)) = after {
            newest = newest.min((time, seq.saturating_sub(1)));
        }
        let lists = given.iter().map(|(kind, _, word)| Postings::new(*kind, word));
        let matches = Matches {
            lists: lists.collect(),
            from: newest,
            oldest: filter.from_ms.unwrap_or(i64::MIN),
            filed,
        };
        // The sign keeps the index over times out of it, which would lead through the whole trail.
        (Some(matches), ("+a.time_ms", "+a.seq"))
    };
    for (_, column, word) in given {
        rest.and_equal(&format!("a.{column}"), word);
    }
    rest.and_between(order.0, filter.from_ms, filter.to_ms);
    if let Some((time, seq)) = after {
        let marks = [rest.mark(time), rest.mark(seq)];
        rest.and(&format!("({}, {}) < ({})", order.0, order.1, marks.join(", ")));
    }
    Ok(Lookup { matches, rest, order })
}

/// The filed records in which all words fit, newest first.
pub(crate) struct Matches<'a> {
    lists: Vec<Postings<'a>>,
    /// Where to go on.
    from: Place,
    /// The earliest time that fits.
    oldest: i64,
    /// What was filed when the other part was asked for.
    filed: Filed,
}

impl Matches<'_> {
    /// The next ones, at most `count`; fewer mean the end.
    pub(crate) fn next(
        &mut self,
        connection: &mut dyn Connection,
        count: usize,
    ) -> Result<Vec<Place>, DbError> {
        if let [list] = self.lists.as_mut_slice() {
            // Nothing to compare with: as many as are needed, in one read.
            list.size = count.clamp(FIRST, MOST);
        }
        let mut found = Vec::new();
        'next: while found.len() < count {
            let mut place = self.from;
            loop {
                let before = place;
                for list in &mut self.lists {
                    match list.seek(connection, place, self.oldest, &self.filed)? {
                        Some(next) => place = next,
                        None => break 'next,
                    }
                }
                if place == before {
                    break;
                }
            }
            self.from = (place.0, place.1.saturating_sub(1));
            found.push(place);
        }
        Ok(found)
    }
}

/// How many places of a word are read at first, and at most.
const FIRST: usize = 16;
const MOST: usize = 512;

/// The places of one word, newest first.
struct Postings<'a> {
    kind: i64,
    word: &'a str,
    /// Those that were read and are still ahead.
    read: VecDeque<Place>,
    /// Whether there are none behind them.
    ended: bool,
    /// How many are read next: more while they are near each other, few where most of them are skipped.
    size: usize,
}

impl<'a> Postings<'a> {
    fn new(kind: i64, word: &'a str) -> Self {
        Self { kind, word, read: VecDeque::new(), ended: false, size: FIRST }
    }

    /// The first place at or behind `place`; none at the end.
    fn seek(
        &mut self,
        connection: &mut dyn Connection,
        place: Place,
        oldest: i64,
        filed: &Filed,
    ) -> Result<Option<Place>, DbError> {
        let mut from = place;
        loop {
            while self.read.front().is_some_and(|first| *first > place) {
                self.read.pop_front();
            }
            if !self.read.is_empty() || self.ended {
                return Ok(self.read.front().copied());
            }
            from = self.fill(connection, from, oldest, filed)?;
        }
    }

    /// Reads the next places; gives where those behind them begin.
    fn fill(
        &mut self,
        connection: &mut dyn Connection,
        (time, seq): Place,
        oldest: i64,
        filed: &Filed,
    ) -> Result<Place, DbError> {
        let rows = connection.query(
            "SELECT time_ms, seq FROM audit_words
             WHERE kind = ?1 AND word = ?2 AND (time_ms, seq) <= (?3, ?4) AND time_ms >= ?5
             ORDER BY time_ms DESC, seq DESC LIMIT ?6",
            params![self.kind, self.word, time, seq, oldest, self.size as i64],
        )?;
        self.ended = rows.len() < self.size;
        let mut next = (time, seq);
        for row in rows {
            let place = (row.int(0)?, row.int(1)?);
            next = (place.0, place.1.saturating_sub(1));
            // What was filed since is found in the other part.
            if filed.has(place.1) {
                self.read.push_back(place);
            }
        }
        self.size = (self.size * 2).min(MOST);
        Ok(next)
    }
}

/// How many records are fetched by one statement, which always has so many parameters: it is prepared once.
const TOGETHER: usize = 64;

/// Runs a SELECT over `audit a` for the records at these places; `more` is what follows the condition.
pub(crate) fn at(
    connection: &mut dyn Connection,
    places: &[Place],
    columns: &str,
    more: &str,
    mut row: impl FnMut(Row) -> Result<(), DbError>,
) -> Result<(), DbError> {
    for part in places.chunks(TOGETHER) {
        let mut query = Query::new(&format!("SELECT {columns} FROM audit a"));
        // One that is named twice is found once.
        let last = part.last().into_iter().cycle();
        let marks: Vec<_> = part.iter().chain(last).take(TOGETHER).map(|(_, seq)| query.mark(*seq)).collect();
        query.and(&format!("a.seq IN ({})", marks.join(", ")));
        query.all(connection, more)?.into_iter().try_for_each(&mut row)?;
    }
    Ok(())
}
