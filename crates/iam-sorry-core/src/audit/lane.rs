//! Names and places in the trail: its lanes, the records in them, and the state of a lane after a record.
//!
//! A trail consists of lanes, one for each run of an instance, and each lane is a hash chain of its own: no instance
//! waits for another one's chain. What a service of version 1 wrote, with one chain for all instances, is lane zero.

use std::collections::BTreeMap;
use std::fmt;

use super::canonical::{from_hex, hex};

/// Names one audit trail; drawn at random when the store is made, so that two services' trails can't be mixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub(super) [u8; 16]);

/// A SHA-256 hash in the chain.
pub type Hash = [u8; 32];

/// Names a lane of a trail; no other lane of that trail has the same name.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId([u8; 8]);

/// Names a record: its lane, and its place in it, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The lane.
    pub lane: LaneId,
    /// The place.
    pub seq: u64,
}

/// The state of a lane after a record: what a record that comes later, a checkpoint, or a note on paper says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneHead {
    /// The lane.
    pub lane: LaneId,
    /// The record.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// The states of several lanes at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneHeads(BTreeMap<LaneId, (u64, Hash)>);

impl ChainId {
    /// From 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the 32 hexadecimal digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainId({self})")
    }
}

impl LaneId {
    /// The lane of the records of version 1, which name none.
    pub const ZERO: Self = Self([0; 8]);

    /// From 8 bytes that no other lane of the trail has.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// Reads the 16 hexadecimal digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// A record of this lane.
    pub fn record(self, seq: u64) -> RecordId {
        RecordId { lane: self, seq }
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneId({self})")
    }
}

impl RecordId {
    /// Reads what `Display` writes: `LANE:SEQ`, and `SEQ` alone for lane zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (lane, seq) = match text.split_once(':') {
            Some((lane, seq)) => (LaneId::parse(lane)?, seq),
            None => (LaneId::ZERO, text),
        };
        // `parse` alone would take `+1`.
        let digits = seq.bytes().all(|byte| byte.is_ascii_digit());
        let seq = seq.parse().ok().filter(|seq| digits && *seq > 0)?;
        Some(Self { lane, seq })
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lane {
            LaneId::ZERO => write!(f, "{}", self.seq),
            lane => write!(f, "{lane}:{}", self.seq),
        }
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({self})")
    }
}

impl LaneHead {
    /// Reads `LANE:SEQ:HASH`, and `SEQ:HASH` for lane zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (record, hash) = text.trim().rsplit_once(':')?;
        let RecordId { lane, seq } = RecordId::parse(record)?;
        Some(Self { lane, seq, hash: from_hex(hash)? })
    }

    /// Which record it is the state after.
    pub fn record(&self) -> RecordId {
        self.lane.record(self.seq)
    }
}

impl fmt::Display for LaneHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.record(), hex(&self.hash))
    }
}

impl LaneHeads {
    /// The state of one lane, where it is among them.
    pub fn get(&self, lane: LaneId) -> Option<LaneHead> {
        self.0.get(&lane).map(|(seq, hash)| LaneHead { lane, seq: *seq, hash: *hash })
    }

    /// Puts a state in, in the place of an earlier one of the same lane.
    pub fn insert(&mut self, head: LaneHead) {
        self.0.insert(head.lane, (head.seq, head.hash));
    }

    /// Takes a lane out.
    pub fn remove(&mut self, lane: LaneId) {
        self.0.remove(&lane);
    }

    /// All of them, by the lanes' names.
    pub fn iter(&self) -> impl Iterator<Item = LaneHead> + '_ {
        self.0.iter().map(|(lane, (seq, hash))| LaneHead { lane: *lane, seq: *seq, hash: *hash })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a list of states, separated by commas, as `Display` writes it.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(LaneHead::parse).collect()
    }

    /// As records and checkpoints have it: the state `SEQ:HASH` by the lane's name.
    pub(super) fn to_pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.iter().map(|head| (head.lane.to_string(), format!("{}:{}", head.seq, hex(&head.hash))))
    }

    /// Reads [`LaneHeads::to_pairs`], and no other spelling. `least`: 0 where a lane may be named before its first record.
    pub(super) fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        least: u64,
    ) -> Option<Self> {
        let state = |(lane, state): (&str, &str)| {
            let lane = LaneId::parse(lane)?;
            let (seq, hash) = state.split_once(':')?;
            let one_spelling =
                seq == "0" || (!seq.starts_with('0') && seq.bytes().all(|byte| byte.is_ascii_digit()));
            let seq = seq.parse().ok().filter(|seq| one_spelling && *seq >= least)?;
            Some(LaneHead { lane, seq, hash: from_hex(hash)? })
        };
        pairs.into_iter().map(state).collect()
    }
}

impl FromIterator<LaneHead> for LaneHeads {
    fn from_iter<T: IntoIterator<Item = LaneHead>>(heads: T) -> Self {
        let mut all = Self::default();
        heads.into_iter().for_each(|head| all.insert(head));
        all
    }
}

impl fmt::Display for LaneHeads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, head) in self.iter().enumerate() {
            write!(f, "{}{head}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_states_have_one_spelling() {
        let lane = LaneId::from_bytes([0x3f, 0x2a, 0x9c, 1, 0x45, 0xd6, 0x7e, 0x88]);
        for (record, text) in [(LaneId::ZERO.record(41), "41"), (lane.record(7), "3f2a9c0145d67e88:7")] {
            assert_eq!(record.to_string(), text);
            assert_eq!(RecordId::parse(text), Some(record));
            let head = LaneHead { lane: record.lane, seq: record.seq, hash: [0xab; 32] };
            assert_eq!(LaneHead::parse(&head.to_string()), Some(head));
            let heads: LaneHeads =
                [head, LaneHead { lane: LaneId::from_bytes([9; 8]), ..head }].into_iter().collect();
            assert_eq!(LaneHeads::parse(&heads.to_string()), Some(heads.clone()));
            let pairs: Vec<_> = heads.to_pairs().collect();
            let pairs = pairs.iter().map(|(lane, state)| (lane.as_str(), state.as_str()));
            assert_eq!(LaneHeads::from_pairs(pairs, 1), Some(heads));
        }
        for text in ["", "0", "+1", ":1", "3f2a9c0145d67e8:1", "3F2A9C0145D67E88:1", "3f2a9c0145d67e88:"] {
            assert_eq!(RecordId::parse(text), None, "{text}");
            assert_eq!(LaneHead::parse(&format!("{text}:{}", "ab".repeat(32))), None, "{text}");
        }
        let hash = "ab".repeat(32);
        for state in [format!("01:{hash}"), format!("0:{hash}"), hash.clone(), format!("1:{hash}0")] {
            assert_eq!(LaneHeads::from_pairs([("3f2a9c0145d67e88", state.as_str())], 1), None, "{state}");
        }
    }
}
