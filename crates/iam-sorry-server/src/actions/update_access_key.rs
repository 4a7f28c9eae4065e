//! `update-access-key`: activates or deactivates a permanent access key. A key that has leaked is deactivated at once, whoever
//! uses it, and can be activated again.
//!
//! | left open after | in IAM       | settled                                                               |
//! |-----------------|--------------|-----------------------------------------------------------------------|
//! | intent          | perhaps done | finished, unless the user is not the service's any more or the key is gone |

use iam_sorry_aws::key;
use iam_sorry_core::api::{ActionName, Change, Done};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::aws_errors::is_final;
use crate::actions::key_state::key_id;
use crate::actions::user_state::settled_without_user;
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;

/// Activates or deactivates a permanent access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateAccessKey {
    user: UserRef,
    key: String,
    /// Whether it is to be active.
    active: bool,
}

/// What an intent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    user: UserRef,
    key: String,
    active: bool,
}

impl Plan {
    fn change(&self) -> Change {
        Change::KeyStatusSet { access_key_id: self.key.clone(), active: self.active }
    }
}

impl UpdateAccessKey {
    /// # Errors
    /// invalid-name.
    pub fn new(user: UserRef, access_key_id: &str, active: bool) -> Result<Self, ServiceError> {
        Ok(Self { user, key: key_id(access_key_id)?, active })
    }
}

impl Action for UpdateAccessKey {
    const NAME: ActionName = ActionName::UpdateAccessKey;
    const PLAN: &'static str = "update-access-key";
    type Plan = Plan;
    type Output = Done;

    /// Whoever may rotate a user's key may already deactivate one and, by restoring it, activate it.
    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::RotateKey, self.user.clone())
    }

    fn parameters(&self) -> String {
        json(&(&self.key, self.active))
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (_, user) = cx.user()?;
        Ok(Planned::Act(Plan { user, key: self.key.clone(), active: self.active }))
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        cx.managed_user().await?;
        cx.is_active(&plan.user, &plan.key).await?;
        Ok(vec![plan.change()])
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        let status = if plan.active { "active" } else { "inactive" };
        vec![("access-key-id", plan.key.clone()), ("status", status.to_owned())]
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        cx.still_managed().await?;
        cx.is_active(&plan.user, &plan.key).await?;
        op.may_act()?;
        let (aws, credentials) = cx.handle.pair();
        match key::set_active(aws, credentials, &plan.user.name, &plan.key, plan.active).await {
            Ok(()) => Ok(Success::new(vec![plan.change()], Effects::default())),
            Err(error) if is_final(&error) => Err(ServiceError::of_aws(error).into()),
            Err(error) => Err(op.left_open("AWS did not answer, and may have done it", &error)),
        }
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        if let Some(settled) = settled_without_user(&plan.user, case).await? {
            return Ok(settled);
        }
        let (aws, credentials) = case.handle.pair();
        match key::set_active(aws, credentials, &plan.user.name, &plan.key, plan.active).await {
            Ok(()) => Ok(Settled::done(plan.change())),
            Err(error) if is_final(&error) => Ok(Settled::undone("AWS refused it")),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
impl crate::actions::sample::Sample for UpdateAccessKey {
    const PLANS: &[&str] = &[r#"{"plan":"update-access-key","user":"a","key":"AKIAOLD","active":false}"#];
    const PARAMETERS: &str = r#"["AKIAIOSFODNN7EXAMPLE",true]"#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, &fields.key, fields.force).unwrap()
    }
}
