//! `rotate PROFILE`: replaces an access key. At every moment, the file holds one that works.
//!
//! The order makes it safe: the new key is made, proved, stored in one write and read back; only then the old one is
//! deleted. A killed run leaves an entry in the journal ([`iam_sorry_aws::journal`]), and [`recovery`] decides by what
//! the profile holds.

use iam_sorry_aws::issue::{Issuer, Progress, session_from_key};
use iam_sorry_aws::lookup::{caller, describe, user_of_key};
use iam_sorry_aws::rotate::{Rotation, start};
use iam_sorry_aws::{Aws, AwsError, Cancel, RetryPolicy};
use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{SessionDuration, UserName};
use iam_sorry_core::seal::{self, Value};
use secrecy::{ExposeSecret, SecretString};

use crate::app::App;
use crate::aws;
use crate::error::{Error, ErrorKind, Result};
use crate::profile::Profile;
use crate::provider::manager::Manager;
use crate::provider::mfa;
use crate::recovery::{self, RecoveryMode, journal};
use crate::sealing::check_unchanged;

pub fn run(app: &App, name: &str) -> Result<()> {
    // First, since an interrupted rotation decides which key is the profile's.
    recovery::finish(app, RecoveryMode::Full)?;
    let (credentials, config) = app.documents()?;
    let job = RotationJob::plan(app, name, &credentials, &config)?;
    let manager = Manager::new(app, app.manager_name(), &config, &credentials);
    let done = {
        let (job, manager) = (&job, &manager);
        aws::block_on(|cancel| async move { replace(app, job, manager, &cancel).await })?
    };
    // Nothing was printed on stdout before this: a closed stdout must not stop the work half way.
    app.out.done(format!("New access key {} of IAM user '{}' works", done.new, done.user))?;
    for (number, holder) in job.holders.iter().enumerate() {
        let also = if number == 0 { "" } else { ", which held the same key," };
        app.out.done(format!("Profile '{}'{also} holds the new key{}", holder.name, how(holder)))?;
    }
    if let Some(error) = done.old_left {
        // The user may be allowed to make keys but not to delete them; the manager may delete them.
        recovery::finish(app, RecoveryMode::Full)?;
        let still = |entry: &iam_sorry_aws::journal::Pending| entry.record.key_id.as_ref() == Some(&done.new);
        if journal(app).pending()?.entries.iter().any(still) {
            return Err(error.into());
        }
    }
    app.out.done(format!("Old access key {} is deactivated and deleted", done.old))
}

/// The result of a rotation.
struct RotationResult {
    user: String,
    new: String,
    old: String,
    old_left: Option<AwsError>,
}

/// The profile, its key, and every profile that holds the same key.
struct RotationJob {
    name: String,
    key: AccessKey,
    holders: Vec<Profile>,
}

impl RotationJob {
    /// Checks and prompts come before AWS makes a key.
    fn plan(app: &App, name: &str, credentials: &Document, config: &Document) -> Result<Self> {
        let profile =
            Profile::find(name, credentials, config).ok_or_else(|| app.not_found("Profile", name))?;
        let key = profile.permanent_key().ok_or_else(|| {
            let error = Error::profile(format!("Profile '{name}' holds no permanent access key to rotate"));
            match profile.active_key() {
                Some(_) => {
                    error.hint(format!("Temporary credentials are refreshed: iam-sorry refresh {name}"))
                }
                None => error.hint("See what is there: iam-sorry list"),
            }
        })?;
        let legacy = |(_, value): &(&str, &str)| matches!(seal::parse(value), Ok(Value::Legacy(_)));
        if profile.sealed_fields().iter().any(legacy) {
            return Err(Error::key(format!("Profile '{name}' holds values of the original tool"))
                .hint(format!("Seal them anew first: iam-sorry migrate {name}")));
        }
        let opened = app.open(&profile, key)?;
        let key = AccessKey { id: opened.access_key_id, secret: opened.secret_access_key };
        // Another profile with the same key would stop working, so it gets the new key too.
        let same_key = |other: &Profile| {
            let opened = other.permanent_key().and_then(|stored| app.open_without_prompt(other, stored).ok());
            opened.is_some_and(|opened| opened.access_key_id == key.id)
        };
        let others = credentials.profiles().into_iter().filter(|other| *other != name);
        let others = others.filter_map(|other| Profile::find(other, credentials, config)).filter(same_key);
        let mut holders: Vec<Profile> = others.collect();
        holders.insert(0, profile);
        let job = Self { name: name.to_owned(), key, holders };
        // A trial: it finds and unlocks every SSH key that storing will need.
        job.values(app, &AccessKey { id: "trial".into(), secret: "trial".into() })?;
        Ok(job)
    }

    /// The new values of each holder's fields: sealed for the same SSH keys if they are sealed, else plain.
    fn values(&self, app: &App, new: &AccessKey) -> Result<Vec<Vec<(String, SecretString)>>> {
        self.holders.iter().map(|holder| values_of(app, holder, new)).collect()
    }

    /// All holders in one write, so that none ever keeps a deleted key.
    fn store(&self, app: &App, values: &[Vec<(String, SecretString)>]) -> Result<()> {
        app.update(&app.credentials, |document| {
            for (holder, fields) in self.holders.iter().zip(values) {
                check_unchanged(document, holder)?;
                for (field, value) in fields {
                    document.set(&holder.name, field, value.expose_secret())?;
                }
            }
            Ok(())
        })
    }

    /// Whether the file holds the new key and it opens; `None` if that can't be determined.
    fn is_stored(&self, app: &App, new: &AccessKey) -> Option<bool> {
        let profile = app.profile(&self.name).ok()?;
        let opened = app.open(&profile, profile.permanent_key()?).ok()?;
        let same_secret = opened.secret_access_key.expose_secret() == new.secret.expose_secret();
        Some(opened.access_key_id == new.id && same_secret)
    }
}

fn values_of(app: &App, holder: &Profile, new: &AccessKey) -> Result<Vec<(String, SecretString)>> {
    let Some(stored) = holder.permanent_key() else { return Ok(Vec::new()) };
    let new_of = |field: &str| match field {
        field if field == stored.id.0 => Some(SecretString::from(new.id.as_str())),
        field if field == stored.secret.0 => Some(new.secret.clone()),
        _ => None,
    };
    let sealed = holder.sealed_fields();
    let mut values = Vec::new();
    if !sealed.is_empty() {
        // All sealed fields, since those of one profile share an envelope.
        let opened = app.keyring(|keyring| keyring.open_fields(&holder.name, &sealed))?;
        let texts: Vec<SecretString> =
            sealed.iter().zip(opened).map(|((field, _), old)| new_of(field).unwrap_or(old)).collect();
        let to_seal: Vec<(&str, &SecretString)> =
            sealed.iter().map(|(field, _)| *field).zip(&texts).collect();
        let resealed = app.keyring(|keyring| keyring.replace_fields(&holder.name, &sealed, &to_seal))?;
        values.extend(
            sealed.iter().map(|(field, _)| (*field).to_owned()).zip(resealed.into_iter().map(Into::into)),
        );
    }
    for (field, value) in [stored.id, stored.secret] {
        if !value.starts_with(seal::PREFIX) {
            values.extend(new_of(field).map(|new| (field.to_owned(), new)));
        }
    }
    Ok(values)
}

/// The key's own user rotates it; if IAM denies that, the manager does.
async fn replace(
    app: &App,
    job: &RotationJob,
    manager: &Manager<'_>,
    cancel: &Cancel,
) -> Result<RotationResult> {
    let profile = &job.holders[0];
    let aws = aws::connect(app, Some(profile))?;
    let own = Credentials::from(job.key.clone());
    let refusal = match caller(&aws, &own).await {
        Ok(found) => {
            let user = found.user().ok_or_else(|| {
                Error::profile(format!("The key of profile '{}' belongs to {}", job.name, describe(&found)))
                    .hint("Only the keys of IAM users are rotated here")
            })?;
            let credentials = match mfa(app, profile)? {
                None => own,
                Some(mfa) => {
                    session_from_key(&aws, &job.key, SessionDuration::HOUR, Some(&mfa), Some(user))
                        .await?
                        .credentials
                }
            };
            match rotate(
                app,
                job,
                &KeyManager { aws: &aws, credentials: &credentials, profile: &job.name },
                user,
                cancel,
            )
            .await
            {
                Err(RotationError::NotAllowed(refusal)) => refusal,
                ended => return ended.map_err(RotationError::into_failure),
            }
        }
        Err(refusal @ AwsError::InvalidKey { .. }) => refusal,
        Err(error) => return Err(error.into()),
    };
    let Some(name) = app.manager_name().filter(|manager| *manager != job.name) else {
        return Err(Error::from(refusal)
            .hint(format!("Or let a manager do it: iam-sorry rotate {} --profile MANAGER", job.name)));
    };
    manager.name()?;
    let (aws, credentials) = manager.open(cancel).await?;
    let user = match profile.owner().map(UserName::parse) {
        Some(owner) => owner?,
        None => user_of_key(aws, credentials, &job.key.id).await?,
    };
    rotate(app, job, &KeyManager { aws, credentials, profile: name }, &user, cancel)
        .await
        .map_err(RotationError::into_failure)
}

/// Who makes the new key and deletes the old one.
struct KeyManager<'a> {
    aws: &'a Aws,
    credentials: &'a Credentials,
    profile: &'a str,
}

enum RotationError {
    /// IAM denies it to this user; nothing was done, and another may try.
    NotAllowed(AwsError),
    Failed(Error),
}

impl RotationError {
    fn into_failure(self) -> Error {
        match self {
            Self::NotAllowed(error) => error.into(),
            Self::Failed(error) => error,
        }
    }
}

impl<T: Into<Error>> From<T> for RotationError {
    fn from(error: T) -> Self {
        Self::Failed(error.into())
    }
}

async fn rotate(
    app: &App,
    job: &RotationJob,
    key_manager: &KeyManager<'_>,
    user: &UserName,
    cancel: &Cancel,
) -> std::result::Result<RotationResult, RotationError> {
    let (journal, retry, out) = (journal(app), RetryPolicy::default(), app.out);
    let progress = |event: &Progress| match event {
        Progress::MakingKey { user } => out.progress(format!("Making a new access key for '{user}'")),
        event => out.progress(event.to_string()),
    };
    let issuer = Issuer {
        aws: key_manager.aws,
        manager: key_manager.credentials,
        manager_profile: key_manager.profile,
        target_profile: &job.name,
        journal: &journal,
        progress: &progress,
        cancel,
        retry: &retry,
    };
    let rotation = match start(&issuer, user, &job.key.id).await {
        Ok(rotation) => rotation,
        Err(error) if error.is_denied() => return Err(RotationError::NotAllowed(error)),
        Err(error) => return Err(error.into()),
    };
    let (new, old) = (rotation.key().clone(), job.key.id.clone());
    app.out.progress(format!("Access key {} works; storing it", new.id));
    let rotation = store(app, job, rotation, &issuer, &new).await?;
    rotation.still_there(&issuer).await?;
    app.out.progress(format!("Deactivating and deleting the old access key {old}"));
    let old_left = rotation.stored(&issuer).await.err();
    Ok(RotationResult { user: user.to_string(), new: new.id, old, old_left })
}

/// Stores the new key and reads it back. If that fails, the new key is deleted, but only if the file certainly does not
/// hold it.
async fn store(
    app: &App,
    job: &RotationJob,
    rotation: Rotation,
    issuer: &Issuer<'_>,
    new: &AccessKey,
) -> Result<Rotation> {
    let written = job.values(app, new).and_then(|values| {
        rotation.still_held()?; // sealing may have prompted
        job.store(app, &values)
    });
    match (job.is_stored(app, new), written) {
        (Some(true), _) => Ok(rotation),
        (Some(false), Err(error)) => Err(error.with_undo_result(rotation.discard(issuer).await)),
        // The journal keeps the entry, and recovery reads the file again.
        (_, Err(error)) => Err(error),
        (_, Ok(())) => Err(Error::new(
            ErrorKind::Other,
            format!("The new access key of profile '{}' could not be read back from the file", job.name),
        )
        .hint("Nothing was deleted. Finish it: iam-sorry doctor")),
    }
}

fn how(holder: &Profile) -> &'static str {
    if holder.permanent_key().is_some_and(|key| key.is_sealed()) {
        ", sealed for the same SSH keys"
    } else {
        " as plain text, as before"
    }
}
