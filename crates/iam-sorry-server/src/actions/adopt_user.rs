//! `adopt-user`: takes over an IAM user that was there before the service. It gets the boundary, the path and the tags of a user
//! that the service made, in this order, so that it is bounded before it is managed.
//!
//! Only a user whose rights the service could have given is taken: whoever may adopt gets to act as that user.
//!
//! | left open after | in IAM              | settled                                         |
//! |-----------------|---------------------|-------------------------------------------------|
//! | any step        | boundary, path, tag | finished, if it is still the same user (its id) |

use iam_sorry_aws::managed::{self, Facts};
use iam_sorry_aws::{AwsError, lookup};
use iam_sorry_core::api::{ActionName, Change, Done, GrantKind, ProblemCode};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use iam_sorry_store::{ManagedUser, NewGrant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::accounts::aws_errors::is_final;
use crate::accounts::handle::AwsHandle;
use crate::accounts::tags::{MANAGED_BY, OPERATION, tags};
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::open_operation::OpenOperation;
use crate::service::Service;

/// Takes over an IAM user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptUser {
    user: UserRef,
}

/// What an intent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    user: UserRef,
    /// IAM's unique id of the user that was looked at; another one of that name is somebody else.
    id: String,
    namespace: String,
    path: String,
    boundary: Option<String>,
}

impl AdoptUser {
    /// Of this user.
    pub fn new(user: UserRef) -> Self {
        Self { user }
    }
}

impl Action for AdoptUser {
    const NAME: ActionName = ActionName::AdoptUser;
    const PLAN: &'static str = "adopt-user";
    // It is adopted once it is done, and what is adopted can't be.
    const REPLAYED_FIRST: bool = true;
    type Plan = Plan;
    type Output = Done;

    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::AdoptUser, self.user.clone())
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (name, label) = (&self.user.name, cx.label(&self.user));
        if cx.allowed.row.is_some() {
            let text = format!("{label} is the service's already.\nSee it: iam-sorry users show {label}");
            return Err(ServiceError::new(ProblemCode::Conflict, text));
        }
        let rules = &cx.allowed.rules;
        let namespace = rules.namespace_of(&self.user).ok_or_else(|| {
            ServiceError::new(ProblemCode::Guardrail, format!("{label} is in no namespace of this service."))
        })?;
        let (aws, credentials) = cx.handle.pair();
        let facts = managed::facts(aws, credentials, name).await.map_err(|error| match error {
            AwsError::NoSuchUser { .. } => {
                ServiceError::new(ProblemCode::NotFound, format!("IAM knows no user {label}."))
            }
            error => ServiceError::of_aws(error),
        })?;
        let boundary = rules.settings().guardrails.boundary().map(str::to_owned);
        fit_to_adopt(cx, &facts, boundary.as_deref()).await?;
        Ok(Planned::Act(Plan {
            user: UserRef::new(self.user.account.clone(), facts.name),
            id: facts.id,
            namespace: namespace.name.clone(),
            path: namespace.path(),
            boundary,
        }))
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        Ok(vec![Change::UserAdopted { user: cx.label(&plan.user) }])
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        op.may_act()?;
        match complete(&cx.service, &cx.handle, plan, op.person(), &op.id).await {
            Ok(Some((changes, effects))) => Ok(Success::new(changes, effects)),
            Ok(None) => Err(ServiceError::new(
                ProblemCode::Conflict,
                format!("{} changed in IAM meanwhile.\nLook at it, then try again.", cx.label(&self.user)),
            )
            .into()),
            // A boundary or path that it got already does no harm, and the tag, which comes last, makes it managed.
            Err(error) if is_final(&error) => Err(ServiceError::of_aws(error).into()),
            Err(error) => Err(op.left_open("AWS did not answer while the user was being adopted", &error)),
        }
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        case.not_fresh()?;
        let new = &case.operation.new;
        match complete(case.service, case.handle, plan, &new.person, &new.id).await {
            Ok(Some((changes, effects))) => Ok(Settled::Done(changes, effects)),
            Ok(None) => Ok(Settled::undone("the user is gone, or another one by now")),
            Err(error) if is_final(&error) => Ok(Settled::undone("AWS refused a step of it")),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the user has no rights beyond what the service could have given it.
async fn fit_to_adopt(cx: &Context, facts: &Facts, boundary: Option<&str>) -> Result<(), ServiceError> {
    let listed = &cx.allowed.rules.settings().guardrails.policies;
    let ((aws, credentials), name) = (cx.handle.pair(), &facts.name);
    let mut problems = Vec::new();
    if facts.tags.get(MANAGED_BY.0).is_some_and(|value| value != MANAGED_BY.1) {
        problems.push(format!("it bears the tag {} of something else", MANAGED_BY.0));
    }
    if let (Some(has), Some(wanted)) = (&facts.boundary, boundary)
        && has != wanted
    {
        problems.push(format!("it has another permissions boundary, {has}"));
    }
    for arn in managed::attached(aws, credentials, name).await.map_err(ServiceError::of_aws)? {
        if !listed.contains(&arn) {
            problems.push(format!("{arn} is attached, which is not on the list of policies"));
        }
    }
    for policy in managed::inline(aws, credentials, name).await.map_err(ServiceError::of_aws)? {
        problems.push(format!("it has the inline policy {policy}"));
    }
    for group in managed::groups(aws, credentials, name).await.map_err(ServiceError::of_aws)? {
        problems.push(format!("it is in the group {group}"));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ServiceError {
        reasons: problems.iter().map(|problem| format!("guardrail adopted-rights: {problem}")).collect(),
        ..ServiceError::new(
            ProblemCode::Guardrail,
            format!(
                "{name} has what this service could not have given it: {}.\nAn IAM administrator can take that away first.",
                problems.join("; ")
            ),
        )
    })
}

/// Every step that is still to be done; safe to repeat. `None`: the user is gone, or is another one by now.
async fn complete(
    service: &Service,
    handle: &AwsHandle,
    plan: &Plan,
    owner: &str,
    operation: &str,
) -> Result<Option<(Vec<Change>, Effects)>, AwsError> {
    let ((aws, credentials), name) = (handle.pair(), &plan.user.name);
    let mut facts = match managed::facts(aws, credentials, name).await {
        Ok(facts) if facts.id == plan.id => facts,
        Ok(_) | Err(AwsError::NoSuchUser { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut changes = vec![Change::UserAdopted { user: service.label(&plan.user) }];
    if let Some(boundary) = plan.boundary.as_ref().filter(|wanted| facts.boundary.as_ref() != Some(wanted)) {
        managed::put_boundary(aws, credentials, name, boundary).await?;
        changes.push(Change::BoundarySet { policy_arn: boundary.clone() });
    }
    if facts.path != plan.path {
        managed::move_to(aws, credentials, name, &plan.path).await?;
        changes.push(Change::UserMoved { from: facts.path, to: plan.path.clone() });
        facts = managed::facts(aws, credentials, name).await?;
    }
    if facts.tags.get(OPERATION).is_none_or(|value| value != operation) {
        managed::tag(aws, credentials, name, &tags(owner, operation)).await?;
    }
    let keys = lookup::keys_of(aws, credentials, name).await?;
    let now_ms = service.clock().now_ms();
    let user = ManagedUser {
        user: UserRef::new(plan.user.account.clone(), facts.name),
        arn: facts.arn,
        namespace: plan.namespace.clone(),
        owner: owner.to_owned(),
        created_ms: now_ms,
        adopted: true,
    };
    // Keys that it brought along are known from here on, so that none is ever taken for a lost one of the service's.
    let grants = keys
        .into_iter()
        .map(|key| NewGrant {
            kind: GrantKind::AccessKey.as_str().to_owned(),
            account: user.user.account.clone(),
            resource: user.user.name.to_string(),
            access_key_id: key.id,
            issued_ms: key.created.map_or(now_ms, |at| at.unix() * 1000),
            expires_ms: None,
        })
        .collect();
    Ok(Some((changes, Effects { user: Some(user), grants, ..Effects::default() })))
}

#[cfg(test)]
impl crate::actions::sample::Sample for AdoptUser {
    const PLANS: &[&str] =
        &[r#"{"plan":"adopt-user","user":"a","id":"AIDA1","namespace":"lab","path":"/p/","boundary":"arn"}"#];
    const PARAMETERS: &str = "null";

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user)
    }
}
