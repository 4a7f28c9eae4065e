//! Audit records on their way out of the host: to a file, to syslog, to a collector.
//!
//! Each sink has its own task and its own position in the store, so that one that hangs holds up neither the others nor
//! any request (vault#5361). A record is sent again where it is not certain that it arrived; its sequence number shows
//! that. One instance at a time feeds a sink (a lease). [`Watch`] compares the positions with the trail's end, on every
//! instance: where a required sink is too far behind, actions stop.

mod end;
mod file;
mod http;
mod settings;
mod syslog;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use iam_sorry_core::audit::{ChainId, Checkpoint, Event, Outcome, Person, Phase, Record};
use iam_sorry_store::{Store, StoreError};
use tokio::sync::watch as signal;
use tokio::time::Instant;

pub use end::{FileEnd, file_end, set_aside, was_written};
pub use settings::{FileSettings, HttpSinkSettings, SinkSettings, SyslogSettings};
pub use watch::{SinkState, Watch};

/// Records that are sent at once.
const BATCH: u32 = 500;
/// How often a sink that has everything looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A position is written down at least so often while there is much to send.
const SAVE_EVERY: Duration = Duration::from_secs(1);
const LEASE_TIME: Duration = Duration::from_secs(15);
/// What takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is sent at once: records in order, with the checkpoints that cover them, each after its record.
pub(crate) struct Batch {
    chain: ChainId,
    lines: Vec<Line>,
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
    #[error(transparent)]
    Store(#[from] StoreError),
}

enum Target {
    File(file::FileTarget),
    Syslog(syslog::SyslogTarget),
    Http(http::HttpTarget),
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
                .map(Self::Http)
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

    /// Looks whether what was delivered is still there.
    async fn inspect(&mut self, position: u64) -> Result<(), SinkError> {
        match self {
            Self::File(target) => target.inspect(position).await,
            Self::Syslog(_) | Self::Http(_) => Ok(()),
        }
    }
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
    let target = Target::new(settings)?;
    let feeder = Feeder {
        name: settings.name.clone(),
        store,
        target,
        watch,
        now_ms: Box::new(now_ms),
        at: None,
        leased: None,
        saved: Instant::now(),
    };
    Ok(tokio::spawn(feeder.run(stop)))
}

/// Where a sink stands: the last record, and the last record whose checkpoint it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    saved: Instant,
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
                    self.watch.fails(&self.name, &error.to_string());
                    self.take_back(&error).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
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
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => {}
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
            self.at = None;
            return Ok(false);
        }
        let at = match self.at {
            Some(at) => at,
            None => self.position().await?,
        };
        self.at = Some(at);
        self.target.inspect(at.record).await?;
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
        self.save_if_due(SAVE_EVERY).await?;
        Ok(full)
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
        let back_to = match error {
            SinkError::Lost { back } => at.record.saturating_sub(*back),
            SinkError::Tampered { what, begin_again_at } => {
                tracing::error!(sink = self.name, what, "an audit sink was tampered with");
                self.record_tampering(what).await;
                begin_again_at.saturating_sub(1)
            }
            _ => return,
        };
        let record = back_to.min(at.record);
        self.at = Some(Position { record, checkpoint: at.checkpoint.min(record) });
        let _ = self.save().await;
    }

    async fn record_tampering(&self, what: &str) {
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
            outcome: Some(Outcome::Failure),
            aws_request_ids: Vec::new(),
            details,
        };
        if let Err(error) = self.store.record(vec![event]).await {
            tracing::error!(%error, "that an audit sink was tampered with could not be recorded");
        }
    }

    async fn position(&self) -> Result<Position, SinkError> {
        let record = self.store.sink_position(&self.name).await?.unwrap_or(0);
        let checkpoint = self.store.sink_position(&self.checkpoints_name()).await?.unwrap_or(0);
        Ok(Position { record, checkpoint: checkpoint.min(record) })
    }

    async fn save_if_due(&mut self, every: Duration) -> Result<(), SinkError> {
        if self.saved.elapsed() < every {
            return Ok(());
        }
        Ok(self.save().await?)
    }

    async fn save(&mut self) -> Result<(), StoreError> {
        let Some(at) = self.at else { return Ok(()) };
        self.saved = Instant::now();
        if self.store.sink_position(&self.name).await? != Some(at.record) {
            self.store.set_sink_position(&self.name, at.record).await?;
        }
        if self.store.sink_position(&self.checkpoints_name()).await?.unwrap_or(0) != at.checkpoint {
            self.store.set_sink_position(&self.checkpoints_name(), at.checkpoint).await?;
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
