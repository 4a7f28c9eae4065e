//! Audit records on their way out of the host: to a file, to syslog, to a collector.
//!
//! Each sink has its own task and its own position in the store, so that one that hangs holds up neither the others nor
//! any request (vault#5361). One instance at a time feeds a sink (a lease), with the lanes of all: so what a dead instance
//! wrote and did not send is sent by whoever feeds the sink next. The position is one in each lane, in which nothing comes
//! late. [`Watch`] compares the positions with the trail's
//! end, on every instance: where a required sink is too far behind, actions stop.
//!
//! A file has each line exactly once, whatever is killed and when: after a start the file itself says where it ends, not the
//! position in the store, which is a moment behind it. A receiver has each line at least once: where an answer was lost
//! nobody knows whether it has the batch, so it comes again, line by line the same. Its position is saved after each batch, so
//! that a kill repeats one batch at most.

mod batch;
mod end;
mod file;
mod http;
mod lines;
mod settings;
mod syslog;
mod watch;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use iam_sorry_core::audit::{ChainId, Event, ExportHeader, Outcome};
use iam_sorry_store::{SinkPosition, Store, StoreError};
use tokio::sync::watch as signal;
use tokio::time::Instant;

use crate::runtime;

use batch::{Again, Batch, DELIVERY_TIMEOUT, Found, FoundRecord, Line, SinkError};

pub use batch::FileState;
pub use end::{FileEnd, file_end, file_state, rotated_ends, set_aside, was_written};
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
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
    async fn inspect(&mut self, at: &SinkPosition, chain: ChainId) -> Result<Option<Found>, SinkError> {
        match self {
            Self::File(target) => target.inspect(at, chain).await,
            Self::Syslog(_) | Self::Http(_) => Ok(None),
        }
    }

    /// Whether the next batch begins a file, which says first where it goes on from.
    fn begins_file(&self) -> bool {
        matches!(self, Self::File(target) if target.begins_file())
    }

    /// How many records may have to be sent again after a lost connection.
    fn uncertain(&self) -> u64 {
        match self {
            Self::Syslog(target) => target.uncertain(),
            Self::File(_) | Self::Http(_) => 0,
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
        sent: VecDeque::new(),
        leased: None,
        saved: None,
        saved_at: Instant::now(),
    };
    Ok(runtime::spawn(feeder.run(stop)))
}

struct Feeder {
    name: String,
    store: Store,
    target: Target,
    watch: Arc<Watch>,
    now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    /// What the sink has; none until the lease is ours.
    at: Option<SinkPosition>,
    /// What it had before each of the last batches, and how many records each had: as far as they are uncertain.
    sent: VecDeque<(u64, SinkPosition)>,
    leased: Option<Instant>,
    /// What the store has, as far as this instance knows.
    saved: Option<SinkPosition>,
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
            self.sent.clear();
            self.target.let_go();
            return Ok(false);
        }
        let mut at = match self.at.clone() {
            Some(at) => at,
            None => self.position().await?,
        };
        self.at = Some(at.clone());
        if let Some(found) = self.target.inspect(&at, self.store.chain_id()).await? {
            at = match self.compare(&found, &at).await {
                Ok(at) => at,
                Err(error) => {
                    self.target.close();
                    return Err(error);
                }
            };
            self.at = Some(at.clone());
        }
        let (mut batch, next) = self.batch(&at).await?;
        if batch.lines.is_empty() {
            self.at = Some(next);
            self.save_if_due(Duration::ZERO).await?;
            return Ok(false);
        }
        if self.target.begins_file() {
            batch.begins = Some(self.store.heads_at(&at.records).await?);
        }
        let records: u64 = batch.records().values().map(|(first, last)| last - first + 1).sum();
        match tokio::time::timeout(DELIVERY_TIMEOUT, self.target.deliver(batch)).await {
            Ok(delivered) => delivered?,
            Err(_) => return Err(SinkError::TimedOut),
        }
        self.remember(records, at);
        self.at = Some(next);
        self.save_if_due(self.target.save_every()).await?;
        Ok(records >= u64::from(BATCH))
    }

    /// Notes what a batch began with, as long as it may have to be sent again.
    fn remember(&mut self, records: u64, before: SinkPosition) {
        let uncertain = self.target.uncertain();
        if uncertain == 0 {
            return;
        }
        self.sent.push_back((records, before));
        while self.sent.iter().skip(1).map(|(records, _)| records).sum::<u64>() >= uncertain {
            self.sent.pop_front();
        }
    }

    /// Holds what the sink has against the trail, before anything is added to it; gives its position.
    async fn compare(&self, found: &Found, at: &SinkPosition) -> Result<SinkPosition, SinkError> {
        let trail = self.store.chain_id();
        if let Some(chain) = found.chain.filter(|chain| *chain != trail) {
            return Err(SinkError::Contradiction(format!(
                "its file is of another trail ({chain}; this one is {trail})\nMove it away, or give the sink another path."
            )));
        }
        if let Some(FoundRecord { id, line, path }) = &found.last {
            let contradiction = match self.store.record_at(*id).await? {
                None => "the trail in the database ends before it",
                Some(record) if record.export_line() != *line => "the trail in the database has another one",
                Some(_) => "",
            };
            if !contradiction.is_empty() {
                return Err(other_trail(path, &format!("ends with record {id}, and {contradiction}")));
            }
        }
        let records = found.lanes.iter().map(|(lane, seq)| lane.record(*seq)).collect();
        let Some(records) = self.store.position_behind(&at.records, records).await? else {
            let path = found.last.as_ref().map_or(Path::new("its file"), |last| &last.path);
            return Err(other_trail(path, "has records that the trail in the database does not have"));
        };
        let position = SinkPosition {
            records,
            last: found.last.as_ref().map(|last| last.id).or(at.last),
            checkpoint: at.checkpoint.max(found.checkpoint),
        };
        if found.foreign > 0 {
            let lines = found.foreign;
            self.record_tampering(&format!(
                "{lines} lines near its end are none of the trail's; they stay there"
            ))
            .await;
        }
        if !found.torn.is_empty() && !self.is_begun(&found.torn, &position).await? {
            self.record_tampering("half a line at its end was none of the trail's; it was cut off").await;
        }
        Ok(position)
    }

    /// Whether what was cut off is the beginning of a line that comes next.
    async fn is_begun(&self, torn: &[u8], at: &SinkPosition) -> Result<bool, SinkError> {
        // A file system that had room for a line and not yet its content gives zeros after a power cut.
        let zeros = torn.iter().rev().take_while(|byte| **byte == 0).count();
        let torn = &torn[..torn.len() - zeros];
        let (batch, _) = self.batch(at).await?;
        let begins = self.store.heads_at(&at.records).await?;
        let header = ExportHeader { begins, ..ExportHeader::new(batch.chain) }.line();
        let begins = |line: &str| line.as_bytes().starts_with(torn);
        Ok(begins(&header) || batch.lines.iter().any(|line| begins(&line.text())))
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

    /// The next records, with each checkpoint behind the last record that it covers.
    async fn batch(&self, at: &SinkPosition) -> Result<(Batch, SinkPosition), SinkError> {
        let part = self.store.read_trail(&at.records, None, BATCH).await?;
        let checkpoints = self.store.checkpoints(at.checkpoint + 1, BATCH).await?;
        let mut checkpoints = checkpoints.into_iter().peekable();
        let mut next = SinkPosition { records: part.start, ..at.clone() };
        let mut lines = Vec::with_capacity(part.records.len() + 4);
        let mut due = |next: &mut SinkPosition, lines: &mut Vec<Line>| {
            while let Some(due) = checkpoints.next_if(|checkpoint| next.records.covers(checkpoint)) {
                next.checkpoint = due.checkpoint.number;
                lines.push(Line::Checkpoint(due.checkpoint));
            }
        };
        due(&mut next, &mut lines);
        for record in part.records {
            next.records.pass(&record);
            next.last = Some(record.record.id());
            lines.push(Line::Record(record.record));
            due(&mut next, &mut lines);
        }
        Ok((Batch { chain: self.store.chain_id(), begins: None, lines }, next))
    }

    /// After a failure: back to what is certain, and a record of what was done to the sink.
    async fn take_back(&mut self, error: &SinkError) {
        let Some(at) = self.at.clone() else { return };
        let back = match error {
            SinkError::Lost { back } => self.before_the_last(*back).unwrap_or(at),
            SinkError::Tampered { what, again } => {
                self.record_tampering(what).await;
                match self.position_again(again).await {
                    Ok(position) => position,
                    // Looked at anew, it is found again.
                    Err(error) => {
                        tracing::warn!(%error, sink = self.name, "what is to be written again is not known yet");
                        self.target.close();
                        return;
                    }
                }
            }
            _ => return,
        };
        self.sent.clear();
        self.at = Some(back);
        let _ = self.save().await;
    }

    /// What it had before it was sent so many records, or a few more.
    fn before_the_last(&self, records: u64) -> Option<SinkPosition> {
        let mut sent = 0;
        let mut before = None;
        for (count, position) in self.sent.iter().rev() {
            before = Some(position.clone());
            sent += count;
            if sent >= records {
                break;
            }
        }
        before
    }

    async fn position_again(&self, again: &Again) -> Result<SinkPosition, StoreError> {
        match again {
            Again::Everything => Ok(SinkPosition::default()),
            Again::Behind(state) => Ok(state.position(&self.store).await?.unwrap_or_default()),
            Again::From(heads) => {
                let Some(records) = self.store.position_of(heads).await? else {
                    return Ok(SinkPosition::default());
                };
                // The last one that covers no more may have been the first line of what was taken away.
                let checkpoint = self.store.last_checkpoint_before(&records).await?.saturating_sub(1);
                Ok(SinkPosition { records, last: None, checkpoint })
            }
        }
    }

    async fn record_tampering(&self, what: &str) {
        tracing::error!(sink = self.name, what, "an audit sink was tampered with");
        let details = [("sink", self.name.as_str()), ("finding", what)];
        let event = Event {
            time_ms: (self.now_ms)(),
            instance: self.store.instance().to_owned(),
            action: "audit-sink-tampered".to_owned(),
            outcome: Some(Outcome::Failure),
            details: details.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Event::default()
        };
        if let Err(error) = self.store.record(vec![event]).await {
            tracing::error!(%error, "that an audit sink was tampered with could not be recorded");
        }
    }

    async fn position(&mut self) -> Result<SinkPosition, SinkError> {
        self.saved = self.store.sink_position(&self.name).await?;
        Ok(self.saved.clone().unwrap_or_default())
    }

    async fn save_if_due(&mut self, every: Duration) -> Result<(), SinkError> {
        if self.saved_at.elapsed() < every {
            return Ok(());
        }
        Ok(self.save().await?)
    }

    async fn save(&mut self) -> Result<(), StoreError> {
        let Some(at) = &self.at else { return Ok(()) };
        self.saved_at = Instant::now();
        if self.saved.as_ref() != Some(at) {
            self.store.set_sink_position(&self.name, at).await?;
            self.saved = Some(at.clone());
        }
        Ok(())
    }

    fn lease(&self) -> String {
        format!("sink {}", self.name)
    }
}

/// A sink's file that has what the trail does not have.
fn other_trail(path: &Path, what: &str) -> SinkError {
    SinkError::Contradiction(format!(
        "{} {what}: the database is an older copy, or the file was changed\nCompare the two (iam-sorryd audit verify), then \
         move the file away.",
        path.display()
    ))
}
