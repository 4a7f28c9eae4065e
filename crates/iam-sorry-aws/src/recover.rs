//! Finishing what a dead run left: deletes the access key whose ID its journal entry holds, and only that one. A key that was only
//! found is deactivated at most, and a person decides ([`crate::key`]).

use std::time::Duration;

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::Timestamp;

use crate::client::Aws;
use crate::clock::now_ms;
use crate::errors::{AwsError, KeysFound};
use crate::journal::{Entry, JournalFolder, OpenEntry, Pending, Purpose, Record, State};
use crate::kept::{keys_found, note_deactivated};
use crate::key::lost::{Delivered, Standing, Suspect};
use crate::key::{Decided, FoundKey, TakeBackError, decide, is_active, look_again, retire, take_back};
use crate::lookup::caller;
use crate::retry::RetryPolicy;

/// Whether the target profile holds the key that an entry speaks of; the caller looks, since only it can read
/// profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It does: the key is in use and stays.
    Yes,
    /// It does not: nobody has the secret, and the key goes.
    No,
    /// That can't be found out now (the profile is sealed, and nobody is there to open it): the entry stays.
    Unknown,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The key is deleted, or was already gone; the entry is cleared.
    Deleted {
        /// The key.
        key_id: String,
    },
    /// No key was ever made; the entry is cleared.
    NothingMade,
    /// The key is in its profile and stays; the entry is cleared.
    Kept {
        /// The key.
        key_id: String,
    },
    /// Its owner is at work, or may be on another machine; left alone.
    Busy,
    /// Too fresh to be sure what exists; left for a later run.
    TooFresh {
        /// Seconds until it can be decided.
        wait: i64,
    },
    /// Keys were found that may be the entry's. A person must decide; the entry stays until then.
    Found(KeysFound),
    /// What a person has done accounts for every key that was found; the entry is cleared.
    AccountedFor {
        /// Each key, and how it stands.
        keys: Vec<(String, Standing)>,
    },
    /// Whether the key is in its profile can't be found out now; left.
    ProfileUnknown {
        /// The key.
        key_id: String,
    },
    /// These credentials belong to another account than the entry; left.
    OtherAccount {
        /// The account that the entry is about.
        account: String,
        /// The IAM endpoint it was written for, if one was configured.
        endpoint: Option<String>,
    },
    /// Somebody else finished it meanwhile.
    Gone,
}

/// Finishes one entry. For a kept key or a rotation, `stored` says whether the profile holds the key. It is called once the
/// entry is held, so that nobody who stores the key stands between its look and what is done.
///
/// # Errors
/// As any request; the entry stays.
pub async fn recover(
    folder: &JournalFolder,
    entry: &Pending,
    aws: &Aws,
    manager: &Credentials,
    retry: &RetryPolicy,
    stored: &dyn Fn(&Record, &str) -> Stored,
) -> Result<Outcome, AwsError> {
    let held = match hold(folder, entry, aws, manager, retry).await? {
        Ok(held) => held,
        Err(outcome) => return Ok(outcome),
    };
    match held.record.suspects() {
        Some(suspects) => held.follow(suspects).await,
        None => held.finish(stored).await,
    }
}

/// Deletes a key that was found, because a person says so. `Ok(true)`: it was the last that had to be decided about, and the entry
/// is cleared.
///
/// # Errors
/// As any request; [`AwsError::NotTheirKey`] if the entry did not find that key. The entry stays.
pub async fn delete_found(
    folder: &JournalFolder,
    entry: &Pending,
    aws: &Aws,
    manager: &Credentials,
    retry: &RetryPolicy,
    key_id: &str,
) -> Result<bool, AwsError> {
    let Ok(held) = hold(folder, entry, aws, manager, retry).await? else { return Ok(false) };
    if !held.record.found.iter().any(|found| found == key_id) {
        return Err(AwsError::NotTheirKey { user: held.user.to_string(), key_id: key_id.to_owned() });
    }
    held.delete(key_id).await?;
    match held.record.suspects() {
        Some(suspects) => {
            held.follow(suspects).await.map(|done| matches!(done, Outcome::AccountedFor { .. }))
        }
        None => held.open.clear().map(|()| true),
    }
}

/// An entry whose owner is dead, and which this process holds from here on.
struct Held<'a> {
    folder: &'a JournalFolder,
    aws: &'a Aws,
    manager: &'a Credentials,
    /// One try for each request: the next run tries again.
    retry: RetryPolicy,
    open: OpenEntry,
    record: Record,
    user: UserName,
}

/// The entry, or why it is left alone.
async fn hold<'a>(
    folder: &'a JournalFolder,
    entry: &Pending,
    aws: &'a Aws,
    manager: &'a Credentials,
    retry: &RetryPolicy,
) -> Result<Result<Held<'a>, Outcome>, AwsError> {
    if entry.state != State::Dead {
        return Ok(Err(Outcome::Busy));
    }
    let (open, record) = match folder.take(&entry.path) {
        Ok(Some(taken)) => taken,
        Ok(None) => return Ok(Err(Outcome::Gone)),
        Err(AwsError::Journal { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => {
            return Ok(Err(Outcome::Busy));
        }
        Err(error) => return Err(error),
    };
    // It was listed a while ago: what counts is what is true now that this process holds it.
    if JournalFolder::owner_lives(&record) {
        return Ok(Err(Outcome::Busy));
    }
    let intent = &record.intent;
    // In another account every key is "no such entity", which must not pass for "deleted".
    let elsewhere =
        Outcome::OtherAccount { account: intent.account.clone(), endpoint: intent.endpoint.clone() };
    if intent.endpoint != aws.settings().endpoint_iam || caller(aws, manager).await?.account != intent.account
    {
        return Ok(Err(elsewhere));
    }
    let user = UserName::parse(&intent.user)
        .map_err(|e| AwsError::Journal { path: entry.path.clone(), source: std::io::Error::other(e.0) })?;
    let retry = RetryPolicy { delete: Duration::ZERO, ..retry.clone() };
    Ok(Ok(Held { folder, aws, manager, retry, open, record, user }))
}

impl Held<'_> {
    async fn finish(self, stored: &dyn Fn(&Record, &str) -> Stored) -> Result<Outcome, AwsError> {
        let settle = i64::try_from(self.retry.settle.as_millis()).unwrap_or(i64::MAX);
        let wait = self.record.last_sign_ms.saturating_add(settle).saturating_sub(now_ms());
        let attempt = self.record.attempt(wait <= 0);
        let delivered = match (&self.record.key_id, &self.record.intent.purpose) {
            (Some(id), Purpose::Keep | Purpose::Rotate { .. }) => match stored(&self.record, id) {
                Stored::Yes => Delivered::Yes,
                Stored::No => Delivered::No,
                Stored::Unknown => Delivered::Unknown,
            },
            _ => Delivered::No,
        };
        let journal = self.journal();
        let now = Timestamp::EPOCH; // any use of a key that was found is somebody else's
        match decide(self.aws, self.manager, &self.user, &attempt, delivered, now, &journal).await? {
            Decided::TooFresh => Ok(Outcome::TooFresh { wait: wait / 1000 + 1 }),
            Decided::DeliveryUnknown(key_id) => Ok(Outcome::ProfileUnknown { key_id }),
            Decided::Nothing => self.open.clear().map(|()| Outcome::NothingMade),
            Decided::Found(found) => {
                note_deactivated(&self.open, &found);
                Ok(self.found(found))
            }
            Decided::Stays(key_id) => self.keep(key_id).await,
            Decided::Delete(key_id) => {
                self.delete(&key_id).await?;
                self.open.clear().map(|()| Outcome::Deleted { key_id })
            }
        }
    }

    /// The profile holds the key. If it took the place of another one, that one goes now.
    async fn keep(self, key_id: String) -> Result<Outcome, AwsError> {
        if let Purpose::Rotate { old } = &self.record.intent.purpose {
            if !is_active(self.aws, self.manager, &self.user, &key_id, &self.retry).await? {
                // The old key may be all that the user has.
                self.open.clear()?;
                return Ok(Outcome::Deleted { key_id });
            }
            retire(self.aws, self.manager, &self.user, old, &self.retry).await?;
        }
        self.open.clear().map(|()| Outcome::Kept { key_id })
    }

    /// What a person has done about the keys that were found.
    async fn follow(self, suspects: Vec<Suspect>) -> Result<Outcome, AwsError> {
        let standings = look_again(self.aws, self.manager, &self.user, &suspects).await?;
        let all = suspects.into_iter().zip(standings);
        let (undecided, decided): (Vec<_>, Vec<_>) = all.partition(|(_, s)| *s == Standing::Undecided);
        if undecided.is_empty() {
            let keys = decided.into_iter().map(|(suspect, standing)| (suspect.key_id, standing)).collect();
            return self.open.clear().map(|()| Outcome::AccountedFor { keys });
        }
        let found = undecided.into_iter().map(|(suspect, _)| FoundKey { suspect, refused: None });
        Ok(self.found(found.collect()))
    }

    async fn delete(&self, key_id: &str) -> Result<(), AwsError> {
        let journal = self.journal();
        let taken_back =
            take_back(self.aws, self.manager, &self.user, key_id, &journal, &self.retry, |_| {}).await;
        taken_back.map_err(|error| match error {
            TakeBackError::NotNoted(error) | TakeBackError::NotDeleted(error) => error,
        })
    }

    fn found(&self, found: Vec<FoundKey>) -> Outcome {
        Outcome::Found(keys_found(self.user.as_str(), &self.record.intent.manager, found))
    }

    fn journal(&self) -> Entry<'_> {
        Entry { folder: self.folder, open: &self.open, user: self.user.as_str() }
    }
}
