//! `delete-access-key`: deletes a permanent access key that nobody uses any more, or, if forced, any.
//!
//! | left open after | in IAM              | settled  |
//! |-----------------|---------------------|----------|
//! | any step        | the key, or nothing | finished |

use iam_sorry_aws::key;
use iam_sorry_core::api::{ActionName, Change, Done, ProblemCode};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::aws_errors::is_final;
use crate::actions::key_state::key_id;
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;

/// Deletes a permanent access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteAccessKey {
    user: UserRef,
    key: String,
    /// Although it is in use: whoever uses it will fail.
    force: bool,
}

/// What an intent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    user: UserRef,
    key: String,
}

impl DeleteAccessKey {
    /// # Errors
    /// invalid-name.
    pub fn new(user: UserRef, access_key_id: &str, force: bool) -> Result<Self, ServiceError> {
        Ok(Self { user, key: key_id(access_key_id)?, force })
    }

    async fn check(&self, cx: &Context) -> Result<(), ServiceError> {
        let ((_, user), id) = (cx.user()?, &self.key);
        cx.is_active(&user, id).await?;
        let name = cx.label(&user);
        match cx.use_of(id).await {
            Some(how) if !self.force => Err(ServiceError::new(
                ProblemCode::Conflict,
                format!(
                    "{id} is in use: {how}.\nWait until nobody uses it, or delete it all the same: iam-sorry keys delete \
                     {name} {id} --force"
                ),
            )),
            _ => Ok(()),
        }
    }
}

impl Action for DeleteAccessKey {
    const NAME: ActionName = ActionName::DeleteAccessKey;
    const PLAN: &'static str = "delete-key";
    type Plan = Plan;
    type Output = Done;

    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::DeleteAccessKey, self.user.clone())
    }

    fn parameters(&self) -> String {
        json(&(&self.key, self.force))
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (_, user) = cx.user()?;
        Ok(Planned::Act(Plan { user, key: self.key.clone() }))
    }

    async fn preview(&self, cx: &Context, _: &Plan) -> Result<Vec<Change>, ServiceError> {
        cx.managed_user().await?;
        self.check(cx).await?;
        let (change, _) = deleted(&self.key);
        Ok(vec![change])
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        vec![("access-key-id", plan.key.clone())]
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        cx.still_managed().await?;
        self.check(cx).await?;
        op.may_act()?;
        let ((aws, credentials), retry) = (cx.handle.pair(), cx.service.actions().retry_policy());
        match key::delete_surely(aws, credentials, &plan.user.name, &plan.key, &retry, |_| {}).await {
            Ok(()) => {
                let (change, effects) = deleted(&plan.key);
                Ok(Success::new(vec![change], effects))
            }
            Err(error) if is_final(&error) => Err(ServiceError::of_aws(error).into()),
            Err(error) => Err(op.left_open("AWS did not answer, and may have deleted the key", &error)),
        }
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        let ((aws, credentials), retry) = (case.handle.pair(), case.service.actions().retry_policy());
        key::delete_surely(aws, credentials, &plan.user.name, &plan.key, &retry, |_| {}).await?;
        let (change, effects) = deleted(&plan.key);
        Ok(Settled::Done(vec![change], effects))
    }
}

fn deleted(key: &str) -> (Change, Effects) {
    let effects = Effects { deleted_keys: vec![key.to_owned()], ..Effects::default() };
    (Change::KeyDeleted { access_key_id: key.to_owned(), rotation: None }, effects)
}

#[cfg(test)]
impl crate::actions::sample::Sample for DeleteAccessKey {
    const PLANS: &[&str] = &[r#"{"plan":"delete-key","user":"a","key":"AKIAOLD"}"#];
    const PARAMETERS: &str = r#"["AKIAIOSFODNN7EXAMPLE",true]"#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, &fields.key, fields.force).unwrap()
    }
}
