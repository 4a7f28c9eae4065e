//! Whether this instance may act: while the database has confirmed lately that it is alive, and until it is stopped.
//!
//! Others take over what an instance has open once it was silent for [`TAKEOVER`]. So it must not begin a request to AWS
//! whose effect could come after that: no beat confirmed for [`MAY_ACT`], no new request; and a request, with all its
//! tries, ends within [`AWS_TIME`]. 8 s + 10 s < 20 s.
//!
//! The sum holds because a beat counts from before it was sent, while the database dates it when it takes it, and a takeover
//! looks at that date in its own transaction (`Store::claim`), which no beat can overtake. It would not hold for an instance
//! that was silent, lost its operations, and beats again: it may act again, but not on these. So the database answers each
//! beat with how long the silence was; after [`TAKEOVER`] a new *term* begins, and whatever was begun in an earlier one sends no
//! more requests ([`Life::may_ask_aws_in`], held before every try of every request by `iam_sorry_aws::only_while`). What it
//! still writes to the store is fenced.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_core::api::ProblemCode;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::ServiceError;

/// How old the last confirmed beat may be.
const MAY_ACT: Duration = Duration::from_secs(8);

/// How long a request to AWS may last with all its tries: for `iam_sorry_aws::Settings::operation_timeout`.
pub const AWS_TIME: Duration = Duration::from_secs(10);

/// After so long without a beat an instance is dead, and others take over what it left.
pub const TAKEOVER: Duration = Duration::from_secs(20);

pub(crate) struct Life {
    /// When the last beat that the database confirmed was sent.
    confirmed: Mutex<Option<Instant>>,
    /// Goes up when the instance was silent for so long that others may have taken over what it had open.
    term: AtomicU64,
    /// Why the last beat failed, or the room for more than a beat could not be proved.
    unwell: Mutex<Option<ServiceError>>,
    pub(super) stopping: AtomicBool,
    active: Mutex<HashSet<String>>,
    pub(super) idle: Notify,
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
    pub fn may_ask_aws(&self) -> Result<(), ServiceError> {
        let confirmed = *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if iam_sorry_core::planted!("acts-without-beats": true, confirmed.is_some_and(|at| at.elapsed() < MAY_ACT))
        {
            return Ok(());
        }
        Err(ServiceError {
            retry_after: Some(10),
            ..ServiceError::new(
                ProblemCode::StoreUnavailable,
                "The service has lost touch with its database and does nothing until it is back.\nTry again in a few seconds.",
            )
        })
    }

    pub(super) fn unwell(&self) -> Option<ServiceError> {
        self.unwell.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether that is another state than before.
    pub(super) fn set_unwell(&self, problem: Option<ServiceError>) -> bool {
        let mut unwell = self.unwell.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = unwell.as_ref().map(|it| &it.detail) != problem.as_ref().map(|it| &it.detail);
        *unwell = problem;
        changed
    }

    /// What is begun now belongs to this term.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::SeqCst)
    }

    /// Whether a new request to AWS may be begun for what was begun in that term.
    pub fn may_ask_aws_in(&self, term: u64) -> Result<(), ServiceError> {
        if iam_sorry_core::planted!("term-not-compared": false, self.term() != term) {
            return Err(ServiceError {
                retry_after: Some(20),
                ..ServiceError::new(
                    ProblemCode::StoreUnavailable,
                    "The service had lost touch with its database for so long that another instance may have taken this over.\n\
                     Try again with the same Idempotency-Key in half a minute.",
                )
            });
        }
        self.may_ask_aws()
    }

    /// A beat was confirmed, after so long a silence by the database's clock.
    pub(super) fn beaten(&self, sent: Instant, silent: Duration) {
        if silent >= TAKEOVER {
            tracing::warn!(
                seconds = silent.as_secs(),
                "silent for so long that operations may have been taken over"
            );
            self.term.fetch_add(1, Ordering::SeqCst);
        }
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(iam_sorry_core::planted!("beat-counts-from-answer": Instant::now(), sent));
    }

    /// Whether something new may begin.
    pub fn may_begin(&self) -> Result<(), ServiceError> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(ServiceError {
                retry_after: Some(10),
                ..ServiceError::new(
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

    /// All at once: for a planted fault alone.
    #[cfg(feature = "simulation")]
    pub(super) fn at_work(&self) -> HashSet<String> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count(&self) -> usize {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// An operation that this instance is at work on, until dropped.
pub(crate) struct Active {
    life: Arc<Life>,
    operation: String,
}

impl Active {
    pub fn new(life: &Arc<Life>, operation: &str) -> Self {
        let mut active = life.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(operation.to_owned());
        drop(active);
        Self { life: life.clone(), operation: operation.to_owned() }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let life = &self.life;
        life.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.operation);
        life.idle.notify_waiters();
    }
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
        let error = life.may_ask_aws_in(begun).unwrap_err();
        assert!(error.detail.contains("taken this over"), "{error}");
        assert!(life.may_ask_aws_in(life.term()).is_ok() && life.may_begin().is_ok());
    }
}
