//! Signed checkpoints: from time to time the service signs the state of the audit trail, so that a trail that somebody
//! cut or made anew, with write access to the database, shows.
//!
//! Before it signs, it checks every record since the last checkpoint: it never vouches for a chain that doesn't fit. One
//! instance signs at a time (a lease in the store), since each checkpoint names the one before.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_core::audit::{ChainId, Checkpoint, CheckpointSigner, Hash, Record};
use iam_sorry_store::{Store, StoreError};
use serde::Deserialize;
use tokio::sync::watch;

use crate::audit::continuity::{Continuity, ContinuityError, Files};
use crate::audit::sinks::SinkSettings;

/// `[audit]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSettings {
    /// The private key that checkpoints are signed with (`iam-sorryd audit new-key FILE`).
    pub key_file: Option<PathBuf>,
    /// Where the last signed state is kept outside the database; beside the key (`KEY_FILE.signed`) where it is not set.
    pub state_file: Option<PathBuf>,
    /// Sign after so many records, 1 to 100,000.
    pub checkpoint_records: u64,
    /// Sign after so many seconds where anything was recorded, 1 to 3,600.
    pub checkpoint_seconds: u64,
    /// Where records are sent besides the database.
    #[serde(rename = "sink")]
    pub sinks: Vec<SinkSettings>,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            key_file: None,
            state_file: None,
            checkpoint_records: 1_000,
            checkpoint_seconds: 60,
            sinks: Vec::new(),
        }
    }
}

impl AuditSettings {
    /// Where the last signed state is kept; nowhere without a key.
    pub fn state_path(&self) -> Option<PathBuf> {
        let key = self.key_file.as_ref()?;
        Some(self.state_file.clone().unwrap_or_else(|| {
            let mut name = key.clone().into_os_string();
            name.push(".signed");
            name.into()
        }))
    }

    /// What one field can't see by itself.
    ///
    /// # Errors
    /// A text that names the setting and the way out.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=100_000).contains(&self.checkpoint_records) {
            return Err("audit.checkpoint_records must be between 1 and 100000.".to_owned());
        }
        if !(1..=3_600).contains(&self.checkpoint_seconds) {
            return Err("audit.checkpoint_seconds must be between 1 and 3600.".to_owned());
        }
        if self.state_file.is_some() && self.key_file.is_none() {
            return Err("audit.state_file needs audit.key_file: without a key nothing is signed.".to_owned());
        }
        for (index, sink) in self.sinks.iter().enumerate() {
            sink.check()?;
            if self.sinks[..index].iter().any(|other| other.name == sink.name) {
                return Err(format!(
                    "Two audit sinks are called {:?}.\nGive each a name of its own: their progress is kept by it.",
                    sink.name
                ));
            }
        }
        Ok(())
    }
}

/// Why a checkpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The last signed state, which can't be read or written outside the database.
    #[error(transparent)]
    State(#[from] ContinuityError),
    /// The trail does not fit itself: somebody changed it.
    #[error("audit record {seq} does not fit the chain: it, or one before it, was changed in the database")]
    Broken {
        /// The first that doesn't fit.
        seq: u64,
    },
}

/// Makes checkpoints.
pub struct Checkpointer {
    store: Store,
    signer: CheckpointSigner,
    now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    every_records: u64,
    every: Duration,
    continuity: Continuity,
    /// The record of the last checkpoint that is kept outside the database; none while it can't be written there.
    kept: Mutex<Option<u64>>,
    /// Why it can't.
    unkept: Mutex<Option<String>>,
    /// The first record that was found not to fit; 0 while all do.
    broken: AtomicU64,
    /// How far this instance has checked, so that a quiet second costs one small query.
    checked: Mutex<Option<(u64, Hash)>>,
}

const LEASE: &str = "checkpoints";
const LEASE_TIME: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const CHUNK: u32 = 1_000;

impl Checkpointer {
    /// Signs with `signer`, at the times of `now_ms` (milliseconds since 1970).
    pub fn new(
        store: Store,
        signer: CheckpointSigner,
        settings: &AuditSettings,
        now_ms: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Arc<Self> {
        let continuity = Continuity::new(store.clone(), settings, Some(signer.public_key()));
        Arc::new(Self {
            store,
            signer,
            continuity,
            kept: Mutex::new(None),
            unkept: Mutex::new(None),
            now_ms: Box::new(now_ms),
            every_records: settings.checkpoint_records,
            every: Duration::from_secs(settings.checkpoint_seconds),
            broken: AtomicU64::new(0),
            checked: Mutex::new(None),
        })
    }

    /// The public key, in PEM.
    pub fn public_key_pem(&self) -> String {
        self.signer.public_key().to_pem()
    }

    /// The first record that does not fit, where one doesn't.
    pub fn broken(&self) -> Option<u64> {
        Some(self.broken.load(Ordering::Relaxed)).filter(|seq| *seq > 0)
    }

    /// Why the last signed state can't be kept outside the database, where it can't.
    pub fn unkept(&self) -> Option<String> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signs when it is time, until `stop` says true; then once more, so that a stopped service leaves a signed trail.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut last_signed = tokio::time::Instant::now();
        loop {
            let stopping = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let due = stopping || last_signed.elapsed() >= self.every || self.many_unsigned().await;
            if due {
                match self.sign_now().await {
                    Ok(_) => last_signed = tokio::time::Instant::now(),
                    // A contradiction is logged once, by who finds it.
                    Err(_) if self.store.contradiction().is_some() => {
                        last_signed = tokio::time::Instant::now()
                    }
                    Err(error) => tracing::error!(%error, "no checkpoint of the audit trail could be made"),
                }
            }
            if stopping {
                let _ = self.store.release(LEASE).await;
                return;
            }
        }
    }

    /// Signs the trail as it is now, where something was recorded since the last checkpoint and no other instance is the
    /// one that signs. The newest checkpoint there is.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub async fn sign_now(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let ours = self.store.lease(LEASE, LEASE_TIME).await?;
        if let Err(error) = self.continuity.enforce(Files::Current).await {
            if let ContinuityError::State(error) = &error {
                self.set_kept(None, Some(error.to_string()));
            }
            return Err(error.into());
        }
        let last = self.store.last_checkpoint().await?;
        let (head, _) = self.store.head().await?;
        let signed_to = last.as_ref().map_or(0, |checkpoint| checkpoint.seq);
        if !ours || head <= signed_to {
            self.keep(last.as_ref()).await?;
            return Ok(last);
        }
        let hash = self.check_up_to(head, last.as_ref()).await?;
        Ok(Some(self.sign(head, hash, signed_to).await?))
    }

    /// Signs the trail as it is, whatever it was before: for an operator who continues it.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub async fn sign_anew(&self) -> Result<Checkpoint, CheckpointError> {
        let signed_to = self.store.last_checkpoint().await?.map_or(0, |checkpoint| checkpoint.seq);
        let (head, hash) = self.store.head().await?;
        self.sign(head, hash, signed_to).await
    }

    async fn sign(&self, seq: u64, hash: Hash, signed_to: u64) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = self.signer.sign(self.store.chain_id(), seq, hash, (self.now_ms)(), signed_to);
        // First in the database: the state outside is never ahead of it.
        self.store.add_checkpoint(checkpoint.clone()).await?;
        self.keep(Some(&checkpoint)).await?;
        Ok(checkpoint)
    }

    /// Keeps the newest checkpoint outside the database, this instance's or another's with the same key.
    async fn keep(&self, newest: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        let kept = *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = newest.filter(|it| kept != Some(it.seq) && it.verify(self.signer.public_key()))
        else {
            return Ok(());
        };
        let outcome = self.continuity.keep(newest).await;
        let (kept, unkept) = match &outcome {
            Ok(()) => (Some(newest.seq), None),
            Err(error) => (None, Some(error.to_string())),
        };
        self.set_kept(kept, unkept);
        Ok(outcome?)
    }

    fn set_kept(&self, kept: Option<u64>, unkept: Option<String>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        *self.unkept.lock().unwrap_or_else(PoisonError::into_inner) = unkept;
    }

    async fn many_unsigned(&self) -> bool {
        let signed_to =
            self.store.last_checkpoint().await.ok().flatten().map_or(0, |checkpoint| checkpoint.seq);
        self.store.head().await.is_ok_and(|(head, _)| head >= signed_to + self.every_records)
    }

    /// Checks the chain from the last checkpoint (or from where this instance has checked already) to `head`.
    async fn check_up_to(&self, head: u64, last: Option<&Checkpoint>) -> Result<Hash, CheckpointError> {
        let known = *self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = last.map(|checkpoint| (checkpoint.seq, checkpoint.hash));
        let (mut seq, mut hash) = known.max(signed).unwrap_or((0, genesis(self.store.chain_id())));
        if seq > head {
            return Err(self.broken_at(head + 1));
        }
        while seq < head {
            let records = self.store.audit_range(seq + 1, CHUNK).await?;
            if records.is_empty() {
                return Err(self.broken_at(seq + 1));
            }
            for record in records.into_iter().take_while(|record| record.seq <= head) {
                if record.seq != seq + 1 || !fits(&record, &hash) {
                    return Err(self.broken_at(seq + 1));
                }
                (seq, hash) = (record.seq, record.hash);
            }
        }
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some((seq, hash));
        Ok(hash)
    }

    fn broken_at(&self, seq: u64) -> CheckpointError {
        self.broken.store(seq, Ordering::Relaxed);
        CheckpointError::Broken { seq }
    }
}

impl std::fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpointer").field("signer", &self.signer).finish_non_exhaustive()
    }
}

fn genesis(chain: ChainId) -> Hash {
    chain.genesis()
}

/// Whether the record carries the hash before it, and its own is that of its content.
fn fits(record: &Record, previous: &Hash) -> bool {
    record.previous == *previous && Record::parse(&record.line).is_ok_and(|read| read == *record)
}
