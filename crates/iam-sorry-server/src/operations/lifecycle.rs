//! An instance from its start to its stop: it beats, reconciles, and looks after what time brings.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use iam_sorry_core::api::ProblemCode;
use tokio::time::Instant;

use crate::error::ServiceError;
use crate::runtime;
use crate::service::Service;

/// How often an instance says that it is alive.
const BEAT: Duration = Duration::from_secs(2);

/// How often it tries to while it can't, so that it is back at once when the database is.
const BEAT_AGAIN: Duration = Duration::from_millis(500);

/// How often sessions whose time is over are deleted.
const SWEEP: Duration = Duration::from_secs(300);

/// How often is looked for old keys whose time is over.
const RETIRE: Duration = Duration::from_secs(2);

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
    /// The database can't be reached.
    pub async fn start(&self) -> Result<Background, ServiceError> {
        match self.beat().await {
            // It answers all the same: /readyz says what is wrong, and people can read.
            Err(_) if self.store().contradiction().is_some() => {}
            beaten => beaten.map_err(ServiceError::from)?,
        }
        let (beating, reconciling, sweeping, looking) =
            (self.clone(), self.clone(), self.clone(), self.clone());
        let (retiring, counting) = (self.clone(), self.clone());
        Ok(Background(vec![
            runtime::spawn(async move {
                let (mut pause, mut said) = (BEAT, false);
                loop {
                    if let Some(why) = beating.store().contradiction().filter(|_| !said) {
                        said = true;
                        tracing::error!(why, "{}", crate::audit::continuity::WAY_OUT);
                    }
                    tokio::time::sleep(pause).await;
                    if said {
                        continue;
                    }
                    pause = if beating.be_well().await { BEAT } else { BEAT_AGAIN };
                }
            }),
            runtime::spawn(async move {
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
            runtime::spawn(async move {
                loop {
                    retiring.retire_what_is_due().await;
                    tokio::time::sleep(RETIRE).await;
                }
            }),
            runtime::spawn(async move {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    if let Err(error) = sweeping.sweep_sessions().await {
                        tracing::warn!(%error, "sessions that have ended can't be deleted");
                    }
                }
            }),
            runtime::spawn(async move { looking.watch_group_names().await }),
            runtime::spawn(async move {
                loop {
                    tokio::time::sleep(crate::audit::counted::LOOK).await;
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
    pub(crate) fn may_begin(&self) -> Result<(), ServiceError> {
        self.is_not_contradicted()?;
        self.life().may_begin()
    }

    /// Whether a new request to AWS may be begun.
    pub(crate) fn may_ask_aws(&self) -> Result<(), ServiceError> {
        self.is_not_contradicted()?;
        self.life().may_ask_aws()
    }

    /// The same for what was begun in that term.
    pub(crate) fn may_ask_aws_in(&self, term: u64) -> Result<(), ServiceError> {
        self.is_not_contradicted()?;
        self.life().may_ask_aws_in(term)
    }

    fn is_not_contradicted(&self) -> Result<(), ServiceError> {
        if self.store().contradiction().is_some() { Err(ServiceError::contradicted()) } else { Ok(()) }
    }

    /// Beats; if a write found no room before, also proves that there is some again. Logs once when that fails, and once when it
    /// works again. Whether all is well.
    async fn be_well(&self) -> bool {
        let mut done = self.beat().await;
        if done.is_ok() && self.store().no_room().is_some() {
            done = self.store().prove_room().await;
        }
        let (well, problem) = match done {
            Ok(()) => (true, None),
            Err(error) => {
                let text = error.to_string();
                let problem = ServiceError::of_store(error);
                if self.life().unwell().is_none_or(|before| before.detail != problem.detail) {
                    tracing::error!(error = text, "the database can't be written: nothing new is done");
                }
                (false, Some(problem))
            }
        };
        if self.life().set_unwell(problem) && well {
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
    pub(crate) fn act_only_while_alive(&self) -> u64 {
        let term = self.life().term();
        let service = self.clone();
        iam_sorry_aws::only_while(Arc::new(move || service.may_ask_aws_in(term).is_ok()));
        term
    }

    /// Whether actions are possible now; for readiness.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), ServiceError> {
        if !self.life().stopping.load(Ordering::SeqCst)
            && let Some(problem) =
                self.store().no_room().map(ServiceError::of_store).or_else(|| self.life().unwell())
        {
            return Err(problem);
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

    /// Runs the work to its end whether or not the client is still there: a connection that is closed must not stop an
    /// action half-way.
    pub(crate) async fn detached<T, F>(&self, work: F) -> Result<T, ServiceError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ServiceError>> + Send + 'static,
    {
        use tracing::Instrument as _;
        let work = iam_sorry_aws::keeping_request_ids(work).in_current_span();
        runtime::spawn(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an action ended in a panic; the reconciler settles what it left");
            Err(ServiceError::new(
                ProblemCode::Internal,
                "A mistake of the service's own stopped this half-way; it is being settled.\nAsk again with the same \
                 Idempotency-Key in a minute.",
            ))
        })
    }
}
