//! Finding a key that was perhaps made, and following what a person decides about it: the requests around [`super::lost`].

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::Timestamp;

use crate::client::Aws;
use crate::errors::{AwsError, LastUsed};
use crate::key::journal::Journal;
use crate::key::lost::{
    Attempt, Candidate, Delivered, Fate, FirstUse, Standing, Suspect, fate, may_be_it, standing,
};
use crate::key::status::set_active;
use crate::lookup::{ListedKey, keys_of, last_used};

/// A key that an attempt may have made. A person must decide about it.
#[derive(Debug)]
pub struct FoundKey {
    /// The key, as it was written down; `deactivated` says how it is.
    pub suspect: Suspect,
    /// Why it could not be deactivated, although it fitted alone: the signer is not allowed to.
    pub refused: Option<AwsError>,
}

/// What is to become of the key of an attempt that nobody is at work on any more.
#[derive(Debug)]
pub enum Decided {
    /// The key was delivered: it stays.
    Stays(String),
    /// The journal proves that the key is the program's, and nobody has its secret: delete it.
    Delete(String),
    /// Whether this key was delivered can't be found out now: do nothing.
    DeliveryUnknown(String),
    /// It is too early to decide: do nothing.
    TooFresh,
    /// No key was made.
    Nothing,
    /// A person decides about these.
    Found(Vec<FoundKey>),
}

/// Decides by [`fate`]; if the key's ID is not known, looks for it in IAM first, and deactivates a key that fits alone. `now` is
/// AWS's time.
///
/// # Errors
/// As any request, and as the journal; nothing is final then, and the next look goes on from there.
pub async fn decide<J: Journal>(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    attempt: &Attempt<'_>,
    delivered: Delivered,
    now: Timestamp,
    journal: &J,
) -> Result<Decided, J::Error> {
    let candidates = match attempt.key_id.is_none() && attempt.settled {
        true => candidates(aws, signer, user, attempt, journal).await?,
        false => Vec::new(),
    };
    // A program that uses no key before it has noted it knows every use to be somebody else's.
    let found = if attempt.first_use == FirstUse::AfterNote { Timestamp::EPOCH } else { now };
    Ok(match fate(attempt, delivered, &candidates) {
        Fate::Stays(id) => Decided::Stays(id),
        Fate::Delete(id) => Decided::Delete(id),
        Fate::DeliveryUnknown(id) => Decided::DeliveryUnknown(id),
        Fate::TooFresh => Decided::TooFresh,
        Fate::Nothing => Decided::Nothing,
        Fate::Deactivate(key_id) => {
            iam_sorry_core::planted!("found-key-deleted": return Ok(Decided::Delete(key_id)));
            let mut suspect = Suspect { key_id, deactivated: true, found };
            journal.note_found(std::slice::from_ref(&suspect)).await?;
            let is_active =
                |candidate: &Candidate| candidate.key.id == suspect.key_id && candidate.key.active;
            let refused = match candidates.iter().any(is_active) {
                true => deactivate(aws, signer, user, &suspect.key_id).await?,
                false => None,
            };
            suspect.deactivated = refused.is_none();
            Decided::Found(vec![FoundKey { suspect, refused }])
        }
        Fate::Show(ids) => {
            let suspects: Vec<Suspect> =
                ids.into_iter().map(|key_id| Suspect { key_id, deactivated: false, found }).collect();
            journal.note_found(&suspects).await?;
            let shown = suspects.into_iter().map(|suspect| FoundKey { suspect, refused: None });
            Decided::Found(shown.collect())
        }
    })
}

async fn candidates<J: Journal>(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    attempt: &Attempt<'_>,
    journal: &J,
) -> Result<Vec<Candidate>, J::Error> {
    let listed = keys_or_none(aws, signer, user).await?;
    let fitting: Vec<ListedKey> = listed.into_iter().filter(|key| may_be_it(attempt, key)).collect();
    if fitting.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<String> = fitting.iter().map(|key| key.id.clone()).collect();
    let accounted_for = journal.accounted_for(&ids).await?;
    let mut candidates = Vec::with_capacity(fitting.len());
    for key in fitting {
        let used = last_used(aws, signer, &key.id).await?;
        let accounted_for = accounted_for.contains(&key.id);
        candidates.push(Candidate { key, used, accounted_for });
    }
    Ok(candidates)
}

/// The refusal, if AWS does not let this signer: then a person has to.
async fn deactivate(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    key_id: &str,
) -> Result<Option<AwsError>, AwsError> {
    match set_active(aws, signer, user, key_id, false).await {
        Ok(()) => Ok(None),
        Err(error) if error.is_denied() => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// How keys that an earlier look found stand now, in the same order.
///
/// # Errors
/// As any request.
pub async fn look_again(
    aws: &Aws,
    signer: &Credentials,
    user: &UserName,
    suspects: &[Suspect],
) -> Result<Vec<Standing>, AwsError> {
    let listed = keys_or_none(aws, signer, user).await?;
    let mut standings = Vec::with_capacity(suspects.len());
    for suspect in suspects {
        let key = listed.iter().find(|key| key.id == suspect.key_id);
        let mut used = LastUsed::Unknown;
        if !suspect.deactivated && key.is_some() {
            used = last_used(aws, signer, &suspect.key_id).await?;
        }
        standings.push(standing(suspect, key, &used));
    }
    Ok(standings)
}

/// Keys die with their user.
async fn keys_or_none(aws: &Aws, signer: &Credentials, user: &UserName) -> Result<Vec<ListedKey>, AwsError> {
    match keys_of(aws, signer, user).await {
        Err(AwsError::NoSuchUser { .. }) => Ok(Vec::new()),
        listed => listed,
    }
}
