//! How a rotation ends: the holder confirms the new key, takes the rotation back, or the old key's time is over.
//!
//! | what happens                        | old key, inactive and not used since | old key in use, or active again |
//! |-------------------------------------|--------------------------------------|---------------------------------|
//! | confirm-key (a person)              | deleted                              | stays; the rotation is over     |
//! | retire-key (the service, by time)   | deleted, if the new key is active    | stays; the rotation is over     |
//! | restore-key (a person)              | active again; the new key is deleted unless it is in use           ||
//!
//! All three read the rotation's row and IAM again once they hold the user for themselves: what was seen before may have
//! been changed by another request of ours.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::{AwsError, lookup, primitives};
use iam_sorry_core::api::{self, Done, ProblemCode};
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::Action;
use iam_sorry_store::{ManagedUser, Rotation, RotationChange};
use tokio::time::Instant;

use crate::accounts::handle::{AwsHandle, in_use, is_final, refused};
use crate::actions::keys::key_id;
use crate::actions::users::Standing;
use crate::authz::authorize::{Authorized, AuthzRequest, user_name};
use crate::caller::Caller;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::operation::{Changes, OpenOperation, Start, dry_run};
use crate::operations::plan::Plan;
use crate::service::Service;

/// How long an old key is left alone that could not be deleted although its time is over.
const PAUSE: Duration = Duration::from_secs(600);

/// The same where another request was at work on the user.
const BUSY_PAUSE: Duration = Duration::from_secs(10);

/// Of how many old keys the time may be over at once; the others have their turn afterwards.
const AT_ONCE: u32 = 1000;

/// For how long one instance has the turn to retire keys.
const LEASE: Duration = Duration::from_secs(15);

/// How much later than the proof of a new key AWS may date the request that proved it, seconds.
const ALLOWANCE: i64 = 5;

/// Old keys that are not tried again before a moment.
#[derive(Default)]
pub(crate) struct Retiring(Mutex<HashMap<String, Instant>>);

/// What is to become of the old key of a rotation.
enum OldKey {
    /// Inactive, not used since, and the new key is there.
    Goes,
    Gone,
    Active,
    UsedSince(Timestamp),
    /// Used shortly before it was deactivated.
    JustUsed(String),
    NewKeyGone,
    NewKeyInactive,
}

/// What a step came to: lines for the answer, and changes in the store.
pub(crate) type Ended = (Vec<String>, Changes);

impl Service {
    /// `POST /users/{name}/keys/{id}/confirm`: the secret of a rotation's new key has arrived, so the old key goes, unless
    /// it is in use.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed; not-found for a key that is not the user's; or AWS.
    pub async fn confirm_key(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        access_key_id: &str,
        options: api::Options,
    ) -> Result<Done, ServiceError> {
        self.end_rotation(caller, key, name, access_key_id, options, End::Confirm).await
    }

    /// `POST /users/{name}/keys/{id}/restore`: takes a rotation back that nobody has confirmed, because the new secret was
    /// lost or the old one is still needed. `access_key_id` is the old key.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed; not-found for a key that is not the user's; conflict for one that no rotation waits for;
    /// or AWS.
    pub async fn restore_key(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        access_key_id: &str,
        options: api::Options,
    ) -> Result<Done, ServiceError> {
        self.end_rotation(caller, key, name, access_key_id, options, End::Restore).await
    }

    async fn end_rotation(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        access_key_id: &str,
        options: api::Options,
        end: End,
    ) -> Result<Done, ServiceError> {
        // Whoever may rotate a user's key may end the rotation.
        let authz_request =
            AuthzRequest { recorded_as: Some(end.name()), ..AuthzRequest::user(Action::RotateKey, name)? };
        let id = key_id(access_key_id)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(
            async move { service.end(&caller, key.as_ref(), authz_request, &id, options, end).await },
        )
        .await
    }

    async fn end(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: AuthzRequest,
        id: &str,
        options: api::Options,
        end: End,
    ) -> Result<Done, ServiceError> {
        if let Some(done) = self.done_before(caller, key, &authz_request, &id).await? {
            return Ok(done);
        }
        let allowed = self.authorize(caller, &authz_request).await?;
        let (row, name) = allowed.user()?;
        let handle = self.handle().await?;
        let Some(rotation) = self.rotation(&name, id, end).await? else {
            return self.nothing_to_end(&handle, row, &name, id, &authz_request, &allowed, end).await;
        };
        if options.dry_run {
            self.ours(&handle, row, &name).await?;
            let note = end.would(&rotation);
            return Ok(dry_run(&authz_request, &allowed, vec![note]));
        }
        let plan = end.plan(&row.name, &rotation);
        let run = match self.begin(caller, key, &authz_request, &allowed, &id, plan).await? {
            Start::Replay(done) => return Ok(done),
            Start::Fresh(run) => run,
        };
        self.ours_or_end(&run, &handle, row, &name).await?;
        self.carry_out(&run, &handle, &name, id, end).await
    }

    /// From the intent to the outcome.
    async fn carry_out(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        name: &UserName,
        id: &str,
        end: End,
    ) -> Result<Done, ServiceError> {
        let rotation = match self.rotation(name, id, end).await {
            Ok(Some(rotation)) => rotation,
            Ok(None) => return run.done(vec![already_over(id)], Changes::default()).await,
            Err(refusal) => return Err(run.failed(refusal, Changes::default()).await),
        };
        let ended = match end {
            End::Confirm => self.retire_old_key(handle, name, &rotation).await,
            End::Restore => self.restore_old_key(handle, name, &rotation).await,
        };
        match ended {
            Ok((notes, changes)) => run.done(notes, changes).await,
            Err(error) if is_final(&error) => Err(run.failed(refused(&error), Changes::default()).await),
            Err(error) => {
                tracing::warn!(%error, operation = run.id, "ending a rotation");
                Err(run.left_open("AWS did not answer while the rotation was being ended"))
            }
        }
    }

    /// The rotation of a user's whose new key (to confirm) or old key (to restore) this is.
    async fn rotation(&self, name: &UserName, id: &str, end: End) -> Result<Option<Rotation>, ServiceError> {
        let rotations = self.store().rotations_of(name.as_str()).await?;
        Ok(rotations.into_iter().find(|found| match end {
            End::Confirm => found.new.new_key == id,
            End::Restore => found.new.old_key == id,
        }))
    }

    /// Confirmed or restored before, or never rotated: nothing is done, and nothing is wrong with saying so again.
    #[expect(clippy::too_many_arguments, reason = "what was decided and looked up, passed on")]
    async fn nothing_to_end(
        &self,
        handle: &AwsHandle,
        row: &ManagedUser,
        name: &UserName,
        id: &str,
        authz_request: &AuthzRequest,
        allowed: &Authorized,
        end: End,
    ) -> Result<Done, ServiceError> {
        self.ours(handle, row, name).await?;
        let active = self.key_of(handle, name, id).await?;
        if let Some(rotation) = self.rotation(name, id, end.other()).await? {
            return Err(ServiceError::new(ProblemCode::Conflict, end.names_the_other(name, &rotation)));
        }
        if end == End::Restore && !active {
            return Err(ServiceError::new(
                ProblemCode::Conflict,
                format!(
                    "{id} is inactive, but not because this service rotated it, so it stays as it is.\nRotate it all the \
                     same: iam-sorry keys rotate {name} {id}"
                ),
            ));
        }
        let mut done = dry_run(authz_request, allowed, vec![already_over(id)]);
        done.notes.remove(0); // not a dry run
        Ok(done)
    }

    /// The old key goes, unless it must stay. For a confirmation, and for the reconciler.
    ///
    /// # Errors
    /// As any request to AWS; asking again goes on from there.
    pub(crate) async fn retire_old_key(
        &self,
        handle: &AwsHandle,
        name: &UserName,
        rotation: &Rotation,
    ) -> Result<Ended, AwsError> {
        let fate = self.old_key_now(handle, name, rotation).await?;
        if matches!(fate, OldKey::Goes) {
            self.life().may_ask_aws().map_err(|_| AwsError::Interrupted)?;
            let patience = self.actions().patience();
            primitives::delete_key_surely(
                &handle.aws,
                &handle.credentials,
                name,
                &rotation.new.old_key,
                &patience,
            )
            .await?;
        }
        Ok(fate.ended(name, rotation))
    }

    /// The old key as active as it was, the new one deleted unless somebody uses it. For a person's request, and for the
    /// reconciler.
    ///
    /// # Errors
    /// As any request to AWS; asking again goes on from there.
    pub(crate) async fn restore_old_key(
        &self,
        handle: &AwsHandle,
        name: &UserName,
        rotation: &Rotation,
    ) -> Result<Ended, AwsError> {
        let (aws, credentials) = (&handle.aws, &handle.credentials);
        let (old, new) = (&rotation.new.old_key, &rotation.new.new_key);
        let may_act = || self.life().may_ask_aws().map_err(|_| AwsError::Interrupted);
        let keys = lookup::keys_of(aws, credentials, name).await?;
        let Some(old_key) = keys.iter().find(|key| key.id == *old) else {
            let changes = Changes { deleted_keys: vec![old.clone()], ..Changes::default() };
            return Ok((vec![format!("the old key {old} is gone, so the new key {new} stays")], changes));
        };
        let mut notes = Vec::new();
        let mut changes = over(rotation);
        // First, so that there is a key that works at any moment.
        if rotation.new.old_was_active && !old_key.active {
            may_act()?;
            primitives::set_key_active(aws, credentials, name, old, true).await?;
            notes.push(format!("the old key {old} is active again"));
        }
        if !keys.iter().any(|key| key.id == *new) {
            changes.deleted_keys.push(new.clone());
            return Ok((notes, changes));
        }
        match self.used_since_proof(handle, rotation).await {
            Some(how) => notes.push(format!("the new key {new} stays: {how}")),
            None => {
                may_act()?;
                let patience = self.actions().patience();
                primitives::delete_key_surely(aws, credentials, name, new, &patience).await?;
                notes.push(format!("the new key {new} was deleted"));
                changes.deleted_keys.push(new.clone());
            }
        }
        Ok((notes, changes))
    }

    /// How the new key was used by anybody but this service, which asked STS whose it is.
    async fn used_since_proof(&self, handle: &AwsHandle, rotation: &Rotation) -> Option<String> {
        let used = lookup::last_used(&handle.aws, &handle.credentials, &rotation.new.new_key).await;
        match used.unwrap_or(LastUsed::Unknown) {
            LastUsed::Never => None,
            LastUsed::At(at, service)
                if service.eq_ignore_ascii_case("sts") && at.unix() <= rotation.new.since + ALLOWANCE =>
            {
                None
            }
            LastUsed::At(at, service) => Some(format!("it was used {at} for {service}")),
            LastUsed::Unknown => Some("AWS does not say whether it was used".to_owned()),
        }
    }

    async fn old_key_now(
        &self,
        handle: &AwsHandle,
        name: &UserName,
        rotation: &Rotation,
    ) -> Result<OldKey, AwsError> {
        let keys = lookup::keys_of(&handle.aws, &handle.credentials, name).await?;
        let state = |id: &str| keys.iter().find(|key| key.id == id).map(|key| key.active);
        match (state(&rotation.new.old_key), state(&rotation.new.new_key)) {
            (None, _) => return Ok(OldKey::Gone),
            (Some(true), _) => return Ok(OldKey::Active),
            (Some(false), None) => return Ok(OldKey::NewKeyGone),
            (Some(false), Some(false)) => return Ok(OldKey::NewKeyInactive),
            (Some(false), Some(true)) => {}
        }
        let used = lookup::last_used(&handle.aws, &handle.credentials, &rotation.new.old_key).await?;
        if let LastUsed::At(at, _) = &used
            && at.unix() > rotation.new.since
        {
            return Ok(OldKey::UsedSince(*at));
        }
        Ok(match in_use(&used, self.clock().now(), self.actions().key_in_use_minutes) {
            Some(how) => OldKey::JustUsed(how),
            None => OldKey::Goes,
        })
    }

    /// Deletes the old keys whose time is over. Each one goes the way of every action, under the service's own name.
    pub(crate) async fn retire_what_is_due(&self) {
        if self.life().may_begin().is_err() {
            return;
        }
        let due = match self.store().due_rotations(self.clock().now_ms(), AT_ONCE).await {
            Ok(due) => due,
            Err(error) => return tracing::warn!(%error, "old keys whose time is over"),
        };
        for rotation in due {
            if !self.inner.retiring.is_due(&rotation.new.old_key) {
                continue;
            }
            // Two instances would only be in each other's way: the store lets one of them at the user.
            if self.inner.parts.other_instances
                && !self.store().lease("retiring keys", LEASE).await.unwrap_or(false)
            {
                return;
            }
            let old = rotation.new.old_key.clone();
            let service = self.clone();
            match self.detached(async move { service.retire_by_time(&rotation).await }).await {
                Ok(true) => self.inner.retiring.forget(&old),
                Ok(false) => self.inner.retiring.pause(old, PAUSE),
                Err(refusal) if refusal.code == ProblemCode::Busy => {
                    self.inner.retiring.pause(old, BUSY_PAUSE);
                }
                Err(refusal) => {
                    tracing::warn!(key = old, %refusal, "an old key whose time is over is still there");
                    self.inner.retiring.pause(old, PAUSE);
                }
            }
        }
    }

    /// False: it can't be decided now, and nothing was written.
    async fn retire_by_time(&self, rotation: &Rotation) -> Result<bool, ServiceError> {
        let Some(row) = self.store().user(&rotation.new.user).await? else { return Ok(false) };
        let name = user_name(&row.name)?;
        let handle = self.handle().await?;
        // A look before the intent, so that what can't be done does not fill the trail.
        if let Standing::NotOurs(why) = self.standing(&handle, &row, &name).await? {
            tracing::warn!(
                user = row.name,
                why,
                "an old key is left alone: its user is no longer the service's"
            );
            return Ok(false);
        }
        match self.old_key_now(&handle, &name, rotation).await {
            Ok(OldKey::JustUsed(_) | OldKey::NewKeyInactive) => return Ok(false),
            Ok(_) | Err(AwsError::NoSuchUser { .. }) => {}
            Err(error) => return Err(refused(&error)),
        }
        let plan = End::Confirm.plan(&row.name, rotation);
        let why = "nobody confirmed the new key, and the time of the old one is over";
        let run = self.begin_itself("retire-key", &row, &plan, why).await?;
        self.ours_or_end(&run, &handle, &row, &name).await?;
        self.carry_out(&run, &handle, &name, &rotation.new.new_key, End::Confirm).await.map(|_| true)
    }
}

/// How a person ends a rotation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Confirm,
    Restore,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm-key",
            Self::Restore => "restore-key",
        }
    }

    fn plan(self, user: &str, rotation: &Rotation) -> Plan {
        let (user, old, new) = (user.to_owned(), rotation.new.old_key.clone(), rotation.new.new_key.clone());
        match self {
            Self::Confirm => Plan::RetireKey { user, old, new },
            Self::Restore => Plan::RestoreKey { user, old, new },
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Confirm => Self::Restore,
            Self::Restore => Self::Confirm,
        }
    }

    /// What to say to somebody who names the wrong one of the two keys.
    fn names_the_other(self, name: &UserName, rotation: &Rotation) -> String {
        let (old, new) = (&rotation.new.old_key, &rotation.new.new_key);
        match self {
            Self::Confirm => format!(
                "{old} is the old key of a rotation, and what is confirmed is the new one.\nConfirm it: iam-sorry keys confirm {name} \
                 {new}"
            ),
            Self::Restore => format!(
                "{new} is the new key of a rotation, and what is restored is the old one.\nTake the rotation back: iam-sorry keys \
                 restore {name} {old}"
            ),
        }
    }

    fn would(self, rotation: &Rotation) -> String {
        let (old, new) = (&rotation.new.old_key, &rotation.new.new_key);
        match self {
            Self::Confirm => format!("{old} would be deleted, unless it is in use"),
            Self::Restore => {
                format!("{old} would be active again, and {new} deleted, unless it is in use")
            }
        }
    }
}

impl OldKey {
    fn ended(self, name: &UserName, rotation: &Rotation) -> Ended {
        let (old, new) = (&rotation.new.old_key, &rotation.new.new_key);
        let delete = format!("delete it when nobody needs it any more: iam-sorry keys delete {name} {old}");
        let restore = format!("activate it again: iam-sorry keys restore {name} {old}");
        let gone = |id: &str| Changes { deleted_keys: vec![id.to_owned()], ..Changes::default() };
        let (notes, mut changes, what) = match self {
            Self::Goes => (vec![format!("the old key {old} was deleted")], gone(old), "deleted"),
            Self::Gone => (vec![format!("the old key {old} was gone already")], gone(old), "was gone"),
            Self::Active => (
                vec![format!("the old key {old} is active, so it stays"), delete],
                over(rotation),
                "active, stays",
            ),
            Self::UsedSince(at) => (
                vec![
                    format!("the old key {old} was used {at}, after the rotation, so it stays, inactive"),
                    delete,
                ],
                over(rotation),
                "used since, stays",
            ),
            Self::JustUsed(how) => (
                vec![format!(
                    "the old key {old} stays, inactive{}: {how}",
                    rotation
                        .new
                        .delete_after_ms
                        .map(|at| format!(", until {}", rfc3339(at)))
                        .unwrap_or_default()
                )],
                Changes::default(),
                "in use until the rotation, stays",
            ),
            Self::NewKeyGone => (
                vec![format!("the new key {new} is gone, so the old key {old} stays, inactive"), restore],
                gone(new),
                "stays, since the new key is gone",
            ),
            Self::NewKeyInactive => (
                vec![format!("the new key {new} is inactive, so the old key {old} stays, inactive"), restore],
                Changes::default(),
                "stays, since the new key is inactive",
            ),
        };
        changes.details.push(("old-key", what.to_owned()));
        (notes, changes)
    }
}

/// The rotation waits for nothing any more, and its old key stays.
fn over(rotation: &Rotation) -> Changes {
    let change = RotationChange::Ended { old_key: rotation.new.old_key.clone() };
    Changes { rotation: Some(change), ..Changes::default() }
}

fn already_over(id: &str) -> String {
    format!("no rotation of {id} waits for anything")
}

impl Retiring {
    fn is_due(&self, old: &str) -> bool {
        let mut all = self.all();
        all.retain(|_, at| *at > Instant::now());
        !all.contains_key(old)
    }

    fn pause(&self, old: String, time: Duration) {
        self.all().insert(old, Instant::now() + time);
    }

    fn forget(&self, old: &str) {
        self.all().remove(old);
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
