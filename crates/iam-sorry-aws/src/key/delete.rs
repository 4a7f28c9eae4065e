//! Deleting a key.

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::UserName;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::key::journal::Journal;
use crate::lookup::keys_of;
use crate::retry::RetryPolicy;

/// Why a key that was made is still there.
#[derive(Debug)]
pub enum TakeBackError<E> {
    /// It could not be written down that it goes, so nothing was done.
    NotNoted(E),
    /// AWS has not deleted it.
    NotDeleted(AwsError),
}

/// Deletes a key that this entry made: what proves that it is the entry's own is its ID, which AWS named to nobody else. `again` is as in
/// [`delete_surely`].
///
/// # Errors
/// [`TakeBackError`].
pub async fn take_back<J: Journal>(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    key_id: &str,
    journal: &J,
    retry: &RetryPolicy,
    again: impl Fn(&AwsError),
) -> Result<(), TakeBackError<J::Error>> {
    journal.note_deleting(key_id).await.map_err(TakeBackError::NotNoted)?;
    delete_surely(aws, signer, user, key_id, retry, again).await.map_err(TakeBackError::NotDeleted)
}

/// iam:DeleteAccessKey, tried again for up to `retry.delete`. Nobody's wish to stop ends it: a key that is left behind is what
/// this crate promises to avoid. `again` hears why there is another try.
///
/// # Errors
/// The last refusal; a missing permission at once, since it won't come within seconds.
pub async fn delete_surely(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    key_id: &str,
    retry: &RetryPolicy,
    again: impl Fn(&AwsError),
) -> Result<(), AwsError> {
    let may_change = |error: &AwsError| !error.is_denied();
    let delete = || delete_once(aws, signer, user, key_id);
    retry.repeat(retry.delete, None, may_change, |error, _| again(error), delete).await
}

/// "No such key" counts only if the user's list agrees: IAM is eventually consistent, and a key that was made a second ago may
/// not be known everywhere (IAM User Guide, "Changes that I make are not always immediately visible").
async fn delete_once(aws: &Aws, signer: &Credentials, user: &UserName, key_id: &str) -> Result<(), AwsError> {
    let context = aws.context("iam:DeleteAccessKey", &signer.access_key_id, user.as_str());
    let answer =
        aws.iam(signer).delete_access_key().user_name(user.as_str()).access_key_id(key_id).send().await;
    let error = match answer {
        Ok(_) => return Ok(()),
        Err(error) => context.failed(error),
    };
    match &error {
        AwsError::Refused { code, .. } if code.starts_with("NoSuchEntity") => {
            match keys_of(aws, signer, user).await {
                Ok(keys) if keys.iter().any(|key| key.id == key_id) => Err(error),
                Ok(_) | Err(AwsError::NoSuchUser { .. }) => Ok(()), // keys die with their user
                Err(error) => Err(error),
            }
        }
        _ => Err(error),
    }
}
