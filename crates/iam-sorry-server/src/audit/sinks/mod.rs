//! Audit records on their way out of the host: to a file, to syslog, to a collector.
//!
//! Each sink has its own task and its own position in the store, so that one that hangs holds up neither the others nor
//! any request (vault#5361). One instance at a time feeds a sink (a lease). [`Watch`] compares the positions with the trail's
//! end, on every instance: where a required sink is too far behind, actions stop.
//!
//! A file has each line exactly once, whatever is killed and when: after a start the file itself says where it ends, not the
//! position in the store, which is a moment behind it. A receiver has each line at least once: where an answer was lost
//! nobody knows whether it has the batch, so it comes again, line by line the same. Its position is saved after each batch, so
//! that a kill repeats one batch at most.

mod end;
mod file;
mod http;
mod settings;
mod syslog;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use iam_sorry_core::audit::{ChainId, Checkpoint, Event, Outcome, Person, Phase, Record, export_header};
use iam_sorry_store::{Store, StoreError};
use tokio::sync::watch as signal;
use tokio::time::Instant;

use crate::runtime;

pub use end::{FileEnd, file_end, rotated_ends, set_aside, was_written};
pub use settings::{FileSettings, HttpSinkSettings, SinkSettings, SyslogSettings};
pub use watch::{SinkState, Watch};

/// Records that are sent at once.
const BATCH: u32 = 500;
/// How often a sink that has everything looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The position of a file is written down at least so often while there is much to send; the file says it exactly.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long to wait after the database did not answer: it is back in a moment, or answers at once that it is not.
const STORE_PAUSE: Duration = Duration::from_secs(1);
const LEASE_TIME: Duration = Duration::from_secs(15);
/// What takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is sent at once: records in order, with the checkpoints that cover them, each after its record.
pub(crate) struct Batch {
    chain: ChainId,
    lines: Vec<Line>,
}

impl Batch {
    /// The first and the last record in it.
    fn records(&self) -> Option<(u64, u64)> {
        let mut seqs = self.lines.iter().filter_map(|line| match line {
            Line::Record(record) => Some(record.seq),
            Line::Checkpoint(_) => None,
        });
        let first = seqs.next()?;
        Some((first, seqs.next_back().unwrap_or(first)))
    }
}

enum Line {
    Record(Record),
    Checkpoint(Checkpoint),
}

impl Line {
    fn text(&self) -> String {
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
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error("{0}")]
    Refused(String),
    /// What was sent before is not certain to have arrived: go back so many records.
    #[error("the connection was lost")]
    Lost { back: u64 },
    /// What the sink had was taken away.
    #[error("{what}")]
    Tampered { what: String, begin_again_at: u64 },
    /// The sink has what the trail does not: an older database, or another one. Nothing is written over that.
    #[error("{0}")]
    Contradiction(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

enum Target {
    File(file::FileTarget),
    Syslog(syslog::SyslogTarget),
    Http(Box<http::HttpTarget>),
}

/// Reads what the sink's settings name on this machine: its token, its authorities. Sends nothing.
///
/// # Errors
/// A text with the way out.
pub fn check(settings: &SinkSettings) -> Result<(), String> {
    Target::new(settings).map(drop)
}

impl Target {
    fn new(settings: &SinkSettings) -> Result<Self, String> {
        match (&settings.file, &settings.syslog, &settings.http) {
            (Some(file), None, None) => Ok(Self::File(file::FileTarget::new(file))),
            (None, Some(syslog), None) => Ok(Self::Syslog(syslog::SyslogTarget::new(syslog))),
            (None, None, Some(http)) => http::HttpTarget::new(http)
                .map(|target| Self::Http(Box::new(target)))
                .map_err(|why| format!("The audit sink {}: {why}", settings.name)),
            _ => Err(format!("The audit sink {} is not one thing.", settings.name)),
        }
    }

    async fn deliver(&mut self, batch: Batch) -> Result<(), SinkError> {
        match self {
            Self::File(target) => target.deliver(batch).await,
            Self::Syslog(target) => target.deliver(batch).await,
            Self::Http(target) => target.deliver(batch).await,
        }
    }

    /// Looks whether what was delivered is still there; where the sink itself knows better, where it ends.
    async fn inspect(&mut self, at: Position, chain: ChainId) -> Result<Option<Found>, SinkError> {
        match self {
            Self::File(target) => target.inspect(at, chain).await,
            Self::Syslog(_) | Self::Http(_) => Ok(None),
        }
    }

    /// Another instance feeds the sink now.
    fn let_go(&mut self) {
        if let Self::File(target) = self {
            target.let_go();
        }
    }

    /// So that it is looked at anew before anything is added.
    fn close(&mut self) {
        if let Self::File(target) = self {
            target.close();
        }
    }

    /// How old a saved position may be.
    fn save_every(&self) -> Duration {
        match self {
            Self::File(_) => SAVE_EVERY,
            Self::Syslog(_) | Self::Http(_) => Duration::ZERO,
        }
    }
}

/// What a sink has, as it says itself.
#[derive(Debug, Default)]
struct Found {
    /// Its last record, and the last record whose checkpoint it has.
    at: Position,
    /// The line of its last record, and the file that has it: the sink's, or one that it was rotated to.
    last: Option<(String, PathBuf)>,
    /// The trail that it names.
    chain: Option<ChainId>,
    /// The beginning of a line that was not written to its end, and is cut off now.
    torn: Vec<u8>,
    /// Lines near its end that are none of a trail.
    foreign: u64,
    /// Whether it was read back to a record that the position in the store covers: no checkpoint before it is new.
    reached: bool,
}

/// How the position of a sink's checkpoints is called; a space keeps it apart from every sink's own name.
pub fn checkpoints_of(sink: &str) -> String {
    format!("{sink} checkpoints")
}

/// Starts a sink's task; it ends when `stop` says true and everything was sent, or could not be.
///
/// # Errors
/// A text: its token or CA file can't be read.
pub fn start(
    settings: &SinkSettings,
    store: Store,
    watch: Arc<Watch>,
    stop: signal::Receiver<bool>,
    now_ms: impl Fn() -> i64 + Send + Sync + 'static,
) -> Result<tokio::task::JoinHandle<()>, String> {
    let mut target = Target::new(settings)?;
    if let Target::File(file) = &mut target {
        file.beside(watch.files());
    }
    let feeder = Feeder {
        name: settings.name.clone(),
        store,
        target,
        watch,
        now_ms: Box::new(now_ms),
        at: None,
        leased: None,
        saved: None,
        saved_at: Instant::now(),
    };
    Ok(runtime::spawn(feeder.run(stop)))
}

/// Where a sink stands: the last record, and the last record whose checkpoint it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    record: u64,
    checkpoint: u64,
}

struct Feeder {
    name: String,
    store: Store,
    target: Target,
    watch: Arc<Watch>,
    now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    /// None until the lease is ours.
    at: Option<Position>,
    leased: Option<Instant>,
    /// What the store has, as far as this instance knows.
    saved: Option<Position>,
    saved_at: Instant,
}

impl Feeder {
    async fn run(mut self, mut stop: signal::Receiver<bool>) {
        let mut pause = LOOK_EVERY;
        loop {
            let outcome = self.step().await;
            let stopping = *stop.borrow();
            match outcome {
                Ok(true) => {
                    pause = LOOK_EVERY;
                    self.watch.works(&self.name);
                    continue; // there may be more
                }
                Ok(false) => {
                    pause = LOOK_EVERY;
                    self.watch.works(&self.name);
                }
                Err(error) => {
                    tracing::warn!(sink = self.name, %error, "an audit sink does not take records; trying again");
                    self.watch.fails(&self.name, &error);
                    self.take_back(&error).await;
                    pause = match error {
                        SinkError::Store(_) => STORE_PAUSE,
                        _ => (pause * 2).min(LONGEST_PAUSE),
                    };
                }
            }
            if stopping {
                if self.store.contradiction().is_some() {
                    return;
                }
                let _ = self.save().await;
                let _ = self.store.release(&self.lease()).await;
                return;
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends the next batch; whether there may be more at once. Where there is not, what comes up within the next moment goes
    /// together: one flush, one request.
    async fn step(&mut self) -> Result<bool, SinkError> {
        if self.store.contradiction().is_some() {
            return Ok(false); // nothing leaves a database that is not the one that it was
        }
        if !self.is_ours().await? {
            (self.at, self.saved) = (None, None);
            self.target.let_go();
            return Ok(false);
        }
        let mut at = match self.at {
            Some(at) => at,
            None => self.position().await?,
        };
        self.at = Some(at);
        if let Some(found) = self.target.inspect(at, self.store.chain_id()).await? {
            if let Err(error) = self.compare(&found).await {
                self.target.close();
                return Err(error);
            }
            at = found.at;
            self.at = Some(at);
        }
        let (batch, next) = self.batch(at).await?;
        if batch.lines.is_empty() {
            self.save_if_due(Duration::ZERO).await?;
            return Ok(false);
        }
        let full = next.record - at.record >= u64::from(BATCH);
        match tokio::time::timeout(PATIENCE, self.target.deliver(batch)).await {
            Ok(delivered) => delivered?,
            Err(_) => return Err(SinkError::TimedOut),
        }
        self.at = Some(next);
        self.save_if_due(self.target.save_every()).await?;
        Ok(full)
    }

    /// Holds what the sink has against the trail, before anything is added to it.
    async fn compare(&self, found: &Found) -> Result<(), SinkError> {
        let trail = self.store.chain_id();
        if let Some(chain) = found.chain.filter(|chain| *chain != trail) {
            return Err(SinkError::Contradiction(format!(
                "its file is of another trail ({chain}; this one is {trail})\nMove it away, or give the sink another path."
            )));
        }
        let seq = found.at.record;
        if let Some((line, path)) = &found.last {
            let ours =
                self.store.audit_range(seq, 1).await?.into_iter().next().filter(|record| record.seq == seq);
            let contradiction = match ours {
                None => "the trail in the database ends before it",
                Some(record) if record.export_line() != *line => "the trail in the database has another one",
                Some(_) => "",
            };
            if !contradiction.is_empty() {
                return Err(SinkError::Contradiction(format!(
                    "{} ends with record {seq}, and {contradiction}: the database is an older copy, or the file was \
                     changed\nCompare the two (iam-sorryd audit verify), then move the file away.",
                    path.display()
                )));
            }
        }
        if found.foreign > 0 {
            let lines = found.foreign;
            self.record_tampering(&format!(
                "{lines} lines near its end are none of the trail's; they stay there"
            ))
            .await;
        }
        if !found.torn.is_empty() && !self.is_begun(found).await? {
            self.record_tampering("half a line at its end was none of the trail's; it was cut off").await;
        }
        Ok(())
    }

    /// Whether what was cut off is the beginning of a line that comes next.
    async fn is_begun(&self, found: &Found) -> Result<bool, SinkError> {
        // A file system that had room for a line and not yet its content gives zeros after a power cut.
        let zeros = found.torn.iter().rev().take_while(|byte| **byte == 0).count();
        let torn = &found.torn[..found.torn.len() - zeros];
        let (batch, _) = self.batch(found.at).await?;
        let begins = |line: &str| line.as_bytes().starts_with(torn);
        Ok(begins(&export_header(batch.chain, false)) || batch.lines.iter().any(|line| begins(&line.text())))
    }

    /// Whether this instance feeds the sink; asked again long before the answer expires.
    async fn is_ours(&mut self) -> Result<bool, StoreError> {
        if self.leased.is_some_and(|leased| leased.elapsed() < LEASE_TIME / 3) {
            return Ok(true);
        }
        let asked = Instant::now();
        let ours = self.store.lease(&self.lease(), LEASE_TIME).await?;
        self.leased = ours.then_some(asked);
        Ok(ours)
    }

    /// The next records, each followed by its checkpoint; and checkpoints over records that were sent before them.
    async fn batch(&self, at: Position) -> Result<(Batch, Position), SinkError> {
        let records = self.store.audit_range(at.record + 1, BATCH).await?;
        let last = records.last().map_or(at.record, |record| record.seq);
        let checkpoints = self.store.checkpoints(at.checkpoint + 1, BATCH).await?;
        let mut checkpoints = checkpoints.into_iter().filter(|checkpoint| checkpoint.seq <= last).peekable();
        let mut next = Position { record: last, checkpoint: at.checkpoint };
        let mut lines = Vec::with_capacity(records.len() + 4);
        let mut due = |up_to: u64, lines: &mut Vec<Line>| {
            while let Some(checkpoint) = checkpoints.next_if(|checkpoint| checkpoint.seq <= up_to) {
                next.checkpoint = checkpoint.seq;
                lines.push(Line::Checkpoint(checkpoint));
            }
        };
        due(at.record, &mut lines);
        for record in records {
            let seq = record.seq;
            lines.push(Line::Record(record));
            due(seq, &mut lines);
        }
        Ok((Batch { chain: self.store.chain_id(), lines }, next))
    }

    /// After a failure: back to what is certain, and a record of what was done to the sink.
    async fn take_back(&mut self, error: &SinkError) {
        let Some(at) = self.at else { return };
        let (record, checkpoint) = match error {
            SinkError::Lost { back } => {
                let record = at.record.saturating_sub(*back);
                (record, record)
            }
            SinkError::Tampered { what, begin_again_at } => {
                self.record_tampering(what).await;
                let record = begin_again_at.saturating_sub(1);
                // A checkpoint may stand far behind its record: that of the one before may have been taken away as well.
                (record, record.saturating_sub(1))
            }
            _ => return,
        };
        let record = record.min(at.record);
        self.at = Some(Position { record, checkpoint: at.checkpoint.min(checkpoint) });
        let _ = self.save().await;
    }

    async fn record_tampering(&self, what: &str) {
        tracing::error!(sink = self.name, what, "an audit sink was tampered with");
        let mut details = std::collections::BTreeMap::new();
        details.insert("sink".to_owned(), self.name.clone());
        details.insert("finding".to_owned(), what.to_owned());
        let event = Event {
            time_ms: (self.now_ms)(),
            instance: self.store.instance().to_owned(),
            phase: Phase::Event,
            operation: None,
            person: Person { id: String::new(), name: String::new(), groups: Vec::new(), method: None },
            address: String::new(),
            request_id: String::new(),
            action: "audit-sink-tampered".to_owned(),
            resource: String::new(),
            decision: None,
            rules: Vec::new(),
            rules_digest: None,
            outcome: Some(Outcome::Failure),
            aws_request_ids: Vec::new(),
            details,
        };
        if let Err(error) = self.store.record(vec![event]).await {
            tracing::error!(%error, "that an audit sink was tampered with could not be recorded");
        }
    }

    async fn position(&mut self) -> Result<Position, SinkError> {
        let record = self.store.sink_position(&self.name).await?.unwrap_or(0);
        let checkpoint = self.store.sink_position(&self.checkpoints_name()).await?.unwrap_or(0);
        self.saved = Some(Position { record, checkpoint });
        Ok(Position { record, checkpoint: checkpoint.min(record) })
    }

    async fn save_if_due(&mut self, every: Duration) -> Result<(), SinkError> {
        if self.saved_at.elapsed() < every {
            return Ok(());
        }
        Ok(self.save().await?)
    }

    /// Both together, so that what the store says was once true.
    async fn save(&mut self) -> Result<(), StoreError> {
        let Some(at) = self.at else { return Ok(()) };
        self.saved_at = Instant::now();
        if self.saved != Some(at) {
            let positions = vec![(self.name.clone(), at.record), (self.checkpoints_name(), at.checkpoint)];
            self.store.set_sink_positions(positions).await?;
            self.saved = Some(at);
        }
        Ok(())
    }

    fn lease(&self) -> String {
        format!("sink {}", self.name)
    }

    fn checkpoints_name(&self) -> String {
        checkpoints_of(&self.name)
    }
}
