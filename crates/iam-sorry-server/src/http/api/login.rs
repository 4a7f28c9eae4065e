//! Signing in and out, and what anybody may know before.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use iam_sorry_core::api::{LdapLogin, ServiceInfo, SignedIn, SshChallenge, SshChallengeRequest, SshLogin};
use iam_sorry_core::identity::Via;

use super::super::extract::{self, Context, Json, NoBody};
use super::super::problem::ApiError;
use super::secret::secret_json;
use crate::http::app::App;

/// What anybody may know about the service: its name, its origin, the ways to sign in.
#[utoipa::path(get, path = "/api/v1/service", operation_id = "service", tag = "sign-in",
    responses((status = 200, description = "The service", body = ServiceInfo)))]
pub async fn service(State(app): State<App>) -> Result<Answer<ServiceInfo>, ApiError> {
    Ok(Answer(app.service.service_info()?))
}

/// Asks for a challenge to sign with an SSH key. The answer tells nothing about whether the key is known.
#[utoipa::path(post, path = "/api/v1/login/ssh/challenge", operation_id = "sshChallenge", tag = "sign-in",
    request_body = SshChallengeRequest,
    responses((status = 200, description = "What to sign, once, within 60 seconds", body = SshChallenge)))]
pub async fn ssh_challenge(
    State(app): State<App>,
    Context(context): Context,
    Json(request): Json<SshChallengeRequest>,
) -> Result<Answer<SshChallenge>, ApiError> {
    Ok(Answer(app.service.ssh_challenge(&context.source, request).await?))
}

/// Signs in with the signed challenge.
#[utoipa::path(post, path = "/api/v1/login/ssh", operation_id = "signInWithSshKey", tag = "sign-in",
    request_body = SshLogin,
    responses((status = 200, description = "Signed in; the token is shown this once", body = SignedIn)))]
pub async fn ssh(
    State(app): State<App>,
    Context(context): Context,
    Json(request): Json<SshLogin>,
) -> Result<Response, ApiError> {
    let session = app.service.sign_in_ssh(&context.source, request).await?;
    Ok(secret_json(session.answer.to_json()))
}

/// Signs in with a directory's password.
#[utoipa::path(post, path = "/api/v1/login/ldap", operation_id = "signInWithPassword", tag = "sign-in",
    request_body = LdapLogin,
    responses((status = 200, description = "Signed in; the token is shown this once", body = SignedIn)))]
pub async fn ldap(
    State(app): State<App>,
    Context(context): Context,
    Json(request): Json<LdapLogin>,
) -> Result<Response, ApiError> {
    let session = app.service.sign_in_ldap(&context.source, Via::Api, request).await?;
    Ok(secret_json(session.answer.to_json()))
}

/// Ends the session that asks.
#[utoipa::path(post, path = "/api/v1/logout", operation_id = "signOut", tag = "sign-in",
    responses((status = 204, description = "The session is ended")), security(("session" = [])))]
pub async fn logout(
    State(app): State<App>,
    extract::SignedIn(caller): extract::SignedIn,
    NoBody: NoBody,
) -> Result<StatusCode, ApiError> {
    app.service.sign_out(&caller).await?;
    Ok(StatusCode::NO_CONTENT)
}
