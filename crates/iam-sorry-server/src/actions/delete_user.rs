//! `delete-user`: removes an IAM user with everything that AWS wants gone first.
//!
//! | left open after | in IAM      | settled  |
//! |-----------------|-------------|----------|
//! | any step        | some of it  | finished |

use iam_sorry_aws::removal::{self, Removed};
use iam_sorry_aws::{lookup, managed};
use iam_sorry_core::api::{ActionName, Change, Done, ProblemCode, UserPart};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::aws_errors::is_final;
use crate::actions::user_state::{UserState, not_managed, user_gone};
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success, Unsuccessful};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::open_operation::OpenOperation;

/// Removes an IAM user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteUser {
    user: UserRef,
}

/// What an intent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    user: UserRef,
}

impl DeleteUser {
    /// Of this user.
    pub fn new(user: UserRef) -> Self {
        Self { user }
    }
}

impl Action for DeleteUser {
    const NAME: ActionName = ActionName::DeleteUser;
    const PLAN: &'static str = "delete-user";
    // The row, which the rules want to see, is gone once it is done.
    const REPLAYED_FIRST: bool = true;
    type Plan = Plan;
    type Output = Done;

    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::DeleteUser, self.user.clone())
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (_, user) = cx.user()?;
        Ok(Planned::Act(Plan { user }))
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        let (row, _) = cx.user()?;
        // The answer names the user's keys, devices and policies.
        cx.service.record_reading_user(cx.caller()?, "show-user", &cx.allowed).await?;
        match cx.service.user_state(&cx.handle, row).await? {
            UserState::Managed(_) => {
                groups_may_go(cx, &plan.user).await?;
                let (aws, credentials) = cx.handle.pair();
                let parts = removal::what_hangs_on(aws, credentials, &plan.user.name).await;
                Ok(changes(cx.label(&plan.user), parts.map_err(ServiceError::of_aws)?))
            }
            UserState::Gone => Ok(vec![user_gone(cx.label(&plan.user))]),
            UserState::NotManaged(why) => Err(not_managed(&why)),
        }
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        let (row, user) = cx.user()?;
        let mut effects = Effects { deleted_user: Some(user.clone()), ..Effects::default() };
        match cx.service.user_state(&cx.handle, row).await? {
            UserState::Managed(_) => groups_may_go(cx, &user).await?,
            UserState::Gone => return Ok(Success::new(vec![user_gone(cx.label(&user))], effects)),
            UserState::NotManaged(why) => return Err(not_managed(&why).into()),
        }
        let (aws, credentials) = cx.handle.pair();
        let mut removed = Removed::default();
        match removal::delete_counting(aws, credentials, &plan.user.name, &mut removed).await {
            Ok(()) => {
                effects.deleted_keys = removed.keys;
                let lines: Vec<_> = removed.parts.iter().map(ToString::to_string).collect();
                effects.details = vec![("removed", lines.join(", "))];
                Ok(Success::new(changes(cx.label(&user), removed.parts), effects))
            }
            // What was taken away until then stays away, and the row stays: the same request again goes on from there.
            Err(error) if is_final(&error) => {
                let deleted_keys =
                    iam_sorry_core::planted!("half-deletion-forgotten": Vec::new(), removed.keys);
                let effects = Effects { deleted_keys, ..Effects::default() };
                Err(Unsuccessful::failed(ServiceError::of_aws(error), effects))
            }
            Err(error) => Err(op.left_open("AWS did not answer while the user was being deleted", &error)),
        }
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        case.not_fresh()?;
        let name = case.label(&plan.user);
        let Some(row) = case.service.store().user(&plan.user).await? else {
            return Ok(Settled::done(user_gone(name)));
        };
        let mut effects = Effects { deleted_user: Some(row.user.clone()), ..Effects::default() };
        match case.service.user_state(case.handle, &row).await? {
            UserState::Managed(_) => {}
            UserState::Gone => return Ok(Settled::Done(vec![user_gone(name)], effects)),
            UserState::NotManaged(why) => return Ok(Settled::undone(why)),
        }
        let (aws, credentials) = case.handle.pair();
        match removal::delete_completely(aws, credentials, &plan.user.name).await {
            Ok(removed) => {
                effects.deleted_keys = removed.keys;
                Ok(Settled::Done(changes(name, removed.parts), effects))
            }
            Err(error) if is_final(&error) => {
                let why = format!("AWS refused to delete {name}; what was taken away stays away");
                let deleted_keys = keys_that_are_gone(case, &plan.user).await?;
                Ok(Settled::Undone(why, Effects { deleted_keys, ..Effects::default() }))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The keys that the store has of the user, and IAM does not any more: also those that the worker took away.
async fn keys_that_are_gone(case: &Case<'_>, user: &UserRef) -> Result<Vec<String>, SettleError> {
    let (aws, credentials) = case.handle.pair();
    let listed = lookup::keys_of(aws, credentials, &user.name).await?;
    let mut known = case.service.store().keys_of_user(user).await?;
    known.retain(|id| !listed.iter().any(|key| key.id == *id));
    Ok(known)
}

/// Whether the service may take the user out of all of its groups: checked before anything is taken away, so that a user
/// whom it can't delete stays whole.
async fn groups_may_go(cx: &Context, user: &UserRef) -> Result<(), ServiceError> {
    let rules = cx.service.rules();
    let Some(listed) = &rules.settings().guardrails.groups else { return Ok(()) };
    let (aws, credentials) = cx.handle.pair();
    let groups = managed::group_arns(aws, credentials, &user.name).await.map_err(ServiceError::of_aws)?;
    let name = cx.label(user);
    match groups.into_iter().find(|arn| !listed.contains(arn)) {
        None => Ok(()),
        Some(arn) => Err(ServiceError::new(
            ProblemCode::Guardrail,
            format!(
                "{name} is in the IAM group {arn}, which the service may not take anybody out of, so nothing was \
                 deleted.\nAsk an administrator of the AWS account to take {name} out of it, then try again."
            ),
        )),
    }
}

fn changes(user: String, parts: Vec<UserPart>) -> Vec<Change> {
    let mut changes = vec![Change::UserDeleted { user }];
    changes.extend(parts.into_iter().map(|part| Change::TakenAway { part }));
    changes
}

#[cfg(test)]
impl crate::actions::sample::Sample for DeleteUser {
    const PLANS: &[&str] = &[r#"{"plan":"delete-user","user":"a"}"#];
    const PARAMETERS: &str = "null";

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user)
    }
}
