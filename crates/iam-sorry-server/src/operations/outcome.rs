//! Writing what became of an operation: the records, and trying for a while when the database is away.

use std::time::Duration;

use iam_sorry_core::audit::{Event, Outcome, Phase};
use iam_sorry_store::{Finish, OperationState, StoreError};
use tokio::time::Instant;

use crate::operations::acted::Effects;
use crate::service::Service;

/// How long an outcome or a note is tried to be written.
const WRITE_TIME: Duration = Duration::from_secs(15);

/// Tries for a while: the same outcome written twice is one.
pub(crate) async fn finish_with_retries(service: &Service, finish: Finish) -> Result<(), StoreError> {
    with_retries(|| service.store().finish(finish.clone())).await.map(drop)
}

/// Repeats a write, which may be there twice without harm, while the database is away.
pub(crate) async fn with_retries<T, F>(write: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let start = Instant::now();
    loop {
        match write().await {
            // Also if the database was promoted elsewhere, and is read-only here.
            Err(StoreError::Unavailable(_) | StoreError::ReadOnly(_)) if start.elapsed() < WRITE_TIME => {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            answer => return answer,
        }
    }
}

/// What is written when an operation ends.
pub(crate) fn finish(
    operation: &str,
    epoch: i64,
    state: OperationState,
    result: String,
    event: Event,
    effects: Effects,
) -> Finish {
    Finish {
        operation: operation.to_owned(),
        epoch,
        state,
        result,
        event,
        grants: effects.grants,
        deleted_keys: effects.deleted_keys,
        user: effects.user,
        deleted_user: effects.deleted_user,
        unaccounted: effects.unaccounted,
        rotation: effects.rotation,
    }
}

/// The record of something that is about to be undone, from the intent's.
pub(crate) fn undoing_event(intent: &Event, what: &str, service: &Service) -> Event {
    let mut event = Event {
        phase: Phase::Event,
        outcome: None,
        time_ms: service.clock().now_ms(),
        instance: service.instance().to_owned(),
        ..intent.clone()
    };
    event.details.insert("undoing".to_owned(), what.to_owned());
    event
}

/// The outcome's record, from the intent's.
pub(crate) fn outcome_event(intent: &Event, outcome: Outcome, effects: &Effects, time_ms: i64) -> Event {
    let mut event = Event { phase: Phase::Outcome, outcome: Some(outcome), time_ms, ..intent.clone() };
    let details = effects.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    event.details.extend(details);
    event
}
