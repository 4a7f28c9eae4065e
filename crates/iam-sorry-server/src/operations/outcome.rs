//! Writing what became of an operation: the records, and trying for a while when the database is away.

use std::time::Duration;

use iam_sorry_core::audit::{Event, Outcome, Phase};
use iam_sorry_store::{Finish, OperationState, StoreError};
use tokio::time::Instant;

use crate::operations::acted::Effects;
use crate::service::Service;

/// How long an outcome or a note is tried to be written.
const WRITE_TIME: Duration = Duration::from_secs(15);

/// Waits until nothing can come any more of a change that this work has sent, and whose answer was lost. While the operation is
/// open, nobody else changes the user; afterwards, the change would undo what others do.
pub(crate) async fn wait_for_late_changes(service: &Service) {
    if let Some(sent) =
        iam_sorry_core::planted!("late-change-not-awaited": None, iam_sorry_aws::last_unanswered())
    {
        tokio::time::sleep_until(sent + service.actions().settle()).await;
    }
}

/// Tries for a while: the same outcome written twice is one.
pub(crate) async fn finish_with_retries(service: &Service, finish: Finish) -> Result<(), StoreError> {
    let written = with_retries(|| service.store().finish(finish.clone())).await.map(drop);
    iam_sorry_core::planted!("unknown-outcome-is-written": match written { Err(StoreError::OutcomeUnknown(_)) => Ok(()), it => it }, written)
}

/// Repeats a write, which may be there twice without harm, while the database is away.
pub(crate) async fn with_retries<T, F>(write: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let start = Instant::now();
    let (mut unknown, mut attempts) = (None, 0);
    loop {
        attempts += 1;
        let error = match write().await {
            // What an earlier attempt did is not known any better by a later one that fails.
            // Twice at least, also if this process stood still meanwhile.
            Err(error)
                if !may_be_repeated(&error)
                    || (iam_sorry_core::planted!("one-attempt-to-write": true, attempts > 1)
                        && start.elapsed() >= WRITE_TIME) =>
            {
                return Err(unknown.unwrap_or(error));
            }
            Err(error) => error,
            written => return written,
        };
        if matches!(error, StoreError::OutcomeUnknown(_)) {
            unknown = Some(error);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Also if the database was promoted elsewhere, and is read-only here.
fn may_be_repeated(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) | StoreError::ReadOnly(_))
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
