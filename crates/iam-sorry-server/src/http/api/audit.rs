//! Reading the audit trail, which is itself recorded.

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use iam_sorry_core::api::{AuditQuery, AuditRecord, ExportFormat, ExportQuery, Page};

use super::super::extract::{Query, SignedIn};
use super::super::problem::ApiError;
use crate::audit::export::ExportLines;
use crate::http::app::App;

/// My records, newest first; with `all`, everybody's, for auditors.
#[utoipa::path(get, path = "/api/v1/audit", operation_id = "listAudit", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "Newest first", body = Page<AuditRecord>)), security(("session" = [])))]
pub async fn page(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Query(query): Query<AuditQuery>,
) -> Result<Answer<Page<AuditRecord>>, ApiError> {
    Ok(Answer(app.service.read_audit(&caller, query).await?))
}

/// The trail as JSON lines. Everybody's without any filter, for auditors, is what `audit verify` verifies; a stream that
/// breaks off lacks its last checkpoint, which shows.
#[utoipa::path(get, path = "/api/v1/audit/export", operation_id = "exportAudit", tag = "audit", params(ExportQuery),
    responses((status = 200, description = "JSON lines: the whole trail oldest first, a part of it newest first",
        body = String, content_type = "application/x-ndjson")),
    security(("session" = [])))]
pub async fn export(
    State(app): State<App>,
    SignedIn(caller): SignedIn,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let format = query.format;
    let name = match format {
        ExportFormat::Jsonl => "attachment; filename=\"audit.jsonl\"",
        ExportFormat::Ocsf => "attachment; filename=\"audit.ocsf.jsonl\"",
    };
    let lines = ExportLines::of(app.service.export_audit(&caller, query.into()).await?, format).await;
    // The head is sent already: what breaks off from here on is logged, and the client sees a chunk that never ends.
    let parts = stream::try_unfold(lines, async |mut lines| match lines.next().await {
        Ok(Some(part)) => Ok(Some((part, lines))),
        Ok(None) => Ok(None),
        Err(refusal) => Err(std::io::Error::other(refusal.detail)),
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// The public key that checkpoints are verified with.
#[utoipa::path(get, path = "/api/v1/audit/key", operation_id = "auditKey", tag = "audit",
    responses((status = 200, description = "SubjectPublicKeyInfo in PEM", body = String, content_type = "application/x-pem-file")))]
pub async fn key(State(app): State<App>) -> Result<Response, ApiError> {
    let pem = app.service.audit_key()?;
    Ok(([(CONTENT_TYPE, "application/x-pem-file")], pem).into_response())
}
