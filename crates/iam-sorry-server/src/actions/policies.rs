//! Attaching and detaching managed policies of the allow-list, and the lists of what can be attached and assumed.

use iam_sorry_aws::{AwsError, managed};
use iam_sorry_core::api::{Done, PolicyChange};
use iam_sorry_rules::{Action, Resource};

use crate::accounts::handle::{is_final, refused};
use crate::authz::authorize::AuthzRequest;
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::operation::{Changes, Start, dry_run};
use crate::operations::plan::Plan;
use crate::service::Service;

impl Service {
    /// `POST /users/{name}/policies`.
    ///
    /// # Errors
    /// [`ServiceError`]: not allowed, not on the allow-list, or AWS.
    pub async fn attach_policy(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        change: PolicyChange,
    ) -> Result<Done, ServiceError> {
        let authz_request = authz_request(Action::AttachPolicy, name, &change)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.change(&caller, key.as_ref(), authz_request, change).await }).await
    }

    /// `DELETE /users/{name}/policies`.
    ///
    /// # Errors
    /// As [`Service::attach_policy`].
    pub async fn detach_policy(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        change: PolicyChange,
    ) -> Result<Done, ServiceError> {
        let authz_request = authz_request(Action::DetachPolicy, name, &change)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.change(&caller, key.as_ref(), authz_request, change).await }).await
    }

    async fn change(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        authz_request: AuthzRequest,
        change: PolicyChange,
    ) -> Result<Done, ServiceError> {
        let allowed = self.authorize(caller, &authz_request).await?;
        let (row, name) = allowed.user()?;
        let handle = self.handle().await?;
        let (user, arn) = (row.name.clone(), change.policy_arn.clone());
        let attach = authz_request.action == Action::AttachPolicy;
        if change.dry_run {
            self.ours(&handle, row, &name).await?;
            return Ok(dry_run(&authz_request, &allowed, Vec::new()));
        }
        let plan = if attach {
            Plan::AttachPolicy { user, arn: arn.clone() }
        } else {
            Plan::DetachPolicy { user, arn: arn.clone() }
        };
        let run = match self.begin(caller, key, &authz_request, &allowed, &arn, plan).await? {
            Start::Replay(done) => return Ok(done),
            Start::Fresh(run) => run,
        };
        self.ours_or_end(&run, &handle, row, &name).await?;
        if let Err(refusal) = run.may_act() {
            return Err(run.failed(refusal, Changes::default()).await);
        }
        let done = if attach {
            managed::attach(&handle.aws, &handle.credentials, &name, &arn)
                .await
                .map(|()| format!("attached {arn}"))
        } else {
            managed::detach(&handle.aws, &handle.credentials, &name, &arn).await.map(|was| match was {
                true => format!("detached {arn}"),
                false => format!("{arn} was not attached"),
            })
        };
        match done {
            Ok(note) => run.done(vec![note], Changes::default()).await,
            Err(error) if is_final(&error) || matches!(error, AwsError::Throttled { .. }) => {
                Err(run.failed(refused(&error), Changes::default()).await)
            }
            Err(error) => {
                tracing::warn!(%error, operation = run.id, "policies");
                Err(run.left_open("AWS did not answer, and may have done it"))
            }
        }
    }

    /// `GET /policies`: ARNs of the allow-list.
    ///
    /// # Errors
    /// None at the moment.
    pub async fn list_policies(&self, _caller: &Caller) -> Result<Vec<String>, ServiceError> {
        Ok(self.rules().settings().guardrails.policies.clone())
    }

    /// `GET /roles`: ARNs of the roles that the caller may assume.
    ///
    /// # Errors
    /// None at the moment.
    pub async fn list_roles(&self, caller: &Caller) -> Result<Vec<String>, ServiceError> {
        Ok(self.roles_of(caller))
    }

    /// The roles that the caller may assume.
    pub(crate) fn roles_of(&self, caller: &Caller) -> Vec<String> {
        let set = self.rules();
        let rules = set.clone();
        let roles = rules.settings().guardrails.roles.iter().map(|role| role.arn.clone());
        roles
            .filter(|arn| {
                let authz_request = AuthzRequest::about(Action::AssumeRole, Resource::Role(arn.clone()));
                self.evaluate_with(set.clone(), caller, &authz_request, None).decision.allowed
            })
            .collect()
    }
}

fn authz_request(action: Action, name: &str, change: &PolicyChange) -> Result<AuthzRequest, ServiceError> {
    Ok(AuthzRequest { policy_arn: Some(change.policy_arn.clone()), ..AuthzRequest::user(action, name)? })
}
