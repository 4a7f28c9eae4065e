//! The steps of [`crate::key`] under the names that the service still calls them by.

use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{SessionDuration, UserName};

use crate::client::Aws;
use crate::errors::AwsError;
use crate::key;
pub use crate::key::{create_access_key, identity, set_active as set_key_active};
pub use crate::non_idempotent::NotMade;
use crate::retry::RetryPolicy;

/// As [`key::first_session`].
///
/// # Errors
/// As that.
pub async fn session_of_new_key(
    aws: &Aws,
    key: &AccessKey,
    duration: SessionDuration,
    retry: &RetryPolicy,
) -> Result<Credentials, AwsError> {
    key::first_session(aws, key, duration, retry).await
}

/// As [`key::prove`].
///
/// # Errors
/// As that.
pub async fn identity_of_new_key(
    aws: &Aws,
    key: &AccessKey,
    retry: &RetryPolicy,
) -> Result<String, AwsError> {
    key::prove(aws, key, retry).await
}

/// As [`key::delete_surely`].
///
/// # Errors
/// As that.
pub async fn delete_key_surely(
    aws: &Aws,
    manager: &Credentials,
    user: &UserName,
    access_key_id: &str,
    retry: &RetryPolicy,
) -> Result<(), AwsError> {
    key::delete_surely(aws, manager, user, access_key_id, retry, |_| {}).await
}
