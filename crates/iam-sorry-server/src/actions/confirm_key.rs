//! `confirm-key`: the secret of a rotation's new key has arrived, so the old key goes, unless it is in use.
//!
//! | left open after | in IAM                  | settled                                      |
//! |-----------------|-------------------------|----------------------------------------------|
//! | any step        | the old key, or nothing | finished, unless the old key is in use by now |

use iam_sorry_core::api::{ActionName, Change, Done, RotationKey};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actions::key_state::key_id;
use crate::actions::rotation::{self, By, Plan};
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;

/// Confirms a rotation's new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmKey {
    user: UserRef,
    /// The new key.
    key: String,
}

impl ConfirmKey {
    /// # Errors
    /// invalid-name.
    pub fn new(user: UserRef, access_key_id: &str) -> Result<Self, ServiceError> {
        Ok(Self { user, key: key_id(access_key_id)? })
    }
}

impl Action for ConfirmKey {
    const NAME: ActionName = ActionName::ConfirmKey;
    const PLAN: &'static str = "retire-key";
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
        rotation::plan(cx, &self.key, By::NewKey).await
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        cx.managed_user().await?;
        Ok(vec![old_key_deleted(plan)])
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        plan.details()
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        retire(cx, plan, op).await
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        settle(plan, case).await
    }
}

/// The old key goes, unless it must stay.
pub(crate) async fn retire(cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
    cx.still_managed().await?;
    let Some(found) = cx.service.rotation(&plan.user, &plan.new, By::NewKey).await? else {
        return Ok(Success::new(vec![rotation::already_over(&plan.new)], Effects::default()));
    };
    rotation::ended(op, cx.service.retire_old_key(&cx.handle, &plan.user, &found).await)
}

pub(crate) async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
    let Some(found) = rotation::to_settle(plan, case).await? else {
        return Ok(rotation::settled_before(plan));
    };
    rotation::settled(plan, case, case.service.retire_old_key(case.handle, &plan.user, &found).await)
}

/// For a dry run.
pub(crate) fn old_key_deleted(plan: &Plan) -> Change {
    Change::KeyDeleted { access_key_id: plan.old.clone(), rotation: Some(RotationKey::Old) }
}

#[cfg(test)]
impl crate::actions::sample::Sample for ConfirmKey {
    const PLANS: &[&str] = &[r#"{"plan":"retire-key","user":"a","old":"AKIAOLD","new":"AKIANEW"}"#];
    const PARAMETERS: &str = r#""AKIAIOSFODNN7EXAMPLE""#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, &fields.key).unwrap()
    }
}
