//! `attach-policy`: attaches a managed policy of the allow-list.
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

/// Attaches a managed policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachPolicy {
    user: UserRef,
    policy_arn: String,
}

impl AttachPolicy {
    /// Of this user.
    pub fn new(user: UserRef, policy_arn: String) -> Self {
        Self { user, policy_arn }
    }
}

impl Action for AttachPolicy {
    const NAME: ActionName = ActionName::AttachPolicy;
    const PLAN: &'static str = "attach-policy";
    type Plan = Plan;
    type Output = Done;

    fn request(&self) -> AuthzRequest {
        AuthzRequest {
            policy_arn: Some(self.policy_arn.clone()),
            ..AuthzRequest::user(Right::AttachPolicy, self.user.clone())
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
        Ok(vec![Change::PolicyAttached { policy_arn: plan.arn.clone() }])
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        vec![("policy", plan.arn.clone())]
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        cx.still_managed().await?;
        op.may_act()?;
        policy_change::ended(op, attach(&cx.handle, plan).await)
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        if let Some(settled) = settled_without_user(&plan.user, case).await? {
            return Ok(settled);
        }
        policy_change::settled(attach(case.handle, plan).await)
    }
}

async fn attach(handle: &AwsHandle, plan: &Plan) -> Result<Change, AwsError> {
    let (aws, credentials) = handle.pair();
    managed::attach(aws, credentials, &plan.user.name, &plan.arn).await?;
    Ok(Change::PolicyAttached { policy_arn: plan.arn.clone() })
}

#[cfg(test)]
impl crate::actions::sample::Sample for AttachPolicy {
    const PLANS: &[&str] = &[r#"{"plan":"attach-policy","user":"a","arn":"arn"}"#];
    const PARAMETERS: &str = r#""arn""#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, fields.arn)
    }
}
