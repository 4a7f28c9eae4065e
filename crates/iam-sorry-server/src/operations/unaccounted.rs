//! Access keys that nobody accounts for: found by the reconciler after a lost answer, and not proved to be the service's own.
//! They are looked at now and then, until somebody has decided.

use std::sync::atomic::Ordering;

use iam_sorry_aws::key::lost::{Standing, Suspect};
use iam_sorry_aws::{AwsError, key};
use iam_sorry_core::audit::{Event, Outcome};
use iam_sorry_core::ids::UserRef;
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_store::{StoreError, UnaccountedKey};

use crate::accounts::handle::AwsHandle;
use crate::error::ServiceError;
use crate::service::Service;

/// The action in the records of their being found, and of their end.
pub(crate) const UNACCOUNTED_KEY: &str = "unaccounted-key";

impl Service {
    /// Looks at each in IAM, and forgets those that are accounted for by now.
    pub(crate) async fn look_after_unaccounted_keys(&self) -> Result<(), ServiceError> {
        let keys = self.store().unaccounted_keys().await?;
        if !keys.is_empty() {
            for key in &keys {
                let handle = self.handle(&key.user.account).await?;
                match accounted_for(&handle, key).await {
                    Ok(Some(how)) => {
                        let id = &key.access_key_id;
                        if self
                            .store()
                            .account_for_key(id, self.accounted(&key.operation, &key.user, id, how))
                            .await?
                        {
                            tracing::info!(
                                key = id,
                                user = %key.user,
                                how,
                                "an access key is accounted for"
                            );
                        }
                    }
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, user = %key.user, "an unaccounted access key"),
                }
            }
        }
        Ok(self.count_unaccounted().await?)
    }

    pub(crate) async fn count_unaccounted(&self) -> Result<(), StoreError> {
        let count = self.store().unaccounted_keys().await?.len();
        self.inner.settling.unaccounted.store(count, Ordering::Relaxed);
        Ok(())
    }

    /// How many keys nobody accounts for, as this instance knew it last: for the metrics.
    pub fn unaccounted_keys(&self) -> usize {
        self.inner.settling.unaccounted.load(Ordering::Relaxed)
    }

    /// The same in words, looked up now: for readiness. It is for an operator to decide, and stops nothing.
    ///
    /// # Errors
    /// In words too, if the database does not answer.
    pub async fn unaccounted_readiness(&self) -> Result<String, String> {
        let keys = self.store().unaccounted_keys().await.map_err(|_| "no answer".to_owned())?;
        Ok(match keys.len() {
            0 => "all accounted for".to_owned(),
            count => format!("{count} unaccounted for; the audit trail names them: action {UNACCOUNTED_KEY}"),
        })
    }

    /// The record of its end.
    pub(crate) fn accounted(&self, operation: &str, user: &UserRef, key: &str, how: &str) -> Event {
        let mut event = self.own_event(UNACCOUNTED_KEY);
        event.operation = Some(operation.to_owned());
        event.resource = user.name.folded();
        event.outcome = Some(Outcome::Success);
        event.details.insert("access-key-id".to_owned(), key.to_owned());
        event.details.insert("accounted-for".to_owned(), how.to_owned());
        event
    }
}

/// How it is accounted for by now; nobody has the secret of a key that is really lost.
async fn accounted_for(handle: &AwsHandle, key: &UnaccountedKey) -> Result<Option<&'static str>, AwsError> {
    let suspect = Suspect {
        key_id: key.access_key_id.clone(),
        deactivated: key.deactivated,
        found: Timestamp::from_unix(key.found_ms.div_euclid(1000)).unwrap_or(Timestamp::EPOCH),
    };
    let (aws, credentials) = handle.pair();
    let standings = key::look_again(aws, credentials, &key.user.name, std::slice::from_ref(&suspect)).await?;
    Ok(standings.into_iter().find_map(Standing::accounted_for))
}
