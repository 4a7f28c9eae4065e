//! `issue-credentials`: temporary credentials of an IAM user, by a session that is made through an access key that exists for a
//! moment.
//!
//! Five requests: GetUser (the user must still be the service's, by path and tag, before anything is done to it),
//! CreateAccessKey, GetSessionToken, DeleteAccessKey, GetCallerIdentity. No ListAccessKeys: all keys that are known are in
//! the store.
//!
//! | left open after  | in IAM            | settled                                           |
//! |------------------|-------------------|---------------------------------------------------|
//! | intent           | nothing, or a key | a key that fits is deactivated: undone            |
//! | note key         | the key           | deleted by its id: undone (nobody has the secret) |

use iam_sorry_aws::key;
use iam_sorry_aws::key::lost::FirstUse;
use iam_sorry_core::api::{ActionName, Change, Done, GrantKind, IssuedCredentials, ProblemCode};
use iam_sorry_core::ids::UserRef;
use iam_sorry_core::names::SessionDuration;
use iam_sorry_rules::Action as Right;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actions::new_key;
use crate::actions::session::{self, NewSession};
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::Acted;
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::lost_key::KeyIntent;
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;
use crate::operations::run::{ASK_AGAIN, already_done};
use crate::service::Service;

/// Issues temporary credentials of an IAM user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueCredentials {
    user: UserRef,
    /// The longest that the rules allow if absent.
    duration_seconds: Option<u32>,
}

/// What an intent says. Which keys the user had before is not looked up: that would be a sixth request for every session, to
/// tell apart what hardly ever meets (a lost answer, and a key that somebody made in the two seconds before the intent). Such a
/// key is shown, and not touched ([`iam_sorry_aws::key::lost`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    user: UserRef,
    /// As in [`new_key::Plan`].
    since: i64,
}

impl IssueCredentials {
    /// # Errors
    /// invalid-name; bad-request for a duration that AWS does not give.
    pub fn new(user: UserRef, duration_seconds: Option<u32>) -> Result<Self, ServiceError> {
        session::check_duration(duration_seconds)?;
        Ok(Self { user, duration_seconds })
    }
}

impl Action for IssueCredentials {
    const NAME: ActionName = ActionName::IssueCredentials;
    const PLAN: &'static str = "user-session";
    type Plan = Plan;
    type Output = IssuedCredentials;

    fn request(&self) -> AuthzRequest {
        AuthzRequest {
            seconds: self.duration_seconds,
            ..AuthzRequest::user(Right::IssueCredentials, self.user.clone())
        }
    }

    fn parameters(&self) -> String {
        json(&self.duration_seconds)
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (_, user) = cx.user()?;
        Ok(Planned::Act(Plan { user, since: cx.aws_now_by_request().await? }))
    }

    async fn preview(&self, cx: &Context, _: &Plan) -> Result<Vec<Change>, ServiceError> {
        Ok(session::changes(cx, self.duration_seconds))
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<IssuedCredentials> {
        let (row, user) = (cx.allowed.managed()?, &plan.user);
        let seconds = session::allowed_seconds(cx);
        let duration = SessionDuration::from_seconds(seconds)
            .map_err(|error| ServiceError::new(ProblemCode::BadRequest, error.0))?;
        cx.still_managed().await?;
        let ((aws, credentials), retry) = (cx.handle.pair(), cx.service.actions().retry_policy());
        let first_use = |made| {
            let retry = &retry;
            async move { key::first_session(aws, &made, duration, retry).await }
        };
        let (made, session) = new_key::make_and_use(cx, op, first_use).await?;
        if let Err(error) = key::delete_surely(aws, credentials, &user.name, &made.id, &retry, |_| {}).await {
            let what = "The access key that was made for a moment could not be deleted yet";
            return Err(op.left_open(what, &error));
        }
        // AWS documents that a session outlives the key that made it; what it says is believed, not the documents.
        let arn = key::identity(aws, &session).await.map_err(ServiceError::of_aws)?;
        if arn != row.arn {
            let text = format!(
                "AWS says that the credentials are {arn}'s, not {}'s. They were thrown away.",
                row.arn
            );
            return Err(ServiceError::new(ProblemCode::AwsRefused, text).into());
        }
        session::issue(
            cx,
            NewSession {
                kind: GrantKind::Session,
                account: row.user.account.clone(),
                resource: row.user.name.to_string(),
                arn,
                credentials: session,
                seconds,
                changes: session::changes(cx, self.duration_seconds),
            },
        )
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        let intent =
            KeyIntent { user: &plan.user, since: plan.since, before: None, first_use: FirstUse::BesideNote };
        let lost = case.take_back_key(intent).await?;
        Ok(lost.undone(Vec::new(), case.service.first_account()))
    }

    async fn replay(&self, _: &Service, done: Done) -> Result<Done, ServiceError> {
        Err(already_done(&done, "the credentials", ASK_AGAIN))
    }
}

#[cfg(test)]
impl crate::actions::sample::Sample for IssueCredentials {
    const PLANS: &[&str] = &[r#"{"plan":"user-session","user":"a","since":1}"#];
    const PARAMETERS: &str = "900";

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, fields.seconds).unwrap()
    }
}
