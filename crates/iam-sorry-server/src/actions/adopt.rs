//! Taking over an IAM user that was there before the service: it gets the boundary, the path and the tags of a user that
//! the service made, in this order, so that it is bounded before it is ours.
//!
//! Only a user whose rights the service could have given is taken: whoever may adopt gets to act as that user.

use iam_sorry_aws::managed::{self, Facts};
use iam_sorry_aws::{AwsError, lookup};
use iam_sorry_core::api::{self, Done, ProblemCode};
use iam_sorry_core::names::UserName;
use iam_sorry_rules::{Action, RuleSet};
use iam_sorry_store::{ManagedUser, NewGrant};

use crate::accounts::handle::{AwsHandle, is_final, refused};
use crate::accounts::tags::{MANAGED_BY, OPERATION, tags};
use crate::authz::authorize::{AuthzRequest, user_name};
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::operation::{Changes, OpenOperation, Start, dry_run};
use crate::operations::plan::Plan;
use crate::service::Service;

impl Service {
    /// `POST /users/{name}/adopt`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, not found, guardrail where the user has rights that the service could not give, or AWS.
    pub async fn adopt_user(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        options: api::Options,
    ) -> Result<Done, ServiceError> {
        let authz_request = AuthzRequest::user(Action::AdoptUser, name)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.adopt(&caller, key.as_ref(), authz_request, options).await }).await
    }

    async fn adopt(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: AuthzRequest,
        options: api::Options,
    ) -> Result<Done, ServiceError> {
        if let Some(done) = self.done_before(caller, key, &authz_request, &()).await? {
            return Ok(done);
        }
        let allowed = self.authorize(caller, &authz_request).await?;
        if allowed.row.is_some() {
            return Err(ServiceError::new(
                ProblemCode::Conflict,
                format!(
                    "{} is the service's already.\nSee it: iam-sorry users show {}",
                    authz_request.resource, authz_request.resource
                ),
            ));
        }
        let name = user_name(&authz_request.resource.to_string())?;
        let rules = &allowed.rules;
        let namespace = rules.namespace_of(&name).ok_or_else(|| {
            ServiceError::new(ProblemCode::Guardrail, format!("{name} is in no namespace of this service."))
        })?;
        let handle = self.handle().await?;
        let facts = managed::facts(&handle.aws, &handle.credentials, &name).await.map_err(|e| match e {
            AwsError::NoSuchUser { .. } => {
                ServiceError::new(ProblemCode::NotFound, format!("IAM knows no user {name}."))
            }
            error => refused(&error),
        })?;
        let boundary = rules.settings().guardrails.boundary().map(str::to_owned);
        self.fit_to_adopt(rules, &handle, &facts, boundary.as_deref()).await?;
        if options.dry_run {
            return Ok(dry_run(&authz_request, &allowed, Vec::new()));
        }
        let plan = Plan::AdoptUser {
            user: facts.name.as_str().to_owned(),
            id: facts.id.clone(),
            namespace: namespace.name.clone(),
            path: namespace.path(),
            boundary,
        };
        let run = match self.begin(caller, key, &authz_request, &allowed, &(), plan.clone()).await? {
            Start::Replay(done) => return Ok(done),
            Start::Fresh(run) => run,
        };
        self.take_over(&run, &handle, &name, &plan).await
    }

    async fn take_over(
        &self,
        run: &OpenOperation,
        handle: &AwsHandle,
        name: &UserName,
        plan: &Plan,
    ) -> Result<Done, ServiceError> {
        if let Err(refusal) = run.may_act() {
            return Err(run.failed(refusal, Changes::default()).await);
        }
        match complete_adoption(handle, name, plan, run.person(), &run.id, self.clock().now_ms()).await {
            Ok(Some((notes, changes))) => run.done(notes, changes).await,
            Ok(None) => {
                let refusal = ServiceError::new(
                    ProblemCode::Conflict,
                    format!("{name} changed in IAM meanwhile.\nLook at it, then try again."),
                );
                Err(run.failed(refusal, Changes::default()).await)
            }
            // A boundary or path that it got already does no harm, and the tag, which comes last, makes it ours.
            Err(error) if is_final(&error) => Err(run.failed(refused(&error), Changes::default()).await),
            Err(error) => {
                tracing::warn!(%error, operation = run.id, "adopt-user");
                Err(run.left_open("AWS did not answer while the user was being adopted"))
            }
        }
    }

    /// Whether the user has no rights beyond what the service could have given it.
    async fn fit_to_adopt(
        &self,
        rules: &RuleSet,
        handle: &AwsHandle,
        facts: &Facts,
        boundary: Option<&str>,
    ) -> Result<(), ServiceError> {
        let listed = &rules.settings().guardrails.policies;
        let (aws, credentials, name) = (&handle.aws, &handle.credentials, &facts.name);
        let mut problems = Vec::new();
        if facts.tags.get(MANAGED_BY.0).is_some_and(|value| value != MANAGED_BY.1) {
            problems.push(format!("it bears the tag {} of something else", MANAGED_BY.0));
        }
        if let (Some(has), Some(wanted)) = (&facts.boundary, boundary)
            && has != wanted
        {
            problems.push(format!("it has another permissions boundary, {has}"));
        }
        for arn in managed::attached(aws, credentials, name).await.map_err(|e| refused(&e))? {
            if !listed.contains(&arn) {
                problems.push(format!("{arn} is attached, which is not on the list of policies"));
            }
        }
        for policy in managed::inline(aws, credentials, name).await.map_err(|e| refused(&e))? {
            problems.push(format!("it has the inline policy {policy}"));
        }
        for group in managed::groups(aws, credentials, name).await.map_err(|e| refused(&e))? {
            problems.push(format!("it is in the group {group}"));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(ServiceError {
            reasons: problems.iter().map(|p| format!("guardrail adopted-rights: {p}")).collect(),
            ..ServiceError::new(
                ProblemCode::Guardrail,
                format!(
                    "{name} has what this service could not have given it: {}.\nAn IAM administrator can take that away first.",
                    problems.join("; ")
                ),
            )
        })
    }
}

/// Every step that is still to be done; safe to repeat. `None`: the user is gone, or is another one by now.
pub(crate) async fn complete_adoption(
    handle: &AwsHandle,
    name: &UserName,
    plan: &Plan,
    owner: &str,
    operation: &str,
    now_ms: i64,
) -> Result<Option<(Vec<String>, Changes)>, AwsError> {
    let Plan::AdoptUser { id, namespace, path, boundary, .. } = plan else { return Ok(None) };
    let (aws, credentials) = (&handle.aws, &handle.credentials);
    let mut facts = match managed::facts(aws, credentials, name).await {
        Ok(facts) if facts.id == *id => facts,
        Ok(_) | Err(AwsError::NoSuchUser { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut notes = Vec::new();
    if let Some(boundary) = boundary.as_ref().filter(|wanted| facts.boundary.as_ref() != Some(wanted)) {
        managed::put_boundary(aws, credentials, name, boundary).await?;
        notes.push(format!("set the permissions boundary {boundary}"));
    }
    if facts.path != *path {
        managed::move_to(aws, credentials, name, path).await?;
        notes.push(format!("moved from path {} to {path}", facts.path));
        facts = managed::facts(aws, credentials, name).await?;
    }
    if facts.tags.get(OPERATION).is_none_or(|value| value != operation) {
        managed::tag(aws, credentials, name, &tags(owner, operation)).await?;
    }
    let keys = lookup::keys_of(aws, credentials, name).await?;
    let user = ManagedUser {
        name: facts.name.as_str().to_owned(),
        arn: facts.arn,
        namespace: namespace.clone(),
        owner: owner.to_owned(),
        created_ms: now_ms,
        adopted: true,
    };
    // Keys that it brought along are known from here on, so that none is ever taken for one of ours that was lost.
    let grants = keys
        .into_iter()
        .map(|key| NewGrant {
            kind: "access-key".into(),
            resource: user.name.clone(),
            access_key_id: key.id,
            issued_ms: key.created.map_or(now_ms, |at| at.unix() * 1000),
            expires_ms: None,
        })
        .collect();
    Ok(Some((notes, Changes { user: Some(user), grants, ..Changes::default() })))
}
