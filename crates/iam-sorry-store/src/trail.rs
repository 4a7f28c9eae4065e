//! The trail as it leaves the database: lane by lane in the order of each, put together by time as far as that goes.
//!
//! A record's number says nothing of when it was committed: another instance may commit a smaller one later. So whoever
//! reads on keeps a place in each lane ([`TrailPosition`]), in which nothing comes late, and misses none.

use std::collections::{BTreeMap, HashMap, VecDeque};

use iam_sorry_core::audit::{Checkpoint, LaneHead, LaneHeads, LaneId, Record, RecordId};

use crate::engine::{Connection, DbError, Row, params};
use crate::lanes::{LANE_COLUMNS, LaneRow, RowNumber, UNSETTLED, lane_id, number, record};
use crate::query::Query;
use crate::readers::Queue;
use crate::writer::Fault;
use crate::{Store, StoreError};

/// How many records one read gives at most: about 2 MB.
pub(crate) const RANGE: u32 = 2_000;
/// How many lanes that nothing was read of are looked at at once. More are not written to at the same time.
const NEW_LANES: i64 = 64;

/// A lane, and the last record of it that somebody has.
type LaneState = (LaneId, u64);

/// How much of each lane somebody has. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrailPosition {
    /// The first lane of which there is nothing.
    pub(crate) next: u64,
    /// Of the lanes before it: those that may not be complete, and the last record that is there. By their numbers.
    pub(crate) lanes: BTreeMap<u64, LaneState>,
}

impl TrailPosition {
    /// The next record is there as well. It comes from [`Store::read_trail`], behind [`TrailPart::start`].
    pub fn pass(&mut self, record: &TrailRecord) {
        if let Some((_, seq)) = self.lanes.get_mut(&record.lane) {
            *seq = record.record.seq;
        }
    }

    /// Whether everything is there that the checkpoint covers.
    pub fn covers(&self, checkpoint: &TrailCheckpoint) -> bool {
        checkpoint.covers.iter().all(|state| {
            state.is_some_and(|(lane, seq)| match self.lanes.get(&lane) {
                Some((_, had)) => *had >= seq,
                None => lane < self.next,
            })
        })
    }
}

/// What there is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrailState {
    /// The states that a checkpoint has to name: of each lane that is open, and of each that is not and whose end no record of
    /// another lane names.
    pub heads: LaneHeads,
    /// The position of somebody who has everything.
    pub end: TrailPosition,
}

/// A record of [`Store::read_trail`].
#[derive(Clone, Debug)]
pub struct TrailRecord {
    /// The record.
    pub record: Record,
    /// Its lane's number.
    lane: u64,
}

/// What [`Store::read_trail`] gives.
#[derive(Clone, Debug)]
pub struct TrailPart {
    /// The position that it was asked for, with the lanes that are new since.
    pub start: TrailPosition,
    /// What comes behind it.
    pub records: Vec<TrailRecord>,
}

/// A checkpoint, and where in the database the records are that it covers.
#[derive(Clone, Debug)]
pub struct TrailCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The number of each lane, and the last record; `None` for a lane that is not there.
    covers: Vec<Option<(u64, u64)>>,
}

impl Store {
    /// Records behind a position, at most `limit` (and at most 2,000), up to `until`; none mean the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_trail(
        &self,
        from: &TrailPosition,
        until: Option<&TrailPosition>,
        limit: u32,
    ) -> Result<TrailPart, StoreError> {
        self.read_trail_in(Queue::Work, from, until, limit).await
    }

    /// As [`Store::read_trail`], for a person who reads the trail: it waits for other such readers, not for the service's
    /// own work, which does not wait for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn export_trail(
        &self,
        from: &TrailPosition,
        until: Option<&TrailPosition>,
        limit: u32,
    ) -> Result<TrailPart, StoreError> {
        self.read_trail_in(Queue::Audit, from, until, limit).await
    }

    async fn read_trail_in(
        &self,
        queue: Queue,
        from: &TrailPosition,
        until: Option<&TrailPosition>,
        limit: u32,
    ) -> Result<TrailPart, StoreError> {
        let (from, until) = (from.clone(), until.cloned());
        let limit = limit.min(RANGE) as usize;
        self.read_in(queue, move |connection| Ok(read(connection, &from, until.as_ref(), limit)?)).await
    }

    /// The trail as it is now: what a checkpoint signs, and where somebody stands who has everything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trail_state(&self) -> Result<TrailState, StoreError> {
        self.read(|connection| {
            // One statement: of two moments, a lane could have ended between them.
            let sql = format!(
                "SELECT {LANE_COLUMNS}, settled FROM lanes WHERE settled = 0 OR n = (SELECT max(n) FROM lanes)
                 ORDER BY n LIMIT {UNSETTLED}"
            );
            let mut state = TrailState::default();
            for row in connection.query(&sql, &[])? {
                let settled = row.bool(6)?;
                let lane = LaneRow::read(row)?;
                state.end.next = lane.n + 1;
                state.end.lanes.insert(lane.n, (lane.head.lane, lane.head.seq));
                if !settled && lane.head.seq > 0 {
                    state.heads.insert(lane.head);
                }
            }
            Ok(state)
        })
        .await
    }

    /// The position of somebody who has what `from` has, and behind it these records with all before them. `None`: one of them
    /// is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn position_behind(
        &self,
        from: &TrailPosition,
        records: Vec<RecordId>,
    ) -> Result<Option<TrailPosition>, StoreError> {
        let from = from.clone();
        self.read(move |connection| Ok(behind(connection, from.clone(), &records)?)).await
    }

    /// A position in words that also hold for a copy of the database: the states of the lanes that may not be complete, and of
    /// the last one of which there is anything. So an export says where it goes on from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heads_at(&self, position: &TrailPosition) -> Result<LaneHeads, StoreError> {
        let (position, chain) = (position.clone(), self.chain_id());
        self.read(move |connection| {
            let mut heads = LaneHeads::default();
            for (n, (lane, seq)) in &position.lanes {
                let row = connection.query(
                    "SELECT hash FROM audit WHERE seq = ?1",
                    params![RowNumber::new(*n, *seq).to_column()],
                )?;
                let hash = row.first().map(|row| row.hash(0)).transpose()?;
                heads.insert(LaneHead { lane: *lane, seq: *seq, hash: hash.unwrap_or(chain.genesis(*lane)) });
            }
            if let Some(last) = position.next.checked_sub(1).filter(|last| !position.lanes.contains_key(last))
            {
                let sql = format!("SELECT {LANE_COLUMNS} FROM lanes WHERE n = ?1");
                if let Some(row) = connection.query(&sql, params![number(last)])?.into_iter().next() {
                    heads.insert(LaneRow::read(row)?.head);
                }
            }
            Ok(heads)
        })
        .await
    }

    /// Reads [`Store::heads_at`]. `None`: one of the lanes is not there, or is another one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn position_of(&self, heads: &LaneHeads) -> Result<Option<TrailPosition>, StoreError> {
        let (heads, chain) = (heads.clone(), self.chain_id());
        self.read(move |connection| {
            let mut position = TrailPosition::default();
            for head in heads.iter() {
                let Some(n) = number_of(connection, head.lane)? else { return Ok(None) };
                let there = match head.seq {
                    0 => Some(chain.genesis(head.lane)),
                    _ => record_at(connection, head.record())?.map(|record| record.hash),
                };
                if there != Some(head.hash) {
                    return Ok(None);
                }
                position.next = position.next.max(n + 1);
                position.lanes.insert(n, (head.lane, head.seq));
            }
            Ok(Some(position))
        })
        .await
    }

    /// The position in which each lane begins with its first record of this time or later. Records are in the order of their
    /// times within a lane, but for what an instance's clock was set back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn position_at(&self, time_ms: i64) -> Result<TrailPosition, StoreError> {
        self.read(move |connection| {
            let mut position = TrailPosition::default();
            let rows = connection.query(&format!("SELECT {LANE_COLUMNS} FROM lanes ORDER BY n"), &[])?;
            for row in rows {
                let lane = LaneRow::read(row)?;
                let seq = last_before(connection, &lane, time_ms)?;
                position.next = lane.n + 1;
                if lane.is_open || seq < lane.head.seq {
                    position.lanes.insert(lane.n, (lane.head.lane, seq));
                }
            }
            // What was begun later need not be named.
            while let Some(last) = position.lanes.last_entry()
                && *last.key() + 1 == position.next
                && last.get().1 == 0
            {
                last.remove();
                position.next -= 1;
            }
            Ok(position)
        })
        .await
    }

    /// How many records there are behind a position.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_behind(&self, position: &TrailPosition) -> Result<u64, StoreError> {
        let position = position.clone();
        self.read(move |connection| {
            let mut count = sum_from(connection, position.next)?;
            for (lane, (_, had)) in rows_of(connection, &position)? {
                count += lane.head.seq.saturating_sub(had);
            }
            Ok(count)
        })
        .await
    }

    /// How many records there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_records(&self) -> Result<u64, StoreError> {
        self.read(|connection| Ok(sum_from(connection, 0)?)).await
    }

    /// The record, as far as a position goes, that is not there: the trail was cut. None: all of it is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn missing_before(&self, position: &TrailPosition) -> Result<Option<RecordId>, StoreError> {
        let position = position.clone();
        self.read(move |connection| {
            let there: HashMap<u64, u64> = rows_of(connection, &position)?
                .into_iter()
                .map(|(lane, _)| (lane.n, lane.head.seq))
                .collect();
            let beyond = position.lanes.iter().find(|(n, (_, had))| there.get(n).is_none_or(|seq| had > seq));
            Ok(beyond.map(|(_, (lane, had))| lane.record(*had)))
        })
        .await
    }

    /// The last record of a lane; none where there is no such lane.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lane_end(&self, lane: LaneId) -> Result<Option<LaneHead>, StoreError> {
        self.read(move |connection| {
            let sql = format!("SELECT {LANE_COLUMNS} FROM lanes WHERE name = ?1");
            let row = connection.query(&sql, params![&lane.to_string()])?.into_iter().next();
            Ok(row.map(LaneRow::read).transpose()?.map(|lane| lane.head))
        })
        .await
    }

    /// One record.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_at(&self, id: RecordId) -> Result<Option<Record>, StoreError> {
        self.read(move |connection| Ok(record_at(connection, id)?)).await
    }

    /// Keeps a signed checkpoint, unless there is one of its number or a later one; whether it did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_checkpoint(&self, checkpoint: Checkpoint) -> Result<bool, StoreError> {
        self.write(move |tx| {
            let rows = tx.execute(
                "INSERT INTO checkpoints (number, line)
                 SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM checkpoints WHERE number >= ?1) ON CONFLICT (number) DO NOTHING",
                params![number(checkpoint.number), &checkpoint.export_line()],
            )?;
            Ok(rows == 1)
        })
        .await
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.read(|connection| {
            let rows = connection.query("SELECT line FROM checkpoints ORDER BY number DESC LIMIT 1", &[])?;
            Ok(rows.into_iter().next().map(|mut row| parse_checkpoint(&row.text(0)?)).transpose()?)
        })
        .await
    }

    /// The number of the last checkpoint that covers nothing but what is there at a position; 0 where none does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_checkpoint_before(&self, position: &TrailPosition) -> Result<u64, StoreError> {
        let position = position.clone();
        self.read(move |connection| {
            // Each covers what the one before covers: by bisection.
            let (mut low, mut high) = (0, u64::MAX >> 1);
            loop {
                let sql = "SELECT max(number), min(number), count(*) FROM checkpoints WHERE number > ?1 AND number < ?2";
                let row = connection.query(sql, params![number(low), number(high)])?.into_iter().next();
                let Some(row) = row.filter(|row| row.int(2).is_ok_and(|count| count > 0)) else { return Ok(low) };
                let (last, first) = (row.seq(0)?, row.seq(1)?);
                let middle = first + (last - first) / 2;
                let sql = "SELECT line FROM checkpoints WHERE number >= ?1 ORDER BY number LIMIT 1";
                let row = connection.query(sql, params![number(middle)])?.into_iter().next();
                let Some(mut row) = row else { return Ok(low) };
                let checkpoint = parse_checkpoint(&row.text(0)?)?;
                let middle = checkpoint.number;
                match position.covers(&placed(connection, checkpoint, &mut HashMap::new())?) {
                    true => low = middle,
                    false => high = middle,
                }
            }
        })
        .await
    }

    /// Checkpoints of this number and later ones, in order, at most `limit` (and at most 2,000).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn checkpoints(&self, from: u64, limit: u32) -> Result<Vec<TrailCheckpoint>, StoreError> {
        let limit = i64::from(limit.min(RANGE));
        self.read(move |connection| {
            let sql = "SELECT line FROM checkpoints WHERE number >= ?1 ORDER BY number LIMIT ?2";
            let rows = connection.query(sql, params![number(from), limit])?;
            let mut numbers = HashMap::new();
            let mut all = Vec::with_capacity(rows.len());
            for mut row in rows {
                let checkpoint = parse_checkpoint(&row.text(0)?)?;
                all.push(placed(connection, checkpoint, &mut numbers)?);
            }
            Ok(all)
        })
        .await
    }
}

/// A checkpoint with the numbers of the lanes that it covers, of which some are known.
fn placed(
    connection: &mut dyn Connection,
    checkpoint: Checkpoint,
    numbers: &mut HashMap<LaneId, Option<u64>>,
) -> Result<TrailCheckpoint, DbError> {
    let mut covers = Vec::with_capacity(checkpoint.heads.len());
    for head in checkpoint.heads.iter() {
        let n = match numbers.get(&head.lane) {
            Some(n) => *n,
            None => *numbers.entry(head.lane).or_insert(number_of(connection, head.lane)?),
        };
        covers.push(n.map(|n| (n, head.seq)));
    }
    Ok(TrailCheckpoint { checkpoint, covers })
}

/// A lane to read from, behind a record and up to another.
struct Source {
    lane: u64,
    id: LaneId,
    had: u64,
    end: u64,
    /// When its next record was written; none at the end.
    next: Option<i64>,
    buffer: VecDeque<(i64, Record)>,
}

fn read(
    connection: &mut dyn Connection,
    from: &TrailPosition,
    until: Option<&TrailPosition>,
    limit: usize,
) -> Result<TrailPart, DbError> {
    let mut start = TrailPosition { next: from.next, lanes: BTreeMap::new() };
    let mut sources = Vec::new();
    let known = rows_of(connection, from)?;
    let sql = format!("SELECT {LANE_COLUMNS} FROM lanes WHERE n >= ?1 ORDER BY n LIMIT ?2");
    let new = connection.query(&sql, params![number(from.next), NEW_LANES])?;
    let new = new.into_iter().map(LaneRow::read).collect::<Result<Vec<_>, _>>()?;
    let new = new.into_iter().map(|lane| (lane.clone(), (lane.head.lane, 0)));
    for (lane, (id, had)) in known.into_iter().chain(new) {
        if until.is_some_and(|until| lane.n >= until.next) {
            continue;
        }
        start.next = start.next.max(lane.n + 1);
        if !lane.is_open && had >= lane.head.seq {
            continue; // complete for ever
        }
        start.lanes.insert(lane.n, (id, had));
        let end = until.and_then(|until| until.lanes.get(&lane.n)).map_or(lane.head.seq, |(_, seq)| *seq);
        if end > had {
            sources.push(Source { lane: lane.n, id, had, end, next: Some(0), buffer: VecDeque::new() });
        }
    }
    if let [_, _, ..] = sources.as_slice() {
        for source in &mut sources {
            source.next = source.peek(connection)?;
        }
    }
    let mut records = Vec::new();
    while records.len() < limit {
        let next = sources.iter_mut().filter(|source| source.next.is_some());
        let Some(source) = next.min_by_key(|source| (source.next, source.lane)) else { break };
        let Some(record) = source.take(connection, limit - records.len())? else { continue };
        records.push(record);
    }
    Ok(TrailPart { start, records })
}

impl Source {
    fn peek(&self, connection: &mut dyn Connection) -> Result<Option<i64>, DbError> {
        let sql = "SELECT time_ms FROM audit WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT 1";
        let [had, end] = [self.had, self.end].map(|seq| RowNumber::new(self.lane, seq).to_column());
        connection.query(sql, params![had, end])?.first().map(|row| row.int(0)).transpose()
    }

    fn take(
        &mut self,
        connection: &mut dyn Connection,
        limit: usize,
    ) -> Result<Option<TrailRecord>, DbError> {
        if self.buffer.is_empty() {
            let sql = "SELECT seq, hash, line, time_ms FROM audit WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
            let [had, end] = [self.had, self.end].map(|seq| RowNumber::new(self.lane, seq).to_column());
            for row in connection.query(sql, params![had, end, limit as i64])? {
                self.buffer.push_back((row.int(3)?, record(row, self.id)?));
            }
        }
        let taken = self.buffer.pop_front();
        self.had = taken.as_ref().map_or(self.end, |(_, record)| record.seq);
        self.next = match self.buffer.front() {
            Some((time, _)) => Some(*time),
            // The next read tells; until then it is the next.
            None if self.had < self.end => taken.as_ref().map(|(time, _)| *time),
            None => None,
        };
        Ok(taken.map(|(_, record)| TrailRecord { record, lane: self.lane }))
    }
}

/// The rows of the lanes that a position names, with what it says of each.
fn rows_of(
    connection: &mut dyn Connection,
    position: &TrailPosition,
) -> Result<Vec<(LaneRow, LaneState)>, DbError> {
    /// So many parameters each time: the statement is prepared once.
    const TOGETHER: usize = 16;
    let wanted: Vec<(u64, LaneState)> = position.lanes.iter().map(|(n, state)| (*n, *state)).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for part in wanted.chunks(TOGETHER) {
        let mut query = Query::new(&format!("SELECT {LANE_COLUMNS} FROM lanes"));
        let last = part.last().into_iter().cycle();
        let marks: Vec<_> =
            part.iter().chain(last).take(TOGETHER).map(|(n, _)| query.mark(number(*n))).collect();
        query.and(&format!("n IN ({})", marks.join(", ")));
        for row in query.all(connection, "ORDER BY n")? {
            let lane = LaneRow::read(row)?;
            if let Some(state) = position.lanes.get(&lane.n) {
                found.push((lane, *state));
            }
        }
    }
    Ok(found)
}

fn behind(
    connection: &mut dyn Connection,
    from: TrailPosition,
    records: &[RecordId],
) -> Result<Option<TrailPosition>, DbError> {
    let mut position = from;
    let mut found = Vec::new();
    for record in records {
        let Some(n) = number_of(connection, record.lane)? else { return Ok(None) };
        let sql = "SELECT seq FROM lanes WHERE n = ?1 AND seq >= ?2";
        if connection.query(sql, params![number(n), number(record.seq)])?.is_empty() {
            return Ok(None);
        }
        found.push((n, *record));
    }
    let next = found.iter().map(|(n, _)| n + 1).max().unwrap_or(0);
    if next > position.next {
        let sql = "SELECT n, name FROM lanes WHERE n >= ?1 AND n < ?2 ORDER BY n";
        for mut row in connection.query(sql, params![number(position.next), number(next)])? {
            let n = row.seq(0)?;
            position.lanes.insert(n, (lane_id(&row.text(1)?)?, 0));
        }
        position.next = next;
    }
    for (n, record) in found {
        // One that is complete is none that could be read on from; it costs nothing to name it all the same.
        let (_, had) = position.lanes.entry(n).or_insert((record.lane, record.seq));
        *had = (*had).max(record.seq);
    }
    Ok(Some(position))
}

/// The last record of a lane that is older, by bisection.
fn last_before(connection: &mut dyn Connection, lane: &LaneRow, time_ms: i64) -> Result<u64, DbError> {
    let (mut low, mut high) = (0, lane.head.seq);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let sql = "SELECT time_ms FROM audit WHERE seq >= ?1 AND seq < ?2 ORDER BY seq LIMIT 1";
        let [from, end] = [RowNumber::new(lane.n, middle).to_column(), RowNumber::end_of(lane.n)];
        let time = connection.query(sql, params![from, end])?.first().map(|row| row.int(0)).transpose()?;
        if time.is_some_and(|time| time < time_ms) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}

fn sum_from(connection: &mut dyn Connection, lane: u64) -> Result<u64, DbError> {
    // CAST: PostgreSQL's sum is NUMERIC.
    let sql = "SELECT CAST(coalesce(sum(seq), 0) AS @INT) FROM lanes WHERE n >= ?1";
    let row = connection.query(sql, params![number(lane)])?.into_iter().next();
    row.map_or(Ok(0), |row| row.seq(0))
}

/// The number of a lane, where it is there.
pub(crate) fn number_of(connection: &mut dyn Connection, lane: LaneId) -> Result<Option<u64>, DbError> {
    let row = connection.query("SELECT n FROM lanes WHERE name = ?1", params![&lane.to_string()])?;
    row.first().map(|row| row.seq(0)).transpose()
}

pub(crate) fn record_at(connection: &mut dyn Connection, id: RecordId) -> Result<Option<Record>, DbError> {
    let Some(n) = number_of(connection, id.lane)? else { return Ok(None) };
    let sql = "SELECT seq, hash, line FROM audit WHERE seq = ?1";
    let rows = connection.query(sql, params![RowNumber::new(n, id.seq).to_column()])?;
    rows.into_iter().next().map(|row| record(row, id.lane)).transpose()
}

/// The name of a record by its number in the database.
pub(crate) fn name_of(connection: &mut dyn Connection, column: i64) -> Result<RecordId, Fault> {
    let RowNumber { lane, seq } = RowNumber::from_column(column);
    let row =
        connection.query("SELECT name FROM lanes WHERE n = ?1", params![number(lane)])?.into_iter().next();
    let mut row: Row = row.ok_or_else(|| StoreError::Corrupt(format!("there is no lane {lane}")))?;
    Ok(lane_id(&row.text(0)?)?.record(seq))
}

fn parse_checkpoint(line: &str) -> Result<Checkpoint, DbError> {
    Checkpoint::parse(line).map_err(|error| DbError::Other(error.to_string()))
}
