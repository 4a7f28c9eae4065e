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
    /// 401: the SSH key is several people's; the sign-in must name one.
    NameNeeded,
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
    /// 422: the query takes longer than one may; a narrower one does not.
    QueryTooBroad,
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
            Self::SignInNeeded | Self::SignInRefused | Self::NameNeeded => 401,
            Self::NotAllowed | Self::Guardrail | Self::CrossSite => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::IdempotencyMismatch | Self::AlreadyDone | Self::Busy => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::QueryTooBroad => 422,
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

    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::InvalidName => "invalid-name",
            Self::SignInNeeded => "sign-in-needed",
            Self::SignInRefused => "sign-in-refused",
            Self::NameNeeded => "name-needed",
            Self::NotAllowed => "not-allowed",
            Self::Guardrail => "guardrail",
            Self::CrossSite => "cross-site",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Conflict => "conflict",
            Self::IdempotencyMismatch => "idempotency-mismatch",
            Self::AlreadyDone => "already-done",
            Self::Busy => "busy",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::QueryTooBroad => "query-too-broad",
            Self::TooManyRequests => "too-many-requests",
            Self::Internal => "internal",
            Self::AwsRefused => "aws-refused",
            Self::AwsUnavailable => "aws-unavailable",
            Self::AuditUnavailable => "audit-unavailable",
            Self::StoreUnavailable => "store-unavailable",
            Self::DirectoryUnavailable => "directory-unavailable",
            Self::Stopping => "stopping",
        }
    }

    /// The problem's title: a short sentence, the same for every problem of this code (RFC 9457, section 3.1.3).
    pub fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is not of its form",
            Self::InvalidName => "The name can't be used",
            Self::SignInNeeded => "Nobody is signed in",
            Self::SignInRefused => "The sign-in was refused",
            Self::NameNeeded => "The SSH key is several people's",
            Self::NotAllowed => "The rules don't allow it",
            Self::Guardrail => "A guardrail forbids it",
            Self::CrossSite => "The form came from elsewhere",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "This address has no such method",
            Self::Conflict => "It does not fit what is there",
            Self::IdempotencyMismatch => "The idempotency key was used for something else",
            Self::AlreadyDone => "It was done before, and its secret was shown then",
            Self::Busy => "Another request is at work on it",
            Self::TooLarge => "The request is too large",
            Self::UnsupportedMediaType => "The request's content type is not understood",
            Self::QueryTooBroad => "The query takes too long",
            Self::TooManyRequests => "Too many requests",
            Self::Internal => "The service made a mistake",
            Self::AwsRefused => "AWS refused the service",
            Self::AwsUnavailable => "AWS can't be reached",
            Self::AuditUnavailable => "It could not be written down, so it is not done",
            Self::StoreUnavailable => "The database can't be reached",
            Self::DirectoryUnavailable => "The directory can't be reached",
            Self::Stopping => "The service is stopping",
        }
    }
}

impl Problem {
    /// With everything that follows from the code.
    pub fn new(
        code: ProblemCode,
        detail: impl Into<String>,
        reasons: Vec<String>,
        request_id: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("urn:iam-sorry:problem:{}", code.as_str()),
            code,
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            reasons,
            request_id: request_id.into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_s_name_is_the_one_in_json() {
        for code in
            [ProblemCode::BadRequest, ProblemCode::UnsupportedMediaType, ProblemCode::AuditUnavailable]
        {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            let read: ProblemCode = serde_json::from_value(code.as_str().into()).unwrap();
            assert_eq!(read, code);
        }
        let problem = Problem::new(ProblemCode::TooManyRequests, "Wait.", Vec::new(), "1");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "urn:iam-sorry:problem:too-many-requests");
        assert_eq!(json["status"], 429);
        assert_eq!(json["code"], "too-many-requests");
    }
}
