//! An access key that is made for a user: with the journal around it, waited for until AWS knows it, and deleted again.

use iam_sorry_core::credentials::AccessKey;
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::Timestamp;

use crate::clock::now_ms;
use crate::errors::{AwsError, KeysFound};
use crate::issuer::{Issuer, Progress};
use crate::journal::{Entry, Fact, Intent, MACHINE, OpenEntry, Purpose, process_start};
use crate::key::lost::Delivered;
use crate::key::{Decided, FoundKey, MakeError, TakeBackError, decide, make, take_back, while_unknown};
use crate::key_quota::ensure_key_quota;
use crate::lookup::{ListedKey, User, key_facts, user_exists};

/// How often CreateAccessKey is tried if others keep taking the place that was free.
const LIMIT_TRIES: usize = 5;

/// A permanent key on its way to the disk. Until [`KeptKey::kept`] is called, recovery deletes it unless the target profile
/// holds it. Have passphrases ready before: another machine may take over after 15 minutes.
#[derive(Debug)]
pub struct KeptKey {
    pub(crate) key: AccessKey,
    pub(crate) user: UserName,
    /// The user already holds the key that the manager signs with.
    pub(crate) of_manager: bool,
    entry: OpenEntry,
}

impl KeptKey {
    /// The key to store.
    pub fn key(&self) -> &AccessKey {
        &self.key
    }

    /// The key is safely stored: forget that it may have to go.
    ///
    /// # Errors
    /// [`AwsError::Journal`]; the key is still fine, recovery finds it in the profile.
    pub fn kept(self) -> Result<(), AwsError> {
        self.entry.clear()
    }

    /// A sign of life, and whether the key is still this run's to store: another machine may have taken the run for dead
    /// while it stood still, and deleted the key.
    ///
    /// # Errors
    /// [`AwsError::TakenOver`] if it is not; [`AwsError::Journal`].
    pub fn still_held(&self) -> Result<(), AwsError> {
        match self.entry.still_held()? {
            true => Ok(()),
            false => Err(self.taken_over()),
        }
    }

    pub(crate) fn taken_over(&self) -> AwsError {
        AwsError::TakenOver { user: self.user.to_string(), key_id: self.key.id.clone() }
    }

    /// The key could not be stored: delete it.
    ///
    /// # Errors
    /// [`AwsError::KeyLeft`] if the delete can't be confirmed now.
    pub async fn discard(self, issuer: &Issuer<'_>) -> Result<(), AwsError> {
        delete_made_key(issuer, self, &mut None).await
    }
}

/// Makes a key for the user with the journal around it: the intent on disk before, the ID as soon as it is known.
pub(crate) async fn make_key(
    issuer: &Issuer<'_>,
    user: &UserName,
    purpose: Purpose,
) -> Result<(User, KeptKey), AwsError> {
    let Issuer { aws, manager, .. } = *issuer;
    let user = issuer.cancel.unless(user_exists(aws, manager, user)).await?;
    let mut before = issuer.cancel.unless(ensure_key_quota(issuer, &user.name)).await?;
    if let Purpose::Rotate { old } = &purpose
        && !before.iter().any(|key| key.id == *old)
    {
        return Err(AwsError::NotTheirKey { user: user.name.to_string(), key_id: old.clone() });
    }
    for _ in 0..LIMIT_TRIES {
        match make_once(issuer, &user, &purpose, before).await {
            // Another key came between the look and the request; one of another run's goes again.
            Err(AwsError::Refused { code, .. }) if code.starts_with("LimitExceeded") => {
                before = issuer.cancel.unless(ensure_key_quota(issuer, &user.name)).await?;
            }
            made => return Ok((user, made?)),
        }
    }
    let keys = key_facts(aws, manager, &before).await;
    Err(AwsError::KeyLimit { user: user.name.to_string(), keys })
}

async fn make_once(
    issuer: &Issuer<'_>,
    user: &User,
    purpose: &Purpose,
    before: Vec<ListedKey>,
) -> Result<KeptKey, AwsError> {
    if issuer.cancel.is_cancelled() {
        return Err(AwsError::Interrupted);
    }
    (issuer.progress)(&Progress::MakingKey { user: user.name.to_string() });
    let intent = Intent {
        version: 1,
        user: user.name.to_string(),
        account: user.arn.account.clone(),
        partition: user.arn.partition.clone(),
        region: issuer.aws.settings().region.clone(),
        endpoint: issuer.aws.settings().endpoint_iam.clone(),
        manager: issuer.manager_profile.to_owned(),
        target: issuer.target_profile.to_owned(),
        purpose: purpose.clone(),
        host: MACHINE.host.clone(),
        pid: std::process::id(),
        process_start: process_start(std::process::id()),
        boot_id: MACHINE.boot_id.clone(),
        at_ms: now_ms(),
        aws_ahead: issuer.aws.clock_offset().unwrap_or(0),
        keys_before: before.into_iter().map(|key| key.id).collect(),
    };
    let of_manager = intent.keys_before.contains(&issuer.manager.access_key_id);
    let entry = issuer.journal.begin(intent)?;
    let journal = Entry { folder: issuer.journal, open: &entry, user: user.name.as_str() };
    match make(issuer.aws, issuer.manager, &user.name, &journal).await {
        Ok(key) => {
            (issuer.progress)(&Progress::KeyMade { key_id: key.id.clone() });
            Ok(KeptKey { key, user: user.name.clone(), of_manager, entry })
        }
        Err(MakeError::NotNoted(key, error)) => {
            // The journal can't take the ID, so it can't be trusted with the key.
            let made = KeptKey { key, user: user.name.clone(), of_manager, entry };
            Err(undo(issuer, made, error).await)
        }
        Err(MakeError::NotMade(error)) => {
            entry.clear()?;
            Err(error)
        }
        Err(MakeError::Lost(error)) => Err(after_lost_answer(issuer, &user.name, entry, error).await),
    }
}

/// The answer to CreateAccessKey is lost: looks whether there is a key, which is then deactivated, or only shown.
async fn after_lost_answer(
    issuer: &Issuer<'_>,
    user: &UserName,
    entry: OpenEntry,
    cause: AwsError,
) -> AwsError {
    (issuer.progress)(&Progress::LookingForLostKey { user: user.to_string() });
    let left = |cause: AwsError| AwsError::KeyLeft {
        user: user.to_string(),
        key_id: None,
        cause: Box::new(cause),
        why: String::new(),
        entry: entry.path().to_owned(),
    };
    // Until then a request that is still under way could make its key, and a foreign key might not be listed yet.
    if !issuer.cancel.sleep(issuer.retry.settle).await {
        return left(cause);
    }
    let decided = match entry.reread() {
        Ok(record) => {
            let journal = Entry { folder: issuer.journal, open: &entry, user: user.as_str() };
            let (attempt, now) = (record.attempt(true), Timestamp::EPOCH);
            decide(issuer.aws, issuer.manager, user, &attempt, Delivered::No, now, &journal).await
        }
        Err(error) => Err(error),
    };
    match decided {
        Ok(Decided::Nothing) => match entry.clear() {
            Ok(()) => AwsError::AnswerLost { user: user.to_string(), cause: Box::new(cause) },
            Err(error) => error,
        },
        Ok(Decided::Found(found)) => {
            note_deactivated(&entry, &found);
            let found = Box::new(keys_found(user.as_str(), issuer.manager_profile, found));
            AwsError::KeyFound { found, cause: Box::new(cause), entry: entry.path().to_owned() }
        }
        // The ID of this entry's key is not known, and the time is over: nothing else is decided.
        Ok(_) | Err(_) => left(cause),
    }
}

/// That they are inactive. If even this can't be written, the next run deactivates them once more.
pub(crate) fn note_deactivated(entry: &OpenEntry, found: &[FoundKey]) {
    for key in found.iter().filter(|key| key.suspect.deactivated) {
        drop(entry.note(&Fact::Deactivated(key.suspect.key_id.clone())));
    }
}

/// The keys for a person to decide about.
pub(crate) fn keys_found(user: &str, manager: &str, found: Vec<FoundKey>) -> KeysFound {
    KeysFound {
        user: user.to_owned(),
        manager: manager.to_owned(),
        deactivated: found.len() == 1 && found.iter().all(|key| key.suspect.deactivated),
        refused: found.iter().find_map(|key| key.refused.as_ref().map(ToString::to_string)),
        keys: found.into_iter().map(|key| key.suspect.key_id).collect(),
    }
}

/// Repeats a request that is signed with a new key until AWS knows the key everywhere, or the time for that is over.
pub(crate) async fn until_valid<T, F>(
    issuer: &Issuer<'_>,
    key: &AccessKey,
    request: impl Fn() -> F,
) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    let limit = issuer.retry.new_key;
    let waiting = |waited| {
        (issuer.progress)(&Progress::WaitingForKey { key_id: key.id.clone(), waited, limit });
    };
    while_unknown(issuer.retry, Some(issuer.cancel), waiting, request).await
}

/// Deletes a key that was made here and clears its entry. `after` is the error that led here; if the delete fails too, that
/// error is taken, as the cause.
pub(crate) async fn delete_made_key(
    issuer: &Issuer<'_>,
    made: KeptKey,
    after: &mut Option<AwsError>,
) -> Result<(), AwsError> {
    let KeptKey { key, user, entry, .. } = made;
    (issuer.progress)(&Progress::DeletingKey { key_id: key.id.clone() });
    let again = |cause: &AwsError| {
        (issuer.progress)(&Progress::DeleteAgain { key_id: key.id.clone(), cause: cause.brief() });
    };
    let journal = Entry { folder: issuer.journal, open: &entry, user: user.as_str() };
    let taken_back =
        take_back(issuer.aws, issuer.manager, &user, &key.id, &journal, issuer.retry, again).await;
    let error = match taken_back {
        Ok(()) => return entry.clear(),
        Err(TakeBackError::NotNoted(error) | TakeBackError::NotDeleted(error)) => error,
    };
    let (cause, why) = match after.take() {
        Some(cause) => (cause, format!(" ({})", error.brief())),
        None => (error, String::new()),
    };
    Err(AwsError::KeyLeft {
        user: user.to_string(),
        key_id: Some(key.id),
        cause: Box::new(cause),
        why,
        entry: entry.path().to_owned(),
    })
}

/// Deletes the key because of `error`; if even that fails, the error says so too.
pub(crate) async fn undo(issuer: &Issuer<'_>, made: KeptKey, error: AwsError) -> AwsError {
    let mut error = Some(error);
    let deleted = delete_made_key(issuer, made, &mut error).await;
    match (deleted, error) {
        (Ok(()), Some(error)) => error,
        (Ok(()), None) => AwsError::Interrupted, // `after` is taken only if the delete fails
        (Err(left), _) => left,
    }
}
