//! `assume-role`: temporary credentials of a role, with the person behind it in SourceIdentity and session tags, so that CloudTrail
//! names them. What a caller can't choose: any of those.
//!
//! | left open after | in AWS                      | settled                                              |
//! |-----------------|-----------------------------|------------------------------------------------------|
//! | intent          | nothing that can be deleted | undone: the secret of a session reached nobody       |

use iam_sorry_aws::AwsError;
use iam_sorry_aws::issue::{RoleRequest, Session, assume_role};
use iam_sorry_core::api::{
    ActionName, Change, Done, DurationLimit, GrantKind, IssuedCredentials, ProblemCode,
};
use iam_sorry_core::identity::Identity;
use iam_sorry_core::names::{CallerArn, Principal};
use iam_sorry_rules::{Action as Right, Resource};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::aws_errors::is_final;
use crate::accounts::tags::{short_digest, tag_value};
use crate::actions::session::{self, NewSession};
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::Acted;
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;
use crate::operations::run::{ASK_AGAIN, already_done};
use crate::service::Service;

/// The most that STS gives if the service's own credentials are a role's (STS API reference, AssumeRole, "role
/// chaining"), and the least that every role allows.
const CHAINED_SECONDS: u32 = 3600;

/// Issues temporary credentials of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssumeRole {
    /// The ARN.
    role: String,
    /// The longest that the rules allow if absent.
    duration_seconds: Option<u32>,
}

/// What an intent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    role: String,
}

impl AssumeRole {
    /// # Errors
    /// bad-request for a duration that AWS does not give.
    pub fn new(role: String, duration_seconds: Option<u32>) -> Result<Self, ServiceError> {
        session::check_duration(duration_seconds)?;
        Ok(Self { role, duration_seconds })
    }
}

impl Action for AssumeRole {
    const NAME: ActionName = ActionName::AssumeRole;
    const PLAN: &'static str = "role-session";
    type Plan = Plan;
    type Output = IssuedCredentials;

    fn request(&self) -> AuthzRequest {
        AuthzRequest {
            seconds: self.duration_seconds,
            ..AuthzRequest::about(Right::AssumeRole, Resource::Role(self.role.clone()))
        }
    }

    fn parameters(&self) -> String {
        json(&self.duration_seconds)
    }

    async fn plan(&self, _: &Context) -> Result<Planned<Plan>, ServiceError> {
        Ok(Planned::Act(Plan { role: self.role.clone() }))
    }

    async fn preview(&self, cx: &Context, _: &Plan) -> Result<Vec<Change>, ServiceError> {
        Ok(session::changes(cx, self.duration_seconds))
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<IssuedCredentials> {
        op.may_act()?;
        let role = &plan.role;
        let mut changes = session::changes(cx, self.duration_seconds);
        let mut seconds = session::allowed_seconds(cx);
        let mut request = request(cx, role, &op.id, seconds)?;
        let (aws, credentials) = cx.handle.pair();
        let mut answer = assume_role(aws, credentials, &request).await;
        if seconds > CHAINED_SECONDS && answer.as_ref().is_err_and(is_about_duration) {
            request.seconds = Some(CHAINED_SECONDS);
            let issued = Change::CredentialsIssued { duration_seconds: CHAINED_SECONDS };
            changes.pop(); // was to last longer
            changes.extend([session::duration_cut(seconds, CHAINED_SECONDS, DurationLimit::Role), issued]);
            seconds = CHAINED_SECONDS;
            answer = assume_role(aws, credentials, &request).await;
        }
        // A session whose answer was lost is nobody's: AWS gave its secret to the service alone.
        let Session { credentials, caller } = answer.map_err(|error| role_refused(error, role))?;
        let (resource, arn) = (role.clone(), caller_arn(&caller));
        let account = cx.allowed.account_of(&self.request()).clone();
        session::issue(
            cx,
            NewSession { kind: GrantKind::Role, account, resource, arn, credentials, seconds, changes },
        )
    }

    async fn settle(_: &Plan, _: &Case<'_>) -> Result<Settled, SettleError> {
        Ok(Settled::undone("a session may have been made, whose secret reached nobody"))
    }

    async fn replay(&self, _: &Service, done: Done) -> Result<Done, ServiceError> {
        Err(already_done(&done, "the credentials", ASK_AGAIN))
    }
}

fn request(cx: &Context, role: &str, operation: &str, seconds: u32) -> Result<RoleRequest, ServiceError> {
    let identity = &cx.caller()?.identity;
    let guardrails = &cx.allowed.rules.settings().guardrails;
    let person = session_name(identity);
    Ok(RoleRequest {
        role_arn: role.to_owned(),
        session_name: person.clone(),
        external_id: guardrails.role(role).and_then(|found| found.external_id.clone()),
        seconds: Some(seconds),
        mfa: None,
        source_identity: Some(person),
        tags: vec![
            ("iam-sorry-person".into(), tag_value(&identity.id())),
            ("iam-sorry-name".into(), tag_value(&identity.name)),
            ("iam-sorry-operation".into(), operation.to_owned()),
        ],
    })
}

/// The person as a role session's name and source identity: 2 to 64 of letters, digits and `_+=,.@-` (STS API reference,
/// AssumeRole). The same person always gets the same, and two people never, as far as their names go.
fn session_name(identity: &Identity) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let name = &identity.name;
    // A source identity may not begin with "aws:"; the colon is not among the characters anyway.
    if (2..=64).contains(&name.len()) && name.chars().all(fits) {
        return name.clone();
    }
    let plain: String = name.chars().map(|c| if fits(c) { c } else { '-' }).take(48).collect();
    format!("{plain}-{}", short_digest(&identity.id()))
}

/// STS has no code of its own for a duration beyond the role's maximum (`ValidationError`).
fn is_about_duration(error: &AwsError) -> bool {
    matches!(error, AwsError::Refused { code, message, .. }
        if code == "ValidationError" && (message.contains("DurationSeconds") || message.contains("1 hour session limit")))
}

fn role_refused(error: AwsError, role: &str) -> ServiceError {
    if matches!(&error, AwsError::Refused { code, .. } if code.starts_with("AccessDenied")) {
        tracing::warn!(%error, role, "AssumeRole");
        return ServiceError::new(
            ProblemCode::AwsRefused,
            format!(
                "AWS does not let the service assume {role}.\nTell its operator: the role's trust policy must allow the service \
                 sts:AssumeRole, sts:SetSourceIdentity and sts:TagSession."
            ),
        );
    }
    if is_final(&error) {
        return ServiceError::of_aws(error);
    }
    let error = ServiceError::of_aws(error);
    ServiceError { code: ProblemCode::AwsUnavailable, retry_after: Some(5), ..error }
}

/// The caller's ARN, as sts:GetCallerIdentity would answer.
fn caller_arn(caller: &CallerArn) -> String {
    let CallerArn { partition, account, principal } = caller;
    match principal {
        Principal::AssumedRole(role, session) => {
            format!("arn:{partition}:sts::{account}:assumed-role/{role}/{session}")
        }
        Principal::User(name) => format!("arn:{partition}:iam::{account}:user/{name}"),
        Principal::Root => format!("arn:{partition}:iam::{account}:root"),
        Principal::Other(resource) => format!("arn:{partition}:sts::{account}:{resource}"),
    }
}

#[cfg(test)]
impl crate::actions::sample::Sample for AssumeRole {
    const PLANS: &[&str] = &[r#"{"plan":"role-session","role":"arn"}"#];
    const PARAMETERS: &str = "900";

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.arn, fields.seconds).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use iam_sorry_core::group::Groups;
    use iam_sorry_core::identity::Method;

    use super::*;

    fn person(name: &str) -> Identity {
        Identity {
            issuer: "corp".into(),
            subject: format!("uuid-of-{name}"),
            name: name.into(),
            groups: Groups::default(),
            method: Method::Ldap,
        }
    }

    #[test]
    fn session_names_are_stss_stable_and_apart() {
        assert_eq!(session_name(&person("alice")), "alice");
        assert_eq!(session_name(&person("alice@example.org")), "alice@example.org");
        assert_ne!(session_name(&person("jörg")), session_name(&person("jürg")));
        assert_eq!(session_name(&person("jörg")), session_name(&person("jörg")));
    }

    proptest::proptest! {
        #[test]
        fn any_name_gives_one_that_sts_takes(name in "\\PC{0,200}") {
            let made = session_name(&person(&name));
            let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
            proptest::prop_assert!((2..=64).contains(&made.len()) && made.chars().all(fits), "{}", made);
        }
    }
}
