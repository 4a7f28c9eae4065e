//! Every error of this face is one type, and becomes an RFC 9457 problem (or, for pages, a page) in one place.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use iam_sorry_core::api::{Problem, ProblemCode};

use crate::error::ServiceError;

/// What a handler returns when it can't. It has no body yet: [`render`] writes that at the boundary, where the request's
/// id is known.
#[derive(Debug)]
pub struct ApiError(ServiceError);

/// Draws a problem as a page.
pub type DrawPage = Arc<dyn Fn(&Problem) -> Response + Send + Sync>;

/// The refusal inside a response, for the boundary.
#[derive(Clone)]
struct Refused(Arc<ServiceError>);

impl ApiError {
    /// A problem of this face's own.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(ServiceError::new(code, detail))
    }

    /// The request is not of its form.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::BadRequest, detail)
    }
}

impl From<ServiceError> for ApiError {
    fn from(refusal: ServiceError) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(self.0.code);
        response.extensions_mut().insert(Refused(Arc::new(self.0)));
        response
    }
}

/// Gives a response that is an error its body. What axum itself answers (plain text) becomes a problem too; what a page
/// drew stays as it is.
pub fn render(mut response: Response, request_id: &str, page: Option<&DrawPage>) -> Response {
    let refusal = match response.extensions_mut().remove::<Refused>() {
        Some(Refused(refusal)) => refusal,
        None => match of_the_framework(&response) {
            Some(refusal) => Arc::new(refusal),
            None => return response,
        },
    };
    let problem = Problem::new(refusal.code, &refusal.detail, refusal.reasons.clone(), request_id);
    let mut drawn = match page {
        Some(draw) => draw(&problem),
        None => json(&problem),
    };
    *drawn.status_mut() = status(problem.code);
    if let Some(methods) = response.headers().get(ALLOW) {
        drawn.headers_mut().insert(ALLOW, methods.clone());
    }
    if let Some(seconds) = refusal.retry_after {
        drawn.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    } else if problem.status == 503 || problem.status == 429 {
        drawn.headers_mut().insert(RETRY_AFTER, HeaderValue::from(5));
    }
    if problem.status == 401 && page.is_none() {
        // RFC 9110, section 11.6.1: a 401 says how to authenticate; RFC 6750 for the scheme.
        drawn.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"iam-sorry\""));
    }
    drawn
}

/// There is no such address.
pub async fn not_found() -> ApiError {
    ApiError::new(
        ProblemCode::NotFound,
        "There is nothing at this address.\nThe interface is described in /api/v1/openapi.json.",
    )
}

/// The address is there, the method is not.
pub async fn method_not_allowed() -> ApiError {
    ApiError::new(
        ProblemCode::MethodNotAllowed,
        "This address does not know the method; the header Allow says which it does.",
    )
}

fn json(problem: &Problem) -> Response {
    // A struct of strings: it can't fail.
    let mut response = Response::new(Body::from(serde_json::to_vec(problem).unwrap_or_default()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

fn status(code: ProblemCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An error that neither a handler nor a page made: plain text or nothing at all.
fn of_the_framework(response: &Response) -> Option<ServiceError> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !(kind.is_empty() || kind.starts_with("text/plain")) {
        return None;
    }
    let (code, detail) = match status.as_u16() {
        404 => (ProblemCode::NotFound, "There is nothing at this address."),
        405 => (ProblemCode::MethodNotAllowed, "This address does not know the method."),
        413 => (ProblemCode::TooLarge, "The request is larger than any real one."),
        415 => (ProblemCode::UnsupportedMediaType, "The body is of a kind that is not understood here."),
        400..=499 => (ProblemCode::BadRequest, "The request is not of its form."),
        _ => (ProblemCode::Internal, "The service made a mistake; its log has it under the request's id."),
    };
    Some(ServiceError::new(code, detail))
}
