//! The first use of a new key, which AWS may not know everywhere for up to a minute.

use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::SessionDuration;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::retry::{Cancel, RetryPolicy};
use crate::session::session_token;

/// sts:GetSessionToken with a key that AWS may not know yet.
///
/// # Errors
/// [`AwsError::InvalidKey`] if AWS still does not know the key after `retry.new_key`; otherwise as any request.
pub async fn first_session(
    aws: &Aws,
    key: &AccessKey,
    duration: SessionDuration,
    retry: &RetryPolicy,
) -> Result<Credentials, AwsError> {
    while_unknown(retry, None, |_| {}, || session_token(aws, key, duration, None)).await
}

/// Whose a key is that AWS may not know yet: the whole ARN, as sts:GetCallerIdentity answers.
///
/// # Errors
/// As [`first_session`].
pub async fn prove(aws: &Aws, key: &AccessKey, retry: &RetryPolicy) -> Result<String, AwsError> {
    let credentials = Credentials::from(key.clone());
    while_unknown(retry, None, |_| {}, || identity(aws, &credentials)).await
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

/// Repeats a request while AWS does not know the new key that signs it, for up to `retry.new_key`. `waiting` hears how long
/// it has been.
pub(crate) async fn while_unknown<T, F>(
    retry: &RetryPolicy,
    cancel: Option<&Cancel>,
    waiting: impl Fn(std::time::Duration),
    request: impl Fn() -> F,
) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    let unknown = |error: &AwsError| matches!(error, AwsError::InvalidKey { .. });
    let request = || async {
        match cancel {
            Some(cancel) => cancel.unless(request()).await,
            None => request().await,
        }
    };
    retry.repeat(retry.new_key, cancel, unknown, |_, waited| waiting(waited), request).await
}
