//! The SDK's errors as this crate's, in one place: by AWS's code, by its words if it has no code, by its clock.
//!
//! Texts from AWS are cut and stripped of control characters, since an endpoint may be anybody.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::clock::ServerClock;
use crate::errors::AwsError;
use crate::text::{clean, innermost};

/// One request, for the error it may become.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext<'a> {
    pub action: &'static str,
    /// Address from the settings; without one, where the request went is known once it was sent.
    pub configured: Option<&'a str>,
    pub key_id: &'a str,
    pub clock: &'a ServerClock,
    /// User or MFA device the request was about, for the texts that name it.
    pub subject: &'a str,
}

impl RequestContext<'_> {
    /// The SDK's error as this crate's.
    pub fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> AwsError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let unreachable = |cause: String| AwsError::Unreachable {
            action: self.action,
            endpoint: self.endpoint(),
            cause: clean(&cause),
        };
        match error {
            SdkError::ServiceError(service) => self.refused(service.err(), service.raw()),
            SdkError::TimeoutError(_) => unreachable("no answer in time".into()),
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(e) if e.is_timeout() => unreachable("no answer in time".into()),
                Some(e) => unreachable(innermost(e)),
                None => unreachable("the request could not be sent".into()),
            },
            SdkError::ResponseError(_) => unreachable("the answer was cut off or is not AWS's".into()),
            other => match other.into_source() {
                Ok(source) => AwsError::Settings(clean(&format!(
                    "{} could not be requested: {}",
                    self.action,
                    innermost(source.as_ref())
                ))),
                Err(_) => unreachable("unknown failure".into()),
            },
        }
    }

    fn endpoint(&self) -> String {
        let service = self.action.split(':').next().unwrap_or(self.action);
        let known = self.configured.map(str::to_owned).or_else(|| self.clock.host(service));
        known.unwrap_or_else(|| format!("{service}'s endpoint"))
    }

    fn refused<E: ProvideErrorMetadata>(&self, error: &E, raw: &HttpResponse) -> AwsError {
        let code = clean(error.code().unwrap_or_default());
        let message = clean(error.message().unwrap_or_default());
        let status = raw.status().as_u16();
        if is_clock_problem(&code, &message, self.clock.offset_seconds()) {
            let local = self.clock.local();
            return AwsError::ClockSkew { local, server: self.clock.server() };
        }
        let (action, key_id) = (self.action, self.key_id.to_owned());
        match code.as_str() {
            "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "SignatureDoesNotMatch"
            | "InvalidAccessKeyId" => AwsError::InvalidKey { action, key_id, code },
            "ExpiredToken" | "ExpiredTokenException" => AwsError::Expired { key_id },
            "Throttling"
            | "ThrottlingException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "SlowDown"
            | "PriorRequestNotComplete" => AwsError::Throttled { action, code },
            "NoSuchEntity" | "NoSuchEntityException" if action == "iam:GetUser" => {
                AwsError::NoSuchUser { user: self.subject.to_owned() }
            }
            // The texts of sts:GetSessionToken and sts:AssumeRole; AWS has no codes of their own for them.
            _ if message.contains("MultiFactorAuthentication") && message.contains("one time pass code") => {
                if message.contains("must provide") {
                    AwsError::MfaRequired { action }
                } else {
                    AwsError::MfaWrong { serial: self.subject.to_owned() }
                }
            }
            "" if message.is_empty() => AwsError::Unreachable {
                action,
                endpoint: self.endpoint(),
                cause: format!("HTTP status {status} without an error of AWS in it"),
            },
            _ => {
                let request_id = raw.headers().get("x-amzn-requestid").map(clean);
                let code = if code.is_empty() { format!("HTTP {status}") } else { code };
                AwsError::Refused { action, code, message, request_id }
            }
        }
    }

    /// AWS answered, but not with what the API promises.
    pub fn bad_answer(&self, what: impl Into<String>) -> AwsError {
        AwsError::BadAnswer { action: self.action, endpoint: self.endpoint(), what: what.into() }
    }
}

/// Codes that AWS gives for a signature of the wrong time. SignatureDoesNotMatch is also what a wrong secret gives, so
/// it counts only together with the words, or with a clock that is measurably off.
fn is_clock_problem(code: &str, message: &str, offset: Option<i64>) -> bool {
    const SIGNATURE: [&str; 8] = [
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "InvalidSignature",
        "IncompleteSignature",
        "AuthFailure",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "RequestInTheFuture",
    ];
    let about_time = message.starts_with("Signature expired")
        || message.starts_with("Signature not yet current")
        || matches!(code, "RequestTimeTooSkewed" | "RequestInTheFuture");
    SIGNATURE.contains(&code) && (about_time || offset.is_some_and(|s| s.abs() > 240))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_secret_is_no_clock_problem() {
        let wrong_secret = "The request signature we calculated does not match the signature you provided.";
        assert!(!is_clock_problem("SignatureDoesNotMatch", wrong_secret, Some(0)));
        assert!(!is_clock_problem("SignatureDoesNotMatch", wrong_secret, None));
        assert!(is_clock_problem("SignatureDoesNotMatch", wrong_secret, Some(-3600)));
        assert!(is_clock_problem(
            "SignatureDoesNotMatch",
            "Signature expired: 20260101T000000Z is now earlier",
            None
        ));
        assert!(is_clock_problem("RequestTimeTooSkewed", "", None));
        assert!(!is_clock_problem("AccessDenied", "no", Some(-3600)));
    }

    fn answer(action: &'static str, key_id: &str, status: u16, code: &str, message: &str) -> AwsError {
        use aws_smithy_runtime_api::http::StatusCode;
        use aws_smithy_types::body::SdkBody;
        use aws_smithy_types::error::ErrorMetadata;
        let clock = ServerClock::default();
        let context = RequestContext { action, configured: None, key_id, clock: &clock, subject: "device" };
        let metadata = ErrorMetadata::builder().code(code).message(message).build();
        let raw = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::empty());
        context.refused(&metadata, &raw)
    }

    /// AWS's own words for sts:GetSessionToken and sts:AssumeRole; the code is AccessDenied for all of them.
    #[test]
    fn mfa_is_recognised_by_awss_words() {
        let says = |message| answer("sts:GetSessionToken", "AKIAEXAMPLE", 403, "AccessDenied", message);
        let wrong = says("MultiFactorAuthentication failed with invalid MFA one time pass code. ");
        assert!(matches!(&wrong, AwsError::MfaWrong { serial } if serial == "device"), "{wrong}");
        let required = says(
            "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code. ",
        );
        assert!(matches!(required, AwsError::MfaRequired { .. }), "{required}");
        assert!(matches!(says("User is not authorized"), AwsError::Refused { .. }));
    }

    #[test]
    fn a_session_without_mfa_at_iam_is_explained() {
        let error = answer("iam:GetUser", "ASIAEXAMPLE", 403, "InvalidClientTokenId", "invalid");
        assert!(error.to_string().contains("without MFA"), "{error}");
        let error = answer("iam:GetUser", "AKIAEXAMPLE", 403, "InvalidClientTokenId", "invalid");
        assert!(!error.to_string().contains("MFA"), "{error}");
    }

    #[test]
    fn codes_find_their_kind() {
        let kind = |status, code| answer("iam:GetUser", "AKIAEXAMPLE", status, code, "words");
        assert!(matches!(kind(400, "Throttling"), AwsError::Throttled { .. }));
        assert!(matches!(kind(403, "ExpiredToken"), AwsError::Expired { .. }));
        assert!(matches!(kind(404, "NoSuchEntity"), AwsError::NoSuchUser { .. }));
        assert!(
            matches!(kind(403, "RequestExpired"), AwsError::Refused { .. }),
            "without a sign of the clock"
        );
        let proxy = answer("iam:GetUser", "AKIAEXAMPLE", 502, "", "");
        assert!(matches!(&proxy, AwsError::Unreachable { cause, .. } if cause.contains("502")), "{proxy}");
    }
}
