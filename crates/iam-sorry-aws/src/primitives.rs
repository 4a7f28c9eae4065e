//! The single steps of issuing and rotating, for a caller whose journal is not [`crate::journal`] but its own database:
//! it writes down what it is about to do, takes the step, and writes down what came of it.

use std::time::Duration;

use aws_sdk_iam::types::StatusType;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{SessionDuration, UserName};
use tokio::time::Instant;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::issue::session_token;
use crate::key::{delete_key, while_unknown};
pub use crate::non_idempotent::{NotMade, create_access_key};
use crate::wait::{Backoff, Cancel, Timeouts};

/// sts:GetSessionToken with a key that AWS may not know yet.
///
/// # Errors
/// [`AwsError::InvalidKey`] where AWS still does not know the key after `patience.new_key`; otherwise as any request.
pub async fn session_of_new_key(
    aws: &Aws,
    key: &AccessKey,
    duration: SessionDuration,
    patience: &Timeouts,
) -> Result<Credentials, AwsError> {
    let never = Cancel::new();
    while_unknown(patience.new_key, &never, |_| {}, || session_token(aws, key, duration, None)).await
}

/// Whose a key is that AWS may not know yet: the whole ARN, as sts:GetCallerIdentity tells it.
///
/// # Errors
/// As [`session_of_new_key`].
pub async fn identity_of_new_key(
    aws: &Aws,
    key: &AccessKey,
    patience: &Timeouts,
) -> Result<String, AwsError> {
    let credentials = Credentials::from(key.clone());
    let never = Cancel::new();
    while_unknown(patience.new_key, &never, |_| {}, || identity(aws, &credentials)).await
}

/// The whole ARN of the caller, path included (sts:GetCallerIdentity).
///
/// # Errors
/// As any request.
pub async fn identity(aws: &Aws, credentials: &Credentials) -> Result<String, AwsError> {
    let context = aws.context("sts:GetCallerIdentity", &credentials.access_key_id, "");
    let answer = aws.sts(credentials).get_caller_identity().send().await.map_err(|e| context.failed(e))?;
    answer.arn().map(str::to_owned).ok_or_else(|| context.bad_answer("no ARN"))
}

/// iam:DeleteAccessKey, tried again for up to `patience.delete`, since a key left behind is what we promise not to do.
/// A key that the user's list does not show is deleted.
///
/// # Errors
/// The last refusal; a missing permission at once, since it won't come within seconds.
pub async fn delete_key_surely(
    aws: &Aws,
    manager: &Credentials,
    user: &UserName,
    access_key_id: &str,
    patience: &Timeouts,
) -> Result<(), AwsError> {
    let start = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(8));
    loop {
        let error = match delete_key(aws, manager, user, access_key_id).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let delay = backoff.delay();
        if error.is_denied() || start.elapsed() + delay > patience.delete {
            return Err(error);
        }
        tokio::time::sleep(delay).await;
    }
}

/// iam:UpdateAccessKey.
///
/// # Errors
/// As any request.
pub async fn set_key_active(
    aws: &Aws,
    manager: &Credentials,
    user: &UserName,
    access_key_id: &str,
    active: bool,
) -> Result<(), AwsError> {
    let context = aws.context("iam:UpdateAccessKey", &manager.access_key_id, user.as_str());
    let status = if active { StatusType::Active } else { StatusType::Inactive };
    let request = aws.iam(manager).update_access_key().user_name(user.as_str()).access_key_id(access_key_id);
    request.status(status).send().await.map(drop).map_err(|e| context.failed(e))
}
