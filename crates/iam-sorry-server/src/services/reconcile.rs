//! Settling what was left open: by an instance that died, or by this one where AWS did not answer. Nothing that an
//! operation may have made stays unaccounted for.
//!
//! An operation left open holds its IAM user for itself, so nobody of ours changes the user meanwhile.
//!
//! | action            | left open after              | in IAM                      | what is done                                   |
//! |-------------------|------------------------------|-----------------------------|------------------------------------------------|
//! | create-user       | intent                       | nothing, or the user        | by its tag: finished; not there: undone        |
//! |                   | CreateUser, some policies    | the user                    | finished: the other policies, its row          |
//! |                   | note taking-back             | the user, or nothing        | deleted: undone                                |
//! | delete-user       | any step                     | some of it                  | finished                                       |
//! | adopt-user        | any step                     | boundary, path, tag         | finished, if it is still the same user (its id) |
//! | attach, detach    | intent                       | perhaps done                | finished                                       |
//! | create-access-key | intent                       | nothing, or a key           | the key that nobody accounts for goes: undone  |
//! |                   | note key                     | the key                     | deleted by its id: undone (nobody has the secret) |
//! | rotate-key        | intent, note key             | both keys                   | the new one deleted: undone                    |
//! |                   | note old-key-inactive        | both, or the new one        | the old one active again, the new one deleted: undone |
//! | delete-access-key | any step                     | the key, or nothing         | finished                                       |
//! | issue, a user     | intent, note key             | nothing, or a key           | as create-access-key                           |
//! | issue, a role     | intent                       | nothing that can be deleted | undone: the secret of a session reached nobody |
//!
//! A key that nobody accounts for: of this user, made within [`MAKING`] after the intent by AWS's clock, never used but
//! for asking STS, in no grant, in no other operation's notes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::{AwsError, lookup, managed, removal, steps};
use iam_sorry_core::api::Done;
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::names::UserName;
use iam_sorry_store::{Finish, Operation, OperationState};
use tokio::time::Instant;

use super::aws::{Way, is_final};
use super::decide::user_name;
use super::lifecycle::TAKEOVER;
use super::operation::{Changes, finish_surely, outcome};
use super::plan::{Note, Plan, json};
use super::tags::is_of;
use super::users::{Standing, complete_user, take_back_user};
use super::{Refusal, Service, adopt};

/// From the intent to the end of CreateAccessKey no operation takes longer, seconds.
const MAKING: i64 = 90;

/// How far AWS's clock may seem ahead of itself: its answers tell whole seconds.
const ALLOWANCE: i64 = 2;

/// How long the reconciler's turn lasts without being prolonged. Less than [`TAKEOVER`], so that nobody waits for the turn of
/// an instance that is dead.
const LEASE: Duration = Duration::from_secs(15);

/// The longest pause between two attempts at the same operation.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What this instance has tried to settle.
#[derive(Default)]
pub(super) struct Settling(Mutex<HashMap<String, Attempt>>);

#[derive(Clone, Copy)]
struct Attempt {
    first_seen: Instant,
    not_before: Instant,
    pause: Duration,
}

/// What became of an operation.
enum Settled {
    Done(Vec<String>, Changes),
    Undone(String, Changes),
}

/// Why it can't be settled yet.
#[derive(Debug, thiserror::Error)]
enum Later {
    #[error("{0}")]
    Aws(#[from] AwsError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Store(#[from] iam_sorry_store::StoreError),
    #[error("AWS may not show yet what there is")]
    TooFresh,
    #[error("its plan can't be read: {0}")]
    Plan(#[from] serde_json::Error),
}

impl Service {
    /// Looks once for operations that nobody is at work on, and settles them.
    pub(super) async fn reconcile(&self) {
        if self.life().may_ask_aws().is_err() {
            return;
        }
        if let Err(error) = self.settle_what_is_left().await {
            tracing::warn!(%error, "reconciling");
        }
    }

    async fn settle_what_is_left(&self) -> Result<(), Later> {
        let open = self.store().open_operations().await?;
        self.inner.settling.forget_all_but(&open);
        let (mine, others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|op| op.instance == self.instance());
        for operation in mine.iter().filter(|op| !self.life().is_active(&op.new.id)) {
            self.settle(operation, false).await;
        }
        // On a database that only one instance can have open, every other one is dead.
        let silence = if self.inner.parts.other_instances { TAKEOVER } else { Duration::ZERO };
        if others.is_empty() {
            return Ok(());
        }
        let dead = self.store().dead_instances(silence).await?;
        for operation in others.iter().filter(|op| dead.contains(&op.instance)) {
            // One at a time, so that two of us don't look for the same lost key. Where there can be no other, an instance that
            // died in its turn must not be waited for.
            let shared = self.inner.parts.other_instances;
            if shared && !self.store().lease("reconciler", LEASE).await? {
                return Ok(());
            }
            // Taken over from here on: whatever the other one still writes is refused.
            if self.store().claim(&operation.new.id, &operation.instance).await? {
                tracing::warn!(operation = operation.new.id, from = operation.instance, "taken over");
                self.settle(operation, self.inner.parts.other_instances).await;
            }
        }
        Ok(())
    }

    /// `silent`: its instance was dead for long enough that no request of it can be under way.
    async fn settle(&self, operation: &Operation, silent: bool) {
        let id = &operation.new.id;
        let Some(attempt) = self.inner.settling.turn(id) else { return };
        let fresh = !silent && attempt.first_seen.elapsed() < self.actions().settle();
        let work = async {
            let (settled, request_ids) = self.what_became(operation, fresh).await?;
            self.write_settled(operation, settled, request_ids).await
        };
        match iam_sorry_aws::keeping_request_ids(work).await {
            Ok(()) => self.inner.settling.forget(id),
            Err(Later::TooFresh) => self.inner.settling.again(id, Duration::from_secs(1)),
            Err(error) => {
                tracing::warn!(%error, operation = id, action = operation.new.action, "not settled yet");
                self.inner.settling.later(id);
            }
        }
    }

    async fn what_became(&self, operation: &Operation, fresh: bool) -> Result<(Settled, Vec<String>), Later> {
        // The notes may have grown since the list was made.
        let operation = self.store().operation(&operation.new.id).await?.unwrap_or_else(|| operation.clone());
        let plan: Plan = serde_json::from_str(&operation.new.plan)?;
        let notes: Vec<Note> =
            operation.notes.iter().map(|note| serde_json::from_str(note)).collect::<Result<_, _>>()?;
        let way = self.way().await?;
        let case = Case { service: self, way: &way, operation: &operation, notes: &notes, fresh };
        let settled = case.settle(&plan).await?;
        Ok((settled, iam_sorry_aws::take_request_ids()))
    }

    async fn write_settled(
        &self,
        operation: &Operation,
        settled: Settled,
        request_ids: Vec<String>,
    ) -> Result<(), Later> {
        let id = operation.new.id.clone();
        let (state, notes, changes) = match settled {
            Settled::Done(notes, changes) => (OperationState::Done, notes, changes),
            Settled::Undone(why, changes) => (OperationState::Undone, vec![why], changes),
        };
        let text = notes.join("; ");
        let result = match state {
            OperationState::Done => json(&Done {
                operation: id.clone(),
                action: operation.new.action.clone(),
                resource: operation.new.resource.clone(),
                changed: true,
                notes,
                reasons: Vec::new(),
            }),
            _ => json(&text),
        };
        let mut event = outcome(&operation.event, Outcome::Reconciled, self.clock().now_ms());
        event.instance = self.instance().to_owned();
        event.aws_request_ids = request_ids;
        let what = if state == OperationState::Done { "finished" } else { "undone" };
        event.details.insert("reconciled".into(), what.into());
        event.details.insert("notes".into(), text.clone());
        event.details.extend(changes.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let finish = Finish {
            operation: id.clone(),
            state,
            result,
            event,
            grants: changes.grants,
            deleted_keys: changes.deleted_keys,
            user: changes.user,
            deleted_user: changes.deleted_user,
        };
        finish_surely(self, finish).await?;
        tracing::info!(operation = id, action = operation.new.action, what, notes = text, "settled");
        Ok(())
    }
}

/// One operation to be settled.
struct Case<'a> {
    service: &'a Service,
    way: &'a Way,
    operation: &'a Operation,
    notes: &'a [Note],
    /// A request whose answer nobody heard may still be under way, or its effect not shown by IAM.
    fresh: bool,
}

impl Case<'_> {
    async fn settle(&self, plan: &Plan) -> Result<Settled, Later> {
        match plan {
            Plan::CreateUser { user, .. } => self.created_user(plan, &user_name(user)?).await,
            Plan::DeleteUser { user } => self.deleted_user(&user_name(user)?).await,
            Plan::AdoptUser { user, .. } => self.adopted_user(plan, &user_name(user)?).await,
            Plan::AttachPolicy { user, arn } => self.policy(&user_name(user)?, arn, true).await,
            Plan::DetachPolicy { user, arn } => self.policy(&user_name(user)?, arn, false).await,
            Plan::CreateKey { user, since } | Plan::UserSession { user, since } => {
                let deleted = self.delete_made(&user_name(user)?, *since).await?;
                Ok(undone_keys(&deleted, Vec::new()))
            }
            Plan::RotateKey { user, old, old_was_active, since } => {
                self.rotated(&user_name(user)?, old, *old_was_active, *since).await
            }
            Plan::DeleteKey { user, key } => self.deleted_key(&user_name(user)?, key).await,
            Plan::RoleSession { .. } => Ok(Settled::Undone(
                "a session may have been made, whose secret reached nobody".into(),
                Changes::default(),
            )),
        }
    }

    async fn created_user(&self, plan: &Plan, name: &UserName) -> Result<Settled, Later> {
        let (aws, credentials, id) = (&self.way.aws, &self.way.credentials, &self.operation.new.id);
        let facts = match managed::facts(aws, credentials, name).await {
            Ok(facts) if is_of(&facts, id) => facts,
            Err(AwsError::NoSuchUser { .. }) if self.fresh => return Err(Later::TooFresh),
            Ok(_) | Err(AwsError::NoSuchUser { .. }) => {
                return Ok(Settled::Undone("no user was made".into(), Changes::default()));
            }
            Err(error) => return Err(error.into()),
        };
        if !self.notes.contains(&Note::TakingBack) {
            let owner = &self.operation.new.person;
            match complete_user(self.service.clone(), self.way, &facts, plan, owner).await {
                Ok((notes, row)) => {
                    return Ok(Settled::Done(notes, Changes { user: Some(row), ..Changes::default() }));
                }
                Err(error) if is_final(&error) => {
                    tracing::warn!(%error, operation = id, "the user can't be finished, so it goes");
                    self.service.store().note(id, Note::TakingBack.to_json()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        take_back_user(self.way, name, id).await?;
        Ok(Settled::Undone(format!("the user {name} was deleted again"), Changes::default()))
    }

    async fn deleted_user(&self, name: &UserName) -> Result<Settled, Later> {
        let Some(row) = self.service.store().user(name.as_str()).await? else {
            return Ok(Settled::Done(vec!["it was gone".into()], Changes::default()));
        };
        let mut changes = Changes { deleted_user: Some(row.name.clone()), ..Changes::default() };
        match self.service.standing(self.way, &row, name).await? {
            Standing::Ours(_) => {}
            Standing::Gone => return Ok(Settled::Done(vec!["it was gone".into()], changes)),
            Standing::NotOurs(why) => return Ok(Settled::Undone(why, Changes::default())),
        }
        match removal::delete_completely(&self.way.aws, &self.way.credentials, name).await {
            Ok(removed) => {
                changes.deleted_keys = removed.keys;
                Ok(Settled::Done(removed.lines, changes))
            }
            Err(error) if is_final(&error) => Ok(Settled::Undone(
                format!("AWS refused to delete {name}; what was taken away stays away"),
                Changes::default(),
            )),
            Err(error) => Err(error.into()),
        }
    }

    async fn adopted_user(&self, plan: &Plan, name: &UserName) -> Result<Settled, Later> {
        let new = &self.operation.new;
        let now = self.service.clock().now_ms();
        match adopt::complete_adoption(self.way, name, plan, &new.person, &new.id, now).await {
            Ok(Some((notes, changes))) => Ok(Settled::Done(notes, changes)),
            Ok(None) => {
                Ok(Settled::Undone("the user is gone, or another one by now".into(), Changes::default()))
            }
            Err(error) if is_final(&error) => {
                Ok(Settled::Undone("AWS refused a step of it".into(), Changes::default()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn policy(&self, name: &UserName, arn: &str, attach: bool) -> Result<Settled, Later> {
        let Some(row) = self.service.store().user(name.as_str()).await? else {
            return Ok(Settled::Undone("the user is gone".into(), Changes::default()));
        };
        match self.service.standing(self.way, &row, name).await? {
            Standing::Ours(_) => {}
            Standing::Gone => {
                let changes = Changes { deleted_user: Some(row.name), ..Changes::default() };
                return Ok(Settled::Undone("the user is gone".into(), changes));
            }
            Standing::NotOurs(why) => return Ok(Settled::Undone(why, Changes::default())),
        }
        let (aws, credentials) = (&self.way.aws, &self.way.credentials);
        let done = match attach {
            true => managed::attach(aws, credentials, name, arn).await.map(|()| format!("attached {arn}")),
            false => managed::detach(aws, credentials, name, arn).await.map(|_| format!("detached {arn}")),
        };
        match done {
            Ok(note) => Ok(Settled::Done(vec![note], Changes::default())),
            Err(error) if is_final(&error) => {
                Ok(Settled::Undone("AWS refused it".into(), Changes::default()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn deleted_key(&self, name: &UserName, key: &str) -> Result<Settled, Later> {
        let patience = self.service.actions().patience();
        steps::delete_key_surely(&self.way.aws, &self.way.credentials, name, key, &patience).await?;
        let changes = Changes { deleted_keys: vec![key.to_owned()], ..Changes::default() };
        Ok(Settled::Done(vec![format!("deleted access key {key}")], changes))
    }

    async fn rotated(
        &self,
        name: &UserName,
        old: &str,
        old_was_active: bool,
        since: i64,
    ) -> Result<Settled, Later> {
        let (aws, credentials) = (&self.way.aws, &self.way.credentials);
        let keys = match lookup::keys_of(aws, credentials, name).await {
            Err(AwsError::NoSuchUser { .. }) => Vec::new(),
            keys => keys?,
        };
        let mut gone = Vec::new();
        match keys.iter().find(|key| key.id == old) {
            Some(key) if old_was_active && !key.active => {
                steps::set_key_active(aws, credentials, name, old, true).await?;
            }
            Some(_) => {}
            None => gone.push(old.to_owned()),
        }
        let deleted = self.delete_made(name, since).await?;
        Ok(undone_keys(&deleted, gone))
    }

    /// Deletes the key that this operation made, where it made one.
    async fn delete_made(&self, name: &UserName, since: i64) -> Result<Vec<String>, Later> {
        let noted = self.notes.iter().find_map(|note| match note {
            Note::Key { id } => Some(id.clone()),
            _ => None,
        });
        let made = match noted {
            Some(id) => vec![id],
            None if self.fresh => return Err(Later::TooFresh),
            None => self.unaccounted(name, since).await?,
        };
        let patience = self.service.actions().patience();
        for id in &made {
            steps::delete_key_surely(&self.way.aws, &self.way.credentials, name, id, &patience).await?;
        }
        Ok(made)
    }

    async fn unaccounted(&self, name: &UserName, since: i64) -> Result<Vec<String>, Later> {
        let (aws, credentials) = (&self.way.aws, &self.way.credentials);
        let keys = match lookup::keys_of(aws, credentials, name).await {
            Err(AwsError::NoSuchUser { .. }) => return Ok(Vec::new()), // keys die with their user
            keys => keys?,
        };
        let window = since - ALLOWANCE..=since + MAKING;
        let mut found = Vec::new();
        for key in keys {
            let in_window = key.created.is_some_and(|at| window.contains(&at.unix()));
            if !in_window || self.service.store().grant_of_key(&key.id).await?.is_some() {
                continue;
            }
            // Our own question to STS counts as a use of the key that was made for it.
            let ours = match lookup::last_used(aws, credentials, &key.id).await? {
                LastUsed::Never => true,
                LastUsed::At(_, service) => service.eq_ignore_ascii_case("sts"),
                LastUsed::Unknown => false,
            };
            if ours {
                found.push(key.id);
            } else {
                tracing::warn!(key = key.id, user = %name, "made in the same minute, and in use: not ours");
            }
        }
        Ok(found)
    }
}

fn undone_keys(deleted: &[String], gone: Vec<String>) -> Settled {
    let mut text = match deleted {
        [] => "no access key was made".to_owned(),
        keys => {
            format!("the access key {} was deleted again, since its secret reached nobody", keys.join(" "))
        }
    };
    if !gone.is_empty() {
        text.push_str(&format!("; the old key {} had been deleted", gone.join(" ")));
    }
    let deleted_keys = deleted.iter().cloned().chain(gone).collect();
    Settled::Undone(text, Changes { deleted_keys, ..Changes::default() })
}

impl Settling {
    /// The attempt that is due now, if one is.
    fn turn(&self, id: &str) -> Option<Attempt> {
        let mut all = self.all();
        let now = Instant::now();
        let first = Attempt { first_seen: now, not_before: now, pause: Duration::from_secs(1) };
        let attempt = *all.entry(id.to_owned()).or_insert(first);
        (attempt.not_before <= now).then_some(attempt)
    }

    fn again(&self, id: &str, after: Duration) {
        if let Some(attempt) = self.all().get_mut(id) {
            attempt.not_before = Instant::now() + after;
        }
    }

    fn later(&self, id: &str) {
        if let Some(attempt) = self.all().get_mut(id) {
            attempt.not_before = Instant::now() + attempt.pause;
            attempt.pause = (attempt.pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn forget(&self, id: &str) {
        self.all().remove(id);
    }

    fn forget_all_but(&self, open: &[Operation]) {
        self.all().retain(|id, _| open.iter().any(|operation| operation.new.id == *id));
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
