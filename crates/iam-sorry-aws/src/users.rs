//! Making an IAM user with its inline policy, and taking both back. For managers only: nothing here runs on the way to
//! temporary credentials, and a user is never made because a name was mistyped.

use std::time::Duration;

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::UserName;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::lookup::{User, user_exists};
use crate::retry::{Cancel, RetryPolicy};

/// How long a user that was just made may be unknown to another part of IAM.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);

/// iam:CreateUser, and waits until IAM knows the user (it is eventually consistent; IAM User Guide, "Changes that I make
/// are not always immediately visible").
///
/// # Errors
/// As any request. If the waiting fails, the user is deleted again.
pub async fn create_user(
    aws: &Aws,
    admin: &Credentials,
    name: &UserName,
    cancel: &Cancel,
) -> Result<User, AwsError> {
    let context = aws.context("iam:CreateUser", &admin.access_key_id, name.as_str());
    aws.iam(admin).create_user().user_name(name.as_str()).send().await.map_err(|e| context.failed(e))?;
    match until_known(cancel, || user_exists(aws, admin, name)).await {
        Ok(user) => Ok(user),
        Err(error) => {
            // If even that fails, the user who is left matters more than why.
            match delete_user(aws, admin, name, None).await {
                Ok(()) => Err(error),
                Err(left) => Err(left),
            }
        }
    }
}

/// iam:PutUserPolicy: sets or replaces one inline policy.
///
/// # Errors
/// As any request.
pub async fn put_policy(
    aws: &Aws,
    admin: &Credentials,
    user: &UserName,
    policy_name: &str,
    document: &str,
    cancel: &Cancel,
) -> Result<(), AwsError> {
    until_known(cancel, || async {
        let context = aws.context("iam:PutUserPolicy", &admin.access_key_id, user.as_str());
        let request = aws.iam(admin).put_user_policy().user_name(user.as_str()).policy_name(policy_name);
        request.policy_document(document).send().await.map(drop).map_err(|e| context.failed(e))
    })
    .await
}

/// Takes back a user that was made here: its inline policy, then the user. IAM refuses if it has anything more, so
/// what somebody else gave it meanwhile is never lost.
///
/// # Errors
/// As any request.
pub async fn delete_user(
    aws: &Aws,
    admin: &Credentials,
    user: &UserName,
    policy_name: Option<&str>,
) -> Result<(), AwsError> {
    if let Some(policy_name) = policy_name {
        let context = aws.context("iam:DeleteUserPolicy", &admin.access_key_id, user.as_str());
        let request = aws.iam(admin).delete_user_policy().user_name(user.as_str()).policy_name(policy_name);
        gone(request.send().await.map(drop).map_err(|e| context.failed(e)))?;
    }
    let context = aws.context("iam:DeleteUser", &admin.access_key_id, user.as_str());
    let request = aws.iam(admin).delete_user().user_name(user.as_str());
    gone(request.send().await.map(drop).map_err(|e| context.failed(e)))
}

/// What is not there need not be deleted.
fn gone(answer: Result<(), AwsError>) -> Result<(), AwsError> {
    match answer {
        Err(error) if is_unknown(&error) => Ok(()),
        answer => answer,
    }
}

fn is_unknown(error: &AwsError) -> bool {
    match error {
        AwsError::NoSuchUser { .. } => true,
        AwsError::Refused { code, .. } => code.starts_with("NoSuchEntity"),
        _ => false,
    }
}

async fn until_known<T, F>(cancel: &Cancel, request: impl Fn() -> F) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    RetryPolicy::default().repeat(KNOWN_WITHIN, Some(cancel), is_unknown, |_, _| {}, request).await
}
