//! The service's journal of a key's life: the notes of the operation that makes it, and the records of what is taken back.

use iam_sorry_aws::AwsError;
use iam_sorry_aws::key::Journal;
use iam_sorry_aws::key::lost::Suspect;
use iam_sorry_core::audit::Event;
use iam_sorry_core::ids::UserRef;
use iam_sorry_store::StoreError;

use crate::error::ServiceError;
use crate::operations::case::{Case, SettleError};
use crate::operations::notes::Note;
use crate::operations::open_operation::OpenOperation;
use crate::operations::outcome::undoing_event;
use crate::operations::unaccounted::UNACCOUNTED_KEY;

/// An operation as the journal of the key that it makes, in the hands of its worker or of a reconciler.
#[derive(Clone, Copy)]
pub(crate) enum KeyJournal<'a> {
    /// In the hands of whoever began it. It tries for a while to write.
    Worker(&'a OpenOperation),
    /// In the hands of a reconciler, which comes again, and the user whose key it is.
    Reconciler(&'a Case<'a>, &'a UserRef),
}

/// Why something could not be written down, or AWS's refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("{0}")]
    Aws(#[from] AwsError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<JournalError> for ServiceError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Aws(error) => ServiceError::of_aws(error),
            JournalError::Store(error) => error.into(),
        }
    }
}

impl From<JournalError> for SettleError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Aws(error) => error.into(),
            JournalError::Store(error) => error.into(),
        }
    }
}

impl Journal for KeyJournal<'_> {
    type Error = JournalError;

    async fn note_made(&self, key_id: &str) -> Result<(), JournalError> {
        let note = Note::Key { id: key_id.to_owned() };
        match self {
            Self::Worker(operation) => operation.note(&note).await?,
            Self::Reconciler(case, _) => {
                let (store, operation) = (case.service.store(), case.operation);
                store.note(&operation.new.id, operation.epoch, note.to_json()).await?;
            }
        }
        Ok(())
    }

    /// With a record of it in the trail.
    async fn note_deleting(&self, key_id: &str) -> Result<(), JournalError> {
        let note = Note::TakingBackKey { id: key_id.to_owned() };
        match self {
            Self::Worker(operation) => {
                let what = format!("access key {key_id}, which was just made");
                operation.note_undoing(&note, &what).await?;
            }
            Self::Reconciler(case, _) if case.noted(&note) => {}
            Self::Reconciler(case, _) => {
                let what = format!("access key {key_id}, which it made");
                note_recorded(case, &note, undoing_event(&case.operation.event, &what, case.service)).await?;
            }
        }
        Ok(())
    }

    /// Each with a record in the trail. A worker never looks for a key: it leaves that to the reconciler.
    async fn note_found(&self, suspects: &[Suspect]) -> Result<(), JournalError> {
        let Self::Reconciler(case, user) = self else { return Ok(()) };
        for suspect in suspects {
            let note = Note::Unaccounted { id: suspect.key_id.clone() };
            if case.noted(&note) {
                continue;
            }
            let (operation, key, deactivate) = (&case.operation.new.id, &suspect.key_id, suspect.deactivated);
            tracing::warn!(operation, user = %user, key, deactivate, "an unaccounted access key");
            let what = format!("access key {key}, which it may have made");
            let mut event = undoing_event(&case.operation.event, &what, case.service);
            event.action = UNACCOUNTED_KEY.to_owned();
            event.details.insert("access-key-id".to_owned(), key.clone());
            let found = if deactivate { "deactivated" } else { "left as it is" };
            event.details.insert("found".to_owned(), found.to_owned());
            note_recorded(case, &note, event).await?;
        }
        Ok(())
    }

    /// A key that somebody was given is in a grant, and one that another lost answer may have left is in the table of those. No
    /// other operation makes a key of this user: one that is open has the user for itself.
    async fn accounted_for(&self, key_ids: &[String]) -> Result<Vec<String>, JournalError> {
        let store = match self {
            Self::Worker(operation) => operation.service.store(),
            Self::Reconciler(case, _) => case.service.store(),
        };
        let unaccounted = store.unaccounted_keys().await?;
        let mut accounted_for = Vec::new();
        for id in key_ids {
            let known = unaccounted.iter().any(|key| key.access_key_id == *id);
            if known || store.grant_of_key(id).await?.is_some() {
                accounted_for.push(id.clone());
            }
        }
        Ok(accounted_for)
    }
}

async fn note_recorded(case: &Case<'_>, note: &Note, event: Event) -> Result<(), StoreError> {
    let (id, epoch) = (&case.operation.new.id, case.operation.epoch);
    case.service.store().note_with_record(id, epoch, note.to_json(), event).await
}
