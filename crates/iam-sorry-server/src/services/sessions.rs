//! Sessions and the SSH keys that open them: the signatures that the faces rely on; bodies follow.

use iam_sorry_core::api::{self, Page, ProblemCode};
use secrecy::SecretString;

use super::{Caller, Origin, Refusal, Service};

fn soon<T>() -> Result<T, Refusal> {
    Err(Refusal::new(ProblemCode::Internal, "being built"))
}

/// The secret that a session's forms carry (against cross-site requests): made from the token, so that every page can
/// have it and nothing more is stored.
pub fn form_secret(token: &str) -> SecretString {
    let _ = token;
    String::new().into()
}

impl Caller {
    /// Whether a form that was sent came from a page of this session. Takes the same time whatever is wrong.
    pub fn sent_form(&self, _presented: &str) -> bool {
        false
    }
}

impl Service {
    /// Whose token it is (`iss_...`, from `Authorization: Bearer` or the cookie).
    pub async fn caller_by_token(&self, _origin: Origin, _token: &str) -> Result<Caller, Refusal> {
        soon()
    }
    /// `GET /me`.
    pub async fn me(&self, _caller: &Caller) -> Result<api::Me, Refusal> {
        soon()
    }
    /// `POST /logout`.
    pub async fn sign_out(&self, _caller: &Caller) -> Result<(), Refusal> {
        soon()
    }
    /// `GET /sessions`: mine; with `all`, everybody's, for those who may.
    pub async fn list_sessions(
        &self,
        _caller: &Caller,
        _query: api::PageQuery,
    ) -> Result<Page<api::SessionInfo>, Refusal> {
        soon()
    }
    /// `DELETE /sessions/{id}`: one of mine, or anybody's for those who may.
    pub async fn end_session(&self, _caller: &Caller, _id: &str) -> Result<(), Refusal> {
        soon()
    }
    /// Ends every session of a person (`issuer/subject`), the asking one included; how many there were.
    pub async fn end_sessions_of(&self, _caller: &Caller, _person: &str) -> Result<u64, Refusal> {
        soon()
    }
    /// `GET /ssh-keys`: mine.
    pub async fn list_ssh_keys(&self, _caller: &Caller) -> Result<Vec<api::SshKeyInfo>, Refusal> {
        soon()
    }
    /// `POST /ssh-keys`.
    pub async fn register_ssh_key(
        &self,
        _caller: &Caller,
        _request: api::RegisterSshKey,
    ) -> Result<api::SshKeyInfo, Refusal> {
        soon()
    }
    /// `DELETE /ssh-keys/{fingerprint}`: one of mine.
    pub async fn remove_ssh_key(&self, _caller: &Caller, _fingerprint: &str) -> Result<(), Refusal> {
        soon()
    }
}
