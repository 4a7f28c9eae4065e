//! The audit chain inside the writing transaction: its head, and records put behind it.

use iam_sorry_core::audit::{ChainId, Event, Hash, Phase, Record};

use crate::StoreError;
use crate::engine::{Connection, DbError, Row, params};
use crate::postings;
use crate::writer::{Fault, Tx};

/// How much of a text goes into an indexed column: PostgreSQL takes no index entry over 2,704 bytes, and a name that was
/// tried at a sign-in may be of any length. The record itself keeps all of it.
const INDEXED: usize = 256;

/// The end of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) chain: ChainId,
    /// The last record; 0 where there is none.
    pub(crate) seq: u64,
    /// Its hash; the chain's genesis where there is none.
    pub(crate) hash: Hash,
}

const READ: &str = "SELECT chain, seq, hash FROM audit_head WHERE one = 1";

impl Head {
    /// Reads it, and on PostgreSQL keeps every other writer out until the transaction ends.
    pub(crate) fn lock(connection: &mut dyn Connection) -> Result<Self, DbError> {
        let rows = connection.query(&format!("{READ} @LOCK"), &[])?;
        Self::from_rows(rows)
    }

    pub(crate) fn read(connection: &mut dyn Connection) -> Result<Self, DbError> {
        let rows = connection.query(READ, &[])?;
        Self::from_rows(rows)
    }

    /// Writes it, and files the records since `before` where they fill a block.
    pub(crate) fn write(&self, connection: &mut dyn Connection, before: u64) -> Result<(), DbError> {
        connection.deferred(
            "UPDATE audit_head SET seq = ?1, hash = ?2 WHERE one = 1",
            params![number(self.seq), &self.hash],
        )?;
        postings::file(connection, before, self.seq)
    }

    /// Writes the first head of a new chain.
    pub(crate) fn create(connection: &mut dyn Connection) -> Result<(), DbError> {
        let mut row = connection
            .query("SELECT @RANDOM", &[])?
            .into_iter()
            .next()
            .ok_or_else(|| DbError::Other("the database gave no random number".into()))?;
        let chain = chain_id(&row.text(0)?)?;
        connection.execute(
            "INSERT INTO audit_head (one, chain, seq, hash) VALUES (1, ?1, 0, ?2)",
            params![&chain.to_string(), &chain.genesis()],
        )?;
        Ok(())
    }

    fn from_rows(rows: Vec<Row>) -> Result<Self, DbError> {
        let mut row =
            rows.into_iter().next().ok_or_else(|| DbError::Other("the audit trail has no head".into()))?;
        let chain = chain_id(&row.text(0)?)?;
        Ok(Self { chain, seq: row.seq(1)?, hash: row.hash(2)? })
    }

    /// The head that fits the last record, whatever the head's own row says. The record must be whole.
    pub(crate) fn of_last_record(connection: &mut dyn Connection) -> Result<Self, StoreError> {
        let (_, head) = Self::ends(connection)?;
        Ok(head)
    }

    /// Compares the head with the last record, by the record's own bytes. Reads two rows, whatever the trail's length, in
    /// one statement: between two, another instance may write.
    pub(crate) fn check(connection: &mut dyn Connection) -> Result<Self, StoreError> {
        let (head, last) = Self::ends(connection)?;
        if head != last {
            return Err(StoreError::Corrupt(format!(
                "the audit trail ends at record {}, but its head says {}.\n\
                 Nothing is done on a trail that was cut or changed. Verify an export: iam-sorryd audit verify FILE",
                last.seq, head.seq
            )));
        }
        Ok(head)
    }

    /// The head's row, and what it should be by the last record.
    fn ends(connection: &mut dyn Connection) -> Result<(Self, Self), StoreError> {
        let sql = "SELECT a.seq, a.hash, a.line, h.chain, h.seq, h.hash FROM audit_head h \
                   LEFT JOIN audit a ON a.seq = (SELECT MAX(seq) FROM audit)";
        let row = connection.query(sql, &[])?.into_iter().next();
        let mut row = row.ok_or_else(|| StoreError::Corrupt("the audit trail has no head".into()))?;
        let chain = chain_id(&row.text(3)?)?;
        let head = Self { chain, seq: row.seq(4)?, hash: row.hash(5)? };
        let (seq, hash) = match row.optional_int(0)? {
            None => (0, head.chain.genesis()),
            Some(_) => {
                let stored = row.seq(0)?;
                let record = record(row)?;
                let parsed = Record::parse(&record.line)
                    .map_err(|error| StoreError::Corrupt(format!("audit record {stored}: {error}")))?;
                if parsed.seq != stored || parsed.hash != record.hash {
                    return Err(StoreError::Corrupt(format!("audit record {stored} was changed")));
                }
                (parsed.seq, parsed.hash)
            }
        };
        let last = Self { chain: head.chain, seq, hash };
        Ok((head, last))
    }
}

impl Tx<'_> {
    /// Puts an event behind the head; gives its place.
    pub(crate) fn append(&mut self, event: &Event) -> Result<u64, Fault> {
        let record = Record::seal(self.head.seq + 1, self.head.hash, event);
        let phase = match event.phase {
            Phase::Intent => 0,
            Phase::Outcome => 1,
            Phase::Event => 2,
        };
        self.deferred(
            "INSERT INTO audit (seq, hash, time_ms, phase, person, name, action, resource, line)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                number(record.seq),
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
        self.head.seq = record.seq;
        self.head.hash = record.hash;
        Ok(record.seq)
    }
}

/// A record as it is stored (`seq, hash, line`), also a damaged one: that is for `verify` to find, and an export shows it.
pub(crate) fn record(mut row: Row) -> Result<Record, DbError> {
    let (seq, hash, line) = (row.seq(0)?, row.hash(1)?, row.text(2)?);
    let previous = previous(&line).unwrap_or_default();
    Ok(Record { seq, previous, hash, line })
}

/// The hash of the record before, out of a canonical line without reading all of it: an export of a million records takes
/// seconds. The last such key is the record's own; one inside `details` comes before it in the alphabet.
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

/// A sequence number as a column holds it; both engines count to 2^63.
pub(crate) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
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
        let odd = format!("a{long}");
        assert_eq!(indexed(&odd).len(), 255);
    }
}
