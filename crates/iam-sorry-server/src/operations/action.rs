//! An action as a value: what it needs the right to, what it plans, how it is done, and how a half of it is settled that an
//! instance left behind.
//!
//! An action can be stored as JSON and run later. Whoever runs it, it goes through the one pipeline of
//! [`crate::operations::run`].

use std::sync::Arc;

use iam_sorry_core::api::{ActionName, Change, Done, ProblemCode};
use iam_sorry_core::ids::UserRef;
use iam_sorry_store::ManagedUser;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::accounts::handle::AwsHandle;
use crate::authz::authorize::{Authorized, AuthzRequest};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::acted::Acted;
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;
use crate::service::Service;

/// Something that changes AWS.
///
/// Its fields are what was requested, parsed. It refuses fields that it does not know when it is read from JSON: a version of
/// the program that does not understand the whole of a stored action must not do a part of it.
pub trait Action: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// In requests, answers, operations and the audit trail.
    const NAME: ActionName;

    /// The tag of its stored plans. Never changes.
    const PLAN: &'static str;

    /// Whether the answer to the same request a second time is given before the rules are evaluated: for what can't be decided
    /// any more once it is done, such as the deletion of a user who is gone. The person learns nothing new by it.
    const REPLAYED_FIRST: bool = false;

    /// Whether the service alone does it, when its time has come: no person can request it.
    const BY_SERVICE_ONLY: bool = false;

    /// What the intent says is about to be done, with everything that it takes to finish or undo it. Never a secret.
    type Plan: Serialize + DeserializeOwned + Send + Sync;

    /// What the person gets once it is done.
    type Output: Send + 'static;

    /// What the rules decide about.
    fn request(&self) -> AuthzRequest;

    /// What an idempotency key stands for besides the action's name and its resource, as JSON. Hashes of it are stored: it
    /// never changes for the same request.
    fn parameters(&self) -> String {
        json(&())
    }

    /// What will be done. Reads, and changes nothing.
    ///
    /// # Errors
    /// It can't be done: nothing was begun.
    fn plan(&self, cx: &Context) -> impl Future<Output = Result<Planned<Self::Plan>, ServiceError>> + Send;

    /// What would be done, as far as a dry run can know.
    ///
    /// # Errors
    /// Why it would fail, as far as can be known without doing it.
    fn preview(
        &self,
        cx: &Context,
        plan: &Self::Plan,
    ) -> impl Future<Output = Result<Vec<Change>, ServiceError>> + Send;

    /// What the audit record of the intent says of the plan, so that an auditor needs no other source.
    fn details(_plan: &Self::Plan) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Does it, once the intent is on disk.
    ///
    /// # Errors
    /// [`crate::operations::acted::Unsuccessful`]: nothing is left of it at AWS, or it is the reconciler's.
    fn act(
        &self,
        cx: &Context,
        plan: &Self::Plan,
        op: &OpenOperation,
    ) -> impl Future<Output = Acted<Self::Output>> + Send;

    /// Finishes or undoes what was left open, wherever [`Action::act`] stopped. It may itself be stopped anywhere and called
    /// again.
    ///
    /// # Errors
    /// It can't be settled yet, and is tried again.
    fn settle(
        plan: &Self::Plan,
        case: &Case<'_>,
    ) -> impl Future<Output = Result<Settled, SettleError>> + Send;

    /// It was done, but the person was not told, and nobody has the secret of the access key that it made: takes it back.
    ///
    /// # Errors
    /// It is tried again.
    fn take_back(
        _service: &Service,
        _plan: &Self::Plan,
        _key: &str,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send {
        async { Ok(()) }
    }

    /// The answer to a request that was done before under the same idempotency key.
    ///
    /// # Errors
    /// already-done if the first answer showed a secret, which is kept nowhere.
    fn replay(
        &self,
        _service: &Service,
        done: Done,
    ) -> impl Future<Output = Result<Done, ServiceError>> + Send {
        async { Ok(done) }
    }
}

/// Whether to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Do it.
    Act,
    /// Decide, check, and say what would be done.
    DryRun,
}

impl Mode {
    /// As requests say it.
    pub fn of(dry_run: bool) -> Self {
        if dry_run { Self::DryRun } else { Self::Act }
    }
}

/// What came of a request to act.
#[derive(Clone, Debug)]
pub enum RunOutput<T> {
    /// It was done now.
    Acted(T),
    /// Nothing was done now: a dry run, the same request was done before, or there was nothing to do.
    Unchanged(Done),
}

impl RunOutput<Done> {
    /// The answer of an action that shows nothing secret.
    pub fn into_done(self) -> Done {
        match self {
            Self::Acted(done) | Self::Unchanged(done) => done,
        }
    }
}

/// What [`Action::plan`] comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned<P> {
    /// There is something to do.
    Act(P),
    /// There is nothing to do; why.
    Nothing(Vec<Change>),
}

/// What an action is planned and done with.
#[derive(Debug)]
pub struct Context {
    pub(crate) service: Service,
    pub(crate) handle: Arc<AwsHandle>,
    pub(crate) allowed: Authorized,
    pub(crate) requester: Requester,
}

/// Who wants it done.
#[derive(Clone, Debug)]
pub(crate) enum Requester {
    /// A person, within a request.
    Person(Box<Caller>),
    /// The service itself; why, for the audit record.
    Service(&'static str),
}

impl Context {
    /// The user's row, and its name as IAM spells it.
    pub(crate) fn user(&self) -> Result<(&ManagedUser, UserRef), ServiceError> {
        let row = self.allowed.managed()?;
        Ok((row, row.user.clone()))
    }

    /// What people call the user: its name alone if its account goes without saying.
    pub(crate) fn label(&self, user: &UserRef) -> String {
        self.service.label(user)
    }

    /// The person who requested it.
    ///
    /// # Errors
    /// The service itself did; no action that the service does on its own account needs a person.
    pub(crate) fn caller(&self) -> Result<&Caller, ServiceError> {
        match &self.requester {
            Requester::Person(caller) => Ok(caller),
            Requester::Service(_) => {
                Err(ServiceError::new(ProblemCode::Internal, "This action is done for a person only."))
            }
        }
    }
}
