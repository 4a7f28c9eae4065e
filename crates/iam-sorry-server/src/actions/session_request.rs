//! A request for temporary credentials: of a user or of a role, which are two actions.

use iam_sorry_core::api::{CredentialsRequest, IssuedCredentials, ProblemCode};

use crate::actions::assume_role::AssumeRole;
use crate::actions::issue_credentials::IssueCredentials;
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::action::{Mode, RunOutput};
use crate::operations::idempotency::IdempotencyKey;
use crate::service::Service;

/// Which of the two it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRequest {
    /// Of an IAM user.
    User(IssueCredentials),
    /// Of a role.
    Role(AssumeRole),
}

impl SessionRequest {
    /// # Errors
    /// bad-request if not exactly one of user and role is named, or for a duration that AWS does not give; invalid-name;
    /// not-found for an account that the service does not have.
    pub fn new(service: &Service, request: CredentialsRequest) -> Result<Self, ServiceError> {
        let seconds = request.duration_seconds;
        match (request.user, request.role) {
            (Some(user), None) => Ok(Self::User(IssueCredentials::new(service.user_ref(&user)?, seconds)?)),
            (None, Some(role)) => Ok(Self::Role(AssumeRole::new(role, seconds)?)),
            _ => Err(ServiceError::new(ProblemCode::BadRequest, "Name exactly one of user and role.")),
        }
    }

    /// As [`Service::run`].
    ///
    /// # Errors
    /// As [`Service::run`].
    pub async fn run(
        self,
        service: &Service,
        caller: &Caller,
        key: Option<&IdempotencyKey>,
        mode: Mode,
    ) -> Result<RunOutput<IssuedCredentials>, ServiceError> {
        match self {
            Self::User(action) => service.run(caller, key, action, mode).await,
            Self::Role(action) => service.run(caller, key, action, mode).await,
        }
    }
}
