//! The signatures that the faces rely on; bodies follow.

use iam_sorry_core::api::{self, Done, IssuedCredentials, NewKey, Page, ProblemCode};

use super::{Caller, Given, IdempotencyKey, Refusal, Service};

fn soon<T>() -> Result<T, Refusal> {
    Err(Refusal::new(ProblemCode::Internal, "being built"))
}

impl Service {
    /// `POST /users`.
    pub async fn create_user(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _request: api::CreateUser,
    ) -> Result<Done, Refusal> {
        soon()
    }
    /// `DELETE /users/{name}`.
    pub async fn delete_user(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _name: &str,
        _options: api::Options,
    ) -> Result<Done, Refusal> {
        soon()
    }
    /// `POST /users/{name}/adopt`.
    pub async fn adopt_user(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _name: &str,
        _options: api::Options,
    ) -> Result<Done, Refusal> {
        soon()
    }
    /// `GET /users/{name}`.
    pub async fn show_user(&self, _caller: &Caller, _name: &str) -> Result<api::UserDetails, Refusal> {
        soon()
    }
    /// `GET /users`: of the caller's namespaces; with `all`, every one that the rules let them see.
    pub async fn list_users(
        &self,
        _caller: &Caller,
        _query: api::PageQuery,
    ) -> Result<Page<api::UserInfo>, Refusal> {
        soon()
    }
    /// `POST /users/{name}/policies`.
    pub async fn attach_policy(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _name: &str,
        _change: api::PolicyChange,
    ) -> Result<Done, Refusal> {
        soon()
    }
    /// `DELETE /users/{name}/policies`.
    pub async fn detach_policy(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _name: &str,
        _change: api::PolicyChange,
    ) -> Result<Done, Refusal> {
        soon()
    }
    /// `GET /policies`: ARNs of the allow-list.
    pub async fn list_policies(&self, _caller: &Caller) -> Result<Vec<String>, Refusal> {
        soon()
    }
    /// `GET /roles`: ARNs of the roles that the caller may assume.
    pub async fn list_roles(&self, _caller: &Caller) -> Result<Vec<String>, Refusal> {
        soon()
    }
    /// `GET /users/{name}/keys`.
    pub async fn list_keys(&self, _caller: &Caller, _name: &str) -> Result<Vec<api::KeyInfo>, Refusal> {
        soon()
    }
    /// `POST /users/{name}/keys`.
    pub async fn create_access_key(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _name: &str,
        _options: api::Options,
    ) -> Result<Given<NewKey>, Refusal> {
        soon()
    }
    /// `POST /users/{name}/keys/{id}/rotate`.
    pub async fn rotate_key(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _name: &str,
        _access_key_id: &str,
        _options: api::Options,
    ) -> Result<Given<NewKey>, Refusal> {
        soon()
    }
    /// `DELETE /users/{name}/keys/{id}`.
    pub async fn delete_access_key(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _name: &str,
        _access_key_id: &str,
        _options: api::DeleteKey,
    ) -> Result<Done, Refusal> {
        soon()
    }
    /// `POST /credentials`.
    pub async fn issue_credentials(
        &self,
        _caller: &Caller,
        _key: Option<&IdempotencyKey>,
        _request: api::CredentialsRequest,
    ) -> Result<Given<IssuedCredentials>, Refusal> {
        soon()
    }
    /// `GET /credentials`: what the caller was given; with `all`, everybody (auditors).
    pub async fn list_grants(
        &self,
        _caller: &Caller,
        _query: api::PageQuery,
    ) -> Result<Page<api::GrantInfo>, Refusal> {
        soon()
    }
    /// `POST /explain`.
    pub async fn explain(
        &self,
        _caller: &Caller,
        _request: api::ExplainRequest,
    ) -> Result<api::Explanation, Refusal> {
        soon()
    }
}
