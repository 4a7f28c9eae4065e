//! What is to become of the old key of a rotation, once the new one is confirmed or the old one's time is over.

use std::time::Duration;

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::lookup::{self, ListedKey};
use iam_sorry_aws::{AwsError, key};
use iam_sorry_core::api::{Change, KeptReason, RotationKey};
use iam_sorry_core::ids::UserRef;
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_store::Rotation;
use tokio::time::Instant;

use crate::accounts::aws_errors::in_use;
use crate::accounts::handle::AwsHandle;
use crate::actions::rotation::{Ended, over};
use crate::actions::user_state::{KNOWN_WITHIN, YOUNG_MS};
use crate::clock::rfc3339;
use crate::operations::acted::Effects;
use crate::service::Service;

/// What is to become of it.
pub(crate) enum OldKey {
    /// Inactive, not used since, and the new key is there.
    Goes,
    Gone,
    Active,
    UsedSince(Timestamp),
    /// Used shortly before it was deactivated.
    JustUsed(KeptReason),
    NewKeyGone,
    NewKeyInactive,
}

impl Service {
    /// The old key goes, unless it must stay. For an operation, and for the reconciler.
    ///
    /// # Errors
    /// As any request to AWS; repeating it goes on from there.
    pub(crate) async fn retire_old_key(
        &self,
        handle: &AwsHandle,
        user: &UserRef,
        rotation: &Rotation,
    ) -> Result<Ended, AwsError> {
        let fate = self.old_key_now(handle, &user.name, rotation).await?;
        if matches!(fate, OldKey::Goes) {
            self.life().may_ask_aws().map_err(|_| AwsError::Interrupted)?;
            let ((aws, credentials), retry) = (handle.pair(), self.actions().retry_policy());
            let old = &rotation.new.old_key;
            key::delete_surely(aws, credentials, &user.name, old, &retry, |_| {}).await?;
        }
        Ok(fate.ended(&self.label(user), rotation))
    }

    /// The user's keys. If the new one was made a moment ago, IAM may not list it yet everywhere, which does not mean that it
    /// is gone.
    pub(crate) async fn keys_of_rotation(
        &self,
        handle: &AwsHandle,
        name: &UserName,
        rotation: &Rotation,
    ) -> Result<Vec<ListedKey>, AwsError> {
        let (start, (aws, credentials)) = (Instant::now(), handle.pair());
        loop {
            // Before the request: this process may stand still after it.
            let (waited, age_ms) = (start.elapsed(), handle.age_ms(rotation.new.since * 1000));
            let keys = lookup::keys_of(aws, credentials, name).await?;
            let old = iam_sorry_core::planted!("young-key-taken-for-gone": true, age_ms.is_some_and(|age| age >= YOUNG_MS) || waited > KNOWN_WITHIN);
            if old || keys.iter().any(|key| key.id == rotation.new.new_key) {
                return Ok(keys);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// What is to become of it, as IAM is now.
    pub(crate) async fn old_key_now(
        &self,
        handle: &AwsHandle,
        name: &UserName,
        rotation: &Rotation,
    ) -> Result<OldKey, AwsError> {
        let (aws, credentials) = handle.pair();
        let keys = self.keys_of_rotation(handle, name, rotation).await?;
        let is_active = |id: &str| keys.iter().find(|key| key.id == id).map(|key| key.active);
        match (is_active(&rotation.new.old_key), is_active(&rotation.new.new_key)) {
            (None, _) => return Ok(OldKey::Gone),
            (Some(true), _) => return Ok(OldKey::Active),
            (Some(false), None) => return Ok(OldKey::NewKeyGone),
            (Some(false), Some(false)) => return Ok(OldKey::NewKeyInactive),
            (Some(false), Some(true)) => {}
        }
        let used = lookup::last_used(aws, credentials, &rotation.new.old_key).await?;
        if let LastUsed::At(at, _) = &used
            && at.unix() > rotation.new.since
        {
            return Ok(OldKey::UsedSince(*at));
        }
        Ok(match in_use(&used, self.clock().now(), self.actions().key_in_use_minutes) {
            Some(reason) => OldKey::JustUsed(reason),
            None => OldKey::Goes,
        })
    }
}

impl OldKey {
    fn ended(self, name: &str, rotation: &Rotation) -> Ended {
        let (old, new) = (&rotation.new.old_key, &rotation.new.new_key);
        let gone = |id: &str| Effects { deleted_keys: vec![id.to_owned()], ..Effects::default() };
        let kept = |active, reason, until| Change::KeyKept {
            user: name.to_string(),
            access_key_id: old.clone(),
            rotation: RotationKey::Old,
            active,
            reason,
            until,
        };
        let (change, mut effects, what) = match self {
            Self::Goes => {
                let rotation = Some(RotationKey::Old);
                (Change::KeyDeleted { access_key_id: old.clone(), rotation }, gone(old), "deleted")
            }
            Self::Gone => (Change::KeyGone { access_key_id: old.clone() }, gone(old), "was gone"),
            Self::Active => (kept(true, KeptReason::Active, None), over(rotation), "active, stays"),
            Self::UsedSince(at) => {
                let reason = KeptReason::UsedSinceRotation { at: at.to_string() };
                (kept(false, reason, None), over(rotation), "used since, stays")
            }
            Self::JustUsed(reason) => {
                let until = rotation.new.delete_after_ms.map(rfc3339);
                (kept(false, reason, until), Effects::default(), "in use until the rotation, stays")
            }
            Self::NewKeyGone => {
                let reason = KeptReason::NewKeyGone { access_key_id: new.clone() };
                (kept(false, reason, None), gone(new), "stays, since the new key is gone")
            }
            Self::NewKeyInactive => {
                let reason = KeptReason::NewKeyInactive { access_key_id: new.clone() };
                (kept(false, reason, None), Effects::default(), "stays, since the new key is inactive")
            }
        };
        effects.details.push(("old-key", what.to_owned()));
        (vec![change], effects)
    }
}
