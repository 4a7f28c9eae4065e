//! Settling what was left open: by an instance that died, or by this one where AWS did not answer. Nothing that an
//! operation may have made stays unaccounted for, and nothing is taken from somebody who is at work.
//!
//! # What is abandoned
//!
//! An operation of this instance whose worker has ended, and any of an instance that is dead. That takes three looks, in this
//! order: the list of open operations; for each, whether it is at work (its worker is [`crate::operations::lifecycle::Active`] from before
//! the intent is written until after its last write); and then `Store::claim`, which in one transaction looks whether the
//! operation is still open and in the hands that the list gave it, and changes hands. Who was on the list and is not at work
//! afterwards has ended; what it finished in between, the claim finds closed. (To ask who is at work *before* the list would
//! not do: an operation that began in between would be on the list and at work nowhere.) For a dead instance, the claim also
//! looks at its last beat. Every attempt claims anew, before its first request to AWS, goes by the notes that the claim read,
//! and fences whoever had the operation before.
//!
//! An operation left open holds its IAM user for itself, so nobody of ours changes the user meanwhile.
//!
//! # Whose key is it
//!
//! A key is deleted only by an id that this operation noted, or that its worker remembers: AWS told it nobody else. Then
//! there is a record of it in the trail first. IAM lets nothing be tied to a key when it is made (no tag, no token of the
//! request), so a key that is *found* after a lost answer is never proved to be ours, however well it fits: the request may
//! not have arrived, and an administrator may have made a key in the same second. A key that fits is of this user, made
//! within [`MAKING`] after the intent by AWS's clock, not there before, in no grant, and was never used, since nobody has the
//! secret of ours. Where exactly one fits, it is deactivated, which its owner can take back; where several do, at most one is
//! ours, and none is touched. Either way it is recorded (`unaccounted-key`), kept in a table, and counted on /readyz and
//! /metrics, until somebody deletes it (`iam-sorry keys delete`) or shows that it is theirs by activating or using it
//! ([`crate::operations::unaccounted`]). It stays one of the two keys that IAM allows, so after two lost answers a person must decide;
//! no rule of ours could, since time proves nothing either.
//!
//! # The table
//!
//! | action            | left open after              | in IAM                      | what is done                                   |
//! |-------------------|------------------------------|-----------------------------|------------------------------------------------|
//! | create-user       | intent                       | nothing, or the user        | by its tag: finished; not there: undone        |
//! |                   | CreateUser, some policies    | the user                    | finished: the other policies, its row          |
//! |                   | note taking-back             | the user, or nothing        | deleted: undone                                |
//! | delete-user       | any step                     | some of it                  | finished                                       |
//! | adopt-user        | any step                     | boundary, path, tag         | finished, if it is still the same user (its id) |
//! | attach, detach    | intent                       | perhaps done                | finished                                       |
//! | create-access-key | intent                       | nothing, or a key           | a key that fits is deactivated: undone         |
//! |                   | note key                     | the key                     | deleted by its id: undone (nobody has the secret) |
//! | rotate-key        | intent                       | the old key, perhaps a new one | as create-access-key                        |
//! |                   | note key                     | both keys                   | the new one deleted: undone                    |
//! |                   | note old-key-inactive        | both keys                   | the old one active again, the new one deleted: undone |
//! | confirm-, retire-key | any step                  | the old key, or nothing     | finished, unless the old key is in use by now  |
//! | restore-key       | any step                     | one key, or both            | finished                                       |
//! | delete-access-key | any step                     | the key, or nothing         | finished                                       |
//! | issue, a user     | intent, note key             | nothing, or a key           | as create-access-key                           |
//! | issue, a role     | intent                       | nothing that can be deleted | undone: the secret of a session reached nobody |

use std::time::Duration;

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::{AwsError, lookup, managed, primitives, removal};
use iam_sorry_core::api::Done;
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::names::UserName;
use iam_sorry_store::{Finish, Operation, OperationState, UnaccountedKey};

use crate::accounts::handle::{AwsHandle, is_final};
use crate::accounts::tags::is_of;
use crate::actions::adopt;
use crate::actions::users::{Standing, complete_user, take_back_user};
use crate::authz::authorize::user_name;
use crate::error::ServiceError;
use crate::operations::life::TAKEOVER;
use crate::operations::operation::{Changes, finish_surely, outcome, undoing};
use crate::operations::plan::{Note, Plan, json};
use crate::operations::settling::MadeKey;
use crate::operations::unaccounted::UNACCOUNTED_KEY;
use crate::service::Service;

/// From the intent to the end of CreateAccessKey no operation takes longer, seconds.
const MAKING: i64 = 90;

/// How far AWS's clock may seem ahead of itself: its answers tell whole seconds.
const ALLOWANCE: i64 = 2;

/// How long the reconciler's turn lasts without being prolonged. Less than [`TAKEOVER`], so that nobody waits for the turn of
/// an instance that is dead.
const LEASE: Duration = Duration::from_secs(15);

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
    Refused(#[from] ServiceError),
    #[error("{0}")]
    Store(#[from] iam_sorry_store::StoreError),
    #[error("AWS may not show yet what there is")]
    TooFresh,
    #[error("its plan can't be read: {0}")]
    Plan(#[from] serde_json::Error),
}

impl Service {
    /// Looks once for operations that nobody is at work on, and settles them.
    pub(crate) async fn reconcile(&self) {
        if self.may_ask_aws().is_err() {
            return;
        }
        if let Err(error) = self.settle_what_is_left().await {
            tracing::warn!(%error, "reconciling");
        }
    }

    async fn settle_what_is_left(&self) -> Result<(), Later> {
        let open = self.store().open_operations().await?;
        self.inner.settling.forget_all_but(&open);
        let take_back = iam_sorry_aws::keeping_request_ids(self.take_back_remembered_keys(&open));
        if let Err(error) = take_back.await {
            tracing::warn!(%error, "taking keys back that could not be written down");
        }
        let (mine, others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|op| op.instance == self.instance());
        // Asked after the list was made: see the module's text.
        for seen in mine.iter().filter(|op| !self.life().is_active(&op.new.id)) {
            self.settle(seen, Duration::ZERO, false).await;
        }
        // On a database that only one instance can have open, every other one is dead.
        let shared = self.inner.parts.other_instances;
        let silence = if shared { TAKEOVER } else { Duration::ZERO };
        if others.is_empty() {
            return Ok(());
        }
        let dead = self.store().dead_instances(silence).await?;
        for seen in others.iter().filter(|op| dead.contains(&op.instance)) {
            // One at a time, so that two of us don't do the same looking. The claim decides: should the turn end in the middle,
            // nobody else gets this operation. Where there can be no other, an instance that died in its turn must not be
            // waited for.
            if shared && !self.store().lease("reconciler", LEASE).await? {
                return Ok(());
            }
            self.settle(seen, silence, shared).await;
        }
        Ok(())
    }

    /// `silent`: its instance was dead for long enough that no request of it can be under way.
    async fn settle(&self, seen: &Operation, silence: Duration, silent: bool) {
        let id = &seen.new.id;
        let Some(attempt) = self.inner.settling.turn(id) else { return };
        let fresh = !silent && attempt.first_seen.elapsed() < self.actions().settle();
        let work = async {
            self.act_only_while_alive();
            let Some(operation) = self.claim(seen, silence).await? else { return Ok(false) };
            let settled = self.what_becomes(&operation, fresh).await?;
            self.write_settled(&operation, settled, iam_sorry_aws::take_request_ids()).await?;
            Ok(true)
        };
        match iam_sorry_aws::keeping_request_ids(work).await {
            Ok(true) => self.inner.settling.forget(id),
            Ok(false) => {}
            Err(Later::TooFresh) => self.inner.settling.again(id, Duration::from_secs(1)),
            Err(error) => {
                tracing::warn!(%error, operation = id, action = seen.new.action, "not settled yet");
                self.inner.settling.later(id);
            }
        }
    }

    /// The operation, where it is this reconciler's from here on: whatever its worker or another instance still writes is
    /// refused.
    async fn claim(&self, seen: &Operation, silence: Duration) -> Result<Option<Operation>, Later> {
        let Some(mut operation) = self.store().claim(seen, silence).await? else { return Ok(None) };
        let id = &operation.new.id;
        if seen.instance != self.instance() {
            tracing::warn!(operation = id, from = seen.instance, "taken over");
        }
        if let Some(key) = self.inner.settling.remembered_key(id) {
            let note = Note::Key { id: key.id }.to_json();
            self.store().note(id, operation.epoch, note.clone()).await?;
            operation.notes.push(note);
        }
        Ok(Some(operation))
    }

    /// Keys that workers of this instance made and could not write down, and whose operations somebody else has settled
    /// meanwhile, who could not know. Their ids prove them to be ours.
    async fn take_back_remembered_keys(&self, open: &[Operation]) -> Result<(), Later> {
        self.act_only_while_alive();
        for (id, key) in self.inner.settling.remembered_keys() {
            if open.iter().any(|open| open.new.id == id) {
                continue;
            }
            if let Some(operation) = self.store().operation(&id).await? {
                if !key.recorded {
                    let what = format!("access key {}, which it made", key.id);
                    self.store().record(vec![undoing(&operation.event, &what, self)]).await?;
                    self.inner.settling.remember_key(&id, MadeKey { recorded: true, ..key.clone() });
                }
                let (handle, patience) = (self.handle().await?, self.actions().patience());
                primitives::delete_key_surely(
                    &handle.aws,
                    &handle.credentials,
                    &key.user,
                    &key.id,
                    &patience,
                )
                .await?;
                let event = self.accounted(&id, key.user.as_str(), &key.id, "it was the service's own");
                self.store().account_for_key(&key.id, event).await?;
            }
            self.inner.settling.forget(&id);
        }
        Ok(())
    }

    async fn what_becomes(&self, operation: &Operation, fresh: bool) -> Result<Settled, Later> {
        let plan: Plan = serde_json::from_str(&operation.new.plan)?;
        let notes: Vec<Note> =
            operation.notes.iter().map(|note| serde_json::from_str(note)).collect::<Result<_, _>>()?;
        let handle = self.handle().await?;
        Case { service: self, handle: &handle, operation, notes: &notes, fresh }.settle(&plan).await
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
        let found = !changes.unaccounted.is_empty();
        let finish = Finish {
            operation: id.clone(),
            epoch: operation.epoch,
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
        finish_surely(self, finish).await?;
        if found {
            self.count_unaccounted().await?;
        }
        tracing::info!(operation = id, action = operation.new.action, what, notes = text, "settled");
        Ok(())
    }
}

/// One operation to be settled.
struct Case<'a> {
    service: &'a Service,
    handle: &'a AwsHandle,
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
            Plan::CreateKey { user, since, before } => {
                let made = self.take_back_key(&user_name(user)?, *since, before).await?;
                Ok(undone_keys(made, Vec::new()))
            }
            // Which keys the user had before is not asked for: they are older than the intent.
            Plan::UserSession { user, since } => {
                let made = self.take_back_key(&user_name(user)?, *since, &[]).await?;
                Ok(undone_keys(made, Vec::new()))
            }
            Plan::RotateKey { user, old, old_was_active, since, before } => {
                self.rotated(&user_name(user)?, old, *old_was_active, *since, before).await
            }
            Plan::RetireKey { user, old, .. } => self.ended(&user_name(user)?, old, true).await,
            Plan::RestoreKey { user, old, .. } => self.ended(&user_name(user)?, old, false).await,
            Plan::DeleteKey { user, key } => self.deleted_key(&user_name(user)?, key).await,
            Plan::RoleSession { .. } => Ok(Settled::Undone(
                "a session may have been made, whose secret reached nobody".into(),
                Changes::default(),
            )),
        }
    }

    async fn created_user(&self, plan: &Plan, name: &UserName) -> Result<Settled, Later> {
        let (aws, credentials, id) = (&self.handle.aws, &self.handle.credentials, &self.operation.new.id);
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
            match complete_user(self.service.clone(), self.handle, &facts, plan, owner).await {
                Ok((notes, row)) => {
                    return Ok(Settled::Done(notes, Changes { user: Some(row), ..Changes::default() }));
                }
                Err(error) if is_final(&error) => {
                    tracing::warn!(%error, operation = id, "the user can't be finished, so it goes");
                    self.note_undoing(&Note::TakingBack, &format!("the user {name}, which it made")).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        take_back_user(self.handle, name, id).await?;
        Ok(Settled::Undone(format!("the user {name} was deleted again"), Changes::default()))
    }

    async fn deleted_user(&self, name: &UserName) -> Result<Settled, Later> {
        let Some(row) = self.service.store().user(name.as_str()).await? else {
            return Ok(Settled::Done(vec!["it was gone".into()], Changes::default()));
        };
        let mut changes = Changes { deleted_user: Some(row.name.clone()), ..Changes::default() };
        match self.service.standing(self.handle, &row, name).await? {
            Standing::Ours(_) => {}
            Standing::Gone => return Ok(Settled::Done(vec!["it was gone".into()], changes)),
            Standing::NotOurs(why) => return Ok(Settled::Undone(why, Changes::default())),
        }
        match removal::delete_completely(&self.handle.aws, &self.handle.credentials, name).await {
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
        match adopt::complete_adoption(self.handle, name, plan, &new.person, &new.id, now).await {
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
        match self.service.standing(self.handle, &row, name).await? {
            Standing::Ours(_) => {}
            Standing::Gone => {
                let changes = Changes { deleted_user: Some(row.name), ..Changes::default() };
                return Ok(Settled::Undone("the user is gone".into(), changes));
            }
            Standing::NotOurs(why) => return Ok(Settled::Undone(why, Changes::default())),
        }
        let (aws, credentials) = (&self.handle.aws, &self.handle.credentials);
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
        primitives::delete_key_surely(&self.handle.aws, &self.handle.credentials, name, key, &patience)
            .await?;
        let changes = Changes { deleted_keys: vec![key.to_owned()], ..Changes::default() };
        Ok(Settled::Done(vec![format!("deleted access key {key}")], changes))
    }

    async fn rotated(
        &self,
        name: &UserName,
        old: &str,
        old_was_active: bool,
        since: i64,
        before: &[String],
    ) -> Result<Settled, Later> {
        let (aws, credentials) = (&self.handle.aws, &self.handle.credentials);
        let keys = match lookup::keys_of(aws, credentials, name).await {
            Err(AwsError::NoSuchUser { .. }) => Vec::new(),
            keys => keys?,
        };
        let mut gone = Vec::new();
        let deactivated = self.notes.contains(&Note::OldKeyInactive);
        if deactivated && self.fresh {
            return Err(Later::TooFresh); // the request may still be under way
        }
        match keys.iter().find(|key| key.id == old) {
            Some(key) if (old_was_active || deactivated) && !key.active => {
                primitives::set_key_active(aws, credentials, name, old, true).await?;
            }
            Some(_) => {}
            None => gone.push(old.to_owned()),
        }
        let made = self.take_back_key(name, since, before).await?;
        Ok(undone_keys(made, gone))
    }

    /// A rotation that was being confirmed, retired by time, or taken back.
    async fn ended(&self, name: &UserName, old: &str, retire: bool) -> Result<Settled, Later> {
        if self.fresh {
            return Err(Later::TooFresh); // a request may still be under way
        }
        let rotations = self.service.store().rotations_of(name.as_str()).await?;
        let Some(rotation) = rotations.into_iter().find(|found| found.new.old_key == old) else {
            return Ok(Settled::Done(vec!["the rotation was over already".into()], Changes::default()));
        };
        let ended = match retire {
            true => self.service.retire_old_key(self.handle, name, &rotation).await,
            false => self.service.restore_old_key(self.handle, name, &rotation).await,
        };
        match ended {
            Ok((notes, changes)) => Ok(Settled::Done(notes, changes)),
            // Keys die with their user.
            Err(AwsError::NoSuchUser { .. }) => {
                let changes = Changes { deleted_user: Some(name.as_str().to_owned()), ..Changes::default() };
                Ok(Settled::Done(vec!["the user is gone".into()], changes))
            }
            Err(error) if is_final(&error) => {
                Ok(Settled::Undone("AWS refused it".into(), Changes::default()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the key that this operation made, where that is known; what it may have made is deactivated at most.
    async fn take_back_key(&self, name: &UserName, since: i64, before: &[String]) -> Result<Made, Later> {
        let noted = self.notes.iter().find_map(|note| match note {
            Note::Key { id } | Note::TakingBackKey { id } => Some(id.clone()),
            _ => None,
        });
        let Some(id) = noted else {
            return match self.fresh {
                true => Err(Later::TooFresh),
                false => self.suspects(name, since, before).await,
            };
        };
        let note = Note::TakingBackKey { id: id.clone() };
        if !self.notes.contains(&note) {
            self.note_undoing(&note, &format!("access key {id}, which it made")).await?;
        }
        let patience = self.service.actions().patience();
        primitives::delete_key_surely(&self.handle.aws, &self.handle.credentials, name, &id, &patience)
            .await?;
        Ok(Made::Deleted(id))
    }

    /// Keys that the operation may have made; one that is alone is deactivated.
    async fn suspects(&self, name: &UserName, since: i64, before: &[String]) -> Result<Made, Later> {
        let (aws, credentials) = (&self.handle.aws, &self.handle.credentials);
        let keys = match lookup::keys_of(aws, credentials, name).await {
            Err(AwsError::NoSuchUser { .. }) => return Ok(Made::Nothing), // keys die with their user
            keys => keys?,
        };
        let known = self.service.store().unaccounted_keys().await?;
        let window = since - ALLOWANCE..=since + MAKING;
        let mut found = Vec::new();
        for key in keys {
            let fits = key.created.is_some_and(|at| window.contains(&at.unix()))
                && !before.contains(&key.id)
                && !known.iter().any(|known| known.access_key_id == key.id)
                && self.service.store().grant_of_key(&key.id).await?.is_none();
            if fits {
                found.push((lookup::last_used(aws, credentials, &key.id).await?, key));
            }
        }
        // The service itself may have used a key at STS before its id was on disk. Any other use is somebody else's.
        found.retain(|(used, _)| !matches!(used, LastUsed::At(_, by) if !by.eq_ignore_ascii_case("sts")));
        let alone = found.len() == 1;
        let mut suspects = Vec::new();
        for (used, key) in found {
            let deactivate = alone && used == LastUsed::Never;
            self.note_unaccounted(name, &key.id, deactivate).await?;
            if deactivate && key.active {
                primitives::set_key_active(aws, credentials, name, &key.id, false).await?;
            }
            suspects.push(UnaccountedKey {
                access_key_id: key.id,
                resource: name.as_str().to_owned(),
                operation: self.operation.new.id.clone(),
                found_ms: self.service.clock().now_ms(),
                deactivated: deactivate,
            });
        }
        Ok(if suspects.is_empty() { Made::Nothing } else { Made::Perhaps(suspects) })
    }

    async fn note_unaccounted(&self, name: &UserName, id: &str, deactivate: bool) -> Result<(), Later> {
        let note = Note::Unaccounted { id: id.to_owned() };
        if self.notes.contains(&note) {
            return Ok(());
        }
        tracing::warn!(operation = self.operation.new.id, user = %name, key = id, deactivate, "an unaccounted access key");
        let mut event =
            undoing(&self.operation.event, &format!("access key {id}, which it may have made"), self.service);
        event.action = UNACCOUNTED_KEY.to_owned();
        event.details.insert("access-key-id".to_owned(), id.to_owned());
        event
            .details
            .insert("found".to_owned(), if deactivate { "deactivated" } else { "left as it is" }.to_owned());
        let (id, epoch) = (&self.operation.new.id, self.operation.epoch);
        Ok(self.service.store().note_with_record(id, epoch, note.to_json(), event).await?)
    }

    /// On disk and in the trail, before anything is taken away.
    async fn note_undoing(&self, note: &Note, what: &str) -> Result<(), Later> {
        let event = undoing(&self.operation.event, what, self.service);
        let (id, epoch) = (&self.operation.new.id, self.operation.epoch);
        Ok(self.service.store().note_with_record(id, epoch, note.to_json(), event).await?)
    }
}

/// What became of the key that an operation was to make.
enum Made {
    Nothing,
    Deleted(String),
    /// Nothing proves that it made any of these.
    Perhaps(Vec<UnaccountedKey>),
}

fn undone_keys(made: Made, gone: Vec<String>) -> Settled {
    let mut changes = Changes::default();
    let mut text = match made {
        Made::Nothing => "no access key was made".to_owned(),
        Made::Deleted(id) => {
            let text = format!("the access key {id} was deleted again, since its secret reached nobody");
            changes.deleted_keys.push(id);
            text
        }
        Made::Perhaps(suspects) => {
            let text = suspects_text(&suspects);
            changes.unaccounted = suspects;
            text
        }
    };
    if !gone.is_empty() {
        text.push_str(&format!("; the old key {} had been deleted", gone.join(" ")));
        changes.deleted_keys.extend(gone);
    }
    Settled::Undone(text, changes)
}

fn suspects_text(suspects: &[UnaccountedKey]) -> String {
    let mut text = "whether an access key was made is not known. ".to_owned();
    for key in suspects {
        let what = if key.deactivated { "deactivated" } else { "left as it is" };
        text.push_str(&format!("{} may be it and was {what}; ", key.access_key_id));
    }
    let user = suspects.first().map_or("NAME", |key| key.resource.as_str());
    text.push_str(&format!("if nobody misses it, delete it: iam-sorry keys delete {user} ACCESS_KEY_ID"));
    text
}
