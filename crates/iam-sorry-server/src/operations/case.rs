//! One operation to be settled, as actions see it, and what becomes of it.

use iam_sorry_aws::AwsError;
use iam_sorry_core::api::Change;
use iam_sorry_core::ids::UserRef;
use iam_sorry_store::Operation;

use crate::accounts::handle::AwsHandle;
use crate::error::ServiceError;
use crate::operations::acted::Effects;
use crate::operations::notes::Note;
use crate::operations::outcome::undoing_event;
use crate::service::Service;

/// One operation to be settled. It is this reconciler's: whatever its worker or another instance still writes is refused.
#[derive(Debug)]
pub struct Case<'a> {
    pub(crate) service: &'a Service,
    pub(crate) handle: &'a AwsHandle,
    pub(crate) operation: &'a Operation,
    pub(crate) notes: &'a [Note],
    /// A request whose answer nobody heard may still be under way, or its effect not shown by IAM.
    pub(crate) fresh: bool,
}

/// What became of an operation.
#[derive(Debug)]
pub enum Settled {
    /// It was finished; what was done.
    Done(Vec<Change>, Effects),
    /// Nothing is left of it but what the effects say; why.
    Undone(String, Effects),
}

/// Why it can't be settled yet.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// AWS.
    #[error("{0}")]
    Aws(#[from] AwsError),
    /// The service itself, as a person would read it.
    #[error("{0}")]
    Service(#[from] ServiceError),
    /// The database.
    #[error("{0}")]
    Store(#[from] iam_sorry_store::StoreError),
    /// A request may be under way.
    #[error("AWS may not show yet what there is")]
    TooFresh,
    /// It was written by another version, or is damaged.
    #[error("its plan can't be read: {0}")]
    Plan(#[from] serde_json::Error),
    /// The same.
    #[error("its action can't be read: {0}")]
    Action(#[from] iam_sorry_core::names::InvalidName),
}

impl Settled {
    /// Finished, with nothing more to be written down.
    pub(crate) fn done(change: Change) -> Self {
        Self::Done(vec![change], Effects::default())
    }

    /// Undone, with nothing more to be written down.
    pub(crate) fn undone(why: impl Into<String>) -> Self {
        Self::Undone(why.into(), Effects::default())
    }
}

impl Case<'_> {
    /// Whether the operation wrote that down.
    pub(crate) fn noted(&self, note: &Note) -> bool {
        self.notes.contains(note)
    }

    /// What people call the user: its name alone if its account goes without saying.
    pub(crate) fn label(&self, user: &UserRef) -> String {
        self.service.label(user)
    }

    /// The case of an action that is simply repeated: not before the request that was under way has ended.
    pub(crate) fn not_fresh(&self) -> Result<(), SettleError> {
        if self.fresh { Err(SettleError::TooFresh) } else { Ok(()) }
    }

    /// On disk and in the trail, before anything is taken away.
    pub(crate) async fn note_undoing(&self, note: &Note, what: &str) -> Result<(), SettleError> {
        let event = undoing_event(&self.operation.event, what, self.service);
        let (id, epoch) = (&self.operation.new.id, self.operation.epoch);
        Ok(self.service.store().note_with_record(id, epoch, note.to_json(), event).await?)
    }
}
