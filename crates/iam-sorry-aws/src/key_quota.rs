//! Whether the user may have one more access key: IAM allows two, and several runs may want one at the same time.

use iam_sorry_core::names::UserName;

use crate::errors::AwsError;
use crate::issuer::{Issuer, Progress};
use crate::journal::{Pending, Purpose, Record, State};
use crate::lookup::{ListedKey, key_facts, keys_of};

/// The user's keys, if IAM allows one more. A key in the way that another run holds for a moment, as the journal says, is
/// waited for.
///
/// # Errors
/// [`AwsError::KeyLimit`], [`AwsError::Interrupted`]; otherwise as any request, and as the journal.
pub(crate) async fn ensure_key_quota(
    issuer: &Issuer<'_>,
    user: &UserName,
) -> Result<Vec<ListedKey>, AwsError> {
    let Issuer { aws, manager, .. } = *issuer;
    let mut tries = issuer.retry.tries(issuer.retry.new_key);
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
        let Some(pause) = tries.pause().filter(|_| passing) else {
            let keys = key_facts(aws, manager, &keys).await;
            return Err(AwsError::KeyLimit { user: user.to_string(), keys });
        };
        (issuer.progress)(&Progress::WaitingForRoom { user: user.to_string() });
        if !issuer.cancel.sleep(pause).await {
            return Err(AwsError::Interrupted);
        }
    }
}
