//! `restore-key`: takes a rotation back that nobody has confirmed, because the new secret was lost or the old one is still
//! needed. The old key is as active as it was, the new one is deleted unless somebody uses it.
//!
//! | left open after | in IAM           | settled  |
//! |-----------------|------------------|----------|
//! | any step        | one key, or both | finished |

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::{AwsError, key, lookup};
use iam_sorry_core::api::{ActionName, Change, Done, KeptReason, RotationKey};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use iam_sorry_store::Rotation;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::handle::AwsHandle;
use crate::actions::key_state::key_id;
use crate::actions::rotation::{self, By, Ended, Plan, over};
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;
use crate::service::Service;

/// How much later than the proof of a new key AWS may date the request that proved it, seconds.
const ALLOWANCE: i64 = 5;

/// Takes a rotation back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreKey {
    user: UserRef,
    /// The old key.
    key: String,
}

impl RestoreKey {
    /// # Errors
    /// invalid-name.
    pub fn new(user: UserRef, access_key_id: &str) -> Result<Self, ServiceError> {
        Ok(Self { user, key: key_id(access_key_id)? })
    }
}

impl Action for RestoreKey {
    const NAME: ActionName = ActionName::RestoreKey;
    const PLAN: &'static str = "restore-key";
    // The rotation is over once it is done.
    const REPLAYED_FIRST: bool = true;
    type Plan = Plan;
    type Output = Done;

    /// Whoever may rotate a user's key may end the rotation.
    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::RotateKey, self.user.clone())
    }

    fn parameters(&self) -> String {
        json(&self.key)
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        rotation::plan(cx, &self.key, By::OldKey).await
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        cx.managed_user().await?;
        Ok(vec![reactivated(&plan.old), new_key_deleted(&plan.new)])
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        plan.details()
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        cx.still_managed().await?;
        let Some(found) = cx.service.rotation(&plan.user, &plan.old, By::OldKey).await? else {
            return Ok(Success::new(vec![rotation::already_over(&plan.old)], Effects::default()));
        };
        rotation::ended(op, restore(&cx.service, &cx.handle, &plan.user, &found).await)
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        let Some(found) = rotation::to_settle(plan, case).await? else {
            return Ok(rotation::settled_before(plan));
        };
        rotation::settled(plan, case, restore(case.service, case.handle, &plan.user, &found).await)
    }
}

/// The old key as active as it was, the new one deleted unless somebody uses it.
///
/// # Errors
/// As any request to AWS; repeating it goes on from there.
async fn restore(
    service: &Service,
    handle: &AwsHandle,
    user: &UserRef,
    rotation: &Rotation,
) -> Result<Ended, AwsError> {
    let ((aws, credentials), name, label) = (handle.pair(), &user.name, service.label(user));
    let (old, new) = (&rotation.new.old_key, &rotation.new.new_key);
    let may_act = || service.life().may_ask_aws().map_err(|_| AwsError::Interrupted);
    let keys = service.keys_of_rotation(handle, name, rotation).await?;
    let Some(old_key) = keys.iter().find(|key| key.id == *old) else {
        let effects = Effects { deleted_keys: vec![old.clone()], ..Effects::default() };
        let reason = KeptReason::OldKeyGone { access_key_id: old.clone() };
        return Ok((vec![new_key_kept(label, rotation, reason)], effects));
    };
    let mut changes = Vec::new();
    let mut effects = over(rotation);
    // First, so that there is a key that works at any moment.
    if rotation.new.old_was_active && !old_key.active {
        may_act()?;
        key::set_active(aws, credentials, name, old, true).await?;
        changes.push(reactivated(old));
    }
    if !keys.iter().any(|key| key.id == *new) {
        effects.deleted_keys.push(new.clone());
        return Ok((changes, effects));
    }
    match used_since_proof(handle, rotation).await {
        Some(reason) => changes.push(new_key_kept(label, rotation, reason)),
        None => {
            may_act()?;
            let retry = service.actions().retry_policy();
            key::delete_surely(aws, credentials, name, new, &retry, |_| {}).await?;
            changes.push(new_key_deleted(new));
            effects.deleted_keys.push(new.clone());
        }
    }
    Ok((changes, effects))
}

/// How the new key was used by anybody but this service, which used it to ask STS whose it is.
async fn used_since_proof(handle: &AwsHandle, rotation: &Rotation) -> Option<KeptReason> {
    let (aws, credentials) = handle.pair();
    let used = lookup::last_used(aws, credentials, &rotation.new.new_key).await;
    match used.unwrap_or(LastUsed::Unknown) {
        LastUsed::Never => None,
        LastUsed::At(at, service)
            if service.eq_ignore_ascii_case("sts") && at.unix() <= rotation.new.since + ALLOWANCE =>
        {
            None
        }
        LastUsed::At(at, service) => Some(KeptReason::LastUsed { at: at.to_string(), service }),
        LastUsed::Unknown => Some(KeptReason::UseUnknown),
    }
}

fn reactivated(old: &str) -> Change {
    Change::KeyReactivated { access_key_id: old.to_owned() }
}

fn new_key_deleted(new: &str) -> Change {
    Change::KeyDeleted { access_key_id: new.to_owned(), rotation: Some(RotationKey::New) }
}

fn new_key_kept(user: String, rotation: &Rotation, reason: KeptReason) -> Change {
    Change::KeyKept {
        user,
        access_key_id: rotation.new.new_key.clone(),
        rotation: RotationKey::New,
        active: true,
        reason,
        until: None,
    }
}

#[cfg(test)]
impl crate::actions::sample::Sample for RestoreKey {
    const PLANS: &[&str] = &[r#"{"plan":"restore-key","user":"a","old":"AKIAOLD","new":"AKIANEW"}"#];
    const PARAMETERS: &str = r#""AKIAIOSFODNN7EXAMPLE""#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, &fields.key).unwrap()
    }
}
