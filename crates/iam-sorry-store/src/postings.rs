//! Finding records by their words (who, what, on what): filed a block at a time, so that a commit writes none of it.
//!
//! An index on each column would make every commit write a page for each. Instead the transaction that fills a block of
//! [`BLOCK`] records files all of them at once, in the order in which they are kept; what came after the last full block
//! is found by looking at each. A block is filed in the transaction that fills it, so there is nothing to catch up with.
//!
//! A filter of several words is answered by merging their lists: each in turn is moved to where the others stand, in
//! the index and past everything in between. So the rarest word sets the pace, and a record is read only when all of
//! its words fit.

use std::collections::VecDeque;

use crate::AuditFilter;
use crate::chain::{Head, indexed, number};
use crate::engine::{Connection, DbError, Row, params};
use crate::query::Query;

/// How many records are filed together: at most so many are looked at one by one.
pub(crate) const BLOCK: u64 = 256;

pub(crate) const DAY_MS: i64 = 86_400_000;

/// The last record of the last full block, when the trail ends at `seq`.
fn filed(seq: u64) -> i64 {
    number(seq - seq % BLOCK)
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

/// Files the blocks that became full between two ends of the trail.
pub(crate) fn file(connection: &mut dyn Connection, before: u64, now: u64) -> Result<(), DbError> {
    let (before, now) = (filed(before), filed(now));
    if before == now {
        return Ok(());
    }
    let columns = words(&AuditFilter::default()).map(|(kind, column, _)| {
        format!("SELECT {kind}, {column}, time_ms, seq FROM audit WHERE seq > ?1 AND seq <= ?2")
    });
    let columns = columns.join(" UNION ALL ");
    let words = format!("INSERT INTO audit_words (kind, word, time_ms, seq) {columns} ORDER BY 1, 2, 3, 4");
    connection.deferred(&words, params![before, now])?;
    let days = format!(
        "INSERT INTO audit_days (day, person, action, count)
         SELECT time_ms / {DAY_MS}, person, action, count(*) FROM audit
         WHERE seq > ?1 AND seq <= ?2 AND phase <> 0 GROUP BY 1, 2, 3
         ON CONFLICT (day, person, action) DO UPDATE SET count = audit_days.count + excluded.count"
    );
    connection.deferred(&days, params![before, now])
}

/// `SELECT day, action, count` of what happened, from the counts of full blocks and the records behind them. One
/// statement, since between two a block may become full.
pub(crate) fn days() -> String {
    // CAST: PostgreSQL's sum is NUMERIC.
    format!(
        "SELECT day, action, CAST(sum(count) AS @INT) FROM (
             SELECT day, person, action, count FROM audit_days UNION ALL
             SELECT time_ms / {DAY_MS}, person, action, 1 FROM audit
             WHERE seq > (SELECT seq - seq % {BLOCK} FROM audit_head) AND phase <> 0
         ) AS counted"
    )
}

/// A record's place in the order of pages: by time, then in the trail.
pub(crate) type Place = (i64, i64);

/// The records that fit a filter, in two parts without overlap.
pub(crate) struct Lookup<'a> {
    /// Those in full blocks, by their words; none if the filter has no words.
    pub(crate) matches: Option<Matches<'a>>,
    /// A query for the others: all records, or those behind the last full block.
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
        let end = filed(Head::read(connection)?.seq);
        let mark = rest.mark(end);
        rest.and(&format!("a.seq > {mark}"));
        let mut newest = filter.to_ms.map_or((i64::MAX, i64::MAX), |to| (to.saturating_sub(1), i64::MAX));
        if let Some((time, seq)) = after {
            newest = newest.min((time, seq.saturating_sub(1)));
        }
        let lists = given.iter().map(|(kind, _, word)| Postings::new(*kind, word));
        let matches =
            Matches { lists: lists.collect(), from: newest, oldest: filter.from_ms.unwrap_or(i64::MIN), end };
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

/// The records of full blocks in which all words fit, newest first.
pub(crate) struct Matches<'a> {
    lists: Vec<Postings<'a>>,
    /// Where to go on.
    from: Place,
    /// The earliest time that fits.
    oldest: i64,
    /// The last record of the last full block.
    end: i64,
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
                    match list.seek(connection, place, self.oldest, self.end)? {
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
        end: i64,
    ) -> Result<Option<Place>, DbError> {
        while self.read.front().is_some_and(|first| *first > place) {
            self.read.pop_front();
        }
        if self.read.is_empty() && !self.ended {
            self.fill(connection, place, oldest, end)?;
        }
        Ok(self.read.front().copied())
    }

    fn fill(
        &mut self,
        connection: &mut dyn Connection,
        (time, seq): Place,
        oldest: i64,
        end: i64,
    ) -> Result<(), DbError> {
        let rows = connection.query(
            "SELECT time_ms, seq FROM audit_words
             WHERE kind = ?1 AND word = ?2 AND (time_ms, seq) <= (?3, ?4) AND time_ms >= ?5 AND seq <= ?6
             ORDER BY time_ms DESC, seq DESC LIMIT ?7",
            params![self.kind, self.word, time, seq, oldest, end, self.size as i64],
        )?;
        self.ended = rows.len() < self.size;
        for row in rows {
            self.read.push_back((row.int(0)?, row.int(1)?));
        }
        self.size = (self.size * 2).min(MOST);
        Ok(())
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
