//! A trail of several lanes, as instances of a service make it: they start, write, stop, die, are taken over, and one of
//! them signs.

use std::collections::BTreeMap;

use iam_sorry_core::audit::{
    Checkpoint, Event, ExportHeader, LaneHead, LaneHeads, LaneId, LaneWriter, Links, Record,
};

use crate::support::{chain, event, seal_v1, signer};

/// One that grows, and its export.
pub struct Trail {
    /// The export's lines, in the order in which they were written.
    pub lines: Vec<String>,
    lanes: BTreeMap<LaneId, Writer>,
    last: Option<Checkpoint>,
    opened: u8,
    records: u64,
}

struct Writer {
    writer: LaneWriter,
    open: bool,
    /// Whether another lane names its end.
    settled: bool,
}

impl Trail {
    pub fn new() -> Self {
        let lines = vec![ExportHeader::new(chain()).line()];
        Self { lines, lanes: BTreeMap::new(), last: None, opened: 0, records: 0 }
    }

    /// One that version 1 began, with so many records.
    pub fn of_version_1(records: u64) -> Self {
        let mut trail = Self::new();
        trail.lines = vec![ExportHeader::new(chain()).line().replace("\"v\":2", "\"v\":1")];
        let mut head = LaneHead { lane: LaneId::ZERO, seq: 0, hash: chain().genesis(LaneId::ZERO) };
        for _ in 0..records {
            trail.records += 1;
            let record = seal_v1(head.seq + 1, head.hash, &event(trail.records));
            head = record.head();
            trail.lines.push(record.export_line());
        }
        let mut writer = LaneWriter::new(chain(), LaneId::ZERO);
        writer.back_to(head);
        trail.lanes.insert(LaneId::ZERO, Writer { writer, open: false, settled: false });
        trail
    }

    /// Starts an instance; gives its lane. The lane of version 1 ends with the first.
    pub fn open(&mut self) -> LaneId {
        self.opened += 1;
        // Not in the order of their names.
        let lane = LaneId::from_bytes([self.opened.wrapping_mul(97), 1, 2, 3, 4, 5, 6, self.opened]);
        let mut links = Links { heads: Some(LaneHeads::default()), ..Links::default() };
        for (id, one) in self.lanes.iter_mut().filter(|(_, one)| !one.settled) {
            one.settled = !one.open;
            match *id {
                LaneId::ZERO => links.ends.insert(one.writer.head()),
                _ => links.heads.get_or_insert_default().insert(one.writer.head()),
            }
        }
        let writer = LaneWriter::new(chain(), lane);
        self.lanes.insert(lane, Writer { writer, open: true, settled: false });
        self.seal(lane, None, &links);
        lane
    }

    pub fn write(&mut self, lane: LaneId) -> Record {
        self.seal(lane, None, &Links::default())
    }

    pub fn write_event(&mut self, lane: LaneId, event: &Event) -> Record {
        self.seal(lane, Some(event), &Links::default())
    }

    /// Stops the instance of a lane.
    pub fn close(&mut self, lane: LaneId) -> Record {
        self.lanes.get_mut(&lane).unwrap().open = false;
        self.seal(lane, None, &Links { closes: true, ..Links::default() })
    }

    /// An instance records that another one died.
    pub fn end(&mut self, by: LaneId, dead: LaneId) -> Record {
        let one = self.lanes.get_mut(&dead).unwrap();
        (one.open, one.settled) = (false, true);
        let ends = [one.writer.head()].into_iter().collect();
        self.seal(by, None, &Links { ends, ..Links::default() })
    }

    /// What a dead instance would write if nobody had fenced it.
    pub fn late(&mut self, dead: LaneId) -> Record {
        self.seal(dead, None, &Links::default())
    }

    pub fn sign(&mut self) -> Checkpoint {
        let heads = self.heads();
        self.sign_heads(heads)
    }

    pub fn sign_heads(&mut self, heads: LaneHeads) -> Checkpoint {
        let checkpoint = signer().sign(chain(), heads, 1, self.last.as_ref());
        self.lines.push(checkpoint.export_line());
        self.last = Some(checkpoint.clone());
        checkpoint
    }

    /// The states that a checkpoint signs now.
    pub fn heads(&self) -> LaneHeads {
        self.lanes.values().filter(|one| !one.settled).map(|one| one.writer.head()).collect()
    }

    pub fn open_lanes(&self) -> Vec<LaneId> {
        self.lanes.iter().filter(|(_, one)| one.open).map(|(id, _)| *id).collect()
    }

    fn seal(&mut self, lane: LaneId, event: Option<&Event>, links: &Links) -> Record {
        self.records += 1;
        let own = crate::support::event(self.records);
        let record = self.lanes.get_mut(&lane).unwrap().writer.seal(event.unwrap_or(&own), links);
        self.lines.push(record.export_line());
        record
    }
}

/// Where the line of a record is.
pub fn line_of(lines: &[String], record: &Record) -> usize {
    lines.iter().position(|line| *line == record.export_line()).unwrap()
}
