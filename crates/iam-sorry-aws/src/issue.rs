//! Temporary credentials: from a user's own key, for a user through a manager, and for a role.
//!
//! For a user through a manager at most six requests: GetUser, ListAccessKeys, CreateAccessKey, GetSessionToken,
//! DeleteAccessKey, GetCallerIdentity. The number does not grow with the account. See [`crate::journal`] for what
//! happens when we die between any two of them.

use std::fmt;
use std::time::Duration;

use aws_sdk_iam::config::retry::RetryConfig;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{CallerArn, SessionDuration, UserName};
use iam_sorry_core::timestamp::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::client::Aws;
use crate::errors::AwsError;
use crate::journal::{Intent, Journal, OpenEntry, Purpose, now_ms};
use crate::lookup::{User, caller, describe, key_facts, keys_of, user_exists};
use crate::record::{Fact, MACHINE, process_start};
use crate::recover::{Found, search};
use crate::wait::{Backoff, Cancel, Patience};

/// A code of an MFA device.
#[derive(Clone, Debug)]
pub struct Mfa {
    /// Serial number or ARN of the device.
    pub serial: String,
    /// The six digits it shows.
    pub code: SecretString,
}

/// Temporary credentials, and whose they are as AWS says.
#[derive(Clone, Debug)]
pub struct Session {
    /// The credentials, with their expiry.
    pub credentials: Credentials,
    /// What sts:GetCallerIdentity answers to them.
    pub caller: CallerArn,
}

/// A session of the user who owns `key` (sts:GetSessionToken; needs no permission). Two requests.
///
/// # Errors
/// [`AwsError::WrongIdentity`] where the key is not `expected`'s; [`AwsError::MfaWrong`]; otherwise as any request.
pub async fn session_from_key(
    aws: &Aws,
    key: &AccessKey,
    duration: SessionDuration,
    mfa: Option<&Mfa>,
    expected: Option<&UserName>,
) -> Result<Session, AwsError> {
    let credentials = session_token(aws, key, duration, mfa).await?;
    let caller = caller(aws, &credentials).await?;
    match expected {
        Some(user) => check_identity(&caller, user)?,
        None => {}
    }
    Ok(Session { credentials, caller })
}

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
    pub patience: &'a Patience,
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

/// What [`issue_for_user`] gives.
#[derive(Debug)]
pub struct Issued {
    /// The user's temporary credentials.
    pub credentials: Credentials,
    /// The user, in IAM's spelling.
    pub user: User,
    /// The key, where it was asked to be kept. Store it, then call [`KeptKey::kept`].
    pub kept: Option<KeptKey>,
}

/// A permanent key on its way to the disk. Until [`KeptKey::kept`] is called, recovery asks whether the target profile
/// holds it, and deletes it where not. Have passphrases ready before: another machine may take over after 15 minutes.
#[derive(Debug)]
pub struct KeptKey {
    key: AccessKey,
    entry: OpenEntry,
    user: UserName,
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

    /// The key could not be stored: delete it.
    ///
    /// # Errors
    /// [`AwsError::KeyLeft`] where the delete can't be confirmed now.
    pub async fn discard(self, issuer: &Issuer<'_>) -> Result<(), AwsError> {
        delete_made_key(issuer, &self.user, &self.key.id, self.entry, &mut None).await
    }
}

/// Temporary credentials that are `user`'s own, with a key that exists only for as long as it takes (or stays, with
/// `keep_key`).
///
/// # Errors
/// [`AwsError::NoSuchUser`], [`AwsError::KeyLimit`] (no key touched), [`AwsError::Interrupted`] (key deleted),
/// [`AwsError::AnswerLost`], [`AwsError::SessionRefusedAfterDelete`], [`AwsError::KeyLeft`] where the key may still
/// exist; otherwise as any request, with the key deleted.
pub async fn issue_for_user(
    issuer: &Issuer<'_>,
    user: &UserName,
    duration: SessionDuration,
    keep_key: bool,
) -> Result<Issued, AwsError> {
    let purpose = if keep_key { Purpose::Keep } else { Purpose::Once };
    let (user, made) = make_key(issuer, user, purpose).await?;
    let result = first_session(issuer, &made.key, duration).await;
    let (key_id, name) = (made.key.id.clone(), user.name.clone());
    let credentials = match result {
        Ok(credentials) => credentials,
        Err(error) => return Err(undo(issuer, made, error).await),
    };
    if keep_key {
        return match confirm(issuer, &credentials, &name).await {
            Ok(()) => Ok(Issued { credentials, user, kept: Some(made) }),
            Err(error) => Err(undo(issuer, made, error).await),
        };
    }
    delete_made_key(issuer, &name, &key_id, made.entry, &mut None).await?;
    // AWS documents that a session outlives the key that made it; a refusal is reported, not written down as success.
    confirm(issuer, &credentials, &name).await.map_err(|e| match e {
        e @ (AwsError::WrongIdentity { .. } | AwsError::Interrupted) => e,
        cause => AwsError::SessionRefusedAfterDelete { user: name.to_string(), cause: Box::new(cause) },
    })?;
    Ok(Issued { credentials, user, kept: None })
}

/// Makes a key for the user with the journal around it: the intent on disk before, the ID as soon as it is known.
pub(crate) async fn make_key(
    issuer: &Issuer<'_>,
    user: &UserName,
    purpose: Purpose,
) -> Result<(User, KeptKey), AwsError> {
    let Issuer { aws, manager, .. } = *issuer;
    let user = user_exists(aws, manager, user).await?;
    let before = keys_of(aws, manager, &user.name).await?;
    if before.len() >= 2 {
        let keys = key_facts(aws, manager, &before).await;
        return Err(AwsError::KeyLimit { user: user.name.to_string(), keys });
    }
    if issuer.cancel.is_cancelled() {
        return Err(AwsError::Interrupted);
    }
    (issuer.progress)(&Progress::MakingKey { user: user.name.to_string() });
    let intent = Intent {
        version: 1,
        user: user.name.to_string(),
        account: user.arn.account.clone(),
        partition: user.arn.partition.clone(),
        region: aws.settings().region.clone(),
        endpoint: aws.settings().endpoint_iam.clone(),
        manager: issuer.manager_profile.to_owned(),
        target: issuer.target_profile.to_owned(),
        purpose,
        host: MACHINE.host.clone(),
        pid: std::process::id(),
        process_start: process_start(std::process::id()),
        boot_id: MACHINE.boot_id.clone(),
        at_ms: now_ms(),
        aws_ahead: aws.clock_offset().unwrap_or(0),
        keys_before: before.into_iter().map(|key| key.id).collect(),
    };
    let entry = issuer.journal.begin(intent)?;
    match create(issuer, &user.name, &entry).await {
        Ok(key) => {
            if let Err(error) = entry.note(&Fact::KeyId(key.id.clone())) {
                // The journal can't take the ID, so it can't be trusted with the key: away with it.
                delete_made_key(issuer, &user.name, &key.id, entry, &mut None).await?;
                return Err(error);
            }
            (issuer.progress)(&Progress::KeyMade { key_id: key.id.clone() });
            let name = user.name.clone();
            Ok((user, KeptKey { key, entry, user: name }))
        }
        Err(NotMade::Certainly(error)) => {
            entry.clear()?;
            Err(match error {
                AwsError::Refused { code, .. } if code.starts_with("LimitExceeded") => {
                    let keys = keys_of(aws, manager, &user.name).await?;
                    let keys = key_facts(aws, manager, &keys).await;
                    AwsError::KeyLimit { user: user.name.to_string(), keys }
                }
                error => error,
            })
        }
        Err(NotMade::Perhaps(error)) => Err(resolve_lost_answer(issuer, &user.name, entry, error).await),
    }
}

enum NotMade {
    Certainly(AwsError),
    Perhaps(AwsError),
}

/// One try only: a retry after a lost answer would make a second key.
async fn create(issuer: &Issuer<'_>, user: &UserName, entry: &OpenEntry) -> Result<AccessKey, NotMade> {
    let Issuer { aws, manager, .. } = *issuer;
    let asked = aws.asked("iam:CreateAccessKey", &manager.access_key_id, user.as_str());
    let once = aws_sdk_iam::config::Builder::new().retry_config(RetryConfig::disabled());
    let client = aws.iam(manager);
    let request =
        client.create_access_key().user_name(user.as_str()).customize().config_override(once).send();
    tokio::pin!(request);
    let mut beats: u32 = 0;
    let answer = loop {
        tokio::select! {
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
    match answer {
        Ok(output) => match output.access_key {
            Some(key) if key.user_name() == user.as_str() => {
                Ok(AccessKey { id: key.access_key_id, secret: SecretString::from(key.secret_access_key) })
            }
            _ => Err(NotMade::Perhaps(asked.bad_answer("no access key of that user"))),
        },
        Err(error) => {
            let never_sent = never_sent(&error);
            let server_side =
                error.raw_response().is_none_or(|r| r.status().is_server_error() || r.status().is_success());
            let error = asked.failed(error);
            match error {
                AwsError::Throttled { .. } => Err(NotMade::Certainly(error)),
                error if never_sent || !server_side => Err(NotMade::Certainly(error)),
                error => Err(NotMade::Perhaps(error)),
            }
        }
    }
}

/// Whether the connection never came about, so that AWS can't have seen the request.
fn never_sent<E, R>(error: &aws_smithy_runtime_api::client::result::SdkError<E, R>) -> bool {
    use aws_smithy_runtime_api::client::result::SdkError;
    match error {
        SdkError::ConstructionFailure(_) => true,
        // hyper-util's words for a failure before the first byte; were they to change, we would only look longer.
        SdkError::DispatchFailure(failure) => {
            failure.as_connector_error().is_some_and(|e| format!("{e:?}").contains("Connect,"))
        }
        _ => false,
    }
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
    match search(issuer.aws, issuer.manager, &record).await {
        Err(_) => left(cause),
        Ok(Found::Nothing) => match entry.clear() {
            Ok(()) => AwsError::AnswerLost {
                user: user.to_string(),
                cause: Box::new(cause),
                found: "IAM lists no new key, so none was made.".into(),
            },
            Err(error) => error,
        },
        Ok(Found::One(key_id)) => match delete_made_key(issuer, user, &key_id, entry, &mut None).await {
            Ok(()) => AwsError::AnswerLost {
                user: user.to_string(),
                cause: Box::new(cause),
                found: format!("The key that it made, {key_id}, was found and deleted."),
            },
            Err(error) => error,
        },
        Ok(Found::Several(ids)) => {
            let list = ids.join(", ");
            drop(entry.note(&Fact::Unclear(ids)));
            left(AwsError::AnswerLost {
                user: user.to_string(),
                cause: Box::new(cause),
                found: format!("Several keys appeared meanwhile ({list}) and none was touched."),
            })
        }
    }
}

/// GetSessionToken with a key that AWS may not know yet.
async fn first_session(
    issuer: &Issuer<'_>,
    key: &AccessKey,
    duration: SessionDuration,
) -> Result<Credentials, AwsError> {
    until_valid(issuer, key, || session_token(issuer.aws, key, duration, None)).await
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
    let (start, limit) = (Instant::now(), issuer.patience.new_key);
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(4));
    loop {
        let answer = tokio::select! {
            answer = request() => answer,
            () = issuer.cancel.cancelled() => return Err(AwsError::Interrupted),
        };
        match answer {
            Err(AwsError::InvalidKey { .. }) if start.elapsed() < limit => {}
            answer => return answer,
        }
        let (key_id, waited) = (key.id.clone(), start.elapsed());
        (issuer.progress)(&Progress::WaitingForKey { key_id, waited, limit });
        if !issuer.cancel.sleep(backoff.delay().min(limit.saturating_sub(waited))).await {
            return Err(AwsError::Interrupted);
        }
    }
}

async fn session_token(
    aws: &Aws,
    key: &AccessKey,
    duration: SessionDuration,
    mfa: Option<&Mfa>,
) -> Result<Credentials, AwsError> {
    let serial = mfa.map_or("", |m| m.serial.as_str());
    let asked = aws.asked("sts:GetSessionToken", &key.id, serial);
    let seconds = i32::try_from(duration.seconds()).unwrap_or(i32::MAX);
    let mut request = aws.sts(&key.clone().into()).get_session_token().duration_seconds(seconds);
    if let Some(mfa) = mfa {
        request = request.serial_number(&mfa.serial).token_code(mfa.code.expose_secret());
    }
    let answer = request.send().await.map_err(|e| asked.failed(e))?;
    let credentials = answer.credentials.and_then(temporary);
    credentials.ok_or_else(|| asked.bad_answer("no credentials"))
}

/// STS's credentials as ours; `None` where a part is missing.
fn temporary(answer: aws_sdk_sts::types::Credentials) -> Option<Credentials> {
    let expiration = Timestamp::from_unix(answer.expiration.secs())?;
    let complete = [&answer.access_key_id, &answer.secret_access_key, &answer.session_token];
    if complete.into_iter().any(String::is_empty) {
        return None;
    }
    Some(Credentials {
        access_key_id: answer.access_key_id,
        secret_access_key: answer.secret_access_key.into(),
        session_token: Some(answer.session_token.into()),
        expiration: Some(expiration),
    })
}

/// Deletes a key of ours and clears its entry; tries hard, since a key left behind is what we promise not to do.
/// `after` is the error that led here; where the delete fails too, it is taken and told as the cause.
pub(crate) async fn delete_made_key(
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
        // A refusal of the permission won't change within seconds; everything else may.
        let hopeless = matches!(&error, AwsError::Refused { code, .. } if code.starts_with("AccessDenied"));
        let delay = backoff.delay();
        if hopeless || start.elapsed() + delay > issuer.patience.delete {
            return Err(AwsError::KeyLeft {
                user: user.to_string(),
                key_id: Some(key_id.to_owned()),
                cause: Box::new(after.take().unwrap_or(error)),
                entry: entry.path().to_owned(),
            });
        }
        let cause = error.to_string().lines().next().unwrap_or_default().to_owned();
        (issuer.progress)(&Progress::DeleteAgain { key_id: key_id.to_owned(), cause });
        // Not `cancel.sleep`: the wish to stop does not end the tidying up.
        tokio::time::sleep(delay).await;
    }
}

/// iam:DeleteAccessKey; a key that is gone already is fine.
pub(crate) async fn delete_key(
    aws: &Aws,
    manager: &Credentials,
    user: &UserName,
    key_id: &str,
) -> Result<(), AwsError> {
    let asked = aws.asked("iam:DeleteAccessKey", &manager.access_key_id, user.as_str());
    let answer =
        aws.iam(manager).delete_access_key().user_name(user.as_str()).access_key_id(key_id).send().await;
    match answer.map_err(|e| asked.failed(e)) {
        Ok(_) => Ok(()),
        Err(AwsError::Refused { code, .. }) if code.starts_with("NoSuchEntity") => Ok(()),
        Err(error) => Err(error),
    }
}

/// The key goes because of `error`; where even that fails, the error says so too.
pub(crate) async fn undo(issuer: &Issuer<'_>, made: KeptKey, error: AwsError) -> AwsError {
    let mut error = Some(error);
    let deleted = delete_made_key(issuer, &made.user, &made.key.id, made.entry, &mut error).await;
    match (deleted, error) {
        (Ok(()), Some(error)) => error,
        (Ok(()), None) => AwsError::Interrupted,
        (Err(left), _) => left,
    }
}

async fn confirm(issuer: &Issuer<'_>, credentials: &Credentials, user: &UserName) -> Result<(), AwsError> {
    check_identity(&caller(issuer.aws, credentials).await?, user)
}

pub(crate) fn check_identity(caller: &CallerArn, expected: &UserName) -> Result<(), AwsError> {
    if caller.user() == Some(expected) {
        return Ok(());
    }
    Err(AwsError::WrongIdentity { expected: expected.to_string(), found: describe(caller) })
}

/// What to ask sts:AssumeRole for.
#[derive(Clone, Debug)]
pub struct RoleRequest {
    /// ARN of the role.
    pub role_arn: String,
    /// Name of the session, as CloudTrail shows it: 2 to 64 of letters, digits and `=,.@_-`.
    pub session_name: String,
    /// The secret handshake of a third party, where the role's trust policy wants one.
    pub external_id: Option<String>,
    /// Seconds: 900 up to the role's maximum, 3600 where the credentials are a role's themselves.
    pub seconds: Option<u32>,
    /// A code, where the trust policy wants one.
    pub mfa: Option<Mfa>,
    /// Who is behind it, set once and kept through a chain of roles.
    pub source_identity: Option<String>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
}

/// A role's temporary credentials (sts:AssumeRole).
///
/// # Errors
/// As any request; AWS's refusal names what is missing.
pub async fn assume_role(
    aws: &Aws,
    credentials: &Credentials,
    role: &RoleRequest,
) -> Result<Session, AwsError> {
    let serial = role.mfa.as_ref().map_or("", |m| m.serial.as_str());
    let asked = aws.asked("sts:AssumeRole", &credentials.access_key_id, serial);
    let mut tags = Vec::with_capacity(role.tags.len());
    for (key, value) in &role.tags {
        let tag = aws_sdk_sts::types::Tag::builder().key(key).value(value).build();
        tags.push(
            tag.map_err(|e| AwsError::Settings(format!("the session tag {key:?} can't be used: {e}")))?,
        );
    }
    let request = aws
        .sts(credentials)
        .assume_role()
        .role_arn(&role.role_arn)
        .role_session_name(&role.session_name)
        .set_external_id(role.external_id.clone())
        .set_duration_seconds(role.seconds.map(|s| i32::try_from(s).unwrap_or(i32::MAX)))
        .set_serial_number(role.mfa.as_ref().map(|m| m.serial.clone()))
        .set_token_code(role.mfa.as_ref().map(|m| m.code.expose_secret().to_owned()))
        .set_source_identity(role.source_identity.clone())
        .set_tags((!tags.is_empty()).then_some(tags));
    let answer = request.send().await.map_err(|e| asked.failed(e))?;
    let arn = answer.assumed_role_user().map(|user| user.arn().to_owned());
    let arn = arn.ok_or_else(|| asked.bad_answer("no role"))?;
    let caller = CallerArn::parse(&arn).map_err(|e| asked.bad_answer(e.0))?;
    let credentials =
        answer.credentials.and_then(temporary).ok_or_else(|| asked.bad_answer("no credentials"))?;
    Ok(Session { credentials, caller })
}
