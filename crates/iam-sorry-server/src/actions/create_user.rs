//! `create-user`: makes an IAM user with the configured permissions boundary, tags that name its owner and the operation, and
//! its first policies.
//!
//! | left open after           | in IAM                | settled                               |
//! |---------------------------|-----------------------|---------------------------------------|
//! | intent                    | nothing, or the user  | by its tag: finished; not there: undone |
//! | CreateUser, some policies | the user              | finished: the other policies, its row |
//! | note taking-back          | the user, or nothing  | deleted: undone                       |

use std::time::Duration;

use iam_sorry_aws::NotMade;
use iam_sorry_aws::managed::{self, Facts, NewUser};
use iam_sorry_aws::{AwsError, removal};
use iam_sorry_core::api::{ActionName, Change, Done, ProblemCode};
use iam_sorry_core::ids::UserRef;
use iam_sorry_core::names::UserName;
use iam_sorry_rules::Action as Right;
use iam_sorry_store::ManagedUser;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::accounts::aws_errors::is_final;
use crate::accounts::handle::AwsHandle;
use crate::accounts::tags::{is_of, tags};
use crate::actions::user_state::KNOWN_WITHIN;
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success, Unsuccessful};
use crate::operations::action::{Action, Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::{Note, json};
use crate::operations::open_operation::OpenOperation;
use crate::service::Service;

/// The most policies that one request attaches; IAM's own quota is 10 a user unless raised.
const MOST_POLICIES: usize = 20;

/// Makes an IAM user in the namespace that its name is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    user: UserRef,
    /// ARNs of managed policies to attach at once; sorted, each once.
    policies: Vec<String>,
}

/// What an intent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    user: UserRef,
    namespace: String,
    path: String,
    boundary: Option<String>,
    policies: Vec<String>,
}

impl CreateUser {
    /// Of this name, with these policies.
    pub fn new(user: UserRef, mut policies: Vec<String>) -> Self {
        policies.sort();
        policies.dedup();
        Self { user, policies }
    }
}

impl Action for CreateUser {
    const NAME: ActionName = ActionName::CreateUser;
    const PLAN: &'static str = "create-user";
    type Plan = Plan;
    type Output = Done;

    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::CreateUser, self.user.clone())
    }

    fn parameters(&self) -> String {
        json(&self.policies)
    }

    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        if self.policies.len() > MOST_POLICIES {
            return Err(ServiceError::new(
                ProblemCode::BadRequest,
                format!("At most {MOST_POLICIES} policies can be attached at once."),
            ));
        }
        for arn in &self.policies {
            allow_first_policy(cx, &self.user, arn).await?;
        }
        let rules = &cx.allowed.rules;
        let namespace = rules.namespace_of(&self.user).ok_or_else(|| {
            let text = format!("{} is in no namespace of this service.", cx.label(&self.user));
            ServiceError::new(ProblemCode::Guardrail, text)
        })?;
        Ok(Planned::Act(Plan {
            user: self.user.clone(),
            namespace: namespace.name.clone(),
            path: namespace.path(),
            boundary: rules.settings().guardrails.boundary().map(str::to_owned),
            policies: self.policies.clone(),
        }))
    }

    async fn preview(&self, cx: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        if cx.allowed.row.is_some() {
            return Err(exists(&cx.label(&self.user)));
        }
        let (aws, credentials) = cx.handle.pair();
        match managed::facts(aws, credentials, &self.user.name).await {
            Err(AwsError::NoSuchUser { .. }) => Ok(changes(&cx.service, plan)),
            Ok(_) => Err(exists(&cx.label(&self.user))),
            Err(error) => Err(ServiceError::of_aws(error)),
        }
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        match plan.policies.is_empty() {
            true => Vec::new(),
            false => vec![("policies", plan.policies.join(" "))],
        }
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        if cx.allowed.row.is_some() {
            return Err(exists(&cx.label(&plan.user)).into());
        }
        let facts = make(cx, plan, op).await?;
        match complete(&cx.service, &cx.handle, &facts, plan, op.person()).await {
            Ok(row) => Ok(Success::new(
                changes(&cx.service, plan),
                Effects { user: Some(row), ..Effects::default() },
            )),
            Err(error) => Err(take_back(cx, plan, op, ServiceError::of_aws(error)).await),
        }
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        let ((aws, credentials), id, name) = (case.handle.pair(), &case.operation.new.id, &plan.user.name);
        let facts = match managed::facts(aws, credentials, name).await {
            Ok(facts) if iam_sorry_core::planted!("foreign-user-is-made": true, is_of(&facts, id)) => facts,
            Err(AwsError::NoSuchUser { .. }) if case.fresh => return Err(SettleError::TooFresh),
            Ok(_) | Err(AwsError::NoSuchUser { .. }) => return Ok(Settled::undone("no user was made")),
            Err(error) => return Err(error.into()),
        };
        case.not_fresh()?;
        if !case.noted(&Note::TakingBack) {
            let owner = &case.operation.new.person;
            match complete(case.service, case.handle, &facts, plan, owner).await {
                Ok(row) => {
                    let effects = Effects { user: Some(row), ..Effects::default() };
                    return Ok(Settled::Done(changes(case.service, plan), effects));
                }
                Err(error) if is_final(&error) => {
                    tracing::warn!(%error, operation = id, "the user can't be finished, so it is deleted");
                    let what = format!("the user {name}, which it made");
                    case.note_undoing(&Note::TakingBack, &what).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        delete_made_user(case.handle, name, id).await?;
        Ok(Settled::undone(format!("the user {name} was deleted again")))
    }
}

/// A policy that a new user gets at once is attached all the same: whoever may not attach it, may not give it so. The
/// user will be theirs, and managed, when it is.
async fn allow_first_policy(cx: &Context, user: &UserRef, arn: &str) -> Result<(), ServiceError> {
    let caller = cx.caller()?;
    let request = AuthzRequest {
        policy_arn: Some(arn.to_owned()),
        ..AuthzRequest::user(Right::AttachPolicy, user.clone())
    };
    let to_be = ManagedUser {
        user: user.clone(),
        arn: String::new(),
        namespace: String::new(),
        owner: caller.identity.id(),
        created_ms: 0,
        adopted: false,
    };
    cx.service.authorize_with(caller, &request, Some(to_be)).await.map(drop)
}

async fn make(cx: &Context, plan: &Plan, op: &OpenOperation) -> Result<Facts, Unsuccessful> {
    let ((aws, credentials), name) = (cx.handle.pair(), &plan.user.name);
    let new = NewUser {
        name: name.clone(),
        path: plan.path.clone(),
        boundary: plan.boundary.clone(),
        tags: tags(op.person(), &op.id),
    };
    match managed::create(aws, credentials, &new).await {
        Ok(facts) => Ok(facts),
        Err(NotMade::Certainly(AwsError::Refused { code, .. }))
            if code.starts_with("EntityAlreadyExists") =>
        {
            Err(exists(&cx.label(&plan.user)).into())
        }
        Err(NotMade::Certainly(error)) => Err(ServiceError::of_aws(error).into()),
        Err(NotMade::Perhaps(error)) => match managed::facts(aws, credentials, name).await {
            Ok(facts) if is_of(&facts, &op.id) => Ok(facts),
            _ => Err(op.left_open("AWS did not answer, and may have made the user", &error)),
        },
    }
}

/// Gives a user that was just made its policies, each one again if it has it already.
async fn complete(
    service: &Service,
    handle: &AwsHandle,
    facts: &Facts,
    plan: &Plan,
    owner: &str,
) -> Result<ManagedUser, AwsError> {
    let (aws, credentials) = handle.pair();
    for arn in &plan.policies {
        while_unknown(|| managed::attach(aws, credentials, &facts.name, arn)).await?;
    }
    Ok(ManagedUser {
        user: UserRef::new(plan.user.account.clone(), facts.name.clone()),
        arn: facts.arn.clone(),
        namespace: plan.namespace.clone(),
        owner: owner.to_owned(),
        // By AWS's clock, so that other instances can tell how old it is.
        created_ms: handle.now(service.clock()) * 1000,
        adopted: false,
    })
}

/// What is done, once all of it is.
fn changes(service: &Service, plan: &Plan) -> Vec<Change> {
    let mut changes = vec![Change::UserCreated { user: service.label(&plan.user) }];
    let attached = |arn: &String| Change::PolicyAttached { policy_arn: arn.clone() };
    changes.extend(plan.policies.iter().map(attached));
    changes
}

/// The user was made, and can't be finished.
async fn take_back(cx: &Context, plan: &Plan, op: &OpenOperation, error: ServiceError) -> Unsuccessful {
    let what = format!("the user {}, which was just made", plan.user.name);
    if let Err(unwritten) = op.note_undoing(&Note::TakingBack, &what).await {
        return op.left_open("The user was made, but not finished", &unwritten);
    }
    match delete_made_user(&cx.handle, &plan.user.name, &op.id).await {
        Ok(()) => error.into(),
        Err(error) => {
            op.left_open("The user was made, but not finished, and can't be taken back at the moment", &error)
        }
    }
}

/// Deletes the user that this operation made, and no other. One that was made a moment ago may be unknown for as long as
/// another part of IAM has not heard of it.
async fn delete_made_user(handle: &AwsHandle, name: &UserName, operation: &str) -> Result<(), AwsError> {
    let ((aws, credentials), start) = (handle.pair(), Instant::now());
    loop {
        let waited = start.elapsed();
        match managed::facts(aws, credentials, name).await {
            Ok(facts) if is_of(&facts, operation) => {
                return removal::delete_completely(aws, credentials, name).await.map(drop);
            }
            Err(AwsError::NoSuchUser { .. }) if waited <= KNOWN_WITHIN => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(_) | Err(AwsError::NoSuchUser { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Repeats what fails because IAM does not know a user everywhere that it just made.
async fn while_unknown<T, F>(request: impl Fn() -> F) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    let start = Instant::now();
    loop {
        // Before the request: this process may stand still after it.
        let waited = start.elapsed();
        match request().await {
            Err(AwsError::Refused { code, .. })
                if code.starts_with("NoSuchEntity") && waited < KNOWN_WITHIN =>
            {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            answer => return answer,
        }
    }
}

fn exists(name: &str) -> ServiceError {
    ServiceError::new(
        ProblemCode::Conflict,
        format!(
            "There is a user {name} already (IAM's names have no case).\nChoose another name; one that this service did not \
             make can be adopted: iam-sorry users adopt {name}"
        ),
    )
}

#[cfg(test)]
impl crate::actions::sample::Sample for CreateUser {
    const PLANS: &[&str] = &[
        r#"{"plan":"create-user","user":"a","namespace":"lab","path":"/p/","boundary":null,"policies":["arn"]}"#,
    ];
    const PARAMETERS: &str = r#"["arn:a","arn:b"]"#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, fields.arns)
    }
}
