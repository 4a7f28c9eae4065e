//! Whether this instance may act: while the database has confirmed lately that it is alive, and until it is stopped.
//!
//! Others take over what an instance has open once it was silent for [`TAKEOVER`]. So it must not begin a request to AWS
//! whose effect could come after that: no beat confirmed for [`MAY_ACT`], no new request; and a request, with all its
//! tries, ends within [`AWS_TIME`]. 8 s + 10 s < 20 s.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_core::api::ProblemCode;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Refusal, Service};

/// How often an instance says that it is alive.
const BEAT: Duration = Duration::from_secs(2);

/// How old the last confirmed beat may be.
const MAY_ACT: Duration = Duration::from_secs(8);

/// How long a request to AWS may last with all its tries: for `iam_sorry_aws::Settings::operation_timeout`.
pub const AWS_TIME: Duration = Duration::from_secs(10);

/// After so long without a beat an instance is dead, and others take over what it left.
pub(super) const TAKEOVER: Duration = Duration::from_secs(20);

/// For how long after a write that found no room the instance is not ready: a beat, which is small, may still fit.
const FULL: Duration = Duration::from_secs(15);

/// How often sessions whose time is over are deleted.
const SWEEP: Duration = Duration::from_secs(300);

/// How often the reconciler looks.
const RECONCILE: Duration = Duration::from_secs(2);

pub(super) struct Life {
    /// When the last beat that the database confirmed was sent.
    confirmed: Mutex<Option<Instant>>,
    stopping: AtomicBool,
    active: Mutex<HashSet<String>>,
    idle: Notify,
}

impl Life {
    pub fn new() -> Self {
        Self {
            confirmed: Mutex::default(),
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

    fn beaten(&self, sent: Instant) {
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
        self.beat().await?;
        let (beating, reconciling, sweeping) = (self.clone(), self.clone(), self.clone());
        Ok(Background(vec![
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(BEAT).await;
                    if let Err(error) = beating.beat().await {
                        tracing::warn!(%error, "no beat");
                    }
                }
            }),
            tokio::spawn(async move {
                loop {
                    reconciling.reconcile().await;
                    tokio::time::sleep(RECONCILE).await;
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
        ]))
    }

    async fn beat(&self) -> Result<(), Refusal> {
        // Counted from before it was sent: when the database took it is not known here.
        let sent = Instant::now();
        self.store().beat().await?;
        self.life().beaten(sent);
        Ok(())
    }

    /// Whether actions are possible now; for readiness.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), Refusal> {
        self.life().may_begin()?;
        if self.store().was_full_within(FULL) {
            return Err(Refusal::disk_full());
        }
        Ok(())
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
