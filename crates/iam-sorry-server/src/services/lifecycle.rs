//! Whether this instance may act: while the database has confirmed lately that it is alive, and until it is stopped.
//!
//! Others take over what an instance has open once it was silent for [`TAKEOVER`]. So it must not begin a request to AWS
//! whose effect could come after that: no beat confirmed for [`MAY_ACT`], no new request; and a request, with all its
//! tries, ends within [`AWS_TIME`]. 8 s + 10 s < 20 s.
//!
//! The sum holds because a beat counts from before it was sent, while the database dates it when it takes it, and a takeover
//! looks at that date in its own transaction (`Store::claim`), which no beat can overtake. It would not hold for an instance
//! that was silent, lost its operations, and beats again: it may act again, but not on these. So the database tells with each
//! beat how long the silence was; after [`TAKEOVER`] a new *term* begins, and whatever was begun in an earlier one sends no
//! more requests ([`Life::may_ask_aws_in`], held before every try of every request by `iam_sorry_aws::only_while`). What it
//! still writes to the store is fenced.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_core::api::ProblemCode;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Refusal, Service};

/// How often an instance says that it is alive.
const BEAT: Duration = Duration::from_secs(2);

/// How often it tries to while it can't, so that it is back at once when the database is.
const BEAT_AGAIN: Duration = Duration::from_millis(500);

/// How old the last confirmed beat may be.
const MAY_ACT: Duration = Duration::from_secs(8);

/// How long a request to AWS may last with all its tries: for `iam_sorry_aws::Settings::operation_timeout`.
pub const AWS_TIME: Duration = Duration::from_secs(10);

/// After so long without a beat an instance is dead, and others take over what it left.
pub const TAKEOVER: Duration = Duration::from_secs(20);

/// How often sessions whose time is over are deleted.
const SWEEP: Duration = Duration::from_secs(300);

/// How often is looked for old keys whose time is over.
const RETIRE: Duration = Duration::from_secs(2);

pub(super) struct Life {
    /// When the last beat that the database confirmed was sent.
    confirmed: Mutex<Option<Instant>>,
    /// Goes up when the instance was silent for so long that others may have taken over what it had open.
    term: AtomicU64,
    /// Why the last beat failed, or the room for more than a beat could not be proved.
    unwell: Mutex<Option<Refusal>>,
    stopping: AtomicBool,
    active: Mutex<HashSet<String>>,
    idle: Notify,
}

impl Life {
    pub fn new() -> Self {
        Self {
            confirmed: Mutex::default(),
            term: AtomicU64::new(0),
            unwell: Mutex::default(),
            stopping: AtomicBool::new(false),
            active: Mutex::default(),
            idle: Notify::new(),
        }
    }

    /// Whether a new request to AWS may be begun.
    pub fn may_ask_aws(&self) -> Result<(), Refusal> {
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if confirmed.is_some_and(|at| at.elapsed() < MAY_ACT) {
            return Ok(());
        }
        Err(Refusal {
            retry_after: Some(10),
            ..Refusal::new(
                ProblemCode::StoreUnavailable,
                "The service has lost touch with its database and does nothing until it is back.\nTry again in a few seconds.",
            )
        })
    }

    fn unwell(&self) -> Option<Refusal> {
        self.unwell.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether that is another state than before.
    fn set_unwell(&self, refusal: Option<Refusal>) -> bool {
        let mut unwell = self.unwell.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = unwell.as_ref().map(|it| &it.detail) != refusal.as_ref().map(|it| &it.detail);
        *unwell = refusal;
        changed
    }

    /// What is begun now belongs to this term.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::SeqCst)
    }

    /// Whether a new request to AWS may be begun for what was begun in that term.
    pub fn may_ask_aws_in(&self, term: u64) -> Result<(), Refusal> {
        if self.term() != term {
            return Err(Refusal {
                retry_after: Some(20),
                ..Refusal::new(
                    ProblemCode::StoreUnavailable,
                    "The service had lost touch with its database for so long that another instance may have taken this over.\n\
                     Try again with the same Idempotency-Key in half a minute.",
                )
            });
        }
        self.may_ask_aws()
    }

    /// A beat was confirmed, after so long a silence by the database's clock.
    fn beaten(&self, sent: Instant, silent: Duration) {
        if silent >= TAKEOVER {
            tracing::warn!(
                seconds = silent.as_secs(),
                "silent for so long that operations may have been taken over"
            );
            self.term.fetch_add(1, Ordering::SeqCst);
        }
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
    }

    /// Whether something new may begin.
    pub fn may_begin(&self) -> Result<(), Refusal> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Refusal {
                retry_after: Some(10),
                ..Refusal::new(
                    ProblemCode::Stopping,
                    "The service is stopping and begins nothing new.\nTry again in a moment.",
                )
            });
        }
        self.may_ask_aws()
    }

    pub fn is_active(&self, operation: &str) -> bool {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).contains(operation)
    }

    fn count(&self) -> usize {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// An operation that this instance is at work on, until dropped.
pub(super) struct Active {
    service: Service,
    operation: String,
}

impl Active {
    pub fn new(service: &Service, operation: &str) -> Self {
        let mut active = service.life().active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(operation.to_owned());
        drop(active);
        Self { service: service.clone(), operation: operation.to_owned() }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let life = self.service.life();
        life.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.operation);
        life.idle.notify_waiters();
    }
}

/// The tasks in the background; they end when this is dropped.
#[derive(Debug)]
pub struct Background(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Service {
    /// Announces this instance to the database, and starts to beat and to reconcile.
    ///
    /// # Errors
    /// Where the database can't be told.
    pub async fn start(&self) -> Result<Background, Refusal> {
        match self.beat().await {
            // It answers all the same: /readyz says what is wrong, and people can read.
            Err(_) if self.store().contradiction().is_some() => {}
            beaten => beaten.map_err(Refusal::from)?,
        }
        let (beating, reconciling, sweeping, looking) =
            (self.clone(), self.clone(), self.clone(), self.clone());
        let (retiring, counting) = (self.clone(), self.clone());
        Ok(Background(vec![
            tokio::spawn(async move {
                let (mut pause, mut said) = (BEAT, false);
                loop {
                    if let Some(why) = beating.store().contradiction().filter(|_| !said) {
                        said = true;
                        tracing::error!(why, "{}", super::continuity::WAY_OUT);
                    }
                    tokio::time::sleep(pause).await;
                    if said {
                        continue;
                    }
                    pause = if beating.be_well().await { BEAT } else { BEAT_AGAIN };
                }
            }),
            tokio::spawn(async move {
                let (every, mut looked) = (reconciling.actions().reconcile_every, None);
                loop {
                    reconciling.reconcile().await;
                    if looked.is_none_or(|at: Instant| at.elapsed() >= 30 * every) {
                        looked = Some(Instant::now());
                        if let Err(error) = reconciling.look_after_unaccounted_keys().await {
                            tracing::warn!(%error, "looking after unaccounted access keys");
                        }
                    }
                    tokio::time::sleep(every).await;
                }
            }),
            tokio::spawn(async move {
                loop {
                    retiring.retire_what_is_due().await;
                    tokio::time::sleep(RETIRE).await;
                }
            }),
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    if let Err(error) = sweeping.sweep_sessions().await {
                        tracing::warn!(%error, "sessions that have ended can't be deleted");
                    }
                }
            }),
            tokio::spawn(async move { looking.watch_group_names().await }),
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(super::counted::LOOK).await;
                    if let Err(error) = counting.record_counted(false).await {
                        tracing::warn!(%error, "refused sign-ins that were counted can't be recorded");
                    }
                    if let Err(error) = counting.record_lost_instances().await {
                        tracing::warn!(%error, "instances that ended without having stopped can't be recorded");
                    }
                }
            }),
        ]))
    }

    /// Whether something new may begin, as far as this instance and its database go.
    pub(super) fn may_begin(&self) -> Result<(), Refusal> {
        self.is_not_contradicted()?;
        self.life().may_begin()
    }

    /// Whether a new request to AWS may be begun.
    pub(super) fn may_ask_aws(&self) -> Result<(), Refusal> {
        self.is_not_contradicted()?;
        self.life().may_ask_aws()
    }

    /// The same for what was begun in that term.
    pub(super) fn may_ask_aws_in(&self, term: u64) -> Result<(), Refusal> {
        self.is_not_contradicted()?;
        self.life().may_ask_aws_in(term)
    }

    fn is_not_contradicted(&self) -> Result<(), Refusal> {
        if self.store().contradiction().is_some() { Err(Refusal::contradicted()) } else { Ok(()) }
    }

    /// Beats, and where a write found no room proves that there is some again. Says once when that fails, and once when it is
    /// over. Whether all is well.
    async fn be_well(&self) -> bool {
        let mut done = self.beat().await;
        if done.is_ok() && self.store().no_room().is_some() {
            done = self.store().prove_room().await;
        }
        let (well, refusal) = match done {
            Ok(()) => (true, None),
            Err(error) => {
                let text = error.to_string();
                let refusal = Refusal::of_store(error);
                if self.life().unwell().is_none_or(|before| before.detail != refusal.detail) {
                    tracing::error!(error = text, "the database can't be written: nothing new is done");
                }
                (false, Some(refusal))
            }
        };
        if self.life().set_unwell(refusal) && well {
            tracing::info!("the database can be written again");
        }
        well
    }

    async fn beat(&self) -> Result<(), iam_sorry_store::StoreError> {
        // Counted from before it was sent: when the database took it is not known here.
        let sent = Instant::now();
        let silent = self.store().beat().await?;
        // Where there is no other instance, nobody has taken anything over.
        let silent = if self.inner.parts.other_instances { silent } else { Duration::ZERO };
        self.life().beaten(sent, silent);
        Ok(())
    }

    /// From here on, the requests to AWS of this work leave only while this instance may act and nobody can have taken the work
    /// over. Gives the term that it belongs to.
    pub(super) fn act_only_while_alive(&self) -> u64 {
        let term = self.life().term();
        let service = self.clone();
        iam_sorry_aws::only_while(Arc::new(move || service.may_ask_aws_in(term).is_ok()));
        term
    }

    /// Whether actions are possible now; for readiness.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), Refusal> {
        if !self.life().stopping.load(Ordering::SeqCst)
            && let Some(refusal) =
                self.store().no_room().map(Refusal::of_store).or_else(|| self.life().unwell())
        {
            return Err(refusal);
        }
        self.may_begin()
    }

    /// Begins nothing new from here on, and waits until what is under way has ended, at most so long. What is left then
    /// the next start, or another instance, settles. How many operations were left.
    pub async fn stop(&self, limit: Duration) -> usize {
        self.life().stopping.store(true, Ordering::SeqCst);
        let end = Instant::now() + limit;
        loop {
            let idle = self.life().idle.notified();
            let left = self.life().count();
            if left == 0 || tokio::time::timeout_at(end, idle).await.is_err() {
                return left;
            }
        }
    }

    /// Runs the work to its end whether or not who asked is still there: a connection that is closed must not stop an
    /// action half-way.
    pub(super) async fn detached<T, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        use tracing::Instrument as _;
        let work = iam_sorry_aws::keeping_request_ids(work).in_current_span();
        tokio::spawn(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an action ended in a panic; the reconciler settles what it left");
            Err(Refusal::new(
                ProblemCode::Internal,
                "A mistake of the service's own stopped this half-way; it is being settled.\nAsk again with the same \
                 Idempotency-Key in a minute.",
            ))
        })
    }
}

/// Shared by all that need to name things: random, in hex.
pub(super) fn random_name() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Refusal::new(ProblemCode::Internal, "The system gives no random numbers."))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Others may have taken over what was begun before the silence; what is begun after it is nobody else's.
    #[test]
    fn after_a_long_silence_only_what_is_begun_anew_may_act() {
        let life = Life::new();
        assert!(life.may_ask_aws_in(life.term()).is_err(), "nothing is confirmed yet");
        life.beaten(Instant::now(), Duration::from_secs(2));
        let begun = life.term();
        life.beaten(Instant::now(), TAKEOVER - Duration::from_millis(1));
        assert!(life.may_ask_aws_in(begun).is_ok(), "nobody can have taken it over");
        life.beaten(Instant::now(), TAKEOVER);
        let refusal = life.may_ask_aws_in(begun).unwrap_err();
        assert!(refusal.detail.contains("taken this over"), "{refusal}");
        assert!(life.may_ask_aws_in(life.term()).is_ok() && life.may_begin().is_ok());
    }
}
