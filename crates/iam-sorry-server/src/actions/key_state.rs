//! What is known of an IAM user's access keys.

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::{AwsError, lookup};
use iam_sorry_core::api::{KeptReason, ProblemCode};
use iam_sorry_core::ids::UserRef;
use iam_sorry_core::names::UserName;
use iam_sorry_store::NewRotation;

use crate::accounts::aws_errors::in_use;
use crate::error::ServiceError;
use crate::operations::action::Context;

impl Context {
    /// The keys that the user has, if IAM says it now: part of an intent to make one, which made none of these.
    pub(crate) async fn keys_before(&self, name: &UserName) -> Option<Vec<lookup::ListedKey>> {
        let (aws, credentials) = self.handle.pair();
        lookup::keys_of(aws, credentials, name).await.ok()
    }

    /// Whether the user's key is active.
    ///
    /// # Errors
    /// not-found for a key that is not the user's.
    pub(crate) async fn is_active(&self, user: &UserRef, id: &str) -> Result<bool, ServiceError> {
        let (aws, credentials) = self.handle.pair();
        let keys = lookup::keys_of(aws, credentials, &user.name).await.map_err(ServiceError::of_aws)?;
        keys.iter().find(|key| key.id == id).map(|key| key.active).ok_or_else(|| {
            let name = self.label(user);
            ServiceError::new(
                ProblemCode::NotFound,
                format!("{name} has no access key {id}.\nSee its keys: iam-sorry keys list {name}"),
            )
        })
    }

    /// How the key is in use, if it is. AWS may report a use only after a while (IAM API reference,
    /// GetAccessKeyLastUsed), so "not in use" is what AWS knows.
    pub(crate) async fn use_of(&self, id: &str) -> Option<KeptReason> {
        let (aws, credentials) = self.handle.pair();
        let used = lookup::last_used(aws, credentials, id).await.unwrap_or(LastUsed::Unknown);
        in_use(&used, self.service.clock().now(), self.service.actions().key_in_use_minutes)
    }

    /// Whether IAM allows the user one more key: it allows two.
    ///
    /// # Errors
    /// conflict, with what can be done about it.
    pub(crate) async fn check_key_quota(&self, user: &UserRef) -> Result<(), ServiceError> {
        let (aws, credentials) = self.handle.pair();
        let keys = lookup::keys_of(aws, credentials, &user.name).await.map_err(ServiceError::of_aws)?;
        if keys.len() < 2 {
            return Ok(());
        }
        let facts = lookup::key_facts(aws, credentials, &keys).await;
        let label = self.label(user);
        let limit = ServiceError::of_aws(AwsError::KeyLimit { user: label.clone(), keys: facts });
        // A rotation that nobody has confirmed is in the way: there is more to do about it than to delete a key.
        let here = |id: &str| keys.iter().any(|key| key.id == id);
        let rotations = self.service.store().rotations_of(user).await?;
        Err(match rotations.into_iter().find(|found| here(&found.new.old_key) && here(&found.new.new_key)) {
            Some(found) => ServiceError {
                detail: format!("{}\n{}", limit.detail, lost_or_arrived(&label, &found.new)),
                ..limit
            },
            None => limit,
        })
    }

    /// AWS's time, seconds since 1970. If no answer of AWS has said it yet, since this program has just started, AWS is asked:
    /// by this machine's clock, a lost key might not be found again.
    ///
    /// # Errors
    /// AWS does not answer.
    pub(crate) async fn aws_now_by_request(&self) -> Result<i64, ServiceError> {
        let (aws, credentials) = self.handle.pair();
        if aws.server_time().is_none() {
            lookup::caller(aws, credentials).await.map_err(ServiceError::of_aws)?;
        }
        Ok(self.aws_now())
    }

    /// AWS's time after a request to AWS, seconds since 1970.
    pub(crate) fn aws_now(&self) -> i64 {
        self.handle.now(self.service.clock())
    }
}

/// Both ways out of a rotation that nobody has confirmed.
pub(crate) fn lost_or_arrived(name: &str, rotation: &NewRotation) -> String {
    let NewRotation { old_key: old, new_key: new, .. } = rotation;
    format!(
        "{new} takes the place of {old}, which is still there.\nIf the secret of {new} was lost, take the rotation back: \
         iam-sorry keys restore {name} {old}\nIf it has arrived, confirm it: iam-sorry keys confirm {name} {new}"
    )
}

/// The ids of the keys.
pub(crate) fn ids(keys: &[lookup::ListedKey]) -> Vec<String> {
    keys.iter().map(|key| key.id.clone()).collect()
}

/// An access key ID: 16 to 128 letters and digits (IAM API reference, AccessKey).
pub(crate) fn key_id(text: &str) -> Result<String, ServiceError> {
    if (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(text.to_owned());
    }
    Err(ServiceError::new(
        ProblemCode::InvalidName,
        "That can't be an access key ID: 16 to 128 letters and digits, such as AKIAIOSFODNN7EXAMPLE.",
    ))
}
