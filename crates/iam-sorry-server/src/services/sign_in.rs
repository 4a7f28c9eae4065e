//! Signing in: the signatures that the faces rely on; bodies follow.

use iam_sorry_core::api::{self, ProblemCode, SignedIn};
use secrecy::SecretString;

use super::{Origin, Refusal, Service};

/// A session that was just opened. The answer holds its token: shown once, to whom it belongs.
#[derive(Debug)]
pub struct NewSession {
    /// What the person gets.
    pub answer: SignedIn,
    /// Names the session; no secret.
    pub id: String,
}

fn soon<T>() -> Result<T, Refusal> {
    Err(Refusal::new(ProblemCode::Internal, "being built"))
}

impl Service {
    /// `GET /service`: what anybody may know.
    pub fn service_info(&self) -> Result<api::ServiceInfo, Refusal> {
        soon()
    }
    /// `POST /login/ssh/challenge`.
    pub async fn ssh_challenge(
        &self,
        _origin: &Origin,
        _request: api::SshChallengeRequest,
    ) -> Result<api::SshChallenge, Refusal> {
        soon()
    }
    /// `POST /login/ssh`.
    pub async fn sign_in_ssh(
        &self,
        _origin: &Origin,
        _request: api::SshLogin,
    ) -> Result<NewSession, Refusal> {
        soon()
    }
    /// `POST /login/ldap`, and the sign-in page.
    pub async fn sign_in_ldap(
        &self,
        _origin: &Origin,
        _request: api::LdapLogin,
    ) -> Result<NewSession, Refusal> {
        soon()
    }
    /// The one-time link of `serve --dev`.
    pub async fn sign_in_dev(&self, _origin: &Origin, _link: &SecretString) -> Result<NewSession, Refusal> {
        soon()
    }
}
