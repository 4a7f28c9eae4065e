//! Whether the database goes on from what is known of it: the last signed state beside the key, its own last checkpoint,
//! and the last records of each file sink. An older copy, a cut trail and a new one look whole by themselves; only what
//! is kept elsewhere shows them. On a contradiction the store is halted: nothing is signed, sent or done until somebody
//! decides (`iam-sorryd audit restored`).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use iam_sorry_core::audit::{ChainId, Checkpoint, CheckpointKey, LaneHeads};
use iam_sorry_store::{Store, StoreError};
use tokio::sync::watch;

use crate::audit::settings::AuditSettings;
use crate::audit::signed_state::{Held, SignedState};
use crate::audit::sinks::{self, FileEnd, SinkSettings};
use crate::runtime;

/// What the log says besides the reason.
pub(crate) const WAY_OUT: &str = "the database is not the one that it was: nothing is signed, sent or done. Stop the service, \
    and put the right database back; or keep this one: iam-sorryd audit restored --reason TEXT";

/// How often the database is compared with what is known of it, besides before each signature.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A state of a trail that is known from outside the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownState {
    /// Which trail.
    pub chain: ChainId,
    /// The last records of its lanes, as far as they are known.
    pub heads: LaneHeads,
    /// When that was, milliseconds since 1970: of several, the latest counts.
    pub time_ms: i64,
}

/// Something that the database does not go on from. The text names no path: it is shown on `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// What is wrong.
    pub text: String,
    /// The state that should have been there, where it is known.
    pub expected: Option<KnownState>,
    /// The sink that knows it.
    pub sink: Option<String>,
    /// That sink's file, or one that it was rotated to, and what is in it.
    pub file: Option<(PathBuf, FileEnd)>,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why it could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum ContinuityError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state file.
    #[error("audit.state_file: {0}")]
    State(#[from] std::io::Error),
}

/// Which files of a sink are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// The one that is written. While the service runs that suffices: the others don't grow.
    Current,
    /// Those that it was rotated to as well: for a start, when any of them may be the only one that knows.
    All,
}

/// What is known of the trail outside its database.
#[derive(Clone, Debug)]
pub struct Continuity {
    store: Store,
    signed: Option<SignedState>,
    key: Option<CheckpointKey>,
    sinks: Vec<SinkSettings>,
}

impl Continuity {
    /// With the file and the sinks of the settings; the file only where checkpoints are signed.
    pub fn new(store: Store, settings: &AuditSettings, key: Option<&CheckpointKey>) -> Self {
        let signed =
            key.and_then(|key| settings.state_path().map(|path| SignedState::new(path, key.clone())));
        Self { store, signed, key: key.cloned(), sinks: settings.sinks.clone() }
    }

    /// Everything that the database contradicts.
    ///
    /// # Errors
    /// [`ContinuityError`]: nothing is known then.
    pub async fn check(&self, files: Files) -> Result<Vec<Contradiction>, ContinuityError> {
        let mut found = Vec::new();
        self.against_signed_state(&mut found).await?;
        self.against_own_checkpoint(&mut found).await?;
        self.against_sinks(files, &mut found).await?;
        Ok(found)
    }

    /// The same, and halts the store on what was found.
    ///
    /// # Errors
    /// [`ContinuityError`]; [`StoreError::Contradicted`] where the store is, or was, halted.
    pub async fn enforce(&self, files: Files) -> Result<(), ContinuityError> {
        if let Some(first) = self.check(files).await?.first() {
            self.store.halt(&first.text);
        }
        match self.store.contradiction() {
            Some(text) => Err(StoreError::Contradicted(text).into()),
            None => Ok(()),
        }
    }

    /// Keeps a checkpoint outside the database, and notes in it that there is such a file.
    ///
    /// # Errors
    /// [`ContinuityError`].
    pub async fn keep(&self, checkpoint: &Checkpoint) -> Result<(), ContinuityError> {
        let Some(signed) = self.signed.clone() else { return Ok(()) };
        let (key_id, place) = (signed.key_id(), signed.place());
        let checkpoint = checkpoint.clone();
        runtime::blocking(move || signed.write(&checkpoint)).await??;
        // Afterwards: a file that was never written is none that was taken away.
        if !self.store.is_state_kept(&key_id, &place).await? {
            self.store.note_state_kept(&key_id, &place).await?;
        }
        Ok(())
    }

    /// Enforces it from time to time until `stop` says true: what happens to the state file and the database while nothing
    /// is written shows as well.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.store.contradiction().is_none()
                && let Err(error) = self.enforce(Files::Current).await
                && self.store.contradiction().is_none()
            {
                tracing::warn!(%error, "the database can't be compared with what is known of it");
            }
        }
    }

    async fn against_signed_state(&self, found: &mut Vec<Contradiction>) -> Result<(), ContinuityError> {
        let Some(signed) = self.signed.clone() else { return Ok(()) };
        let (key_id, place) = (signed.key_id(), signed.place());
        let held = runtime::blocking(move || signed.read()).await??;
        let wrong = |text: String| Contradiction { text, expected: None, sink: None, file: None };
        match held {
            Held::State(checkpoint) => {
                found.extend(self.compare("the last signed state", &state_of(&checkpoint)).await?);
            }
            Held::Damaged(why) => found.push(wrong(format!("the state file {why}: it was changed"))),
            Held::Nothing if self.store.is_state_kept(&key_id, &place).await? => {
                found.push(wrong("the state file is gone, which had the last signed state".to_owned()));
            }
            Held::Nothing => {}
        }
        Ok(())
    }

    async fn against_own_checkpoint(&self, found: &mut Vec<Contradiction>) -> Result<(), ContinuityError> {
        let Some(last) = self.store.last_checkpoint().await? else { return Ok(()) };
        found.extend(self.compare("its own last checkpoint", &state_of(&last)).await?);
        if let Some(key) = self.key.as_ref().filter(|key| key.id() == last.key_id)
            && !last.verify(key)
        {
            let text = format!("its checkpoint {} has a signature that does not fit", last.number);
            found.push(Contradiction { text, expected: None, sink: None, file: None });
        }
        Ok(())
    }

    async fn against_sinks(
        &self,
        files: Files,
        found: &mut Vec<Contradiction>,
    ) -> Result<(), ContinuityError> {
        for sink in &self.sinks {
            for (path, end) in self.ends_of(sink, files).await {
                let known = KnownState { chain: end.chain, heads: end.heads.clone(), time_ms: end.time_ms };
                let source = format!("the last record of the sink {}", sink.name);
                let wrong = self.compare(&source, &known).await?;
                found.extend(wrong.map(|wrong| Contradiction {
                    sink: Some(sink.name.clone()),
                    file: Some((path, end)),
                    ..wrong
                }));
            }
            // First the position, then what is there: both grow meanwhile.
            let position = self.store.sink_position(&sink.name).await?.unwrap_or_default();
            if let Some(record) = self.store.missing_before(&position.records).await? {
                found.push(Contradiction {
                    text: format!(
                        "the sink {} was sent record {record}, and the trail ends before it: it was cut",
                        sink.name
                    ),
                    expected: None,
                    sink: Some(sink.name.clone()),
                    file: None,
                });
            }
        }
        Ok(())
    }

    /// What each of a sink's files ends with. One that can't be read is the sink's own trouble, which its task reports.
    async fn ends_of(&self, sink: &SinkSettings, files: Files) -> Vec<(PathBuf, FileEnd)> {
        let Some(file) = sink.file.clone() else { return Vec::new() };
        let others = self.sinks.iter().filter_map(|it| it.file.as_ref().map(|it| it.path.clone()));
        let others: Vec<_> = others.filter(|path| *path != file.path).collect();
        let chain = self.store.chain_id();
        let ends = runtime::blocking(move || {
            let mut ends: Vec<_> = sinks::file_end(&file)
                .ok()
                .flatten()
                .map(|end| (file.path.clone(), end))
                .into_iter()
                .collect();
            if files == Files::All {
                ends.extend(sinks::rotated_ends(&file, &others, chain));
            }
            ends
        });
        ends.await.unwrap_or_default()
    }

    async fn compare(&self, source: &str, known: &KnownState) -> Result<Option<Contradiction>, StoreError> {
        let wrong = |text: String| {
            Some(Contradiction {
                text: format!("the database contradicts {source}: {text}"),
                expected: Some(known.clone()),
                sink: None,
                file: None,
            })
        };
        let ours = self.store.chain_id();
        if known.chain != ours {
            return Ok(wrong(format!(
                "that is of the trail {}, and this is another trail, {ours}",
                known.chain
            )));
        }
        for head in known.heads.iter() {
            // First the record, then the end: the lane grows meanwhile.
            match self.store.record_at(head.record()).await? {
                Some(record) if record.hash == head.hash => {}
                Some(_) => {
                    return Ok(wrong(format!(
                        "{head} is not its record {}, so it is an older copy that went on, or was made anew",
                        head.record()
                    )));
                }
                None => {
                    let end = match self.store.lane_end(head.lane).await? {
                        Some(end) => format!("its lane ends at record {}", end.record()),
                        None => "it has no such lane".to_owned(),
                    };
                    return Ok(wrong(format!(
                        "that is {head}, and {end}, so it is an older copy, or was cut"
                    )));
                }
            }
        }
        Ok(None)
    }
}

fn state_of(checkpoint: &Checkpoint) -> KnownState {
    let Checkpoint { chain, heads, time_ms, .. } = checkpoint.clone();
    KnownState { chain, heads, time_ms }
}
