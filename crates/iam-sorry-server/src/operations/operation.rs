//! The one way that every action goes: allowed by the rules, the intent on disk, done at AWS, the outcome on disk.
//!
//! | what happens                              | in the store              | what the caller hears                        |
//! |-------------------------------------------|---------------------------|----------------------------------------------|
//! | the rules say no                          | an event                  | not-allowed or guardrail, with the reasons   |
//! | a dry run                                 | nothing                   | what would be done                           |
//! | the intent can't be written               | nothing                   | store- or audit-unavailable, nothing done    |
//! | the same idempotency key, done before     | nothing new               | the same answer; already-done for a secret   |
//! | the same key, failed or taken back before | a new operation           | as if for the first time                     |
//! | AWS says no, nothing is left              | failed                    | why                                          |
//! | AWS does not answer, or undoing fails     | open: the reconciler's    | aws-unavailable, being settled               |
//! | done, and the outcome can't be written    | open: the reconciler's    | audit-unavailable; a secret is not shown     |
//! | done                                      | done, grants, users, audit | the answer                                  |

use std::time::Duration;

use iam_sorry_core::api::{Done, ProblemCode};
use iam_sorry_core::audit::{Event, Outcome, Phase};
use iam_sorry_store::{
    Begun, Finish, ManagedUser, NewGrant, NewOperation, Operation, OperationState, RotationChange,
    StoreError, UnaccountedKey,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::authz::authorize::{Authorized, AuthzRequest};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::life::Active;
use crate::operations::lifecycle::random_name;
use crate::operations::plan::{Note, Plan, json};
use crate::operations::queue::Turn;
use crate::service::Service;

/// How long an operation of another instance on the same user is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// The epoch of who begins an operation ([`Operation::epoch`]); a reconciler's are above it.
const WORKER: i64 = 0;

/// How long an outcome or a note is tried to be written.
const WRITE_PATIENCE: Duration = Duration::from_secs(15);

/// What a request to act begins as.
pub(crate) enum Start {
    /// The intent is on disk: act.
    Fresh(Box<OpenOperation>),
    /// The same request was done before: its answer.
    Replay(Done),
}

/// An operation whose intent is on disk. It ends by [`OpenOperation::done`] or [`OpenOperation::failed`]; dropped without, it stays
/// open and the reconciler settles it.
pub(crate) struct OpenOperation {
    pub service: Service,
    pub id: String,
    /// Of this instance's life ([`crate::operations::lifecycle`]).
    term: u64,
    event: Event,
    action: &'static str,
    /// The IAM user in its own spelling, or the role.
    resource: String,
    reasons: Vec<String>,
    _active: Active,
    _turn: Option<Turn>,
}

/// What becomes of an operation in the store, besides its state.
#[derive(Default)]
pub(crate) struct Changes {
    pub grants: Vec<NewGrant>,
    pub deleted_keys: Vec<String>,
    pub user: Option<ManagedUser>,
    pub deleted_user: Option<String>,
    /// Keys that were found, and that the operation may or may not have made.
    pub unaccounted: Vec<UnaccountedKey>,
    pub rotation: Option<RotationChange>,
    /// For the audit record.
    pub details: Vec<(&'static str, String)>,
}

impl Service {
    /// Writes the intent of what was allowed. `request` is what the idempotency key stands for.
    pub(crate) async fn begin(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: &AuthzRequest,
        allowed: &Authorized,
        request: &impl Serialize,
        plan: Plan,
    ) -> Result<Start, ServiceError> {
        self.may_begin()?;
        self.audit_out().check()?;
        let term = self.act_only_while_alive();
        let exclusive = authz_request.name().is_some();
        let resource = authz_request.folded();
        let turn = if exclusive {
            Some(self.inner.queues.turn(&resource).await.ok_or_else(|| busy(&resource))?)
        } else {
            None
        };
        let id = random_name()?;
        let key = key.map_or_else(|| format!("~{id}"), |key| key.as_str().to_owned());
        let new = NewOperation {
            id: id.clone(),
            person: caller.identity.id(),
            idempotency_key: key.clone(),
            action: authz_request.action_name().to_owned(),
            resource: resource.clone(),
            exclusive,
            request_hash: digest(authz_request.action_name(), &resource, &json(request)),
            plan: plan.to_json(),
        };
        let mut event = self.event(caller, authz_request.action_name(), &resource);
        event.phase = Phase::Intent;
        event.operation = Some(id.clone());
        allowed.note_in(&mut event);
        event.details.extend(details_of(&plan));
        // Before the row is there, so that our own reconciler never sees it as nobody's.
        let active = Active::new(self.life(), &id);
        if let Some(done) = self.write_intent(new, &event, &key).await? {
            return Ok(Start::Replay(done));
        }
        let run = OpenOperation {
            service: self.clone(),
            id,
            term,
            event,
            action: authz_request.action_name(),
            resource: allowed
                .row
                .as_ref()
                .map_or_else(|| authz_request.resource.to_string(), |row| row.name.clone()),
            reasons: allowed.decision.texts(),
            _active: active,
            _turn: turn,
        };
        if exclusive {
            // The rules decided about the user as it was before its turn came, and before others were kept out.
            let changed = match self.store().user(&run.resource).await {
                Ok(row) if row == allowed.row => return Ok(Start::Fresh(Box::new(run))),
                Ok(_) => changed(&run.resource),
                Err(error) => error.into(),
            };
            return Err(run.failed(changed, Changes::default()).await);
        }
        Ok(Start::Fresh(Box::new(run)))
    }

    /// The same for what the service does on its own account with a user, such as deleting a key whose time is over. `why`
    /// is for the record.
    ///
    /// # Errors
    /// Busy where somebody else is at work on the user; as [`Service::begin`].
    pub(crate) async fn begin_itself(
        &self,
        action: &'static str,
        row: &ManagedUser,
        plan: &Plan,
        why: &str,
    ) -> Result<Box<OpenOperation>, ServiceError> {
        self.life().may_begin()?;
        self.audit_out().check()?;
        let term = self.act_only_while_alive();
        let resource = row.name.to_ascii_lowercase();
        let turn = self.inner.queues.turn(&resource).await.ok_or_else(|| busy(&resource))?;
        let id = random_name()?;
        let mut event = self.own_event(action);
        event.phase = Phase::Intent;
        event.operation = Some(id.clone());
        event.resource.clone_from(&resource);
        event.details.extend(details_of(plan));
        event.details.insert("why".to_owned(), why.to_owned());
        let new = NewOperation {
            id: id.clone(),
            person: event.person.id.clone(),
            idempotency_key: format!("~{id}"),
            action: action.to_owned(),
            exclusive: true,
            request_hash: digest(action, &resource, ""),
            resource,
            plan: plan.to_json(),
        };
        let active = Active::new(self.life(), &id);
        let key = new.idempotency_key.clone();
        // The key is new, so nothing was done under it before.
        self.write_intent(new, &event, &key).await?;
        Ok(Box::new(OpenOperation {
            service: self.clone(),
            id,
            term,
            event,
            action,
            resource: row.name.clone(),
            reasons: Vec::new(),
            _active: active,
            _turn: Some(turn),
        }))
    }

    /// The answer of the same request, where it was done before under the same key: for what can't be decided any more once
    /// it is done. Nothing that the person was not told then.
    pub(crate) async fn done_before(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: &AuthzRequest,
        request: &impl Serialize,
    ) -> Result<Option<Done>, ServiceError> {
        let Some(key) = key else { return Ok(None) };
        let hash = digest(authz_request.action_name(), &authz_request.folded(), &json(request));
        let mut name = key.as_str().to_owned();
        let mut tries = 0_u32;
        while let Some(seen) = self.store().operation_by_key(&caller.identity.id(), &name).await? {
            if seen.new.request_hash != hash || seen.state == OperationState::Open {
                return Ok(None);
            }
            if let Some(done) = replayed(&seen)? {
                return Ok(Some(done));
            }
            tries += 1;
            name = format!("{}~{tries}", key.as_str());
        }
        Ok(None)
    }

    /// `Some`: done before.
    async fn write_intent(
        &self,
        mut new: NewOperation,
        event: &Event,
        key: &str,
    ) -> Result<Option<Done>, ServiceError> {
        let start = Instant::now();
        let mut tries = 0_u32;
        loop {
            match self.store().begin(new.clone(), event.clone()).await? {
                Begun::New => {
                    // The database may have been away while it was written.
                    return match self.may_ask_aws() {
                        Ok(()) => Ok(None),
                        Err(refusal) => Err(self.never_begun(&new, event, refusal).await),
                    };
                }
                Begun::Seen(seen) => match answer_seen(&seen, &new)? {
                    Some(done) => return Ok(Some(done)),
                    None => {
                        // `~` is in no key that a client can send, so these names are ours alone.
                        tries += 1;
                        new.idempotency_key = format!("{key}~{tries}");
                    }
                },
                Begun::Busy(_) if start.elapsed() < BUSY_PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Begun::Busy(_) => return Err(busy(&new.resource)),
            }
        }
    }

    async fn never_begun(&self, new: &NewOperation, event: &Event, refusal: ServiceError) -> ServiceError {
        let finish = Finish {
            operation: new.id.clone(),
            epoch: WORKER,
            state: OperationState::Failed,
            result: json(&refusal.detail),
            event: outcome(event, Outcome::Failure, self.clock().now_ms()),
            grants: Vec::new(),
            deleted_keys: Vec::new(),
            user: None,
            deleted_user: None,
            unaccounted: Vec::new(),
            rotation: None,
        };
        // Where even that can't be written, the reconciler finds an intent that nothing came of.
        if let Err(error) = self.store().finish(finish).await {
            tracing::warn!(%error, operation = new.id, "left to the reconciler");
        }
        refusal
    }
}

/// The same idempotency key was used before. `None`: for an attempt that left nothing, so this is a new one.
fn answer_seen(seen: &Operation, new: &NewOperation) -> Result<Option<Done>, ServiceError> {
    if seen.new.request_hash != new.request_hash {
        return Err(ServiceError::new(
            ProblemCode::IdempotencyMismatch,
            "This Idempotency-Key was used for another request.\nUse a new key for each new request.",
        ));
    }
    if seen.state == OperationState::Open {
        return Err(ServiceError {
            retry_after: Some(5),
            ..ServiceError::new(
                ProblemCode::Busy,
                "This very request is still under way, or being settled after a failure.\nAsk again with the same \
                 Idempotency-Key in a few seconds.",
            )
        });
    }
    replayed(seen)
}

/// The answer of what was done; none where it failed or was taken back.
fn replayed(seen: &Operation) -> Result<Option<Done>, ServiceError> {
    if seen.state != OperationState::Done {
        return Ok(None);
    }
    let done = seen.result.as_deref().and_then(|text| serde_json::from_str::<Done>(text).ok());
    let done = done.ok_or_else(|| {
        tracing::error!(operation = seen.new.id, "its stored answer can't be read");
        ServiceError::new(ProblemCode::Internal, "The stored answer can't be read.")
    })?;
    Ok(Some(Done { changed: false, ..done }))
}

impl OpenOperation {
    /// Whether AWS may be asked for something more.
    pub fn may_act(&self) -> Result<(), ServiceError> {
        self.service.may_ask_aws_in(self.term)
    }

    /// Writes down what became known, trying for a while.
    pub async fn note(&self, note: &Note) -> Result<(), StoreError> {
        let store = self.service.store();
        surely(|| store.note(&self.id, WORKER, note.to_json())).await
    }

    /// Writes down what is about to be undone, with a record of it in the trail, trying for a while. Where it fails, nothing may
    /// be undone.
    pub async fn note_undoing(&self, note: &Note, what: &str) -> Result<(), StoreError> {
        let store = self.service.store();
        let event = undoing(&self.event, what, &self.service);
        surely(|| store.note_with_record(&self.id, WORKER, note.to_json(), event.clone())).await
    }

    /// Done: everything that came of it goes to disk in one transaction.
    ///
    /// # Errors
    /// It could not be written: the operation stays open, and nothing secret may be shown. The error says whether it was
    /// certainly not written (the caller may undo) in its code, store-unavailable or audit-unavailable.
    pub async fn done(&self, notes: Vec<String>, changes: Changes) -> Result<Done, ServiceError> {
        let done = self.answer(true, notes);
        let mut event = outcome(&self.event, Outcome::Success, self.service.clock().now_ms());
        self.fill(&mut event, &changes);
        self.finish(OperationState::Done, json(&done), event, changes).await?;
        Ok(done)
    }

    /// Failed, with nothing left at AWS but what `changes` says.
    pub async fn failed(&self, refusal: ServiceError, changes: Changes) -> ServiceError {
        let mut event = outcome(&self.event, Outcome::Failure, self.service.clock().now_ms());
        self.fill(&mut event, &changes);
        let code = serde_json::to_value(refusal.code).ok();
        if let Some(code) = code.as_ref().and_then(|code| code.as_str()) {
            event.details.insert("error".into(), code.to_owned());
        }
        match self.finish(OperationState::Failed, json(&refusal.detail), event, changes).await {
            Ok(()) => refusal,
            Err(unwritten) => unwritten,
        }
    }

    /// What happened can't be told now: the operation stays open.
    pub fn left_open(&self, what: &str) -> ServiceError {
        tracing::warn!(operation = self.id, what, "left to the reconciler");
        ServiceError {
            retry_after: Some(20),
            ..ServiceError::new(
                ProblemCode::AwsUnavailable,
                format!(
                    "{what}. The service is settling it (operation {}).\nAsk again with the same Idempotency-Key in half a \
                     minute.",
                    self.id
                ),
            )
        }
    }

    /// The answer; `changed` where something was done.
    pub fn answer(&self, changed: bool, notes: Vec<String>) -> Done {
        Done {
            operation: self.id.clone(),
            action: self.action.to_owned(),
            resource: self.resource.clone(),
            changed,
            notes,
            reasons: self.reasons.clone(),
        }
    }

    /// The person that it is done for (`issuer/subject`).
    pub fn person(&self) -> &str {
        &self.event.person.id
    }

    fn fill(&self, event: &mut Event, changes: &Changes) {
        event.aws_request_ids = iam_sorry_aws::take_request_ids();
        let details = changes.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        event.details.extend(details);
    }

    async fn finish(
        &self,
        state: OperationState,
        result: String,
        event: Event,
        changes: Changes,
    ) -> Result<(), ServiceError> {
        let finish = Finish {
            operation: self.id.clone(),
            epoch: WORKER,
            state,
            result,
            event,
            grants: changes.grants,
            deleted_keys: changes.deleted_keys,
            user: changes.user,
            deleted_user: changes.deleted_user,
            unaccounted: changes.unaccounted,
            rotation: changes.rotation,
        };
        finish_surely(&self.service, finish).await.map_err(|error| {
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

/// Tries for a while: the same outcome written twice is one.
pub(crate) async fn finish_surely(service: &Service, finish: Finish) -> Result<(), StoreError> {
    surely(|| service.store().finish(finish.clone())).await.map(drop)
}

/// Repeats a write, which may be there twice without harm, while the database is away.
async fn surely<T, F>(write: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let start = Instant::now();
    loop {
        match write().await {
            // Also where the database was promoted elsewhere, and is read-only here.
            Err(StoreError::Unavailable(_) | StoreError::ReadOnly(_)) if start.elapsed() < WRITE_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            answer => return answer,
        }
    }
}

/// The record of something that is about to be undone, from the intent's.
pub(crate) fn undoing(intent: &Event, what: &str, service: &Service) -> Event {
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
pub(crate) fn outcome(intent: &Event, outcome: Outcome, time_ms: i64) -> Event {
    Event { phase: Phase::Outcome, outcome: Some(outcome), time_ms, ..intent.clone() }
}

/// A dry run ends here: the same answer, without anything done.
pub(crate) fn dry_run(authz_request: &AuthzRequest, allowed: &Authorized, mut notes: Vec<String>) -> Done {
    notes.insert(0, "A dry run: nothing was changed.".to_owned());
    Done {
        operation: String::new(),
        action: authz_request.action_name().to_owned(),
        resource: allowed
            .row
            .as_ref()
            .map_or_else(|| authz_request.resource.to_string(), |row| row.name.clone()),
        changed: false,
        notes,
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

/// After [`already_done`], where another request is as good as this one.
pub(crate) const ASK_AGAIN: &str = "Ask again with a new key.";

fn busy(resource: &str) -> ServiceError {
    ServiceError {
        retry_after: Some(5),
        ..ServiceError::new(
            ProblemCode::Busy,
            format!("Another request is at work on {resource}.\nTry again in a few seconds."),
        )
    }
}

fn changed(resource: &str) -> ServiceError {
    ServiceError {
        retry_after: Some(1),
        ..ServiceError::new(
            ProblemCode::Busy,
            format!("Another request changed {resource} meanwhile, so this was not done.\nTry again."),
        )
    }
}

/// What the intent's record says of the plan, so that an auditor needs no other source.
fn details_of(plan: &Plan) -> Vec<(String, String)> {
    let detail = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    match plan {
        Plan::CreateUser { policies, .. } if !policies.is_empty() => {
            vec![detail("policies", &policies.join(" "))]
        }
        Plan::AttachPolicy { arn, .. } | Plan::DetachPolicy { arn, .. } => vec![detail("policy", arn)],
        Plan::RotateKey { old, .. } => vec![detail("old-access-key-id", old)],
        Plan::DeleteKey { key, .. } => vec![detail("access-key-id", key)],
        Plan::RetireKey { old, new, .. } | Plan::RestoreKey { old, new, .. } => {
            vec![detail("old-access-key-id", old), detail("access-key-id", new)]
        }
        _ => Vec::new(),
    }
}

/// SHA-256 over what was asked for, so that the same key for something else is noticed.
fn digest(action: &str, resource: &str, request: &str) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [action, resource, request] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
