//! How an act ends: done, with what the person gets; failed; or left to the reconciler.

use iam_sorry_core::api::{Change, Done};
use iam_sorry_core::ids::UserRef;
use iam_sorry_store::{ManagedUser, NewGrant, RotationChange, UnaccountedKey};

use crate::error::ServiceError;

/// How [`crate::operations::action::Action::act`] ends.
pub type Acted<T> = Result<Success<T>, Unsuccessful>;

/// It is done.
pub struct Success<T> {
    /// What was done.
    pub(crate) changes: Vec<Change>,
    pub(crate) effects: Effects,
    /// The access key whose secret the output shows. If the outcome can't be written, nobody gets it, so the key goes.
    pub(crate) secret_of: Option<String>,
    /// Makes what the person gets, once the outcome is on disk.
    pub(crate) output: Box<dyn FnOnce(Done) -> T + Send>,
}

impl Success<Done> {
    /// For an action that shows nothing secret.
    pub(crate) fn new(changes: Vec<Change>, effects: Effects) -> Self {
        Self { changes, effects, secret_of: None, output: Box::new(|done| done) }
    }
}

impl<T> std::fmt::Debug for Success<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Success").field("changes", &self.changes).finish_non_exhaustive()
    }
}

/// It is not done.
#[derive(Debug)]
pub enum Unsuccessful {
    /// Nothing is left of it at AWS but what the effects say.
    Failed(ServiceError, Box<Effects>),
    /// What happened is not known, or could not be undone: the operation stays open, and the reconciler settles it.
    LeftOpen(ServiceError),
}

impl Unsuccessful {
    /// Failed, with something to be written down.
    pub(crate) fn failed(error: ServiceError, effects: Effects) -> Self {
        Self::Failed(error, Box::new(effects))
    }
}

impl From<ServiceError> for Unsuccessful {
    /// Failed without a trace at AWS.
    fn from(error: ServiceError) -> Self {
        Self::failed(error, Effects::default())
    }
}

/// What becomes of an operation in the store, besides its state. It is written in one transaction with the outcome.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    pub(crate) grants: Vec<NewGrant>,
    pub(crate) deleted_keys: Vec<String>,
    pub(crate) user: Option<ManagedUser>,
    pub(crate) deleted_user: Option<UserRef>,
    /// Keys that were found, and that the operation may or may not have made.
    pub(crate) unaccounted: Vec<UnaccountedKey>,
    pub(crate) rotation: Option<RotationChange>,
    /// For the audit record.
    pub(crate) details: Vec<(&'static str, String)>,
}
