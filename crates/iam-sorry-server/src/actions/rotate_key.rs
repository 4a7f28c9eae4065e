//! `rotate-key`: a new key that works, then the old one inactive. The old one is deleted once somebody confirms that the new
//! secret has arrived ([`crate::actions::confirm_key`]), or when its time is over ([`crate::actions::retire_key`]). An old key
//! that is in use stays active, and the answer says so.
//!
//! | left open after       | in IAM                         | settled                                               |
//! |-----------------------|--------------------------------|-------------------------------------------------------|
//! | intent                | the old key, perhaps a new one | a key that fits is deactivated: undone                |
//! | note key              | both keys                      | the new one deleted: undone                           |
//! | note old-key-inactive | both keys                      | the old one active again, the new one deleted: undone |

use iam_sorry_aws::key::lost::FirstUse;
use iam_sorry_aws::{AwsError, key, lookup};
use iam_sorry_core::api::{
    ActionName, Change, Done, KeptReason, KeyStatus, NewKey, OldKey, ProblemCode, RotationKey,
};
use iam_sorry_core::credentials::AccessKey;
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use iam_sorry_store::{ManagedUser, NewRotation, RotationChange};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actions::delete_access_key::DeleteAccessKey;
use crate::actions::key_state::{ids, key_id, lost_or_arrived};
use crate::actions::new_key::{self, UNSHOWN};
use crate::actions::restore_key::RestoreKey;
use crate::authz::authorize::AuthzRequest;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Success};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::lost_key::KeyIntent;
use crate::operations::notes::{Note, json};
use crate::operations::open_operation::OpenOperation;
use crate::operations::run::already_done;
use crate::service::Service;

/// Puts a new key in the place of an old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    user: UserRef,
    /// The old key.
    key: String,
}

/// What an intent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    user: UserRef,
    old: String,
    old_was_active: bool,
    /// As in [`new_key::Plan`].
    since: i64,
    /// As in [`new_key::Plan`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Vec<String>>,
}

impl RotateKey {
    /// # Errors
    /// invalid-name.
    pub fn new(user: UserRef, access_key_id: &str) -> Result<Self, ServiceError> {
        Ok(Self { user, key: key_id(access_key_id)? })
    }
}

impl Action for RotateKey {
    const NAME: ActionName = ActionName::RotateKey;
    const PLAN: &'static str = "rotate-key";
    type Plan = Plan;
    type Output = NewKey;

    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::RotateKey, self.user.clone())
    }

    fn parameters(&self) -> String {
        json(&self.key)
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (_, user) = cx.user()?;
        // The intent says how the old key was, so that it can be put back. Whether there is one is looked at later.
        let before = cx.keys_before(&user.name).await;
        Ok(Planned::Act(Plan {
            user,
            old: self.key.clone(),
            old_was_active: before
                .iter()
                .flatten()
                .find(|key| key.id == self.key)
                .is_none_or(|key| key.active),
            since: cx.aws_now_by_request().await?,
            before: before.as_deref().map(ids),
        }))
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        let old = &plan.old;
        cx.managed_user().await?;
        let active = cx.is_active(&plan.user, old).await?;
        cx.check_key_quota(&plan.user).await?;
        let new = Change::KeyCreated { access_key_id: None };
        let aside = match cx.use_of(old).await {
            Some(reason) => kept_active(cx, plan, reason),
            None => set_aside(cx, plan, active, None),
        };
        Ok(vec![new, aside])
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        vec![("old-access-key-id", plan.old.clone())]
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<NewKey> {
        let (row, _) = cx.user()?;
        cx.still_managed().await?;
        let was_active = cx.is_active(&plan.user, &plan.old).await?;
        cx.check_key_quota(&plan.user).await?;
        let made = new_key::make(cx, op).await?;
        if let Err(error) = prove(cx, row, &made).await {
            return Err(new_key::take_back(cx, op, &plan.user, &made.id, error).await);
        }
        let (aside, rotation) = set_old_key_aside(cx, plan, op, was_active, &made.id).await;
        let changes = vec![Change::KeyCreated { access_key_id: Some(made.id.clone()) }, aside];
        let old_key = OldKey {
            access_key_id: plan.old.clone(),
            status: KeyStatus::of(rotation.delete_after_ms.is_none()),
            deleted_after: rotation.delete_after_ms.map(rfc3339),
        };
        let mut effects = new_key::grant(row, &made, cx.service.clock().now_ms());
        effects.rotation = Some(RotationChange::Begun(rotation));
        let secret_of = Some(made.id.clone());
        let output = Box::new(|done| NewKey { old_key: Some(old_key), ..new_key::shown_once(done, made) });
        Ok(Success { changes, effects, secret_of, output })
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        let ((aws, credentials), name) = (case.handle.pair(), &plan.user.name);
        let keys = match lookup::keys_of(aws, credentials, name).await {
            Err(AwsError::NoSuchUser { .. }) => Vec::new(),
            keys => keys?,
        };
        let mut gone = Vec::new();
        let deactivated = case.noted(&Note::OldKeyInactive);
        if deactivated {
            case.not_fresh()?;
        }
        match keys.iter().find(|key| key.id == plan.old) {
            // Only what the worker was about to deactivate: somebody else may have done it between the plan and the intent.
            Some(key) if deactivated && !key.active => {
                key::set_active(aws, credentials, name, &plan.old, true).await?;
            }
            Some(_) => {}
            None => gone.push(plan.old.clone()),
        }
        let intent = KeyIntent {
            user: &plan.user,
            since: plan.since,
            before: plan.before.as_deref(),
            first_use: FirstUse::AfterNote,
        };
        let lost = case.take_back_key(intent).await?;
        Ok(lost.undone(gone, case.service.first_account()))
    }

    /// The old key takes its place again, unless its time was over meanwhile.
    async fn take_back(service: &Service, plan: &Plan, key: &str) -> Result<(), ServiceError> {
        let Some(row) = service.store().user(&plan.user).await? else { return Ok(()) };
        let rotations = service.store().rotations_of(&plan.user).await?;
        if rotations.iter().any(|found| found.new.old_key == plan.old && found.new.new_key == key) {
            let action = RestoreKey::new(plan.user.clone(), &plan.old)?;
            return service.run_itself(action, row, UNSHOWN).await.map(drop);
        }
        let action = DeleteAccessKey::new(plan.user.clone(), key, true)?;
        service.run_itself(action, row, UNSHOWN).await.map(drop)
    }

    async fn replay(&self, service: &Service, done: Done) -> Result<Done, ServiceError> {
        let rotations = service.store().rotations_of(&self.user).await?;
        let next = match rotations.into_iter().find(|found| found.operation == done.operation) {
            Some(found) => lost_or_arrived(&service.label(&self.user), &found.new),
            None => "Its old key is gone, or was restored. Ask again with a new key to rotate once more."
                .to_owned(),
        };
        Err(already_done(&done, "the new secret", &next))
    }
}

/// The new key must be the user's, and work, before the old one is touched.
async fn prove(cx: &Context, row: &ManagedUser, made: &AccessKey) -> Result<(), ServiceError> {
    let retry = cx.service.actions().retry_policy();
    let arn = key::prove(&cx.handle.aws, made, &retry).await;
    let arn = arn.map_err(ServiceError::of_aws)?;
    if arn == row.arn {
        return Ok(());
    }
    Err(ServiceError::new(
        ProblemCode::AwsRefused,
        format!("AWS says that the new key is {arn}'s, not {}'s. It was deleted.", row.arn),
    ))
}

/// Deactivates the old key, unless it is in use. It is not deleted here: nobody has the new secret yet. What can't be
/// done is reported, and is no failure: the new key is there.
async fn set_old_key_aside(
    cx: &Context,
    plan: &Plan,
    op: &OpenOperation,
    was_active: bool,
    new: &str,
) -> (Change, NewRotation) {
    let kept = match was_active {
        true => deactivate(cx, plan, op).await.err(),
        false => None,
    };
    let delete_after_ms = match kept {
        Some(_) => None,
        None => Some(cx.service.clock().now_ms() + cx.service.actions().retired_key_ms()),
    };
    let aside = match kept {
        Some(reason) => kept_active(cx, plan, reason),
        None => set_aside(cx, plan, was_active, delete_after_ms),
    };
    let rotation = NewRotation {
        user: plan.user.clone(),
        old_key: plan.old.clone(),
        new_key: new.to_owned(),
        old_was_active: was_active,
        since: cx.aws_now(),
        delete_after_ms,
    };
    (aside, rotation)
}

fn set_aside(cx: &Context, plan: &Plan, was_active: bool, delete_after_ms: Option<i64>) -> Change {
    Change::KeySetAside {
        access_key_id: plan.old.clone(),
        was_active,
        kept_hours: cx.service.actions().retired_key_hours,
        deleted_after: delete_after_ms.map(rfc3339),
    }
}

fn kept_active(cx: &Context, plan: &Plan, reason: KeptReason) -> Change {
    Change::KeyKept {
        user: cx.label(&plan.user),
        access_key_id: plan.old.clone(),
        rotation: RotationKey::Old,
        active: true,
        reason,
        until: None,
    }
}

/// # Errors
/// Why the old key stays active.
async fn deactivate(cx: &Context, plan: &Plan, op: &OpenOperation) -> Result<(), KeptReason> {
    // Once more, after the new key is proved: that may have taken a minute.
    if let Some(reason) = cx.use_of(&plan.old).await {
        return Err(reason);
    }
    // Noted before: the reconciler makes active again what may have been deactivated.
    if let Err(error) = op.note(&Note::OldKeyInactive).await {
        tracing::warn!(%error, operation = op.id, "note");
        return Err(KeptReason::NotWritten);
    }
    if op.may_act().is_err() {
        return Err(KeptReason::DatabaseLost);
    }
    let (aws, credentials) = cx.handle.pair();
    let Err(error) = key::set_active(aws, credentials, &plan.user.name, &plan.old, false).await else {
        return Ok(());
    };
    tracing::warn!(%error, operation = op.id, "deactivating the old key");
    // AWS may have done it although its answer was lost.
    match cx.is_active(&plan.user, &plan.old).await {
        Ok(false) => Ok(()),
        _ => Err(KeptReason::NotConfirmed),
    }
}

#[cfg(test)]
impl crate::actions::sample::Sample for RotateKey {
    const PLANS: &[&str] = &[
        r#"{"plan":"rotate-key","user":"dirk","old":"AKIAOLD","old_was_active":true,"since":1}"#,
        r#"{"plan":"rotate-key","user":"dirk","old":"AKIAOLD","old_was_active":true,"since":1,"before":["AKIAOLD"]}"#,
    ];
    const PARAMETERS: &str = r#""AKIAIOSFODNN7EXAMPLE""#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, &fields.key).unwrap()
    }
}
