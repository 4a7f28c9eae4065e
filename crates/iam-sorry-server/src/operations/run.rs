//! The one way that every action goes: allowed by the rules, planned, the intent on disk, done at AWS, the outcome on disk.
//!
//! | what happens                              | in the store              | what the caller gets                         |
//! |-------------------------------------------|---------------------------|----------------------------------------------|
//! | the rules say no                          | an event                  | not-allowed or guardrail, with the reasons   |
//! | a dry run                                 | nothing                   | what would be done                           |
//! | there is nothing to do                    | nothing                   | that nothing was changed                     |
//! | the intent can't be written               | nothing                   | store- or audit-unavailable, nothing done    |
//! | the same idempotency key, done before     | nothing new               | the same answer; already-done for a secret   |
//! | the same key, failed or taken back before | a new operation           | as if for the first time                     |
//! | AWS says no, nothing is left              | failed                    | why                                          |
//! | AWS does not answer, or undoing fails     | open: the reconciler's    | aws-unavailable, being settled               |
//! | done, and the outcome can't be written    | open: the reconciler's    | audit-unavailable; a secret is not shown     |
//! | done                                      | done, grants, users, audit | the answer                                  |

use iam_sorry_core::api::{Change, Done, ProblemCode};
use iam_sorry_core::changes::sentences;
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Decision;
use iam_sorry_store::ManagedUser;

use crate::authz::authorize::{Authorized, AuthzRequest};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Success, Unsuccessful};
use crate::operations::action::{Action, Context, Mode, Planned, Requester, RunOutput};
use crate::operations::begin::{Begin, Start};
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::open_operation::OpenOperation;
use crate::operations::stored_plan;
use crate::service::Service;

impl Service {
    /// Runs an action on behalf of a person. It goes on to its end whether or not the person's connection lasts.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed; already-done for the same idempotency key if a secret was shown then; what the action
    /// names; or AWS or the store.
    pub async fn run<A: Action>(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        action: A,
        mode: Mode,
    ) -> Result<RunOutput<A::Output>, ServiceError> {
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.run_for_person(caller, key.as_ref(), &action, mode).await }).await
    }

    async fn run_for_person<A: Action>(
        &self,
        caller: Caller,
        key: Option<&IdempotencyKey>,
        action: &A,
        mode: Mode,
    ) -> Result<RunOutput<A::Output>, ServiceError> {
        if A::BY_SERVICE_ONLY {
            let detail = format!("The service does {} by itself; it can't be requested.", A::NAME);
            return Err(ServiceError::new(ProblemCode::BadRequest, detail));
        }
        let request = AuthzRequest { recorded_as: Some(A::NAME.as_str()), ..action.request() };
        if A::REPLAYED_FIRST
            && let Some(done) = self.done_before(&caller, key, &request, &action.parameters()).await?
        {
            return Ok(RunOutput::Unchanged(action.replay(self, done).await?));
        }
        let allowed = self.authorize(&caller, &request).await?;
        let cx = Context {
            service: self.clone(),
            handle: self.handle(allowed.account_of(&request)).await?,
            allowed,
            requester: Requester::Person(Box::new(caller)),
        };
        self.go_through(action, &request, &cx, key, mode).await
    }

    /// Runs an action on the service's own account with a user of its own, such as deleting a key whose time is over. `why` is
    /// for the record. No rule is evaluated.
    ///
    /// # Errors
    /// Busy if somebody else is at work on the user; as [`Service::run`].
    pub(crate) async fn run_itself<A: Action>(
        &self,
        action: A,
        row: ManagedUser,
        why: &'static str,
    ) -> Result<RunOutput<A::Output>, ServiceError> {
        let service = self.clone();
        self.detached(async move {
            let request = AuthzRequest { recorded_as: Some(A::NAME.as_str()), ..action.request() };
            let decision = Decision { allowed: true, reasons: Vec::new() };
            let handle = service.handle(&row.user.account).await?;
            let allowed = Authorized { decision, row: Some(row), seconds: None, rules: service.rules() };
            let cx =
                Context { service: service.clone(), handle, allowed, requester: Requester::Service(why) };
            service.go_through(&action, &request, &cx, None, Mode::Act).await
        })
        .await
    }

    /// From the decision in favour to the outcome.
    async fn go_through<A: Action>(
        &self,
        action: &A,
        request: &AuthzRequest,
        cx: &Context,
        key: Option<&IdempotencyKey>,
        mode: Mode,
    ) -> Result<RunOutput<A::Output>, ServiceError> {
        let plan = match action.plan(cx).await? {
            Planned::Act(plan) => plan,
            Planned::Nothing(changes) => {
                return Ok(RunOutput::Unchanged(unchanged::<A>(request, &cx.allowed, changes, false)));
            }
        };
        if iam_sorry_core::planted!("dry-run-acts": false, mode == Mode::DryRun) {
            let changes = action.preview(cx, &plan).await?;
            return Ok(RunOutput::Unchanged(unchanged::<A>(request, &cx.allowed, changes, true)));
        }
        let begin = Begin {
            name: A::NAME,
            request,
            allowed: &cx.allowed,
            requester: &cx.requester,
            key,
            parameters: action.parameters(),
            plan: stored_plan::write(A::PLAN, &plan),
            details: A::details(&plan),
        };
        match self.begin(begin).await? {
            Start::Replay(done) => Ok(RunOutput::Unchanged(action.replay(self, done).await?)),
            Start::Fresh(op) => {
                let acted = action.act(cx, &plan, &op).await;
                conclude(&op, request.user_ref(), acted).await.map(RunOutput::Acted)
            }
        }
    }
}

/// Writes the outcome, and gives the answer.
async fn conclude<T>(op: &OpenOperation, user: Option<&UserRef>, acted: Acted<T>) -> Result<T, ServiceError> {
    match acted {
        Ok(Success { changes, effects, secret_of, output }) => match op.done(changes, effects).await {
            Ok(done) => Ok(output(done)),
            Err(unwritten) => {
                if let (Some(key), Some(user)) = (secret_of, user) {
                    iam_sorry_core::planted!("unshown-key-forgotten": drop(key), op.hand_over(user, &key));
                }
                Err(unwritten)
            }
        },
        // A request that was answered in the end may have been a repetition: what became of the first one is not known.
        Err(Unsuccessful::Failed(error, _)) if iam_sorry_core::planted!("lost-and-failed-is-failed": false, iam_sorry_aws::last_unanswered().is_some()) => {
            match op.left_open("AWS did not answer, and may have done a part of it", &error) {
                Unsuccessful::LeftOpen(error) | Unsuccessful::Failed(error, _) => Err(error),
            }
        }
        Err(Unsuccessful::Failed(error, effects)) => Err(op.failed(error, *effects).await),
        Err(Unsuccessful::LeftOpen(error)) => Err(error),
    }
}

/// The answer if nothing was done.
fn unchanged<A: Action>(
    request: &AuthzRequest,
    allowed: &Authorized,
    changes: Vec<Change>,
    dry_run: bool,
) -> Done {
    Done {
        operation: String::new(),
        action: A::NAME,
        resource: allowed.spelling_of(request),
        changed: false,
        dry_run,
        notes: sentences(&changes, dry_run),
        changes,
        reasons: allowed.decision.texts(),
    }
}

/// For a replay whose secret was shown then. `next` is what the person can do now.
pub(crate) fn already_done(done: &Done, what: &str, next: &str) -> ServiceError {
    ServiceError::new(
        ProblemCode::AlreadyDone,
        format!(
            "This was done before under the same Idempotency-Key (operation {}), and {what} was shown then; it is kept \
             nowhere.\n{next}",
            done.operation
        ),
    )
}

/// After [`already_done`], if another request is as good as this one.
pub(crate) const ASK_AGAIN: &str = "Ask again with a new key.";
