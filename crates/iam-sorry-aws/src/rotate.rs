//! Replacing a permanent access key: the new one is made, proved to work and stored before the old one is touched.
//!
//! The journal entry names both keys. Whoever dies in between leaves it to [`crate::recover`], which looks into the
//! profile: if the new key is there, the old one goes; otherwise the new one goes. The key in use is never deleted.

use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::UserName;

use crate::errors::AwsError;
use crate::issuer::Issuer;
use crate::journal::Purpose;
use crate::kept::{KeptKey, make_key, undo, until_valid};
use crate::key::{is_active, retire};
use crate::lookup::caller;
use crate::session::check_identity;

/// A new key that works, next to the old one that it will replace.
#[derive(Debug)]
pub struct Rotation {
    new: KeptKey,
    old: String,
}

/// Makes a new key for `user` and proves that it is the user's.
///
/// # Errors
/// [`AwsError::NotTheirKey`] if `old` is not the user's, [`AwsError::KeyLimit`] if IAM allows no further key; otherwise as [`crate::issue::issue_for_user`]. The old key is untouched and the new one deleted.
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

    /// Whether the new key is still this run's to store: to be called right before it is stored.
    ///
    /// # Errors
    /// [`AwsError::TakenOver`], [`AwsError::Journal`]: don't store it.
    pub fn still_held(&self) -> Result<(), AwsError> {
        self.new.still_held()
    }

    /// That the new key, which is stored by now, is still there: else the old one must not be touched.
    ///
    /// # Errors
    /// [`AwsError::TakenOver`]; otherwise as any request.
    pub async fn still_there(&self, issuer: &Issuer<'_>) -> Result<(), AwsError> {
        self.new.still_held()?;
        let Issuer { aws, manager, retry, .. } = *issuer;
        match is_active(aws, manager, &self.new.user, &self.new.key().id, retry).await? {
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
        let retired = until_valid(issuer, self.new.key(), || {
            retire(issuer.aws, signer, &user, &self.old, issuer.retry)
        })
        .await;
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
    /// [`AwsError::KeyLeft`] if the delete can't be confirmed now.
    pub async fn discard(self, issuer: &Issuer<'_>) -> Result<(), AwsError> {
        self.new.discard(issuer).await
    }
}
