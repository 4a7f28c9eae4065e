//! Finding records by their words (who, what, on what): filed a block at a time, so that a commit writes none of it.
//!
//! An index on each column would make every commit write a page for each. Instead the transaction that fills a block of
//! [`BLOCK`] records files all of them at once, in the order in which they are kept; what came after the last full block
//! is found by looking at each. A block is filed in the transaction that fills it, so there is nothing to catch up with.

use crate::AuditFilter;
use crate::chain::{Head, indexed, number};
use crate::engine::{Connection, DbError, params};
use crate::query::Query;

/// How many records are filed together: at most so many are looked at one by one.
pub(crate) const BLOCK: u64 = 256;

pub(crate) const DAY_MS: i64 = 86_400_000;

/// The last record of the last full block, when the trail ends at `seq`.
fn filed(seq: u64) -> i64 {
    number(seq - seq % BLOCK)
}

/// The columns that can be looked up, those first that narrow most.
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
    connection.later(&words, params![before, now])?;
    let days = format!(
        "INSERT INTO audit_days (day, person, action, count)
         SELECT time_ms / {DAY_MS}, person, action, count(*) FROM audit
         WHERE seq > ?1 AND seq <= ?2 AND phase <> 0 GROUP BY 1, 2, 3
         ON CONFLICT (day, person, action) DO UPDATE SET count = audit_days.count + excluded.count"
    );
    connection.later(&days, params![before, now])
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

/// A part of the trail, with a query for what fits in it.
pub(crate) struct Part<'a> {
    pub(crate) query: Query<'a>,
    /// What the part is read in the order of.
    pub(crate) time: &'static str,
    pub(crate) seq: &'static str,
}

/// The parts that hold all records that fit a filter, each of them once. `columns` are those of `audit a`.
pub(crate) fn parts<'a>(
    connection: &mut dyn Connection,
    filter: &'a AuditFilter,
    columns: &str,
) -> Result<Vec<Part<'a>>, DbError> {
    let narrowest = words(filter).into_iter().find_map(|(kind, _, word)| Some((kind, word?)));
    let mut parts = Vec::new();
    if let Some((kind, word)) = narrowest {
        // Read before both parts: what is filed between them is looked at in the second.
        let end = filed(Head::read(connection)?.seq);
        // CROSS JOIN: SQLite keeps the order (https://sqlite.org/optoverview.html#crossjoin).
        let mut query = Query::new(&format!("SELECT {columns} FROM audit_words w CROSS JOIN audit a"));
        query.and("a.seq = w.seq");
        query.and_equal("w.kind", kind);
        query.and_equal("w.word", indexed(word));
        let mark = query.mark(end);
        query.and(&format!("w.seq <= {mark}"));
        parts.push(Part { query, time: "w.time_ms", seq: "w.seq" });
        let mut query = Query::new(&format!("SELECT {columns} FROM audit a"));
        let mark = query.mark(end);
        query.and(&format!("a.seq > {mark}"));
        // The sign keeps the index over times out of it, which would lead through the whole trail.
        parts.push(Part { query, time: "+a.time_ms", seq: "+a.seq" });
    } else {
        let query = Query::new(&format!("SELECT {columns} FROM audit a"));
        parts.push(Part { query, time: "a.time_ms", seq: "a.seq" });
    }
    for Part { query, time, .. } in &mut parts {
        for (_, column, word) in words(filter) {
            if let Some(word) = word {
                query.and_equal(&format!("a.{column}"), indexed(word));
            }
        }
        query.and_between(time, filter.from_ms, filter.to_ms);
    }
    Ok(parts)
}
