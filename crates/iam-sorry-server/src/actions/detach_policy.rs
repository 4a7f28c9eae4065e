//! `detach-policy`: detaches a managed policy of the allow-list.
//!
//! | left open after | in IAM       | settled  |
//! |-----------------|--------------|----------|
//! | intent          | perhaps done | finished |

use iam_sorry_aws::{AwsError, managed};
use iam_sorry_core::api::{ActionName, Change, Done};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::handle::AwsHandle;
use crate::actions::policy_change::{self, Plan};
use crate::actions::user_state::settled_without_user;
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::Acted;
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;

/// Detaches a managed policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachPolicy {
    user: UserRef,
    policy_arn: String,
}

impl DetachPolicy {
    /// Of this user.
    pub fn new(user: UserRef, policy_arn: String) -> Self {
        Self { user, policy_arn }
    }
}

impl Action for DetachPolicy {
    const NAME: ActionName = ActionName::DetachPolicy;
    const PLAN: &'static str = "detach-policy";
    type Plan = Plan;
    type Output = Done;

    fn request(&self) -> AuthzRequest {
        AuthzRequest {
            policy_arn: Some(self.policy_arn.clone()),
            ..AuthzRequest::user(Right::DetachPolicy, self.user.clone())
        }
    }

    fn parameters(&self) -> String {
        json(&self.policy_arn)
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (_, user) = cx.user()?;
        Ok(Planned::Act(Plan { user, arn: self.policy_arn.clone() }))
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        cx.managed_user().await?;
        Ok(vec![Change::PolicyDetached { policy_arn: plan.arn.clone() }])
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        vec![("policy", plan.arn.clone())]
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        cx.still_managed().await?;
        op.may_act()?;
        let policy_arn = plan.arn.clone();
        let detached = detach(&cx.handle, plan).await.map(|was_attached| match was_attached {
            true => Change::PolicyDetached { policy_arn },
            false => Change::PolicyNotAttached { policy_arn },
        });
        policy_change::ended(op, detached)
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        if let Some(settled) = settled_without_user(&plan.user, case).await? {
            return Ok(settled);
        }
        // Whether it was attached before is not known any more.
        let detached =
            detach(case.handle, plan).await.map(|_| Change::PolicyDetached { policy_arn: plan.arn.clone() });
        policy_change::settled(detached)
    }
}

/// Whether it was attached.
async fn detach(handle: &AwsHandle, plan: &Plan) -> Result<bool, AwsError> {
    let (aws, credentials) = handle.pair();
    managed::detach(aws, credentials, &plan.user.name, &plan.arn).await
}

#[cfg(test)]
impl crate::actions::sample::Sample for DetachPolicy {
    const PLANS: &[&str] = &[r#"{"plan":"detach-policy","user":"a","arn":"arn"}"#];
    const PARAMETERS: &str = r#""arn""#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, fields.arn)
    }
}
