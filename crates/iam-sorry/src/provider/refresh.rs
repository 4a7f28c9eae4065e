//! New temporary credentials of one profile: by the user's own key, through a manager, or through a department service.

use iam_sorry_aws::issue::{Issuer, Progress, Session, issue_for_user, session_from_key};
use iam_sorry_aws::lookup::user_of_key;
use iam_sorry_aws::{Aws, AwsError, Cancel, Timeouts};
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{SessionDuration, UserName};
use iam_sorry_core::ssh::login::Origin;

use crate::app::App;
use crate::aws;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Bars;
use crate::recovery::{self, RecoveryMode, journal};
use crate::service::Client;

use super::department;
use super::job::RefreshJob;
use super::manager::{Manager, no_manager};
use super::mfa::mfa;
use super::store::{IssuedBy, deliver, write};

/// Who makes credentials if the user's own key does not: the service, else the manager.
pub struct Issuers<'a> {
    pub manager: &'a Manager<'a>,
    pub service: Option<Client>,
}

/// What [`renew`] gives.
pub struct Renewed {
    pub credentials: Credentials,
    /// Whether they are in the profile now; where they could not be written, they are valid all the same.
    pub written: bool,
}

/// One profile's credentials anew, for somebody who waits for them: nothing on stdout, and what can't be written is no
/// failure. `manager` or `server` issuers where the profile keeps no key of its own.
pub fn renew(app: &App, name: &str, manager: Option<&str>, server: Option<&Origin>) -> Result<Renewed> {
    // What it is renewed for may run for hours, and the next renewal costs as much as this one.
    let duration = app.duration()?;
    let duration = if duration.seconds() < 3600 { SessionDuration::HOUR } else { duration };
    let (credentials, config) = app.documents()?;
    let mut job = RefreshJob::plan(app, name, None, (&credentials, &config), false)?;
    job.hand_out_unwritten = true;
    let manager = Manager::new(app, manager, &config, &credentials);
    let service = server.map(|origin| department::open(app, origin)).transpose()?;
    if job.own.is_none() && service.is_none() {
        job.check_name()?;
        manager.name()?;
        // The key of a renewal that was killed a moment ago is in the way of this one's: IAM allows two.
        recovery::finish(app, RecoveryMode::Opportunistic)?;
    }
    let bars = Bars::new(app.out, 1);
    let done = aws::block_on(|cancel| async {
        let issuers = Issuers {
            manager: &manager,
            service: service.map(|service| service.with_cancel(cancel.clone())),
        };
        refresh_one(app, &job, &issuers, duration, false, &bars, cancel).await
    });
    bars.clear();
    done.map(|done| Renewed { credentials: done.credentials, written: done.written })
}

/// What one refresh came to.
pub struct Refreshed {
    pub credentials: Credentials,
    pub written: bool,
    pub user: String,
    pub expires: String,
    pub without_mfa: bool,
}

pub async fn refresh_one(
    app: &App,
    job: &RefreshJob,
    issuers: &Issuers<'_>,
    duration: SessionDuration,
    keep_key: bool,
    bars: &Bars,
    cancel: Cancel,
) -> Result<Refreshed> {
    bars.step(&job.name, "Requesting temporary credentials");
    if let Some(own) = &job.own {
        match with_own_key(app, job, own, duration, &cancel).await {
            // The key in the profile is dead; the manager can still issuers.
            Err(Lapsed(key_id)) if issuers.service.is_some() || issuers.manager.name().is_ok() => {
                let whom = if issuers.service.is_some() { "service" } else { "manager" };
                app.out.warn(format!(
                    "AWS no longer accepts access key {key_id}, kept in profile '{}'; asking the {whom}",
                    job.name
                ));
            }
            Err(Lapsed(key_id)) => {
                return Err(AwsError::InvalidKey {
                    action: "sts:GetSessionToken",
                    key_id,
                    code: "InvalidClientTokenId".into(),
                }
                .into());
            }
            Ok(done) => return done,
        }
    }
    match &issuers.service {
        Some(client) => with_service(app, job, client).await,
        None => with_manager(app, job, issuers.manager, duration, keep_key, bars, cancel).await,
    }
}

/// AWS does not know this access key any more.
struct Lapsed(String);

/// The user's own permanent key asks STS: no manager, no key made.
async fn with_own_key(
    app: &App,
    job: &RefreshJob,
    own: &AccessKey,
    duration: SessionDuration,
    cancel: &Cancel,
) -> std::result::Result<Result<Refreshed>, Lapsed> {
    let work = async {
        let profile = job.profile.as_ref().ok_or_else(no_manager)?;
        let aws = aws::connect(app, Some(profile))?;
        let owner = profile.owner().and_then(|owner| UserName::parse(owner).ok());
        let mfa = mfa(app, profile)?;
        let asked = session_from_key(&aws, own, duration, mfa.as_ref(), owner.as_ref());
        let session = match cancel.unless(asked).await {
            Err(AwsError::InvalidKey { key_id, code, .. }) if code == "InvalidClientTokenId" => {
                return Ok(Err(Lapsed(key_id)));
            }
            session => session?,
        };
        let Session { credentials, caller } = session;
        let user = caller.user().ok_or_else(|| {
            Error::new(
                ErrorKind::Aws,
                format!("The permanent keys of profile '{}' are not an IAM user's", job.name),
            )
            .hint("The account's root user gets no temporary credentials here: use an IAM user")
        })?;
        let written = deliver(app, job, &credentials, user.as_str(), IssuedBy::OwnKey)?;
        Ok(Ok(done(credentials, written, user.as_str(), mfa.is_none())))
    };
    match work.await {
        Ok(Err(lapsed)) => Err(lapsed),
        Ok(Ok(done)) => Ok(Ok(done)),
        Err(error) => Ok(Err(error)),
    }
}

/// The manager makes a key for the user, for as long as it takes.
async fn with_manager(
    app: &App,
    job: &RefreshJob,
    manager: &Manager<'_>,
    duration: SessionDuration,
    keep_key: bool,
    bars: &Bars,
    cancel: Cancel,
) -> Result<Refreshed> {
    let name = manager.name()?;
    let (aws, credentials) = manager.open(&cancel).await?;
    let user = user_behind(app, job, aws, credentials, &cancel).await?;
    manager.check_namespace(&user)?;
    let journal = journal(app);
    let progress = |event: &Progress| bars.step(&job.name, &event.to_string());
    let issuer = Issuer {
        aws,
        manager: credentials,
        manager_profile: name,
        target_profile: &job.name,
        journal: &journal,
        progress: &progress,
        cancel: &cancel,
        patience: &Timeouts::default(),
    };
    let turn = manager.turn_of(&user);
    let its_turn = turn.lock().await;
    let issued = issue_for_user(&issuer, &user, duration, keep_key).await?;
    drop(its_turn);
    let user = issued.user.name.as_str();
    let mut written = true;
    match issued.kept {
        None => written = deliver(app, job, &issued.credentials, user, IssuedBy::Manager)?,
        Some(kept) => match write(app, job, &issued.credentials, user, Some(kept.key()), IssuedBy::Manager) {
            // The profile holds it, which is what the next run finds out where the journal could not be cleared.
            Ok(()) => kept.kept().unwrap_or_else(|e| app.out.warn(e.to_string())),
            Err(error) => return Err(error.unless_undone(kept.discard(&issuer).await)),
        },
    }
    Ok(done(issued.credentials, written, user, issued.of_manager))
}

/// The recorded owner, else whose the key in the profile is, else the name itself.
async fn user_behind(
    app: &App,
    job: &RefreshJob,
    aws: &Aws,
    manager: &Credentials,
    cancel: &Cancel,
) -> Result<UserName> {
    let by_name = || UserName::parse(&job.name).map_err(Error::from);
    let Some(profile) = &job.profile else { return by_name() };
    if let Some(owner) = profile.owner() {
        return UserName::parse(owner)
            .map_err(|e| Error::profile(format!("Profile '{}': credentials_owner: {e}", job.name)));
    }
    let Some(key) = profile.active_key() else { return by_name() };
    let id = app.open(profile, key)?.access_key_id;
    cancel.unless(user_of_key(aws, manager, &id)).await.map_err(|e| undetermined(app, &job.name, e))
}

/// The department service makes them, as its rules allow.
async fn with_service(app: &App, job: &RefreshJob, client: &Client) -> Result<Refreshed> {
    let user = match job.known_user() {
        Some(user) => user,
        // No owner is recorded; the service is asked for the user of that name.
        None => UserName::parse(&job.name)?,
    };
    let credentials = department::issue_for_user(app, client, &user, app.requested_duration()?).await?;
    let written = deliver(app, job, &credentials, user.as_str(), IssuedBy::Service(client.origin()))?;
    Ok(done(credentials, written, user.as_str(), false))
}

fn done(credentials: Credentials, written: bool, user: &str, without_mfa: bool) -> Refreshed {
    let expires = credentials.expiration.map_or_else(|| "unknown".into(), |at| at.to_string());
    Refreshed { credentials, written, user: user.to_owned(), expires, without_mfa }
}

pub fn undetermined(app: &App, name: &str, cause: AwsError) -> Error {
    let why = match &cause {
        // The key's, not the manager's, which would be refused with another code.
        AwsError::InvalidKey { key_id, code, .. } if code.starts_with("NoSuchEntity") => {
            format!("AWS knows no access key {key_id} in this account")
        }
        AwsError::Refused { .. } | AwsError::BadAnswer { .. } | AwsError::NoSuchUser { .. } => {
            cause.to_string()
        }
        _ => return cause.into(),
    };
    let manager = app.manager_name().unwrap_or("MANAGER");
    Error::new(ErrorKind::Aws, format!("Could not determine IAM user for profile '{name}'")).hint(why).hint(format!(
        "Write 'credentials_owner = USER' into [{name}], or remove that section, then: iam-sorry --profile {manager} {name}"
    ))
}
