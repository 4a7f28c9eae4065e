//! An access key that we make: with the journal around it, waited for until AWS knows it, and deleted again.

use std::fmt;
use std::time::Duration;

use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::UserName;
use tokio::time::Instant;

use crate::client::Aws;
use crate::clock::now_ms;
use crate::errors::AwsError;
use crate::journal::{Intent, Journal, OpenEntry, Purpose};
use crate::key_quota::ensure_key_quota;
use crate::lookup::{ListedKey, User, key_facts, keys_of, user_exists};
use crate::non_idempotent::{NotMade, create_access_key};
use crate::record::{Fact, MACHINE, process_start};
use crate::recover::{Found, search};
use crate::wait::{Backoff, Cancel, Timeouts};

/// How often CreateAccessKey is tried where others keep taking the room that we saw.
const LIMIT_TRIES: usize = 5;

/// What [`issue_for_user`] works with.
#[derive(Clone, Copy)]
pub struct Issuer<'a> {
    /// The way to AWS.
    pub aws: &'a Aws,
    /// Who makes and deletes the key.
    pub manager: &'a Credentials,
    /// Name of the manager's profile, for the journal.
    pub manager_profile: &'a str,
    /// Name of the profile that the credentials are for, for the journal.
    pub target_profile: &'a str,
    /// Where the intent is written down first.
    pub journal: &'a Journal,
    /// Hears what is going on.
    pub progress: &'a (dyn Fn(&Progress) + Send + Sync),
    /// The user's wish to stop.
    pub cancel: &'a Cancel,
    /// How long to wait for what.
    pub patience: &'a Timeouts,
}

impl fmt::Debug for Issuer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("manager_profile", &self.manager_profile).finish_non_exhaustive()
    }
}

/// What is going on; `Display` is a line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The user is known to IAM; a key is about to be made.
    MakingKey {
        /// The user.
        user: String,
    },
    /// The user has two keys, one of which another run of ours is about to delete.
    WaitingForRoom {
        /// The user.
        user: String,
    },
    /// The key exists.
    KeyMade {
        /// Its ID.
        key_id: String,
    },
    /// AWS does not know the new key yet.
    WaitingForKey {
        /// Its ID.
        key_id: String,
        /// Time waited so far.
        waited: Duration,
        /// When we give up.
        limit: Duration,
    },
    /// The key is about to be deleted.
    DeletingKey {
        /// Its ID.
        key_id: String,
    },
    /// The delete failed and is tried again.
    DeleteAgain {
        /// Its ID.
        key_id: String,
        /// What AWS or the network said.
        cause: String,
    },
    /// The answer to CreateAccessKey was lost; looking whether a key was made.
    LookingForLostKey {
        /// The user.
        user: String,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakingKey { user } => write!(f, "Making a short-lived access key for '{user}'"),
            Self::WaitingForRoom { user } => {
                write!(f, "Waiting for another run of iam-sorry to delete its key of '{user}'")
            }
            Self::KeyMade { key_id } => write!(f, "Access key {key_id} made"),
            Self::WaitingForKey { key_id, waited, limit } => write!(
                f,
                "Waiting for AWS to accept the new access key {key_id} ({} s of at most {} s)",
                waited.as_secs(),
                limit.as_secs()
            ),
            Self::DeletingKey { key_id } => write!(f, "Deleting access key {key_id}"),
            Self::DeleteAgain { key_id, cause } => {
                write!(f, "Access key {key_id} is not deleted yet, trying again: {cause}")
            }
            Self::LookingForLostKey { user } => {
                write!(f, "The answer to CreateAccessKey was lost; looking whether '{user}' has a new key")
            }
        }
    }
}

/// A permanent key on its way to the disk. Until [`KeptKey::kept`] is called, recovery asks whether the target profile
/// holds it, and deletes it where not. Have passphrases ready before: another machine may take over after 15 minutes.
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
    /// [`AwsError::TakenOver`] where it is not; [`AwsError::Journal`].
    pub fn still_ours(&self) -> Result<(), AwsError> {
        match self.entry.still_ours()? {
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
    /// [`AwsError::KeyLeft`] where the delete can't be confirmed now.
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
            // Another key came in between our look and our request; if it is one of ours, it goes again.
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
    match create(issuer, &user.name, &entry).await {
        Ok(key) => {
            let noted = entry.note(&Fact::KeyId(key.id.clone()));
            let made = KeptKey { key, user: user.name.clone(), of_manager, entry };
            if let Err(error) = noted {
                // The journal can't take the ID, so it can't be trusted with the key: away with it.
                return Err(undo(issuer, made, error).await);
            }
            (issuer.progress)(&Progress::KeyMade { key_id: made.key.id.clone() });
            Ok(made)
        }
        Err(NotMade::Certainly(error)) => {
            entry.clear()?;
            Err(error)
        }
        Err(NotMade::Perhaps(error)) => Err(resolve_lost_answer(issuer, &user.name, entry, error).await),
    }
}

/// One try only: a retry after a lost answer would make a second key.
async fn create(issuer: &Issuer<'_>, user: &UserName, entry: &OpenEntry) -> Result<AccessKey, NotMade> {
    let request = create_access_key(issuer.aws, issuer.manager, user);
    tokio::pin!(request);
    let mut beats: u32 = 0;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut request => break answer,
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                beats += 1;
                // Flushed once a second: after a power cut the time on disk is what counts.
                let beat = entry.heartbeat(beats.is_multiple_of(10));
                drop(beat); // the request is under way; a missed beat only narrows the window
            }
        }
    };
    drop(entry.heartbeat(false));
    answer
}

/// The answer to CreateAccessKey is lost: find out whether there is a key, and delete it if it must be ours.
async fn resolve_lost_answer(
    issuer: &Issuer<'_>,
    user: &UserName,
    entry: OpenEntry,
    cause: AwsError,
) -> AwsError {
    (issuer.progress)(&Progress::LookingForLostKey { user: user.to_string() });
    let path = entry.path().to_owned();
    let left = |cause: AwsError| AwsError::KeyLeft {
        user: user.to_string(),
        key_id: None,
        cause: Box::new(cause),
        why: String::new(),
        entry: path.clone(),
    };
    // Until then a request that is still under way could make its key, and a foreign key might not be listed yet.
    if !issuer.cancel.sleep(issuer.patience.settle).await {
        return left(cause);
    }
    let record = match issuer.journal.reread(&entry) {
        Ok(record) => record,
        Err(_) => return left(cause),
    };
    match search(issuer.journal, &path, issuer.aws, issuer.manager, &record).await {
        Err(_) => left(cause),
        Ok(Found::Nothing) => match entry.clear() {
            Ok(()) => AwsError::AnswerLost {
                user: user.to_string(),
                cause: Box::new(cause),
                found: "IAM lists no new key, so none was made.".into(),
            },
            Err(error) => error,
        },
        Ok(Found::One(key_id)) => match delete_hard(issuer, user, &key_id, entry, &mut None).await {
            Ok(()) => AwsError::AnswerLost {
                user: user.to_string(),
                cause: Box::new(cause),
                found: format!("The key that it made, {key_id}, was found and deleted."),
            },
            Err(error) => error,
        },
        Ok(Found::Several(candidates)) => {
            // Should even this note fail, recovery finds the same keys and writes them down then.
            drop(entry.note(&Fact::Unclear(candidates.clone())));
            AwsError::KeyUnclear { user: user.to_string(), candidates, cause: Box::new(cause), entry: path }
        }
    }
}

/// Repeats a request signed with a new key until AWS knows the key everywhere, or patience ends.
pub(crate) async fn until_valid<T, F>(
    issuer: &Issuer<'_>,
    key: &AccessKey,
    request: impl Fn() -> F,
) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    let limit = issuer.patience.new_key;
    let waiting = |waited| {
        (issuer.progress)(&Progress::WaitingForKey { key_id: key.id.clone(), waited, limit });
    };
    while_unknown(limit, issuer.cancel, waiting, request).await
}

/// Repeats a request for as long as AWS does not know the new key that signs it, up to `limit`.
pub(crate) async fn while_unknown<T, F>(
    limit: Duration,
    cancel: &Cancel,
    waiting: impl Fn(Duration),
    request: impl Fn() -> F,
) -> Result<T, AwsError>
where
    F: Future<Output = Result<T, AwsError>>,
{
    let start = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(4));
    loop {
        let answer = tokio::select! {
            biased;
            answer = request() => answer,
            () = cancel.cancelled() => return Err(AwsError::Interrupted),
        };
        match answer {
            Err(AwsError::InvalidKey { .. }) if start.elapsed() < limit => {}
            answer => return answer,
        }
        let waited = start.elapsed();
        waiting(waited);
        if !cancel.sleep(backoff.delay().min(limit.saturating_sub(waited))).await {
            return Err(AwsError::Interrupted);
        }
    }
}

/// Deletes a key of ours and clears its entry. `after` is the error that led here; where the delete fails too, it is
/// taken and told as the cause.
pub(crate) async fn delete_made_key(
    issuer: &Issuer<'_>,
    made: KeptKey,
    after: &mut Option<AwsError>,
) -> Result<(), AwsError> {
    delete_hard(issuer, &made.user, &made.key.id, made.entry, after).await
}

/// Tries hard, since a key left behind is what we promise not to do.
async fn delete_hard(
    issuer: &Issuer<'_>,
    user: &UserName,
    key_id: &str,
    entry: OpenEntry,
    after: &mut Option<AwsError>,
) -> Result<(), AwsError> {
    (issuer.progress)(&Progress::DeletingKey { key_id: key_id.to_owned() });
    let start = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(8));
    loop {
        let error = match delete_key(issuer.aws, issuer.manager, user, key_id).await {
            Ok(()) => return entry.clear(),
            Err(error) => error,
        };
        let delay = backoff.delay();
        let why = error.brief();
        // A missing permission won't come within seconds; everything else may.
        if error.is_denied() || start.elapsed() + delay > issuer.patience.delete {
            let (cause, why) = match after.take() {
                Some(cause) => (cause, format!(" ({why})")),
                None => (error, String::new()),
            };
            return Err(AwsError::KeyLeft {
                user: user.to_string(),
                key_id: Some(key_id.to_owned()),
                cause: Box::new(cause),
                why,
                entry: entry.path().to_owned(),
            });
        }
        (issuer.progress)(&Progress::DeleteAgain { key_id: key_id.to_owned(), cause: why });
        // Not `cancel.sleep`: the wish to stop does not end the tidying up.
        tokio::time::sleep(delay).await;
    }
}

/// iam:DeleteAccessKey. "No such key" counts only where the user's list agrees: IAM is eventually consistent, and a
/// key made a second ago may not be known everywhere (IAM User Guide, "Changes that I make are not always
/// immediately visible").
pub(crate) async fn delete_key(
    aws: &Aws,
    manager: &Credentials,
    user: &UserName,
    key_id: &str,
) -> Result<(), AwsError> {
    let context = aws.context("iam:DeleteAccessKey", &manager.access_key_id, user.as_str());
    let answer =
        aws.iam(manager).delete_access_key().user_name(user.as_str()).access_key_id(key_id).send().await;
    let error = match answer {
        Ok(_) => return Ok(()),
        Err(error) => context.failed(error),
    };
    match &error {
        AwsError::Refused { code, .. } if code.starts_with("NoSuchEntity") => {
            match keys_of(aws, manager, user).await {
                Ok(keys) if keys.iter().any(|key| key.id == key_id) => Err(error),
                Ok(_) | Err(AwsError::NoSuchUser { .. }) => Ok(()), // keys die with their user
                Err(error) => Err(error),
            }
        }
        _ => Err(error),
    }
}

/// The key goes because of `error`; where even that fails, the error says so too.
pub(crate) async fn undo(issuer: &Issuer<'_>, made: KeptKey, error: AwsError) -> AwsError {
    let mut error = Some(error);
    let deleted = delete_made_key(issuer, made, &mut error).await;
    match (deleted, error) {
        (Ok(()), Some(error)) => error,
        (Ok(()), None) => AwsError::Interrupted, // `after` is taken only where the delete fails
        (Err(left), _) => left,
    }
}
