//! Room for one more access key: IAM allows two a user, and several runs of ours may want one at the same time.

use std::time::Duration;

use iam_sorry_core::names::UserName;
use tokio::time::Instant;

use crate::errors::AwsError;
use crate::journal::{Pending, Purpose, Record, State};
use crate::key::{Issuer, Progress};
use crate::lookup::{ListedKey, key_facts, keys_of};
use crate::wait::Backoff;

/// The user's keys, where there is room for another (IAM allows two). A key in the way that another run of ours holds
/// for a moment, as the journal tells, is waited for.
pub(crate) async fn ensure_key_quota(
    issuer: &Issuer<'_>,
    user: &UserName,
) -> Result<Vec<ListedKey>, AwsError> {
    let Issuer { aws, manager, .. } = *issuer;
    let start = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(4));
    loop {
        let mut entries = issuer.journal.pending()?.entries;
        let keys = keys_of(aws, manager, user).await?;
        if keys.len() < 2 {
            return Ok(keys);
        }
        let in_the_way = |entry: &Pending| {
            let Record { intent, key_id, .. } = &entry.record;
            let passing = intent.purpose == Purpose::Once && entry.state != State::Dead;
            // Without an ID the key is just being made.
            let here = key_id.as_ref().is_none_or(|id| keys.iter().any(|key| key.id == *id));
            passing && here && intent.user == user.as_str()
        };
        // As it was before the list and after: a key is deleted, and its entry gone, a moment after it was listed.
        entries.extend(issuer.journal.pending()?.entries);
        let passing = entries.iter().any(in_the_way);
        if !passing || start.elapsed() > issuer.patience.new_key {
            let keys = key_facts(aws, manager, &keys).await;
            return Err(AwsError::KeyLimit { user: user.to_string(), keys });
        }
        (issuer.progress)(&Progress::WaitingForRoom { user: user.to_string() });
        if !issuer.cancel.sleep(backoff.delay()).await {
            return Err(AwsError::Interrupted);
        }
    }
}
