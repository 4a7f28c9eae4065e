//! What goes into a sink at once, why it was not taken, and what a sink's file says of itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use iam_sorry_core::audit::{ChainId, Checkpoint, LaneHeads, LaneId, Record, RecordId};
use iam_sorry_store::{SinkPosition, Store, StoreError};

/// What takes longer than this has failed.
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent at once: records in order, with the checkpoints that cover them, each after its record.
pub(crate) struct Batch {
    pub(super) chain: ChainId,
    /// What a file that begins with it goes on from; known where one begins.
    pub(super) begins: Option<LaneHeads>,
    pub(super) lines: Vec<Line>,
}

impl Batch {
    /// The lanes that it has records of, in the order of their names, and the first and the last of each.
    pub(super) fn records(&self) -> BTreeMap<LaneId, (u64, u64)> {
        let mut lanes = BTreeMap::new();
        for line in &self.lines {
            if let Line::Record(record) = line {
                let (_, last) = lanes.entry(record.lane).or_insert((record.seq, record.seq));
                *last = record.seq;
            }
        }
        lanes
    }
}

pub(crate) enum Line {
    Record(Record),
    Checkpoint(Checkpoint),
}

impl Line {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Record(record) => record.export_line(),
            Self::Checkpoint(checkpoint) => checkpoint.export_line(),
        }
    }
}

/// Why a sink did not take a batch. Never a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Net(#[from] iam_sorry_net::Error),
    #[error("no answer within {} s", DELIVERY_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{0}")]
    Refused(String),
    /// What was sent before is not certain to have arrived: go back so many records.
    #[error("the connection was lost")]
    Lost { back: u64 },
    /// What the sink had was taken away.
    #[error("{what}")]
    Tampered { what: String, again: Box<Again> },
    /// The sink has what the trail does not: an older database, or another one. Nothing is written over that.
    #[error("{0}")]
    Contradiction(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is written again where something was taken away.
#[derive(Debug)]
pub(crate) enum Again {
    /// All that came behind these states: a file began with them.
    From(LaneHeads),
    /// All that came behind the end of a file that is still there.
    Behind(FileState),
    /// All.
    Everything,
}

/// What a sink has beyond its position, as it says itself.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The last record of each lane that it has records of.
    pub(super) lanes: BTreeMap<LaneId, u64>,
    /// Its last record, and the file that has it: the sink's, or one that it was rotated to.
    pub(super) last: Option<FoundRecord>,
    /// Its last checkpoint.
    pub(super) checkpoint: u64,
    /// The trail that it names.
    pub(super) chain: Option<ChainId>,
    /// The beginning of a line that was not written to its end, and is cut off now.
    pub(super) torn: Vec<u8>,
    /// Lines near its end that are none of a trail.
    pub(super) foreign: u64,
    /// Whether it was read back to the record that its position ends with: all before it is known.
    pub(super) reached: bool,
}

#[derive(Debug)]
pub(crate) struct FoundRecord {
    pub(super) id: RecordId,
    pub(super) line: String,
    pub(super) path: PathBuf,
}

/// All that a file says of where it begins and ends.
#[derive(Clone, Debug, Default)]
pub struct FileState {
    /// What it goes on from.
    pub begins: LaneHeads,
    /// The last record in it of each lane that it has records of.
    pub lanes: BTreeMap<LaneId, u64>,
    /// Its last record.
    pub last: Option<RecordId>,
    /// Its last checkpoint.
    pub checkpoint: u64,
}

impl FileState {
    /// The position of a sink that has all up to this file's end. None: the trail does not have all of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn position(&self, store: &Store) -> Result<Option<SinkPosition>, StoreError> {
        let Some(begin) = store.position_of(&self.begins).await? else { return Ok(None) };
        let records = self.lanes.iter().map(|(lane, seq)| lane.record(*seq)).collect();
        let records = store.position_behind(&begin, records).await?;
        Ok(records.map(|records| SinkPosition { records, last: self.last, checkpoint: self.checkpoint }))
    }
}
