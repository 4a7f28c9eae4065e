//! Active or inactive: how a key is put aside, and made good again.

use aws_sdk_iam::types::StatusType;
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::UserName;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::key::delete::delete_surely;
use crate::lookup::keys_of;
use crate::retry::RetryPolicy;

/// iam:UpdateAccessKey.
///
/// # Errors
/// As any request.
pub async fn set_active(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    key_id: &str,
    active: bool,
) -> Result<(), AwsError> {
    let context = aws.context("iam:UpdateAccessKey", &signer.access_key_id, user.as_str());
    let status = if active { StatusType::Active } else { StatusType::Inactive };
    let request = aws.iam(signer).update_access_key().user_name(user.as_str()).access_key_id(key_id);
    request.status(status).send().await.map(drop).map_err(|e| context.failed(e))
}

/// Whether the user has this key and may sign with it. A key that was made a moment ago may not be listed everywhere for up
/// to `retry.settle`.
///
/// # Errors
/// As any request.
pub async fn is_active(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    key_id: &str,
    retry: &RetryPolicy,
) -> Result<bool, AwsError> {
    let mut tries = retry.tries(retry.settle);
    loop {
        let keys = keys_of(aws, signer, user).await?;
        match (keys.iter().find(|key| key.id == key_id), tries.pause()) {
            (Some(key), _) => return Ok(key.active),
            (None, None) => return Ok(false),
            (None, Some(pause)) => tokio::time::sleep(pause).await,
        }
    }
}

/// Deactivates a key, then deletes it: from the first step on nothing can be signed with it, even if the second fails. A key
/// that is not there any more is retired.
///
/// # Errors
/// As any request.
pub async fn retire(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    key_id: &str,
    retry: &RetryPolicy,
) -> Result<(), AwsError> {
    match set_active(aws, signer, user, key_id, false).await {
        Ok(()) => {}
        Err(AwsError::Refused { code, .. }) if code.starts_with("NoSuchEntity") => {}
        Err(error) => return Err(error),
    }
    delete_surely(aws, signer, user, key_id, retry, |_| {}).await
}
