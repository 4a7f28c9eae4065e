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

use super::sinks::SinkSettings;

/// `[audit]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSettings {
    /// The private key that checkpoints are signed with (`iam-sorryd audit new-key FILE`).
    pub key_file: Option<PathBuf>,
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
        Self { key_file: None, checkpoint_records: 1_000, checkpoint_seconds: 60, sinks: Vec::new() }
    }
}

impl AuditSettings {
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
        Arc::new(Self {
            store,
            signer,
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

    /// Signs when it is time, until `stop` says true; then once more, so that a stopped service leaves a signed trail.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut last_signed = tokio::time::Instant::now();
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            let due = stopping || last_signed.elapsed() >= self.every || self.many_unsigned().await;
            if due {
                match self.sign_now().await {
                    Ok(_) => last_signed = tokio::time::Instant::now(),
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
        if !self.store.lease(LEASE, LEASE_TIME).await? {
            return Ok(self.store.last_checkpoint().await?);
        }
        let last = self.store.last_checkpoint().await?;
        let (head, _) = self.store.head().await?;
        let signed_to = last.as_ref().map_or(0, |checkpoint| checkpoint.seq);
        if head <= signed_to {
            return Ok(last);
        }
        let hash = self.check_up_to(head, last.as_ref()).await?;
        let checkpoint = self.signer.sign(self.store.chain_id(), head, hash, (self.now_ms)(), signed_to);
        self.store.add_checkpoint(checkpoint.clone()).await?;
        Ok(Some(checkpoint))
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
        let (mut seq, mut hash) =
            known.max(signed).filter(|(seq, _)| *seq <= head).unwrap_or((0, genesis(self.store.chain_id())));
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
