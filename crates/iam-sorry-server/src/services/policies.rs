//! Attaching and detaching managed policies of the allow-list, and the lists of what can be attached and assumed.

use iam_sorry_aws::{AwsError, managed};
use iam_sorry_core::api::{Done, PolicyChange};
use iam_sorry_rules::{Action, Resource};

use super::aws::{is_final, refused};
use super::decide::Ask;
use super::operation::{Changes, Start, dry_run};
use super::plan::Plan;
use super::{Caller, IdempotencyKey, Refusal, Service};

impl Service {
    /// `POST /users/{name}/policies`.
    ///
    /// # Errors
    /// [`Refusal`]: not allowed, not on the allow-list, or AWS.
    pub async fn attach_policy(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        name: &str,
        change: PolicyChange,
    ) -> Result<Done, Refusal> {
        let ask = ask(Action::AttachPolicy, name, &change)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.change(&caller, key.as_ref(), ask, change).await }).await
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
    ) -> Result<Done, Refusal> {
        let ask = ask(Action::DetachPolicy, name, &change)?;
        let (service, caller, key) = (self.clone(), caller.clone(), key.cloned());
        self.detached(async move { service.change(&caller, key.as_ref(), ask, change).await }).await
    }

    async fn change(
        &self,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        ask: Ask,
        change: PolicyChange,
    ) -> Result<Done, Refusal> {
        let allowed = self.allow(caller, &ask).await?;
        let (row, name) = allowed.user()?;
        let way = self.way().await?;
        let (user, arn) = (row.name.clone(), change.policy_arn.clone());
        let attach = ask.action == Action::AttachPolicy;
        if change.dry_run {
            self.ours(&way, row, &name).await?;
            return Ok(dry_run(&ask, &allowed, Vec::new()));
        }
        let plan = if attach {
            Plan::AttachPolicy { user, arn: arn.clone() }
        } else {
            Plan::DetachPolicy { user, arn: arn.clone() }
        };
        let run = match self.begin(caller, key, &ask, &allowed, &arn, plan).await? {
            Start::Replay(done) => return Ok(done),
            Start::Fresh(run) => run,
        };
        self.ours_or_end(&run, &way, row, &name).await?;
        if let Err(refusal) = run.may_act() {
            return Err(run.failed(refusal, Changes::default()).await);
        }
        let done = if attach {
            managed::attach(&way.aws, &way.credentials, &name, &arn).await.map(|()| format!("attached {arn}"))
        } else {
            managed::detach(&way.aws, &way.credentials, &name, &arn).await.map(|was| match was {
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
    pub async fn list_policies(&self, _caller: &Caller) -> Result<Vec<String>, Refusal> {
        Ok(self.rules().settings().guardrails.policies.clone())
    }

    /// `GET /roles`: ARNs of the roles that the caller may assume.
    ///
    /// # Errors
    /// None at the moment.
    pub async fn list_roles(&self, caller: &Caller) -> Result<Vec<String>, Refusal> {
        Ok(self.roles_of(caller))
    }

    /// The roles that the caller may assume.
    pub(super) fn roles_of(&self, caller: &Caller) -> Vec<String> {
        let set = self.rules();
        let rules = set.clone();
        let roles = rules.settings().guardrails.roles.iter().map(|role| role.arn.clone());
        roles
            .filter(|arn| {
                let ask = Ask::about(Action::AssumeRole, Resource::Role(arn.clone()));
                self.judge_by(set.clone(), caller, &ask, None).decision.allowed
            })
            .collect()
    }
}

fn ask(action: Action, name: &str, change: &PolicyChange) -> Result<Ask, Refusal> {
    Ok(Ask { policy_arn: Some(change.policy_arn.clone()), ..Ask::user(action, name)? })
}
