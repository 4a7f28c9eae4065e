//! Replacing a permanent access key: the new one is made, proved to work and stored before the old one is touched.
//!
//! The journal entry names both keys. Whoever dies in between leaves it to [`crate::recover`], which looks into the
//! profile: is the new key there, the old one goes; is it not, the new one goes. The key in use is never deleted.

use std::time::Duration;

use aws_sdk_iam::types::StatusType;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::UserName;
use tokio::time::Instant;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::issue::check_identity;
use crate::journal::Purpose;
use crate::key::{Issuer, KeptKey, delete_key, make_key, undo, until_valid};
use crate::lookup::{caller, keys_of};

/// A new key that works, next to the old one that it will replace.
#[derive(Debug)]
pub struct Rotation {
    new: KeptKey,
    old: String,
}

/// Makes a new key for `user` and proves that it is the user's.
///
/// # Errors
/// [`AwsError::NotTheirKey`] where `old` is not the user's, [`AwsError::KeyLimit`] where there is no room for a new
/// one; otherwise as [`crate::issue::issue_for_user`]. The old key is untouched and the new one deleted.
pub async fn start(issuer: &Issuer<'_>, user: &UserName, old: &str) -> Result<Rotation, AwsError> {
    let (_, new) = make_key(issuer, user, Purpose::Rotate { old: old.to_owned() }).await?;
    let credentials = Credentials::from(new.key().clone());
    let proof = until_valid(issuer, new.key(), || caller(issuer.aws, &credentials)).await;
    match proof.and_then(|caller| check_identity(&caller, &new.user)) {
        Ok(()) => Ok(Rotation { new, old: old.to_owned() }),
        Err(error) => Err(undo(issuer, new, error).await),
    }
}

impl Rotation {
    /// The new key, to be stored in the place of the old one.
    pub fn key(&self) -> &AccessKey {
        self.new.key()
    }

    /// Whether the new key is still this run's to store; asked right before.
    ///
    /// # Errors
    /// [`AwsError::TakenOver`], [`AwsError::Journal`]: don't store it.
    pub fn still_ours(&self) -> Result<(), AwsError> {
        self.new.still_ours()
    }

    /// That the new key, which is stored by now, is still there: else the old one must not be touched.
    ///
    /// # Errors
    /// [`AwsError::TakenOver`]; otherwise as any request.
    pub async fn still_there(&self, issuer: &Issuer<'_>) -> Result<(), AwsError> {
        self.new.still_ours()?;
        let Issuer { aws, manager, patience, .. } = *issuer;
        match is_active(aws, manager, &self.new.user, &self.new.key().id, patience.settle).await? {
            true => Ok(()),
            false => Err(self.new.taken_over()),
        }
    }

    /// The new key is safely stored: deactivates and deletes the old one.
    ///
    /// # Errors
    /// [`AwsError::OldKeyLeft`]; the entry stays, and recovery tries again.
    pub async fn stored(self, issuer: &Issuer<'_>) -> Result<(), AwsError> {
        // A user who rotates the key that signs must go on with the new one: the old can't delete itself once inactive.
        let own;
        let signer = if issuer.manager.access_key_id == self.old {
            own = Credentials::from(self.new.key().clone());
            &own
        } else {
            issuer.manager
        };
        let user = self.new.user.clone();
        let retired =
            until_valid(issuer, self.new.key(), || retire(issuer.aws, signer, &user, &self.old)).await;
        match retired {
            Ok(()) => self.new.kept(),
            Err(cause) => {
                Err(AwsError::OldKeyLeft { user: user.to_string(), key_id: self.old, cause: Box::new(cause) })
            }
        }
    }

    /// The new key could not be stored: deletes it; the old one is untouched.
    ///
    /// # Errors
    /// [`AwsError::KeyLeft`] where the delete can't be confirmed now.
    pub async fn discard(self, issuer: &Issuer<'_>) -> Result<(), AwsError> {
        self.new.discard(issuer).await
    }
}

/// Whether the user has this key and may sign with it. A key that was made a moment ago may not be listed everywhere for up
/// to `settle`.
pub(crate) async fn is_active(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    key_id: &str,
    settle: Duration,
) -> Result<bool, AwsError> {
    let start = Instant::now();
    loop {
        let keys = keys_of(aws, signer, user).await?;
        match keys.iter().find(|key| key.id == key_id) {
            Some(key) => return Ok(key.active),
            None if start.elapsed() > settle => return Ok(false),
            None => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// Inactive first: from then on nothing can be signed with it, even where the delete fails.
pub(crate) async fn retire(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    key_id: &str,
) -> Result<(), AwsError> {
    let context = aws.context("iam:UpdateAccessKey", &signer.access_key_id, user.as_str());
    let request = aws.iam(signer).update_access_key().user_name(user.as_str()).access_key_id(key_id);
    match request.status(StatusType::Inactive).send().await.map_err(|e| context.failed(e)) {
        Ok(_) => {}
        Err(AwsError::Refused { code, .. }) if code.starts_with("NoSuchEntity") => {}
        Err(error) => return Err(error),
    }
    let mut tries = 0;
    loop {
        match delete_key(aws, signer, user, key_id).await {
            Err(error) if !error.is_denied() && tries < 3 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(500 << tries)).await;
            }
            done => return done,
        }
    }
}
