//! Signed checkpoints: from time to time the service signs the state of the audit trail, so that a trail that somebody
//! cut or made anew, with write access to the database, shows.
//!
//! Before it signs, it checks every record of every lane since the last checkpoint: it never vouches for a chain that doesn't
//! fit, nor for a trail from which a lane is gone. One instance signs for all at a time (a lease in the store), since each
//! checkpoint names the one before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_core::audit::{
    ChainId, Checkpoint, CheckpointSigner, LaneHead, LaneHeads, LaneId, Record, RecordId,
};
use iam_sorry_store::{Store, StoreError, TrailPosition, TrailState};
use tokio::sync::watch;

use crate::audit::continuity::{Continuity, ContinuityError, Files};
use crate::audit::settings::AuditSettings;

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
    #[error(
        "audit record {record} does not fit the chain: it, or one before it, was changed in the database"
    )]
    Broken {
        /// The first that doesn't fit.
        record: RecordId,
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
    /// The number of the last checkpoint that is kept outside the database; none while it can't be written there.
    kept: Mutex<Option<u64>>,
    /// Why it can't.
    unkept: Mutex<Option<String>>,
    /// The first record that was found not to fit.
    broken: Mutex<Option<RecordId>>,
    /// How far this instance has checked.
    checked: Mutex<Option<Checked>>,
}

/// What was checked of the trail.
#[derive(Clone, Debug, Default)]
struct Checked {
    position: TrailPosition,
    /// The state of each lane that may go on.
    states: HashMap<LaneId, LaneHead>,
    /// The states of lanes that records of others named.
    named: HashMap<LaneId, LaneHead>,
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
            broken: Mutex::new(None),
            checked: Mutex::new(None),
        })
    }

    /// The public key, in PEM.
    pub fn public_key_pem(&self) -> String {
        self.signer.public_key().to_pem()
    }

    /// The first record that does not fit, where one doesn't.
    pub fn broken(&self) -> Option<RecordId> {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner)
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
        let now = self.store.trail_state().await?;
        let nothing_new = last.as_ref().map_or(now.heads.is_empty(), |last| last.heads == now.heads);
        if !ours || nothing_new {
            self.keep(last.as_ref()).await?;
            return Ok(last);
        }
        self.check_up_to(&now, last.as_ref()).await?;
        Ok(Some(self.sign(now.heads, last.as_ref()).await?))
    }

    /// Signs the trail as it is, whatever it was before: for an operator who continues it.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub async fn sign_anew(&self) -> Result<Checkpoint, CheckpointError> {
        let last = self.store.last_checkpoint().await?;
        let now = self.store.trail_state().await?;
        self.sign(now.heads, last.as_ref()).await
    }

    async fn sign(&self, heads: LaneHeads, last: Option<&Checkpoint>) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = self.signer.sign(self.store.chain_id(), heads, (self.now_ms)(), last);
        // First in the database: the state outside is never ahead of it.
        let kept = match self.store.add_checkpoint(checkpoint.clone()).await? {
            true => checkpoint,
            // Another instance took over while this one was slow, and signed.
            false => self.store.last_checkpoint().await?.unwrap_or(checkpoint),
        };
        self.keep(Some(&kept)).await?;
        Ok(kept)
    }

    /// Keeps the newest checkpoint outside the database, this instance's or another's with the same key.
    async fn keep(&self, newest: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        let kept = *self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = newest.filter(|it| kept != Some(it.number) && it.verify(self.signer.public_key()))
        else {
            return Ok(());
        };
        let outcome = self.continuity.keep(newest).await;
        let (kept, unkept) = match &outcome {
            Ok(()) => (Some(newest.number), None),
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
        let Ok(last) = self.store.last_checkpoint().await else { return false };
        let Ok(now) = self.store.trail_state().await else { return false };
        let signed =
            |head: &LaneHead| last.as_ref().and_then(|last| last.heads.get(head.lane)).map_or(0, |it| it.seq);
        let unsigned: u64 = now.heads.iter().map(|head| head.seq.saturating_sub(signed(&head))).sum();
        unsigned >= self.every_records
    }

    /// Checks all lanes from the last checkpoint (or from where this instance has checked already) to `now`.
    async fn check_up_to(&self, now: &TrailState, last: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        let known = self.checked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut checked = match known {
            Some(checked) => checked,
            None => self.signed(last).await?,
        };
        loop {
            let part = self.store.read_trail(&checked.position, Some(&now.end), CHUNK).await?;
            checked.position = part.start;
            if part.records.is_empty() {
                break;
            }
            for record in &part.records {
                checked
                    .take(&record.record, self.store.chain_id())
                    .map_err(|record| self.broken_at(record))?;
                checked.position.pass(record);
            }
        }
        for head in now.heads.iter() {
            // A record in between, or the last ones, that are not there.
            let last = checked.states.get(&head.lane);
            if last != Some(&head) {
                return Err(self.broken_at(head.lane.record(last.map_or(0, |last| last.seq) + 1)));
            }
        }
        for before in last.iter().flat_map(|last| last.heads.iter()) {
            let lane = before.lane;
            // It has ended, and a record of another lane names its end: or somebody has taken it out.
            let settled =
                checked.named.get(&lane).is_some_and(|named| checked.states.get(&lane) == Some(named));
            if now.heads.get(lane).is_none() && !settled {
                return Err(self.broken_at(before.record()));
            }
        }
        checked.states.retain(|lane, _| now.heads.get(*lane).is_some());
        checked.named.retain(|lane, _| now.heads.get(*lane).is_some());
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(checked);
        Ok(())
    }

    /// What a checkpoint vouches for needs no check.
    async fn signed(&self, last: Option<&Checkpoint>) -> Result<Checked, CheckpointError> {
        let Some(last) = last else { return Ok(Checked::default()) };
        let position = self.store.position_of(&last.heads).await?;
        let first = last.heads.iter().next().map(|head| head.record());
        let position = match (position, first) {
            (Some(position), _) => position,
            (None, first) => return Err(self.broken_at(first.unwrap_or(LaneId::ZERO.record(1)))),
        };
        let states = last.heads.iter().map(|head| (head.lane, head)).collect();
        Ok(Checked { position, states, named: HashMap::new() })
    }

    fn broken_at(&self, record: RecordId) -> CheckpointError {
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
        CheckpointError::Broken { record }
    }
}

impl Checked {
    /// The next record of its lane: it carries the hash before it, and its own is that of its content.
    fn take(&mut self, record: &Record, chain: ChainId) -> Result<(), RecordId> {
        let lane = record.lane;
        let genesis = || LaneHead { lane, seq: 0, hash: chain.genesis(lane) };
        let before = self.states.get(&lane).copied().unwrap_or_else(genesis);
        let place = lane.record(before.seq + 1);
        let parsed = Record::parse(&record.line).map_err(|_| place)?;
        let links = record.links().map_err(|_| place)?;
        let first = record.seq > 1 || lane == LaneId::ZERO || links.heads.is_some();
        if record.id() != place || record.previous != before.hash || parsed != *record || !first {
            return Err(place);
        }
        let heads = links.heads.iter().flat_map(|heads| heads.iter());
        for named in heads.chain(links.ends.iter()) {
            self.named.insert(named.lane, named);
        }
        self.states.insert(lane, record.head());
        Ok(())
    }
}

impl std::fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpointer").field("signer", &self.signer).finish_non_exhaustive()
    }
}
