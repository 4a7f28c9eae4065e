//! What AWS's errors mean to a person who requested something.

use iam_sorry_aws::AwsError;
use iam_sorry_aws::errors::LastUsed;
use iam_sorry_core::api::{KeptReason, ProblemCode};
use iam_sorry_core::timestamp::Timestamp;

use crate::error::ServiceError;

/// Requests whose "no such entity" can mean nothing but the permissions boundary: the user is made, or was looked up.
const BOUNDING: [&str; 2] = ["iam:CreateUser", "iam:PutUserPermissionsBoundary"];

impl ServiceError {
    /// AWS's error as a person may read it. The whole of it goes to the log, since it may speak of the service's own
    /// identity and endpoints.
    pub(crate) fn of_aws(error: AwsError) -> Self {
        tracing::warn!(%error, "AWS");
        text_of(&error)
    }
}

fn text_of(error: &AwsError) -> ServiceError {
    let again = |detail: &str| ServiceError {
        retry_after: Some(5),
        ..ServiceError::new(ProblemCode::AwsUnavailable, detail)
    };
    match error {
        AwsError::Throttled { .. } => {
            again("AWS asks the service to slow down, so this was not done.\nTry again in a few seconds.")
        }
        AwsError::Unreachable { .. } | AwsError::ClockSkew { .. } | AwsError::Interrupted => {
            again("AWS could not be reached, so this was not done.\nTry again in a few seconds.")
        }
        AwsError::NoSuchUser { user } => ServiceError::new(
            ProblemCode::NotFound,
            format!("IAM knows no user {user} any more: it was deleted without this service."),
        ),
        AwsError::KeyLimit { user, keys } => ServiceError::new(ProblemCode::Conflict, key_limit(user, keys)),
        AwsError::Refused { action, code, .. } if code.starts_with("AccessDenied") => ServiceError::new(
            ProblemCode::AwsRefused,
            format!(
                "AWS refused the service itself {action} (AccessDenied).\nTell its operator: `iam-sorryd policy` prints what \
                 the service needs."
            ),
        ),
        AwsError::Refused { action, code, .. } if code == "LimitExceeded" => ServiceError::new(
            ProblemCode::Conflict,
            format!("IAM's quota for {action} is used up (LimitExceeded)."),
        ),
        AwsError::Refused { action, code, .. }
            if code.starts_with("NoSuchEntity") && BOUNDING.contains(action) =>
        {
            ServiceError::new(
                ProblemCode::AwsRefused,
                "The policy that the service gives every user as its permissions boundary is not in the AWS account, so \
                 nothing was done.\nTell its operator: make it, or correct permissions_boundary in [guardrails] of the \
                 configuration.",
            )
        }
        AwsError::Refused { action, code, .. }
            if code.starts_with("NoSuchEntity") && *action == "iam:AttachUserPolicy" =>
        {
            ServiceError::new(
                ProblemCode::AwsRefused,
                "The policy is on the service's list, but not in the AWS account.\nTell its operator: make it, or take it \
                 off policies in [guardrails] of the configuration.",
            )
        }
        AwsError::Refused { action, code, .. } => {
            ServiceError::new(ProblemCode::AwsRefused, format!("AWS refused {action} ({code})."))
        }
        AwsError::InvalidKey { action, .. } => ServiceError::new(
            ProblemCode::AwsRefused,
            format!(
                "AWS does not accept the credentials for {action}.\nTry again in a minute; if it stays, tell the operator."
            ),
        ),
        _ => ServiceError::new(
            ProblemCode::AwsRefused,
            "AWS answered with something unexpected.\nThe service's log says what.",
        ),
    }
}

/// Whether AWS itself said no: nothing was done, and repeating it would change nothing. While this machine's clock is wrong,
/// AWS says no to everything, which means nothing.
pub(crate) fn is_final(error: &AwsError) -> bool {
    !matches!(
        error,
        AwsError::Unreachable { .. }
            | AwsError::BadAnswer { .. }
            | AwsError::Interrupted
            | AwsError::Throttled { .. }
            | AwsError::ClockSkew { .. }
    )
}

/// IAM's "no such entity", and the denial that it becomes for a user outside the service's paths.
pub(crate) fn may_be_gone(error: &AwsError) -> bool {
    match error {
        AwsError::NoSuchUser { .. } => true,
        AwsError::Refused { code, .. } => {
            code.starts_with("NoSuchEntity") || code.starts_with("AccessDenied")
        }
        _ => false,
    }
}

fn key_limit(user: &str, keys: &[iam_sorry_aws::errors::KeyFacts]) -> String {
    let mut text = format!("{user} has {} access keys, the most that IAM allows:", keys.len());
    for key in keys {
        text.push_str(&format!("\n  {key}"));
    }
    text.push_str(&format!(
        "\nNone was touched. Delete the one that nobody needs: iam-sorry keys delete {user} ACCESS_KEY_ID"
    ));
    text
}

/// Why a key that was last used so counts as in use, if it does.
pub(crate) fn in_use(used: &LastUsed, now: Timestamp, minutes: u32) -> Option<KeptReason> {
    match used {
        LastUsed::Never => None,
        LastUsed::At(at, service) if now.seconds_after(*at) < i64::from(minutes) * 60 => {
            Some(KeptReason::LastUsed { at: at.to_string(), service: service.clone() })
        }
        LastUsed::At(..) => None,
        LastUsed::Unknown => Some(KeptReason::UseUnknown),
    }
}
