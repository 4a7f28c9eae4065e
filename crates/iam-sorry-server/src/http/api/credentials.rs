//! Temporary credentials, what was handed out, and why something is allowed or not.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use iam_sorry_core::api::{CredentialsRequest, ExplainRequest, Explanation, GrantInfo, Page, PageQuery};

use super::super::extract::{Json, Query, SignedIn};
use super::super::problem::ApiError;
use super::secret::secret_json;
use crate::actions::session_request::SessionRequest;
use crate::http::api::schemas::{IdempotencyHeader, IssuedAnswer};
use crate::http::app::App;
use crate::operations::action::{Mode, RunOutput};
use crate::operations::idempotency::IdempotencyKey;

/// What I was given; with `all`, everybody, for auditors. Without secrets.
#[utoipa::path(get, path = "/api/v1/credentials", operation_id = "listCredentials", tag = "credentials",
    params(PageQuery),
    responses((status = 200, description = "Newest first", body = Page<GrantInfo>)), security(("session" = [])))]
pub async fn grants(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Query(query): Query<PageQuery>,
) -> Result<Answer<Page<GrantInfo>>, ApiError> {
    Ok(Answer(app.service.list_grants(&caller, query).await?))
}

/// Issues temporary credentials of an IAM user or a role, shown this once. Durations are cut to what the rules allow.
#[utoipa::path(post, path = "/api/v1/credentials", operation_id = "issueCredentials", tag = "credentials",
    params(IdempotencyHeader), request_body = CredentialsRequest,
    responses((status = 200, description = "The credentials, or what would be done", body = IssuedAnswer)),
    security(("session" = [])))]
pub async fn issue(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    key: Option<IdempotencyKey>,
    Json(request): Json<CredentialsRequest>,
) -> Result<Response, ApiError> {
    let mode = Mode::of(request.dry_run);
    let output =
        SessionRequest::new(&app.service, request)?.run(&app.service, &caller, key.as_ref(), mode).await?;
    Ok(match output {
        RunOutput::Acted(issued) => secret_json(issued.to_json()),
        RunOutput::Unchanged(done) => Answer(done).into_response(),
    })
}

/// Says whether I may do something, and which rule decides.
#[utoipa::path(post, path = "/api/v1/explain", operation_id = "explain", tag = "credentials",
    request_body = ExplainRequest,
    responses((status = 200, description = "The decision and its reasons", body = Explanation)),
    security(("session" = [])))]
pub async fn explain(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Json(request): Json<ExplainRequest>,
) -> Result<Answer<Explanation>, ApiError> {
    Ok(Answer(app.service.explain(&caller, request).await?))
}
