//! An operation whose intent is on disk, in the hands of the worker that began it.

use iam_sorry_core::api::{ActionName, Change, Done, ProblemCode};
use iam_sorry_core::audit::{Event, Outcome};
use iam_sorry_core::changes::sentences;
use iam_sorry_core::ids::UserRef;
use iam_sorry_store::{OperationState, StoreError};

use crate::error::ServiceError;
use crate::operations::acted::{Effects, Unsuccessful};
use crate::operations::life::Active;
use crate::operations::notes::{Note, json};
use crate::operations::outcome::{
    finish, finish_with_retries, outcome_event, undoing_event, wait_for_late_changes, with_retries,
};
use crate::operations::queue::Turn;
use crate::service::Service;

/// The epoch of who begins an operation ([`iam_sorry_store::Operation::epoch`]); a reconciler's are above it.
pub(crate) const WORKER: i64 = 0;

/// An operation whose intent is on disk. It ends by [`OpenOperation::done`] or [`OpenOperation::failed`]; dropped without, it
/// stays open and the reconciler settles it.
pub struct OpenOperation {
    pub(crate) service: Service,
    pub(crate) id: String,
    /// Of this instance's life ([`crate::operations::lifecycle`]).
    pub(crate) term: u64,
    pub(crate) event: Event,
    pub(crate) action: ActionName,
    /// The IAM user in its own spelling, or the role.
    pub(crate) resource: String,
    pub(crate) reasons: Vec<String>,
    pub(crate) _active: Active,
    pub(crate) _turn: Option<Turn>,
}

impl std::fmt::Debug for OpenOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOperation").field("id", &self.id).finish_non_exhaustive()
    }
}

impl OpenOperation {
    /// Whether another request to AWS may be made.
    pub(crate) fn may_act(&self) -> Result<(), ServiceError> {
        self.service.may_ask_aws_in(self.term)
    }

    /// The person that it is done for (`issuer/subject`).
    pub(crate) fn person(&self) -> &str {
        &self.event.person.id
    }

    /// Writes down what became known, trying for a while.
    pub(crate) async fn note(&self, note: &Note) -> Result<(), StoreError> {
        let store = self.service.store();
        with_retries(|| store.note(&self.id, WORKER, note.to_json())).await
    }

    /// Writes down what is about to be undone, with a record of it in the trail, trying for a while. If it fails, nothing may
    /// be undone.
    pub(crate) async fn note_undoing(&self, note: &Note, what: &str) -> Result<(), StoreError> {
        let store = self.service.store();
        let event = undoing_event(&self.event, what, &self.service);
        with_retries(|| store.note_with_record(&self.id, WORKER, note.to_json(), event.clone())).await
    }

    /// An access key was made, and nobody will get its secret: for the reconciler, should this process live so long.
    pub(crate) fn hand_over(&self, user: &UserRef, key: &str) {
        self.service.inner.settling.hand_over(&self.id, user, key);
    }

    /// What happened is not known now: the operation stays open. `what` begins the sentence for the person.
    pub(crate) fn left_open(&self, what: &str, error: &dyn std::fmt::Display) -> Unsuccessful {
        tracing::warn!(operation = self.id, what, %error, "left to the reconciler");
        Unsuccessful::LeftOpen(ServiceError {
            retry_after: Some(20),
            ..ServiceError::new(
                ProblemCode::AwsUnavailable,
                format!(
                    "{what}. The service is settling it (operation {}).\nAsk again with the same Idempotency-Key in half a \
                     minute.",
                    self.id
                ),
            )
        })
    }

    /// Done: everything that came of it goes to disk in one transaction.
    ///
    /// # Errors
    /// It could not be written: the operation stays open, and nothing secret may be shown.
    pub(super) async fn done(&self, changes: Vec<Change>, effects: Effects) -> Result<Done, ServiceError> {
        let done = Done {
            operation: self.id.clone(),
            action: self.action,
            resource: self.resource.clone(),
            changed: true,
            dry_run: false,
            notes: sentences(&changes, false),
            changes,
            reasons: self.reasons.clone(),
        };
        let event = self.outcome(Outcome::Success, &effects);
        self.finish(OperationState::Done, json(&done), event, effects).await?;
        Ok(done)
    }

    /// Failed, with nothing left at AWS but what the effects say. Gives the error to answer with.
    pub(super) async fn failed(&self, error: ServiceError, effects: Effects) -> ServiceError {
        let mut event = self.outcome(Outcome::Failure, &effects);
        let code = serde_json::to_value(error.code).ok();
        if let Some(code) = code.as_ref().and_then(|code| code.as_str()) {
            event.details.insert("error".into(), code.to_owned());
        }
        match self.finish(OperationState::Failed, json(&error.detail), event, effects).await {
            Ok(()) => error,
            Err(unwritten) => unwritten,
        }
    }

    fn outcome(&self, outcome: Outcome, effects: &Effects) -> Event {
        let mut event = outcome_event(&self.event, outcome, effects, self.service.clock().now_ms());
        event.aws_request_ids = iam_sorry_aws::take_request_ids();
        event
    }

    async fn finish(
        &self,
        state: OperationState,
        result: String,
        event: Event,
        effects: Effects,
    ) -> Result<(), ServiceError> {
        wait_for_late_changes(&self.service).await;
        let finish = finish(&self.id, WORKER, state, result, event, effects);
        finish_with_retries(&self.service, finish).await.map_err(|error| {
            tracing::error!(%error, operation = self.id, "the outcome can't be written");
            let code = match error {
                StoreError::Full(_) | StoreError::Unwritable(_) | StoreError::ReadOnly(_) => {
                    ProblemCode::AuditUnavailable
                }
                _ => ProblemCode::StoreUnavailable,
            };
            ServiceError {
                retry_after: Some(20),
                ..ServiceError::new(
                    code,
                    format!(
                        "What was done can't be written down, so it is being settled (operation {}).\nAsk again with the same \
                         Idempotency-Key in half a minute.",
                        self.id
                    ),
                )
            }
        })
    }
}
