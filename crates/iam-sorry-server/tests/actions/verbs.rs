//! The actions as tests write them: one method each, with the request as the interface has it.

use iam_sorry_core::api::{
    self, CredentialsRequest, DeleteKey, Done, IssuedCredentials, NewKey, Options, PolicyChange,
};
use iam_sorry_server::actions::adopt_user::AdoptUser;
use iam_sorry_server::actions::attach_policy::AttachPolicy;
use iam_sorry_server::actions::confirm_key::ConfirmKey;
use iam_sorry_server::actions::create_access_key::CreateAccessKey;
use iam_sorry_server::actions::create_user::CreateUser;
use iam_sorry_server::actions::delete_access_key::DeleteAccessKey;
use iam_sorry_server::actions::delete_user::DeleteUser;
use iam_sorry_server::actions::detach_policy::DetachPolicy;
use iam_sorry_server::actions::restore_key::RestoreKey;
use iam_sorry_server::actions::rotate_key::RotateKey;
use iam_sorry_server::actions::session_request::SessionRequest;
use iam_sorry_server::caller::Caller;
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::operations::action::{Action, Mode, RunOutput};
use iam_sorry_server::operations::idempotency::IdempotencyKey;
use iam_sorry_server::service::Service;

type Key<'a> = Option<&'a IdempotencyKey>;
type Gives<T> = Result<T, ServiceError>;

async fn done<A: Action<Output = Done>>(
    service: &Service,
    caller: &Caller,
    key: Key<'_>,
    action: Gives<A>,
    dry_run: bool,
) -> Gives<Done> {
    Ok(service.run(caller, key, action?, Mode::of(dry_run)).await?.into_done())
}

/// Methods of [`Service`].
pub trait Verbs {
    fn create_user(
        &self,
        caller: &Caller,
        key: Key<'_>,
        request: api::CreateUser,
    ) -> impl Future<Output = Gives<Done>> + Send;
    fn delete_user(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        options: Options,
    ) -> impl Future<Output = Gives<Done>> + Send;
    fn adopt_user(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        options: Options,
    ) -> impl Future<Output = Gives<Done>> + Send;
    fn attach_policy(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        change: PolicyChange,
    ) -> impl Future<Output = Gives<Done>> + Send;
    fn detach_policy(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        change: PolicyChange,
    ) -> impl Future<Output = Gives<Done>> + Send;
    fn create_access_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        options: Options,
    ) -> impl Future<Output = Gives<RunOutput<NewKey>>> + Send;
    fn rotate_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        id: &str,
        options: Options,
    ) -> impl Future<Output = Gives<RunOutput<NewKey>>> + Send;
    fn confirm_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        id: &str,
        options: Options,
    ) -> impl Future<Output = Gives<Done>> + Send;
    fn restore_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        id: &str,
        options: Options,
    ) -> impl Future<Output = Gives<Done>> + Send;
    fn delete_access_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        id: &str,
        options: DeleteKey,
    ) -> impl Future<Output = Gives<Done>> + Send;
    fn issue_credentials(
        &self,
        caller: &Caller,
        key: Key<'_>,
        request: CredentialsRequest,
    ) -> impl Future<Output = Gives<RunOutput<IssuedCredentials>>> + Send;
}

impl Verbs for Service {
    async fn create_user(&self, caller: &Caller, key: Key<'_>, request: api::CreateUser) -> Gives<Done> {
        let action = CreateUser::new(self.user_ref(&request.name)?, request.policies);
        done(self, caller, key, Ok(action), request.dry_run).await
    }

    async fn delete_user(&self, caller: &Caller, key: Key<'_>, name: &str, options: Options) -> Gives<Done> {
        done(self, caller, key, Ok(DeleteUser::new(self.user_ref(name)?)), options.dry_run).await
    }

    async fn adopt_user(&self, caller: &Caller, key: Key<'_>, name: &str, options: Options) -> Gives<Done> {
        done(self, caller, key, Ok(AdoptUser::new(self.user_ref(name)?)), options.dry_run).await
    }

    async fn attach_policy(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        change: PolicyChange,
    ) -> Gives<Done> {
        let action = AttachPolicy::new(self.user_ref(name)?, change.policy_arn);
        done(self, caller, key, Ok(action), change.dry_run).await
    }

    async fn detach_policy(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        change: PolicyChange,
    ) -> Gives<Done> {
        let action = DetachPolicy::new(self.user_ref(name)?, change.policy_arn);
        done(self, caller, key, Ok(action), change.dry_run).await
    }

    async fn create_access_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        options: Options,
    ) -> Gives<RunOutput<NewKey>> {
        self.run(caller, key, CreateAccessKey::new(self.user_ref(name)?), Mode::of(options.dry_run)).await
    }

    async fn rotate_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        id: &str,
        options: Options,
    ) -> Gives<RunOutput<NewKey>> {
        self.run(caller, key, RotateKey::new(self.user_ref(name)?, id)?, Mode::of(options.dry_run)).await
    }

    async fn confirm_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        id: &str,
        options: Options,
    ) -> Gives<Done> {
        done(self, caller, key, ConfirmKey::new(self.user_ref(name)?, id), options.dry_run).await
    }

    async fn restore_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        id: &str,
        options: Options,
    ) -> Gives<Done> {
        done(self, caller, key, RestoreKey::new(self.user_ref(name)?, id), options.dry_run).await
    }

    async fn delete_access_key(
        &self,
        caller: &Caller,
        key: Key<'_>,
        name: &str,
        id: &str,
        options: DeleteKey,
    ) -> Gives<Done> {
        let action = DeleteAccessKey::new(self.user_ref(name)?, id, options.force);
        done(self, caller, key, action, options.dry_run).await
    }

    async fn issue_credentials(
        &self,
        caller: &Caller,
        key: Key<'_>,
        request: CredentialsRequest,
    ) -> Gives<RunOutput<IssuedCredentials>> {
        let mode = Mode::of(request.dry_run);
        SessionRequest::new(self, request)?.run(self, caller, key, mode).await
    }
}
