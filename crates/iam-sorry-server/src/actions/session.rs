//! What the temporary credentials of a user and of a role have in common: how long they last, and how they are handed out.

use iam_sorry_core::api::{IssuedCredentials, ProblemCode};
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::timestamp::human_duration;
use iam_sorry_rules::SHORTEST_SECONDS;
use iam_sorry_store::NewGrant;

use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::action::Context;

/// Credentials that AWS gave, before anybody has them.
pub(crate) struct NewSession {
    /// Of the grant: `session` or `role`.
    pub kind: &'static str,
    /// The user's name or the role's ARN.
    pub resource: String,
    /// Whose they are.
    pub arn: String,
    pub credentials: Credentials,
    pub seconds: u32,
    /// Lines for the answer.
    pub notes: Vec<String>,
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

/// Says so if that is less than was requested.
pub(crate) fn cut_notes(cx: &Context, requested: Option<u32>) -> Vec<String> {
    let seconds = allowed_seconds(cx);
    match requested {
        Some(requested) if requested > seconds => vec![format!(
            "cut to {}: the rules allow no more, and {} was asked for",
            human_duration(seconds.into()),
            human_duration(requested.into())
        )],
        _ => Vec::new(),
    }
}

/// For a dry run.
pub(crate) fn preview(cx: &Context, requested: Option<u32>) -> Vec<String> {
    let mut notes = cut_notes(cx, requested);
    notes.push(format!("would be issued for {}", human_duration(allowed_seconds(cx).into())));
    notes
}

/// Hands them out.
pub(crate) fn issue(cx: &Context, session: NewSession) -> Acted<IssuedCredentials> {
    let NewSession { kind, resource, arn, credentials, seconds, notes } = session;
    let (Some(token), Some(ends)) = (credentials.session_token, credentials.expiration) else {
        let text = "AWS gave credentials without an end.";
        return Err(ServiceError::new(ProblemCode::AwsRefused, text).into());
    };
    let effects = Effects {
        grants: vec![NewGrant {
            kind: kind.to_owned(),
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
    Ok(Success { notes, effects, output })
}
