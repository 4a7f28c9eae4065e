//! Permanent access keys: list, make, rotate, delete. A secret is shown once, in the answer, and kept nowhere.

use iam_sorry_aws::primitives::{self, NotMade};
use iam_sorry_aws::{AwsError, lookup};
use iam_sorry_core::api::{self, Done, KeyInfo, NewKey, OldKey, ProblemCode};
use iam_sorry_core::credentials::AccessKey;
use iam_sorry_core::names::UserName;
use iam_sorry_rules::Action;
use iam_sorry_store::{ManagedUser, NewGrant, NewRotation, RotationChange};

use crate::accounts::handle::{AwsHandle, in_use, is_final, may_be_gone, refused};
use crate::actions::output::Output;
use crate::authz::authorize::{AuthzRequest, user_name};
use crate::caller::Caller;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::operation::{ASK_AGAIN, Changes, OpenOperation, Start, already_done, dry_run};
use crate::operations::plan::{Note, Plan};
use crate::service::Service;

impl Service {
    /// `GET /users/{name}/keys`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, not found, or AWS.
    pub async fn list_keys(&self, caller: &Caller, name: &str) -> Result<Vec<KeyInfo>, ServiceError> {
        let allowed = self.authorize(caller, &AuthzRequest::user(Action::ShowUser, name)?).await?;
        let (row, name) = allowed.user()?;
        self.record_reading_user(caller, "list-keys", &allowed).await?;
        let handle = self.handle().await?;
        self.ours(&handle, row, &name).await?;
        self.keys(&handle, &name).await
    }

    /// `POST /users/{name}/keys`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed; conflict where the user has two keys; already-done; or AWS.
    pub async fn create_access_key(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        options: api::Options,
    ) -> Result<Output<NewKey>, ServiceError> {
        let authz_request = AuthzRequest::user(Action::CreateAccessKey, name)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.create_key(&caller, key.as_ref(), authz_request, options).await })
            .await
    }

    async fn create_key(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: AuthzRequest,
        options: api::Options,
    ) -> Result<Output<NewKey>, ServiceError> {
        let allowed = self.authorize(caller, &authz_request).await?;
        let (row, name) = allowed.user()?;
        let handle = self.handle().await?;
        if options.dry_run {
            self.ours(&handle, row, &name).await?;
            self.room(&handle, &name).await?;
            return Ok(Output::DryRun(dry_run(&authz_request, &allowed, Vec::new())));
        }
        // Part of the intent: none of these was made by it. Whether there is room is for the operation to find out.
        let before = lookup::keys_of(&handle.aws, &handle.credentials, &name).await.ok();
        let plan = Plan::CreateKey {
            user: row.name.clone(),
            since: self.aws_now(&handle),
            before: ids(before.as_deref().unwrap_or_default()),
        };
        let run = match self.begin(caller, key, &authz_request, &allowed, &(), plan).await? {
            Start::Replay(done) => return Err(already_done(&done, "its secret", ASK_AGAIN)),
            Start::Fresh(run) => run,
        };
        self.ours_or_end(&run, &handle, row, &name).await?;
        let fits = before.is_some_and(|keys| keys.len() < 2);
        let made = self.make_and_note_key(&run, &handle, row, &name, fits).await?;
        let done = run.done(Vec::new(), given(row, &made, self.clock().now_ms())).await?;
        Ok(Output::New(shown(done, made)))
    }

    /// `POST /users/{name}/keys/{id}/rotate`: a new key that works, then the old one inactive. It is deleted once somebody
    /// confirms that the new secret has arrived ([`Service::confirm_key`]), or when its time is over. An old key that is in
    /// use stays active, and the answer says so.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed; not-found for a key that is not the user's; conflict where there is no room for a new
    /// one; already-done; or AWS.
    pub async fn rotate_key(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        access_key_id: &str,
        options: api::Options,
    ) -> Result<Output<NewKey>, ServiceError> {
        let authz_request = AuthzRequest::user(Action::RotateKey, name)?;
        let old = key_id(access_key_id)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.rotate(&caller, key.as_ref(), authz_request, old, options).await })
            .await
    }

    async fn rotate(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: AuthzRequest,
        old: String,
        options: api::Options,
    ) -> Result<Output<NewKey>, ServiceError> {
        let allowed = self.authorize(caller, &authz_request).await?;
        let (row, name) = allowed.user()?;
        let handle = self.handle().await?;
        if options.dry_run {
            self.ours(&handle, row, &name).await?;
            let active = self.key_of(&handle, &name, &old).await?;
            self.room(&handle, &name).await?;
            let note = match self.use_of(&handle, &old).await {
                Some(how) => format!("{old} would stay active: {how}"),
                None => format!(
                    "{old} would be {}, and deleted once you confirm the new key, or after {} hours",
                    if active { "deactivated" } else { "left inactive" },
                    self.actions().retired_key_hours
                ),
            };
            return Ok(Output::DryRun(dry_run(&authz_request, &allowed, vec![note])));
        }
        // The intent says how the old key was, so that it can be put back. Whether there is one is looked at below.
        let before = lookup::keys_of(&handle.aws, &handle.credentials, &name).await.unwrap_or_default();
        let plan = Plan::RotateKey {
            user: row.name.clone(),
            old: old.clone(),
            old_was_active: before.iter().find(|key| key.id == old).is_none_or(|key| key.active),
            since: self.aws_now(&handle),
            before: ids(&before),
        };
        let run = match self.begin(caller, key, &authz_request, &allowed, &old, plan).await? {
            Start::Replay(done) => {
                let next = self.after_a_rotation(&done.operation, &name).await?;
                return Err(already_done(&done, "the new secret", &next));
            }
            Start::Fresh(run) => run,
        };
        self.ours_or_end(&run, &handle, row, &name).await?;
        let was_active = match self.key_of(&handle, &name, &old).await {
            Ok(active) => active,
            Err(refusal) => return Err(run.failed(refusal, Changes::default()).await),
        };
        let made = self.make_and_note_key(&run, &handle, row, &name, false).await?;
        if let Err(refusal) = self.prove(&handle, &made, row).await {
            return Err(take_back(&run, &handle, &name, &made.id, refusal, self).await);
        }
        let (note, rotation) = self.set_aside(&run, &handle, &name, &old, was_active, &made.id).await;
        let old_key = OldKey {
            access_key_id: old,
            status: status(rotation.delete_after_ms.is_none()),
            deleted_after: rotation.delete_after_ms.map(rfc3339),
        };
        let mut changes = given(row, &made, self.clock().now_ms());
        changes.rotation = Some(RotationChange::Begun(rotation));
        let done = run.done(vec![note], changes).await?;
        Ok(Output::New(NewKey { old_key: Some(old_key), ..shown(done, made) }))
    }

    /// The new key must be the user's, and work, before the old one is touched.
    async fn prove(
        &self,
        handle: &AwsHandle,
        made: &AccessKey,
        row: &ManagedUser,
    ) -> Result<(), ServiceError> {
        let patience = self.actions().patience();
        let arn =
            primitives::identity_of_new_key(&handle.aws, made, &patience).await.map_err(|e| refused(&e))?;
        if arn == row.arn {
            return Ok(());
        }
        Err(ServiceError::new(
            ProblemCode::AwsRefused,
            format!("AWS says that the new key is {arn}'s, not {}'s. It was deleted.", row.arn),
        ))
    }

    /// Deactivates the old key, unless it is in use. It is not deleted here: nobody has the new secret yet. What can't be
    /// done is said, and no failure: the new key is there.
    async fn set_aside(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        name: &UserName,
        old: &str,
        was_active: bool,
        new: &str,
    ) -> (String, NewRotation) {
        let kept = match was_active {
            true => self.deactivate(run, handle, name, old).await.err(),
            false => None,
        };
        let delete_after_ms = match kept {
            Some(_) => None,
            None => Some(self.clock().now_ms() + self.actions().retired_key_ms()),
        };
        let note = match (kept, delete_after_ms) {
            (None, Some(at)) => format!(
                "the old key {old} is inactive; it is deleted once you confirm the new key, or after {}",
                rfc3339(at)
            ),
            (why, _) => format!(
                "the old key {old} stays active: {}; delete it when nobody needs it any more: iam-sorry keys delete {name} \
                 {old}",
                why.unwrap_or_default()
            ),
        };
        let rotation = NewRotation {
            user: name.as_str().to_owned(),
            old_key: old.to_owned(),
            new_key: new.to_owned(),
            old_was_active: was_active,
            since: self.aws_now(handle),
            delete_after_ms,
        };
        (note, rotation)
    }

    /// # Errors
    /// Why the old key stays active.
    async fn deactivate(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        name: &UserName,
        old: &str,
    ) -> Result<(), String> {
        // Asked again, after the new key is proved: that may have taken a minute.
        if let Some(how) = self.use_of(handle, old).await {
            return Err(how);
        }
        // Noted before: the reconciler makes active again what may have been deactivated.
        if let Err(error) = run.note(&Note::OldKeyInactive).await {
            tracing::warn!(%error, operation = run.id, "note");
            return Err("the service could not write down that it goes".to_owned());
        }
        if run.may_act().is_err() {
            return Err("the service lost touch with its database".to_owned());
        }
        let Err(error) = primitives::set_key_active(&handle.aws, &handle.credentials, name, old, false).await
        else {
            return Ok(());
        };
        tracing::warn!(%error, operation = run.id, "deactivating the old key");
        // AWS may have done it although its answer was lost.
        match self.key_of(handle, name, old).await {
            Ok(false) => Ok(()),
            _ => Err("AWS did not confirm that it is inactive".to_owned()),
        }
    }

    /// What a person can do whose rotation was done, and whose answer was lost.
    async fn after_a_rotation(&self, operation: &str, name: &UserName) -> Result<String, ServiceError> {
        let rotations = self.store().rotations_of(name.as_str()).await?;
        Ok(match rotations.into_iter().find(|found| found.operation == operation) {
            Some(found) => lost_or_arrived(name, &found.new),
            None => "Its old key is gone, or was restored. Ask again with a new key to rotate once more."
                .to_owned(),
        })
    }

    /// `DELETE /users/{name}/keys/{id}`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed; not-found for a key that is not the user's; conflict while it is in use, unless forced;
    /// or AWS.
    pub async fn delete_access_key(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        access_key_id: &str,
        options: api::DeleteKey,
    ) -> Result<Done, ServiceError> {
        let authz_request = AuthzRequest::user(Action::DeleteAccessKey, name)?;
        let id = key_id(access_key_id)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(
            async move { service.delete_key(&caller, key.as_ref(), authz_request, id, options).await },
        )
        .await
    }

    async fn delete_key(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: AuthzRequest,
        id: String,
        options: api::DeleteKey,
    ) -> Result<Done, ServiceError> {
        let allowed = self.authorize(caller, &authz_request).await?;
        let (row, name) = allowed.user()?;
        let handle = self.handle().await?;
        if options.dry_run {
            self.ours(&handle, row, &name).await?;
            self.may_delete(&handle, &name, &id, options.force).await?;
            return Ok(dry_run(&authz_request, &allowed, Vec::new()));
        }
        let plan = Plan::DeleteKey { user: row.name.clone(), key: id.clone() };
        let request = (&id, options.force);
        let run = match self.begin(caller, key, &authz_request, &allowed, &request, plan).await? {
            Start::Replay(done) => return Ok(done),
            Start::Fresh(run) => run,
        };
        self.ours_or_end(&run, &handle, row, &name).await?;
        let may = self.may_delete(&handle, &name, &id, options.force).await.and_then(|()| run.may_act());
        if let Err(refusal) = may {
            return Err(run.failed(refusal, Changes::default()).await);
        }
        let patience = self.actions().patience();
        match primitives::delete_key_surely(&handle.aws, &handle.credentials, &name, &id, &patience).await {
            Ok(()) => {
                let changes = Changes { deleted_keys: vec![id.clone()], ..Changes::default() };
                run.done(vec![format!("deleted access key {id}")], changes).await
            }
            Err(error) if is_final(&error) => Err(run.failed(refused(&error), Changes::default()).await),
            Err(error) => {
                tracing::warn!(%error, operation = run.id, "delete-access-key");
                Err(run.left_open("AWS did not answer, and may have deleted the key"))
            }
        }
    }

    async fn may_delete(
        &self,
        handle: &AwsHandle,
        name: &UserName,
        id: &str,
        force: bool,
    ) -> Result<(), ServiceError> {
        self.key_of(handle, name, id).await?;
        match self.use_of(handle, id).await {
            Some(how) if !force => Err(ServiceError::new(
                ProblemCode::Conflict,
                format!(
                    "{id} is in use: {how}.\nWait until nobody uses it, or delete it all the same: iam-sorry keys delete \
                     {name} {id} --force"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Whether the user's key is active.
    pub(crate) async fn key_of(
        &self,
        handle: &AwsHandle,
        name: &UserName,
        id: &str,
    ) -> Result<bool, ServiceError> {
        let keys = lookup::keys_of(&handle.aws, &handle.credentials, name).await.map_err(|e| refused(&e))?;
        keys.iter().find(|key| key.id == id).map(|key| key.active).ok_or_else(|| {
            ServiceError::new(
                ProblemCode::NotFound,
                format!("{name} has no access key {id}.\nSee its keys: iam-sorry keys list {name}"),
            )
        })
    }

    /// How the key is in use, where it is. AWS may tell of a use only after a while (IAM API reference,
    /// GetAccessKeyLastUsed), so "not in use" is what AWS knows.
    async fn use_of(&self, handle: &AwsHandle, id: &str) -> Option<String> {
        let used = lookup::last_used(&handle.aws, &handle.credentials, id).await;
        let used = used.unwrap_or(iam_sorry_aws::errors::LastUsed::Unknown);
        in_use(&used, self.clock().now(), self.actions().key_in_use_minutes)
    }

    /// A key that stays, where there is room for one; its id is on disk then. `fits`: there was room a moment ago, and IAM
    /// itself says so where there is none any more.
    async fn make_and_note_key(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        row: &ManagedUser,
        name: &UserName,
        fits: bool,
    ) -> Result<AccessKey, ServiceError> {
        if !fits && let Err(refusal) = self.room(handle, name).await {
            return Err(run.failed(refusal, Changes::default()).await);
        }
        let made = self.make_key(run, handle, row).await?;
        match noted(run, &made).await {
            Ok(()) => Ok(made),
            Err(refusal) => Err(take_back(run, handle, name, &made.id, refusal, self).await),
        }
    }

    /// Makes a key within an operation, which ends where none was made, and stays open where one may have been.
    pub(crate) async fn make_key(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        row: &ManagedUser,
    ) -> Result<AccessKey, ServiceError> {
        let name = user_name(&row.name)?;
        if let Err(refusal) = run.may_act() {
            return Err(run.failed(refusal, Changes::default()).await);
        }
        let error = match primitives::create_access_key(&handle.aws, &handle.credentials, &name).await {
            Ok(made) => return Ok(made),
            Err(NotMade::Perhaps(error)) => {
                tracing::warn!(%error, operation = run.id, "CreateAccessKey");
                return Err(run.left_open("AWS did not answer, and may have made an access key"));
            }
            Err(NotMade::Certainly(error)) => error,
        };
        if matches!(&error, AwsError::Refused { code, .. } if code.starts_with("LimitExceeded"))
            && let Err(limit) = self.room(handle, &name).await
        {
            return Err(run.failed(limit, Changes::default()).await);
        }
        if may_be_gone(&error) {
            // Ends the operation where the user is gone or another's; where it is ours, the error stands.
            self.ours_or_end(run, handle, row, &name).await?;
        }
        Err(run.failed(refused(&error), Changes::default()).await)
    }

    /// Room for one more key: IAM allows two.
    async fn room(&self, handle: &AwsHandle, name: &UserName) -> Result<(), ServiceError> {
        let keys =
            lookup::keys_of(&handle.aws, &handle.credentials, name).await.map_err(|error| refused(&error))?;
        if keys.len() < 2 {
            return Ok(());
        }
        let facts = lookup::key_facts(&handle.aws, &handle.credentials, &keys).await;
        let limit = refused(&AwsError::KeyLimit { user: name.to_string(), keys: facts });
        // A rotation that nobody has confirmed is in the way: there is more to do about it than to delete a key.
        let here = |id: &str| keys.iter().any(|key| key.id == id);
        let rotations = self.store().rotations_of(name.as_str()).await?;
        Err(match rotations.into_iter().find(|found| here(&found.new.old_key) && here(&found.new.new_key)) {
            Some(found) => ServiceError {
                detail: format!("{}\n{}", limit.detail, lost_or_arrived(name, &found.new)),
                ..limit
            },
            None => limit,
        })
    }

    /// AWS's time, seconds since 1970.
    pub(crate) fn aws_now(&self, handle: &AwsHandle) -> i64 {
        handle.aws.server_time().unwrap_or_else(|| self.clock().now()).unix()
    }
}

/// The id of a key that was just made goes to disk; where it can't, the key must go.
pub(crate) async fn noted(run: &OpenOperation, made: &AccessKey) -> Result<(), ServiceError> {
    run.note(&Note::Key { id: made.id.clone() }).await.map_err(ServiceError::from)
}

/// Deletes a key that this operation made, and ends the operation with what led here; where that fails, it stays open. What
/// proves that the key is the operation's own is its id, which AWS told nobody else; so the id goes to disk and into the
/// trail first, or to the reconciler by hand.
pub(crate) async fn take_back(
    run: &OpenOperation,
    handle: &AwsHandle,
    name: &UserName,
    id: &str,
    refusal: ServiceError,
    service: &Service,
) -> ServiceError {
    let what = format!("access key {id}, which was just made");
    let note = Note::TakingBackKey { id: id.to_owned() };
    if let Err(error) = run.note_undoing(&note, &what).await {
        tracing::error!(%error, operation = run.id, key = id, "a key was made whose id can't be written down");
        service.inner.settling.hand_over(&run.id, name, id);
        let left = run.left_open("An access key was made that can't be written down");
        return ServiceError { code: refusal.code, ..left };
    }
    let patience = service.actions().patience();
    match primitives::delete_key_surely(&handle.aws, &handle.credentials, name, id, &patience).await {
        Ok(()) => run.failed(refusal, Changes::default()).await,
        Err(error) => {
            tracing::warn!(%error, operation = run.id, "taking a key back");
            run.left_open("An access key was made that could not be deleted yet")
        }
    }
}

fn ids(keys: &[lookup::ListedKey]) -> Vec<String> {
    keys.iter().map(|key| key.id.clone()).collect()
}

fn given(row: &ManagedUser, made: &AccessKey, now_ms: i64) -> Changes {
    Changes {
        grants: vec![NewGrant {
            kind: "access-key".into(),
            resource: row.name.clone(),
            access_key_id: made.id.clone(),
            issued_ms: now_ms,
            expires_ms: None,
        }],
        details: vec![("access-key-id", made.id.clone())],
        ..Changes::default()
    }
}

fn shown(done: Done, made: AccessKey) -> NewKey {
    NewKey { done, access_key_id: made.id, secret_access_key: made.secret, old_key: None }
}

/// Both ways out of a rotation that nobody has confirmed.
fn lost_or_arrived(name: &UserName, rotation: &NewRotation) -> String {
    let NewRotation { old_key: old, new_key: new, .. } = rotation;
    format!(
        "{new} takes the place of {old}, which is still there.\nIf the secret of {new} was lost, take the rotation back: \
         iam-sorry keys restore {name} {old}\nIf it has arrived, confirm it: iam-sorry keys confirm {name} {new}"
    )
}

/// As IAM spells it.
pub(crate) fn status(active: bool) -> String {
    if active { "Active" } else { "Inactive" }.to_owned()
}

/// An access key ID: 16 to 128 letters and digits (IAM API reference, AccessKey).
pub(crate) fn key_id(text: &str) -> Result<String, ServiceError> {
    if (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(text.to_owned());
    }
    Err(ServiceError::new(
        ProblemCode::InvalidName,
        "That can't be an access key ID: 16 to 128 letters and digits, such as AKIAIOSFODNN7EXAMPLE.",
    ))
}
