//! The trail inside the writing transaction: this instance's lane, and records put behind its last one.
//!
//! A lane is begun with its first record, which names the states of the lanes that there are, so that none of them can
//! be taken away unseen. It ends with a record that closes it, or, where its instance died, with a record of another lane
//! that says so. Either goes with `is_open = 0` in one transaction, and a writer holds the row of its lane for as long as its
//! own transaction lasts: so whoever is late finds its lane ended, writes nothing to it, and begins another.
//!
//! Lanes are begun and ended one at a time (the row of `trail` is locked); everything else in a lane concerns nobody but
//! its instance.

use iam_sorry_core::audit::{
    ChainId, Event, Hash, LaneHead, LaneHeads, LaneId, LaneWriter, Links, Phase, Record, RecordId,
};
use iam_sorry_core::digest::sha256_hex;

use crate::StoreError;
use crate::engine::{Connection, DbError, Row, params};
use crate::postings;
use crate::writer::{Fault, Tx};

/// How much of a text goes into an indexed column: PostgreSQL takes no index entry over 2,704 bytes, and a name that was
/// tried at a sign-in may be of any length. The record itself keeps all of it.
const INDEXED: usize = 256;

/// How many records a lane can have: at 2,000 in a second, a year's. Then another is begun.
const LANE_BITS: u32 = 36;
const FULL: u64 = (1 << LANE_BITS) - 256;

/// How many lanes may be unsettled: those of running instances, and of some that stopped or died since the last start.
pub(crate) const UNSETTLED: i64 = 10_000;

/// The action of a record that closes a lane where no other record does.
const CLOSED: &str = "lane-closed";

/// A record's number in the database: its lane's, and its place in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowNumber {
    pub(crate) lane: u64,
    pub(crate) seq: u64,
}

impl RowNumber {
    pub(crate) fn new(lane: u64, seq: u64) -> Self {
        Self { lane, seq }
    }

    /// As a column has it.
    pub(crate) fn to_column(self) -> i64 {
        number(self.lane << LANE_BITS | self.seq)
    }

    pub(crate) fn from_column(column: i64) -> Self {
        let column = column.max(0).unsigned_abs();
        Self { lane: column >> LANE_BITS, seq: column & ((1 << LANE_BITS) - 1) }
    }

    /// The number behind the last that the lane can have.
    pub(crate) fn end_of(lane: u64) -> i64 {
        number((lane + 1) << LANE_BITS)
    }
}

/// A lane as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaneRow {
    pub(crate) n: u64,
    pub(crate) head: LaneHead,
    pub(crate) filed: u64,
    pub(crate) is_open: bool,
}

pub(crate) const LANE_COLUMNS: &str = "n, name, seq, hash, filed, is_open";

impl LaneRow {
    /// From [`LANE_COLUMNS`].
    pub(crate) fn read(mut row: Row) -> Result<Self, DbError> {
        let head = LaneHead { lane: lane_id(&row.text(1)?)?, seq: row.seq(2)?, hash: row.hash(3)? };
        Ok(Self { n: row.seq(0)?, head, filed: row.seq(4)?, is_open: row.bool(5)? })
    }

    /// All that a checkpoint has to name: see [`iam_sorry_core::audit::Checkpoint`]. One statement, so one moment.
    pub(crate) fn unsettled(connection: &mut dyn Connection) -> Result<Vec<Self>, DbError> {
        let sql = format!("SELECT {LANE_COLUMNS} FROM lanes WHERE settled = 0 ORDER BY n LIMIT ?1");
        connection.query(&sql, params![UNSETTLED])?.into_iter().map(Self::read).collect()
    }
}

/// When a writer's lane is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// When the instance stops.
    AtTheEnd,
    /// With each transaction: a command writes a few records, and nobody would notice that it died.
    EachTransaction,
}

/// What a writer knows of the trail, and its own lane.
#[derive(Debug)]
pub(crate) struct OwnTrail {
    pub(crate) chain: ChainId,
    closing: Closing,
    lane: Option<OwnLane>,
}

#[derive(Debug)]
struct OwnLane {
    n: u64,
    writer: LaneWriter,
    filed: u64,
    /// Of its last record, for the one that closes it.
    time_ms: i64,
}

/// What [`OwnTrail::back_to`] goes back to.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    closing: Closing,
    lane: Option<(u64, LaneHead, u64, i64)>,
}

impl OwnTrail {
    /// Before the first record.
    pub(crate) fn new(chain: ChainId, closing: Closing) -> Self {
        Self { chain, closing, lane: None }
    }

    /// With a lane, for tests.
    #[cfg(test)]
    pub(crate) fn of_lane(chain: ChainId, head: LaneHead) -> (Self, LaneId) {
        let mut writer = LaneWriter::new(chain, head.lane);
        writer.back_to(head);
        let lane = Some(OwnLane { n: 1, writer, filed: 0, time_ms: 0 });
        (Self { chain, closing: Closing::AtTheEnd, lane }, head.lane)
    }

    /// The lane, and the state that is known of it.
    pub(crate) fn lane(&self) -> Option<(u64, LaneHead)> {
        self.lane.as_ref().map(|lane| (lane.n, lane.writer.head()))
    }

    pub(crate) fn mark(&self) -> Mark {
        let lane = self.lane.as_ref();
        let lane = lane.map(|lane| (lane.n, lane.writer.head(), lane.filed, lane.time_ms));
        Mark { closing: self.closing, lane }
    }

    /// What was written since is rolled back.
    pub(crate) fn back_to(&mut self, mark: &Mark) {
        self.closing = mark.closing;
        self.lane = mark.lane.map(|(n, head, filed, time_ms)| {
            let mut writer = match self.lane.take().filter(|lane| lane.n == n) {
                Some(lane) => lane.writer,
                // Closed since. Lists of groups that stand in it are written out once more.
                None => LaneWriter::new(self.chain, head.lane),
            };
            writer.back_to(head);
            OwnLane { n, writer, filed, time_ms }
        });
    }

    /// Reads the trail's name and this instance's lane, whose row stays locked until the transaction ends.
    pub(crate) fn lock(&self, connection: &mut dyn Connection) -> Result<Locked, DbError> {
        let row = match &self.lane {
            None => connection.query("SELECT chain FROM trail WHERE one = 1", &[])?,
            Some(lane) => connection.query(
                "SELECT (SELECT chain FROM trail WHERE one = 1), seq, hash, filed, is_open FROM lanes WHERE n = ?1 @LOCK",
                params![number(lane.n)],
            )?,
        };
        let Some(mut row) = row.into_iter().next() else { return Ok(Locked::Gone) };
        let chain = chain_id(&row.text(0)?)?;
        let Some(lane) = &self.lane else { return Ok(Locked::Trail(chain)) };
        let head = LaneHead { lane: lane.writer.head().lane, seq: row.seq(1)?, hash: row.hash(2)? };
        Ok(Locked::Lane { chain, head, filed: row.seq(3)?, is_open: row.bool(4)? })
    }

    /// Takes over what is in the database: a commit whose answer was lost may have happened.
    pub(crate) fn go_on_from(&mut self, locked: Locked) {
        let Locked::Lane { head, filed, is_open, .. } = locked else { return };
        match &mut self.lane {
            // Somebody has said that this instance is dead. What it writes from here on is in another lane.
            lane if !is_open => *lane = None,
            Some(lane) => {
                lane.writer.back_to(head);
                lane.filed = filed;
            }
            None => {}
        }
    }

    /// Writes the state of the lane, and closes it where that is due.
    pub(crate) fn write(&mut self, connection: &mut dyn Connection, instance: &str) -> Result<(), Fault> {
        let Some(lane) = &self.lane else { return Ok(()) };
        if self.closing == Closing::EachTransaction {
            let (time_ms, instance) = (lane.time_ms, instance.to_owned());
            let event = Event { time_ms, instance, action: CLOSED.to_owned(), ..Event::default() };
            let mut tx = Tx { connection, trail: self, instance: "" };
            tx.append_with(&event, &Links { closes: true, ..Links::default() })?;
            return Ok(());
        }
        let Some(lane) = &mut self.lane else { return Ok(()) };
        let head = lane.writer.head();
        let filed = postings::file(connection, lane.n, lane.filed, postings::full_blocks(head.seq))?;
        lane.filed = filed;
        connection.deferred(
            "UPDATE lanes SET seq = ?2, hash = ?3, filed = ?4 WHERE n = ?1",
            params![number(lane.n), number(head.seq), &head.hash, number(filed)],
        )?;
        Ok(())
    }
}

/// What [`OwnTrail::lock`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Locked {
    /// The lane is not there, or there is no trail.
    Gone,
    /// The trail; this instance has no lane yet.
    Trail(ChainId),
    /// Both.
    Lane { chain: ChainId, head: LaneHead, filed: u64, is_open: bool },
}

/// Writes the first state of a new trail, as schema 1 has it.
pub(crate) fn create_trail(connection: &mut dyn Connection) -> Result<(), DbError> {
    let row = connection.query("SELECT @RANDOM", &[])?.into_iter().next();
    let mut row = row.ok_or_else(|| DbError::Other("the database gave no random number".into()))?;
    let chain = chain_id(&row.text(0)?)?;
    connection.execute(
        "INSERT INTO audit_head (one, chain, seq, hash) VALUES (1, ?1, 0, ?2)",
        params![&chain.to_string(), &chain.genesis(LaneId::ZERO)],
    )?;
    Ok(())
}

/// The trail's name.
pub(crate) fn read_chain(connection: &mut dyn Connection) -> Result<ChainId, DbError> {
    let row = connection.query("SELECT chain FROM trail WHERE one = 1", &[])?.into_iter().next();
    chain_id(&row.ok_or_else(|| DbError::Other("the audit trail has no name".into()))?.text(0)?)
}

/// Compares the state of each lane that has not settled with its last record, by the record's own bytes. Reads two rows for
/// each, whatever the trail's length, in one statement: between two, another instance may write.
pub(crate) fn check_ends(connection: &mut dyn Connection) -> Result<ChainId, StoreError> {
    let chain = read_chain(connection)?;
    for (lane, last) in ends(connection, chain)? {
        if lane.head != last {
            return Err(StoreError::Corrupt(format!(
                "the audit trail ends at record {}, but its head says {}.\n\
                 Nothing is done on a trail that was cut or changed. Verify an export: iam-sorryd audit verify FILE",
                last.record(),
                lane.head.record()
            )));
        }
    }
    let sql = "SELECT coalesce(max(seq), 0), (SELECT coalesce(max(n), 0) FROM lanes) FROM audit";
    let row = connection.query(sql, &[])?.into_iter().next();
    let row = row.ok_or_else(|| DbError::Other("no answer to a maximum".into()))?;
    let (last, lanes) = (RowNumber::from_column(row.int(0)?).lane, row.seq(1)?);
    if last > lanes {
        return Err(StoreError::Corrupt("records of the audit trail are in a lane that is not there".into()));
    }
    Ok(chain)
}

/// Each lane that has not settled, and the state that fits its last record, whatever its row says. The record must be whole.
fn ends(connection: &mut dyn Connection, chain: ChainId) -> Result<Vec<(LaneRow, LaneHead)>, StoreError> {
    let sql = format!(
        "SELECT l.n, l.name, l.seq, l.hash, l.filed, l.is_open, a.seq, a.hash, a.line FROM lanes l LEFT JOIN audit a
             ON a.seq = (SELECT max(b.seq) FROM audit b WHERE b.seq > l.n * {size} AND b.seq < (l.n + 1) * {size})
         WHERE l.settled = 0 ORDER BY l.n LIMIT ?1",
        size = 1_u64 << LANE_BITS
    );
    let mut all = Vec::new();
    for mut row in connection.query(&sql, params![UNSETTLED])? {
        let last = Row(row.0.split_off(6));
        let lane = LaneRow::read(row)?;
        let id = lane.head.lane;
        let head = match last.optional_int(0)? {
            None => LaneHead { lane: id, seq: 0, hash: chain.genesis(id) },
            Some(column) => {
                let seq = RowNumber::from_column(column).seq;
                let stored = record(last, id)?;
                let parsed = Record::parse(&stored.line).map_err(|error| {
                    StoreError::Corrupt(format!("audit record {}: {error}", id.record(seq)))
                })?;
                if parsed != stored || parsed.seq != seq {
                    return Err(StoreError::Corrupt(format!("audit record {} was changed", id.record(seq))));
                }
                parsed.head()
            }
        };
        all.push((lane, head));
    }
    Ok(all)
}

impl Tx<'_> {
    /// Puts an event behind the last record of this instance's lane; gives its place.
    pub(crate) fn append(&mut self, event: &Event) -> Result<Appended, Fault> {
        self.append_with(event, &Links::default())
    }

    /// The same for the last record of an instance that stops. What it still writes gets lanes of its own.
    pub(crate) fn append_last(&mut self, event: &Event) -> Result<Appended, Fault> {
        let appended = self.append_with(event, &Links { closes: true, ..Links::default() })?;
        self.trail.closing = Closing::EachTransaction;
        Ok(appended)
    }

    /// The same for a record that says that instances died whose lanes these were.
    pub(crate) fn append_ending(&mut self, event: &Event, lanes: &[u64]) -> Result<Appended, Fault> {
        self.lock_trail()?;
        let mut ends = LaneHeads::default();
        for n in lanes {
            // Waits for whoever writes to it at the moment; from here on nobody does.
            let sql = "UPDATE lanes SET is_open = 0, settled = 1 WHERE n = ?1 AND is_open = 1";
            if self.execute(sql, params![number(*n)])? == 0 {
                continue;
            }
            let sql = format!("SELECT {LANE_COLUMNS} FROM lanes WHERE n = ?1");
            let Some(row) = self.first(&sql, params![number(*n)])? else { continue };
            let lane = LaneRow::read(row)?;
            self.file_rest(&lane)?;
            ends.insert(lane.head);
        }
        self.append_with(event, &Links { ends, ..Links::default() })
    }

    fn append_with(&mut self, event: &Event, links: &Links) -> Result<Appended, Fault> {
        let opening = self.begin_lane(event)?;
        let links = match opening {
            None => links.clone(),
            Some((heads, legacy)) => {
                let mut links = Links { heads: Some(heads), ..links.clone() };
                legacy.into_iter().for_each(|head| links.ends.insert(head));
                links
            }
        };
        let Some(lane) = &mut self.trail.lane else {
            return Err(DbError::Other("a record without a lane".into()).into());
        };
        let (record, n) = (lane.writer.seal(event, &links), lane.n);
        lane.time_ms = event.time_ms;
        let groups = lane.writer.introduced(&event.person.groups);
        let row = RowNumber::new(n, record.seq);
        let phase = match event.phase {
            Phase::Intent => 0,
            Phase::Outcome => 1,
            Phase::Event => 2,
        };
        self.deferred(
            "INSERT INTO audit (seq, hash, time_ms, phase, person, name, action, resource, line)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                row.to_column(),
                &record.hash,
                event.time_ms,
                phase,
                indexed(&event.person.id),
                indexed(&event.person.name),
                indexed(&event.action),
                indexed(&event.resource),
                &record.line,
            ],
        )?;
        if let Some(digest) = groups {
            // There already where the commit that wrote it first had lost its answer.
            self.deferred(
                "INSERT INTO audit_groups (lane, digest, seq) VALUES (?1, ?2, ?3) ON CONFLICT (lane, digest) DO NOTHING",
                params![number(n), &digest, row.to_column()],
            )?;
        }
        if links.closes || record.seq >= FULL {
            self.close_lane(links.closes, event)?;
        }
        Ok(Appended { id: record.id(), row: row.to_column() })
    }

    /// Begins a lane where there is none; gives what its first record says of others: their states, and the end of what
    /// version 1 wrote.
    fn begin_lane(&mut self, event: &Event) -> Result<Option<(LaneHeads, Option<LaneHead>)>, Fault> {
        if self.trail.lane.is_some() {
            return Ok(None);
        }
        self.lock_trail()?;
        let mut heads = LaneHeads::default();
        let mut legacy = None;
        if self.adopt_lane(event)? {
            return Ok(None);
        }
        for lane in LaneRow::unsettled(self.connection)? {
            if lane.head.lane == LaneId::ZERO {
                self.file_rest(&lane)?;
                legacy = Some(lane.head);
            } else {
                heads.insert(lane.head);
            }
            if lane.head.lane == LaneId::ZERO || !lane.is_open {
                let sql = "UPDATE lanes SET is_open = 0, settled = 1 WHERE n = ?1";
                self.deferred(sql, params![number(lane.n)])?;
            }
        }
        // A lane whose row somebody took away still has its records.
        let sql = "SELECT coalesce(max(n), 0), (SELECT coalesce(max(seq), 0) FROM audit) FROM lanes";
        let row = self.first(sql, &[])?.ok_or_else(|| DbError::Other("no answer to a maximum".into()))?;
        let n = row.seq(0)?.max(RowNumber::from_column(row.int(1)?).lane) + 1;
        let id = self.name_lane(n, event, &heads)?;
        let writer = LaneWriter::new(self.trail.chain, id);
        let (head, instance) = (writer.head(), self.instance);
        self.deferred(
            "INSERT INTO lanes (n, name, instance, seq, hash, filed, is_open, settled)
             VALUES (?1, ?2, ?3, 0, ?4, 0, 1, 0)",
            params![number(n), &id.to_string(), instance, &head.hash],
        )?;
        self.trail.lane = Some(OwnLane { n, writer, filed: 0, time_ms: event.time_ms });
        Ok(Some((heads, legacy)))
    }

    /// Goes on with the lane that a transaction of this instance began whose answer was lost.
    fn adopt_lane(&mut self, event: &Event) -> Result<bool, Fault> {
        if self.trail.closing == Closing::EachTransaction {
            return Ok(false); // each is closed with the transaction that began it
        }
        let sql = format!("SELECT {LANE_COLUMNS} FROM lanes WHERE is_open = 1 AND instance = ?1 @LOCK");
        let instance = self.instance;
        let Some(row) = self.first(&sql, params![instance])? else { return Ok(false) };
        let lane = LaneRow::read(row)?;
        let mut writer = LaneWriter::new(self.trail.chain, lane.head.lane);
        writer.back_to(lane.head);
        self.trail.lane = Some(OwnLane { n: lane.n, writer, filed: lane.filed, time_ms: event.time_ms });
        Ok(true)
    }

    /// A name that no other lane has: it follows from everything that was written before, and from what is written now. So it
    /// also differs from that of a lane that a database had which was restored since.
    fn name_lane(&mut self, n: u64, event: &Event, heads: &LaneHeads) -> Result<LaneId, DbError> {
        let (chain, number, heads) = (self.trail.chain.to_string(), n.to_string(), heads.to_string());
        let time = event.time_ms.to_string();
        let parts = [&chain, &number, self.instance, &event.request_id, &event.action, &time, &heads];
        let digest = sha256_hex(&parts.map(str::as_bytes));
        lane_id(&digest[..16])
    }

    /// Ends this instance's lane with the record that was just put into it.
    fn close_lane(&mut self, closes: bool, event: &Event) -> Result<(), Fault> {
        let Some(lane) = self.trail.lane.take() else { return Ok(()) };
        if !closes {
            // Full: the record that says so is its last.
            let event = Event {
                action: CLOSED.to_owned(),
                time_ms: event.time_ms,
                instance: event.instance.clone(),
                ..Event::default()
            };
            self.trail.lane = Some(lane);
            self.append_with(&event, &Links { closes: true, ..Links::default() })?;
            return Ok(());
        }
        let head = lane.writer.head();
        self.file_rest(&LaneRow { n: lane.n, head, filed: lane.filed, is_open: true })?;
        self.deferred(
            "UPDATE lanes SET seq = ?2, hash = ?3, is_open = 0 WHERE n = ?1",
            params![number(lane.n), number(head.seq), &head.hash],
        )?;
        Ok(())
    }

    /// Files all records of a lane that is ended: nothing fills its last block any more.
    fn file_rest(&mut self, lane: &LaneRow) -> Result<(), DbError> {
        let filed = postings::file(self.connection, lane.n, lane.filed, lane.head.seq)?;
        self.deferred("UPDATE lanes SET filed = ?2 WHERE n = ?1", params![number(lane.n), number(filed)])
    }

    /// Nobody else begins or ends a lane until the transaction ends.
    fn lock_trail(&mut self) -> Result<(), DbError> {
        self.connection.query("SELECT chain FROM trail WHERE one = 1 @LOCK", &[]).map(drop)
    }

    /// Goes on from the last records that are there, whatever the rows of their lanes say: an operator has decided so. All
    /// lanes end there; `event` says why.
    pub(crate) fn continue_from_last_records(&mut self, event: &Event) -> Result<Appended, Fault> {
        self.trail.lane = None;
        let mut open = Vec::new();
        for (lane, last) in ends(self.connection, self.trail.chain)? {
            if last.seq == 0 {
                self.deferred("DELETE FROM lanes WHERE n = ?1", params![number(lane.n)])?;
                continue;
            }
            if lane.is_open && lane.head.lane != LaneId::ZERO {
                open.push(lane.n);
            }
            self.deferred(
                "UPDATE lanes SET seq = ?2, hash = ?3, filed = CASE WHEN filed > ?2 THEN ?2 ELSE filed END WHERE n = ?1",
                params![number(lane.n), number(last.seq), &last.hash],
            )?;
        }
        self.append_ending(event, &open)
    }
}

/// Where a record was put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) id: RecordId,
    /// Its number in the database.
    pub(crate) row: i64,
}

/// A record as it is stored (`seq, hash, line`), also a damaged one: that is for `verify` to find, and an export shows it.
pub(crate) fn record(mut row: Row, lane: LaneId) -> Result<Record, DbError> {
    let (number, hash, line) = (RowNumber::from_column(row.int(0)?), row.hash(1)?, row.text(2)?);
    let previous = previous(&line).unwrap_or_default();
    Ok(Record { lane, seq: number.seq, previous, hash, line })
}

/// The hash of the record before, out of a canonical line without reading all of it: an export of a million records takes
/// seconds. The last such key is the record's own: those of other objects come before it in the alphabet, and in no text is
/// a quotation mark without a backslash.
fn previous(line: &str) -> Option<Hash> {
    const KEY: &str = ",\"previous\":\"";
    let hex = line.get(line.rfind(KEY)? + KEY.len()..)?.get(..64)?;
    let mut hash = Hash::default();
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// The part of a text that its indexed column holds.
pub(crate) fn indexed(text: &str) -> &str {
    &text[..text.floor_char_boundary(INDEXED)]
}

/// A number as a column holds it; both engines count to 2^63.
pub(crate) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(crate) fn lane_id(text: &str) -> Result<LaneId, DbError> {
    LaneId::parse(text).ok_or_else(|| DbError::Other("a lane's name is none".into()))
}

fn chain_id(text: &str) -> Result<ChainId, DbError> {
    ChainId::parse(text).ok_or_else(|| DbError::Other("the audit trail's id is none".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_before_is_found_whatever_the_record_says() {
        let line = |detail: &str| {
            format!(
                "{{\"details\":{{{detail}}},\"phase\":\"event\",\"previous\":\"{}\",\"seq\":1}}",
                "0a".repeat(32)
            )
        };
        let fake = format!("\"a\":\"b\",\"previous\":\"{}\"", "ff".repeat(32));
        for detail in ["", &fake, "\"x\":\"\\\",\\\"previous\\\":\\\"\""] {
            assert_eq!(previous(&line(detail)), Some([10; 32]), "{detail}");
        }
        for damaged in [
            "",
            "{}",
            ",\"previous\":\"",
            ",\"previous\":\"0g",
            &format!(",\"previous\":\"{}", "é".repeat(32)),
        ] {
            assert_eq!(previous(damaged), None);
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(indexed("alice"), "alice");
        let long = "ä".repeat(1000);
        assert_eq!(indexed(&long).len(), 256);
        assert_eq!(indexed(&format!("x{long}")).len(), 255);
    }

    #[test]
    fn a_number_has_room_for_every_lane_and_record() {
        for (lane, seq) in [(0, 41), (1, 1), (7, FULL + 1), ((1 << 27) - 1, 5)] {
            let number = RowNumber::new(lane, seq);
            assert_eq!(RowNumber::from_column(number.to_column()), number);
            assert!(number.to_column() < RowNumber::end_of(lane));
        }
        assert_eq!(RowNumber::new(0, 41).to_column(), 41, "what version 1 wrote keeps its numbers");
    }
}
