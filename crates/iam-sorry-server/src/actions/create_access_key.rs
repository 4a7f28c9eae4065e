//! `create-access-key`: makes a permanent access key. Its secret is shown once, in the answer, and kept nowhere.
//!
//! | left open after | in IAM            | settled                                           |
//! |-----------------|-------------------|---------------------------------------------------|
//! | intent          | nothing, or a key | a key that fits is deactivated: undone            |
//! | note key        | the key           | deleted by its id: undone (nobody has the secret) |

use iam_sorry_core::api::{ActionName, Change, Done, NewKey};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actions::delete_access_key::DeleteAccessKey;
use crate::actions::key_state::ids;
use crate::actions::new_key::{self, Plan, UNSHOWN};
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Success};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::open_operation::OpenOperation;
use crate::operations::run::{ASK_AGAIN, already_done};
use crate::service::Service;

/// Makes a permanent access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccessKey {
    user: UserRef,
}

impl CreateAccessKey {
    /// Of this user.
    pub fn new(user: UserRef) -> Self {
        Self { user }
    }
}

impl Action for CreateAccessKey {
    const NAME: ActionName = ActionName::CreateAccessKey;
    const PLAN: &'static str = "create-key";
    type Plan = Plan;
    type Output = NewKey;

    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::CreateAccessKey, self.user.clone())
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (_, user) = cx.user()?;
        // Whether there is room for one more is for the operation to find out.
        let before = cx.keys_before(&user.name).await.as_deref().map(ids);
        Ok(Planned::Act(Plan { user, since: cx.aws_now_by_request().await?, before }))
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        cx.managed_user().await?;
        cx.check_key_quota(&plan.user).await?;
        Ok(vec![Change::KeyCreated { access_key_id: None }])
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<NewKey> {
        let (row, _) = cx.user()?;
        cx.still_managed().await?;
        // If there were fewer than two a moment ago, IAM itself says if there is no room any more.
        if plan.before.as_ref().is_none_or(|before| before.len() >= 2) {
            cx.check_key_quota(&plan.user).await?;
        }
        let made = new_key::make(cx, op).await?;
        let effects = new_key::grant(row, &made, cx.service.clock().now_ms());
        let changes = vec![Change::KeyCreated { access_key_id: Some(made.id.clone()) }];
        let secret_of = Some(made.id.clone());
        let output = Box::new(|done| new_key::shown_once(done, made));
        Ok(Success { changes, effects, secret_of, output })
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        new_key::settle(plan, case).await
    }

    async fn take_back(service: &Service, plan: &Plan, key: &str) -> Result<(), ServiceError> {
        let Some(row) = service.store().user(&plan.user).await? else { return Ok(()) };
        let action = DeleteAccessKey::new(plan.user.clone(), key, true)?;
        service.run_itself(action, row, UNSHOWN).await.map(drop)
    }

    async fn replay(&self, _: &Service, done: Done) -> Result<Done, ServiceError> {
        Err(already_done(&done, "its secret", ASK_AGAIN))
    }
}

#[cfg(test)]
impl crate::actions::sample::Sample for CreateAccessKey {
    const PLANS: &[&str] = &[
        r#"{"plan":"create-key","user":"a","since":1}"#,
        r#"{"plan":"create-key","user":"a","since":1,"before":["AKIAOLD"]}"#,
    ];
    const PARAMETERS: &str = "null";

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user)
    }
}
