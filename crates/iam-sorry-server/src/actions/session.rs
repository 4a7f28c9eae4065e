//! What the temporary credentials of a user and of a role have in common: how long they last, and how they are handed out.

use iam_sorry_core::api::{Change, DurationLimit, GrantKind, IssuedCredentials, ProblemCode};
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::ids::AccountName;
use iam_sorry_rules::SHORTEST_SECONDS;
use iam_sorry_store::NewGrant;

use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::action::Context;

/// Credentials that AWS gave, before anybody has them.
pub(crate) struct NewSession {
    /// Of the grant.
    pub kind: GrantKind,
    /// The AWS account that they are for.
    pub account: AccountName,
    /// The user's name or the role's ARN in it.
    pub resource: String,
    /// Whose they are.
    pub arn: String,
    pub credentials: Credentials,
    pub seconds: u32,
    /// What was done.
    pub changes: Vec<Change>,
}

/// A duration that can be requested.
pub(crate) fn check_duration(seconds: Option<u32>) -> Result<(), ServiceError> {
    if seconds.is_some_and(|seconds| seconds < SHORTEST_SECONDS) {
        let text = "AWS gives no credentials for less than 900 seconds.";
        return Err(ServiceError::new(ProblemCode::BadRequest, text));
    }
    Ok(())
}

/// How long they last: what the rules allow of what was requested.
pub(crate) fn allowed_seconds(cx: &Context) -> u32 {
    cx.allowed.seconds.unwrap_or(SHORTEST_SECONDS)
}

/// What the person gets; also that it is less than was requested, if it is.
pub(crate) fn changes(cx: &Context, requested: Option<u32>) -> Vec<Change> {
    let seconds = allowed_seconds(cx);
    let cut = requested.filter(|requested| *requested > seconds);
    let cut = cut.map(|requested| duration_cut(requested, seconds, DurationLimit::Rules));
    let issued = Change::CredentialsIssued { duration_seconds: seconds };
    cut.into_iter().chain([issued]).collect()
}

pub(crate) fn duration_cut(requested: u32, seconds: u32, limit: DurationLimit) -> Change {
    Change::DurationCut { requested_seconds: requested, duration_seconds: seconds, limit }
}

/// Hands them out.
pub(crate) fn issue(cx: &Context, session: NewSession) -> Acted<IssuedCredentials> {
    let NewSession { kind, account, resource, arn, credentials, seconds, changes } = session;
    let (Some(token), Some(ends)) = (credentials.session_token, credentials.expiration) else {
        let text = "AWS gave credentials without an end.";
        return Err(ServiceError::new(ProblemCode::AwsRefused, text).into());
    };
    let effects = Effects {
        grants: vec![NewGrant {
            kind: kind.as_str().to_owned(),
            account,
            resource,
            access_key_id: credentials.access_key_id.clone(),
            issued_ms: cx.service.clock().now_ms(),
            expires_ms: Some(ends.unix() * 1000),
        }],
        details: vec![
            ("access-key-id", credentials.access_key_id.clone()),
            ("duration-seconds", seconds.to_string()),
            ("expires", ends.to_string()),
        ],
        ..Effects::default()
    };
    let output = Box::new(move |done| IssuedCredentials {
        done,
        arn,
        access_key_id: credentials.access_key_id,
        secret_access_key: credentials.secret_access_key,
        session_token: token,
        expiration: ends.to_string(),
        duration_seconds: seconds,
    });
    Ok(Success { changes, effects, secret_of: None, output })
}
