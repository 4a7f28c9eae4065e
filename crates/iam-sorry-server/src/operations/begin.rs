//! Writing an intent, and recognising a request that was made before.

use std::time::Duration;

use iam_sorry_core::api::{ActionName, Done, ProblemCode};
use iam_sorry_core::audit::{Event, Outcome, Phase};
use iam_sorry_rules::RuleSet;
use iam_sorry_store::{Begun, NewOperation, Operation, OperationState, StoreError};
use tokio::time::Instant;

use crate::authz::authorize::{Authorized, AuthzRequest};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::acted::Effects;
use crate::operations::action::Requester;
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::life::Active;
use crate::operations::notes::json;
use crate::operations::open_operation::{OpenOperation, WORKER};
use crate::operations::outcome::{finish, outcome_event, with_retries};
use crate::random_name::random_name;
use crate::service::Service;

/// How long an operation of another instance on the same user is waited for.
const BUSY_TIME: Duration = Duration::from_secs(10);

/// What is to be begun.
pub(crate) struct Begin<'a> {
    pub name: ActionName,
    pub request: &'a AuthzRequest,
    pub allowed: &'a Authorized,
    pub requester: &'a Requester,
    pub key: Option<&'a IdempotencyKey>,
    /// What the idempotency key stands for.
    pub parameters: String,
    /// As it is stored.
    pub plan: String,
    /// For the intent's record.
    pub details: Vec<(&'static str, String)>,
}

/// What a request to act begins as.
pub(crate) enum Start {
    /// The intent is on disk: act.
    Fresh(Box<OpenOperation>),
    /// The same request was done before: its answer.
    Replay(Done),
}

impl Service {
    /// Writes the intent of what was allowed.
    pub(crate) async fn begin(&self, begin: Begin<'_>) -> Result<Start, ServiceError> {
        self.may_begin()?;
        self.audit_out().check()?;
        let term = self.act_only_while_alive();
        let user = begin.request.user_ref();
        let resource = begin.request.folded();
        let turn = match user {
            Some(user) => {
                let queue = format!("{}/{resource}", user.account);
                Some(self.inner.queues.turn(&queue).await.ok_or_else(|| busy(&self.label(user)))?)
            }
            None => None,
        };
        let id = random_name()?;
        let key = begin.key.map_or_else(|| format!("~{id}"), |key| key.as_str().to_owned());
        let event = self.intent_event(&begin, &id, &resource);
        let new = NewOperation {
            id: id.clone(),
            person: event.person.id.clone(),
            idempotency_key: key.clone(),
            action: begin.name.as_str().to_owned(),
            account: begin.allowed.account_of(begin.request).clone(),
            request_hash: digest(begin.name.as_str(), &begin.request.folded_in_account(), &begin.parameters),
            resource,
            exclusive: user.is_some(),
            plan: begin.plan,
        };
        // Before the row is there, so that our own reconciler never sees it as nobody's.
        let active = Active::new(self.life(), &id);
        if let Some(done) = self.write_intent(new, &event, &key).await? {
            return Ok(Start::Replay(done));
        }
        let op = OpenOperation {
            service: self.clone(),
            id,
            term,
            event,
            action: begin.name,
            resource: begin.allowed.spelling_of(begin.request),
            reasons: begin.allowed.decision.texts(),
            _active: active,
            _turn: turn,
        };
        if matches!(begin.requester, Requester::Person(_))
            && iam_sorry_core::planted!("rules-not-compared": false, !self.still_decided_by(&begin.allowed.rules))
        {
            return Err(op.failed(rules_changed(), Effects::default()).await);
        }
        if let Some(user) = user {
            // The rules decided about the user as it was before its turn came, and before others were kept out.
            let error = match self.store().user(user).await {
                Ok(row) if iam_sorry_core::planted!("user-not-compared": true, row == begin.allowed.row) => {
                    return Ok(Start::Fresh(Box::new(op)));
                }
                Ok(_) => changed(&self.label(user)),
                Err(error) => error.into(),
            };
            return Err(op.failed(error, Effects::default()).await);
        }
        Ok(Start::Fresh(Box::new(op)))
    }

    /// Whether the rules in force are those that decided. It may have taken half a minute until the intent was on disk.
    fn still_decided_by(&self, rules: &RuleSet) -> bool {
        self.rules().digest().whole() == rules.digest().whole()
    }

    fn intent_event(&self, begin: &Begin<'_>, id: &str, resource: &str) -> Event {
        let mut event = match begin.requester {
            Requester::Person(caller) => {
                let mut event = self.event(caller, begin.name.as_str(), resource);
                begin.allowed.note_in(&mut event);
                event
            }
            Requester::Service(why) => {
                let mut event = self.own_event(begin.name.as_str());
                resource.clone_into(&mut event.resource);
                event.details.insert("why".to_owned(), (*why).to_owned());
                event
            }
        };
        event.phase = Phase::Intent;
        event.operation = Some(id.to_owned());
        let details = begin.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        event.details.extend(details);
        event
    }

    /// The answer of the same request, if it was done before under the same key: for what can't be decided any more once
    /// it is done. Nothing that the person did not know then.
    pub(crate) async fn done_before(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        request: &AuthzRequest,
        parameters: &str,
    ) -> Result<Option<Done>, ServiceError> {
        let Some(key) = key else { return Ok(None) };
        let hash = digest(request.action_name(), &request.folded_in_account(), parameters);
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
            match self.write_once(&new, event).await? {
                Begun::New => {
                    // The database may have been away while it was written.
                    return match self.may_ask_aws() {
                        Ok(()) => Ok(None),
                        Err(error) => Err(self.never_begun(&new, event, error).await),
                    };
                }
                // This very operation, whose beginning nobody confirmed for so long that somebody else has settled it.
                Begun::Seen(seen) if iam_sorry_core::planted!("own-beginning-is-foreign": false, seen.new.id == new.id) =>
                {
                    let why = StoreError::Fenced(new.id.clone());
                    return Err(perhaps_begun(&new.id, &why));
                }
                Begun::Seen(seen) => match answer_seen(&seen, &new)? {
                    Some(done) => return Ok(Some(done)),
                    None => {
                        // `~` is in no key that a client can send, so these names are the service's alone.
                        tries += 1;
                        new.idempotency_key = format!("{key}~{tries}");
                    }
                },
                Begun::Busy(_) if start.elapsed() < BUSY_TIME => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Begun::Busy(_) => return Err(busy(&new.resource)),
            }
        }
    }

    /// If the database did not say whether it has written the intent, it is asked under the same id until it does.
    async fn write_once(&self, new: &NewOperation, event: &Event) -> Result<Begun, ServiceError> {
        match self.store().begin(new.clone(), event.clone()).await {
            Err(StoreError::OutcomeUnknown(why)) => {
                iam_sorry_core::planted!("unknown-beginning-is-none": return Err(StoreError::Unavailable(why).into()), drop(why));
            }
            known => return Ok(known?),
        }
        let begun = with_retries(|| self.store().begin(new.clone(), event.clone())).await;
        begun.map_err(|error| perhaps_begun(&new.id, &error))
    }

    async fn never_begun(&self, new: &NewOperation, event: &Event, error: ServiceError) -> ServiceError {
        let effects = Effects::default();
        let event = outcome_event(event, Outcome::Failure, &effects, self.clock().now_ms());
        let finish = finish(&new.id, WORKER, OperationState::Failed, json(&error.detail), event, effects);
        // If even that can't be written, the reconciler finds an intent, and may do what it says.
        match self.store().finish(finish).await {
            Ok(_) => error,
            Err(unwritten) => perhaps_begun(&new.id, &unwritten),
        }
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
    if iam_sorry_core::planted!("open-request-begun-again": false, seen.state == OperationState::Open) {
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

/// The answer of what was done; none if it failed or was taken back.
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

fn busy(resource: &str) -> ServiceError {
    ServiceError {
        retry_after: Some(5),
        ..ServiceError::new(
            ProblemCode::Busy,
            format!("Another request is at work on {resource}.\nTry again in a few seconds."),
        )
    }
}

/// Nobody knows whether the intent is on disk. If it is, the reconciler deals with it.
fn perhaps_begun(operation: &str, error: &StoreError) -> ServiceError {
    tracing::error!(%error, operation, "whether the intent was written is not known");
    ServiceError {
        retry_after: Some(20),
        ..ServiceError::new(
            ProblemCode::StoreUnavailable,
            format!(
                "The service's database did not say whether this was begun. If it was, it is being settled (operation {operation}).\n\
                 Ask again with the same Idempotency-Key in half a minute."
            ),
        )
    }
}

fn rules_changed() -> ServiceError {
    ServiceError {
        retry_after: Some(1),
        ..ServiceError::new(
            ProblemCode::Busy,
            "The rules were changed meanwhile, so this was not done.\nTry again: the new ones decide.",
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

/// SHA-256 over what was requested, so that the same key for something else is noticed.
fn digest(action: &str, resource: &str, parameters: &str) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [action, resource, parameters] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
