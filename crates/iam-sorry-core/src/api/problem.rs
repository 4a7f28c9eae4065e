//! RFC 9457 problem details with codes that never change their meaning.

use serde::{Deserialize, Serialize};

/// What went wrong, in a form that programs may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub enum ProblemCode {
    /// 400: the request is not of its form.
    BadRequest,
    /// 400: a name, ARN or duration that is not of its form or not allowed to the service.
    InvalidName,
    /// 401: no session, an expired one, or one that was ended.
    SignInNeeded,
    /// 401: the sign-in was refused. The text never tells which part was wrong.
    SignInRefused,
    /// 403: the rules, or the lack of one, forbid it; `reasons` says which.
    NotAllowed,
    /// 403: a guardrail forbids it, whatever the rules say.
    Guardrail,
    /// 403: a form was sent without its token, or from another site.
    CrossSite,
    /// 404: there is no such thing, or none that the caller may know of.
    NotFound,
    /// 405: this address has no such method.
    MethodNotAllowed,
    /// 409: it exists already, or its state does not fit.
    Conflict,
    /// 409: the same idempotency key was used for something else.
    IdempotencyMismatch,
    /// 409: this was done already under the same idempotency key, and its secret was shown then.
    AlreadyDone,
    /// 409: another request is at work on the same thing.
    Busy,
    /// 413: the request is larger than any real one.
    TooLarge,
    /// 415: the body is not JSON (or, for pages, not a form).
    UnsupportedMediaType,
    /// 429: too many requests from this person or address.
    TooManyRequests,
    /// 500: a mistake of ours; the log has it under the request's id.
    Internal,
    /// 502: AWS refused the service itself, or answered nonsense.
    AwsRefused,
    /// 503: AWS can't be reached or asks to slow down.
    AwsUnavailable,
    /// 503: what is to be done can't be written down first, so it is not done.
    AuditUnavailable,
    /// 503: the database can't be reached.
    StoreUnavailable,
    /// 503: the directory can't be reached.
    DirectoryUnavailable,
    /// 503: the service is stopping.
    Stopping,
}

impl ProblemCode {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::InvalidName => 400,
            Self::SignInNeeded | Self::SignInRefused => 401,
            Self::NotAllowed | Self::Guardrail | Self::CrossSite => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::IdempotencyMismatch | Self::AlreadyDone | Self::Busy => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
            Self::AwsRefused => 502,
            Self::AwsUnavailable
            | Self::AuditUnavailable
            | Self::StoreUnavailable
            | Self::DirectoryUnavailable
            | Self::Stopping => 503,
        }
    }
}

/// A problem as it is sent (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:iam-sorry:problem:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code alone.
    pub code: ProblemCode,
    /// A short sentence that is the same for every problem of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here and what to do next; lines separated by `\n`. Never a secret.
    pub detail: String,
    /// Which rules decided, or that none did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The request's id, as in the audit trail and the service's log.
    pub request_id: String,
}
