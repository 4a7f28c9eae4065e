//! Who is signed in, sessions, and the SSH keys that may sign in.

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use iam_sorry_core::api::{
    Me, Page, PageQuery, RegisterSshKey, RegistrationChallenge, RegistrationChallengeRequest, SessionInfo,
    SshKeyInfo,
};

use super::super::extract::{Json, Name, NoBody, Query, SignedIn};
use super::super::problem::ApiError;
use crate::http::app::App;

/// Who I am here, and what is mine.
#[utoipa::path(get, path = "/api/v1/me", operation_id = "me", tag = "sessions",
    responses((status = 200, description = "The person who asks", body = Me)), security(("session" = [])))]
pub async fn me(State(app): State<App>, SignedIn(caller): SignedIn) -> Result<Answer<Me>, ApiError> {
    Ok(Answer(app.service.me(&caller).await?))
}

/// My sessions; with `all`, everybody's, for those who may.
#[utoipa::path(get, path = "/api/v1/sessions", operation_id = "listSessions", tag = "sessions",
    params(PageQuery),
    responses((status = 200, description = "Sessions, without their tokens", body = Page<SessionInfo>)),
    security(("session" = [])))]
pub async fn sessions(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Query(query): Query<PageQuery>,
) -> Result<Answer<Page<SessionInfo>>, ApiError> {
    Ok(Answer(app.service.list_sessions(&caller, query).await?))
}

/// Ends a session: one of mine, or anybody's for those who may.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", operation_id = "endSession", tag = "sessions",
    params(("id" = String, Path, description = "The session's id, from the list", min_length = 1, max_length = 512)),
    responses((status = 204, description = "It is ended")), security(("session" = [])))]
pub async fn end_session(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Name(id): Name,
    NoBody: NoBody,
) -> Result<StatusCode, ApiError> {
    app.service.end_session(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The SSH keys that I registered.
#[utoipa::path(get, path = "/api/v1/ssh-keys", operation_id = "listSshKeys", tag = "sessions",
    responses((status = 200, description = "All of them, on one page", body = Page<SshKeyInfo>)),
    security(("session" = [])))]
pub async fn ssh_keys(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
) -> Result<Answer<Page<SshKeyInfo>>, ApiError> {
    Ok(Answer(Page { items: app.service.list_ssh_keys(&caller).await?, next: None }))
}

/// Asks for a challenge that an SSH key of mine has to sign to be registered.
#[utoipa::path(post, path = "/api/v1/ssh-keys/challenge", operation_id = "sshKeyChallenge", tag = "sessions",
    request_body = RegistrationChallengeRequest,
    responses((status = 200, description = "What to sign, once, within 60 seconds, in this session", body = RegistrationChallenge)),
    security(("session" = [])))]
pub async fn ssh_key_challenge(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Json(request): Json<RegistrationChallengeRequest>,
) -> Result<Answer<RegistrationChallenge>, ApiError> {
    Ok(Answer(app.service.registration_challenge(&caller, request).await?))
}

/// Registers an SSH key, which has signed for it, that may sign me in from now on.
#[utoipa::path(post, path = "/api/v1/ssh-keys", operation_id = "registerSshKey", tag = "sessions",
    request_body = RegisterSshKey,
    responses((status = 200, description = "It is registered", body = SshKeyInfo)), security(("session" = [])))]
pub async fn register_ssh_key(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Json(request): Json<RegisterSshKey>,
) -> Result<Answer<SshKeyInfo>, ApiError> {
    Ok(Answer(app.service.register_ssh_key(&caller, request).await?))
}

/// Removes an SSH key of mine.
#[utoipa::path(delete, path = "/api/v1/ssh-keys/{fingerprint}", operation_id = "removeSshKey", tag = "sessions",
    params(("fingerprint" = String, Path, description = "`SHA256:...`, percent-encoded", min_length = 1, max_length = 512)),
    responses((status = 204, description = "It is removed")), security(("session" = [])))]
pub async fn remove_ssh_key(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Name(fingerprint): Name,
    NoBody: NoBody,
) -> Result<StatusCode, ApiError> {
    app.service.remove_ssh_key(&caller, &fingerprint).await?;
    Ok(StatusCode::NO_CONTENT)
}
