//! New temporary credentials of one profile: by the user's own key, through a manager, or through a department service.

use iam_sorry_aws::issue::{Issuer, Progress, Session, issue_for_user, session_from_key};
use iam_sorry_aws::lookup::user_of_key;
use iam_sorry_aws::{Aws, AwsError, Cancel, RetryPolicy};
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

/// How STS refuses an access key that does not exist.
const INVALID_TOKEN_ID: &str = "InvalidClientTokenId";

/// What the refreshes of one command share.
pub struct Refresher<'a> {
    pub app: &'a App,
    /// Issues credentials for users without a key of their own, if there is no service.
    pub manager: &'a Manager<'a>,
    /// The department service that issues them instead.
    pub service: Option<Client>,
    pub duration: SessionDuration,
    /// Keep the key that the manager makes, sealed in the profile.
    pub keep_key: bool,
    pub bars: &'a Bars,
    pub cancel: Cancel,
}

/// The result of one refresh.
pub struct Refreshed {
    pub credentials: Credentials,
    /// Whether they are in the profile; if they could not be written, they are valid all the same.
    pub written: bool,
    pub user: String,
    pub expires: String,
    pub without_mfa: bool,
}

/// AWS does not accept the access key with this ID any more.
struct RejectedKey(String);

/// New credentials of one profile for a caller that waits for them: nothing on stdout, and a profile that can't be
/// written is no error. `manager` or `server` issues them if the profile has no permanent key.
pub fn refresh_profile(
    app: &App,
    name: &str,
    manager: Option<&str>,
    server: Option<&Origin>,
) -> Result<Refreshed> {
    // The caller may run for hours, and the next refresh costs as much as this one.
    let duration = app.duration()?;
    let duration = if duration.seconds() < 3600 { SessionDuration::HOUR } else { duration };
    let (credentials, config) = app.documents()?;
    let mut job = RefreshJob::plan(app, name, None, (&credentials, &config), false)?;
    job.write_is_optional = true;
    let manager = Manager::new(app, manager, &config, &credentials);
    let service = server.map(|origin| department::open(app, origin)).transpose()?;
    if job.own_key.is_none() && service.is_none() {
        job.check_name()?;
        manager.name()?;
        // The key of a refresh that was killed a moment ago may be in the way: IAM allows two.
        recovery::finish(app, RecoveryMode::Opportunistic)?;
    }
    let bars = Bars::new(app.out, 1);
    let refreshed = aws::block_on(|cancel| async {
        let service = service.map(|service| service.with_cancel(cancel.clone()));
        let manager = &manager;
        let refresher = Refresher { app, manager, service, duration, keep_key: false, bars: &bars, cancel };
        refresher.refresh(&job).await
    });
    bars.clear();
    refreshed
}

impl Refresher<'_> {
    /// New credentials for one profile, written to it.
    pub async fn refresh(&self, job: &RefreshJob) -> Result<Refreshed> {
        self.bars.step(&job.name, "Requesting temporary credentials");
        if let Some(own_key) = &job.own_key {
            let RejectedKey(key_id) = match self.with_own_key(job, own_key).await? {
                Ok(refreshed) => return Ok(refreshed),
                Err(rejected) => rejected,
            };
            if self.service.is_none() && self.manager.name().is_err() {
                let (action, code) = ("sts:GetSessionToken", INVALID_TOKEN_ID.into());
                return Err(AwsError::InvalidKey { action, key_id, code }.into());
            }
            let issuer = if self.service.is_some() { "service" } else { "manager" };
            self.app.out.warn(format!(
                "AWS no longer accepts access key {key_id}, kept in profile '{}'; asking the {issuer}",
                job.name
            ));
        }
        match &self.service {
            Some(client) => self.with_service(job, client).await,
            None => self.with_manager(job).await,
        }
    }

    /// The user's permanent key requests a session: no manager, and no key is made.
    async fn with_own_key(
        &self,
        job: &RefreshJob,
        own_key: &AccessKey,
    ) -> Result<std::result::Result<Refreshed, RejectedKey>> {
        let app = self.app;
        let profile = job.profile.as_ref().ok_or_else(no_manager)?;
        let aws = aws::connect(app, Some(profile))?;
        let owner = profile.owner().and_then(|owner| UserName::parse(owner).ok());
        let mfa = mfa(app, profile)?;
        let request = session_from_key(&aws, own_key, self.duration, mfa.as_ref(), owner.as_ref());
        let Session { credentials, caller } = match self.cancel.unless(request).await {
            Err(AwsError::InvalidKey { key_id, code, .. }) if code == INVALID_TOKEN_ID => {
                return Ok(Err(RejectedKey(key_id)));
            }
            session => session?,
        };
        let user = caller.user().ok_or_else(|| {
            Error::new(
                ErrorKind::Aws,
                format!("The permanent keys of profile '{}' are not an IAM user's", job.name),
            )
            .hint("The account's root user gets no temporary credentials here: use an IAM user")
        })?;
        let written = deliver(app, job, &credentials, user.as_str(), IssuedBy::OwnKey)?;
        Ok(Ok(refreshed(credentials, written, user.as_str(), mfa.is_none())))
    }

    /// The manager makes a key for the user, for one request.
    async fn with_manager(&self, job: &RefreshJob) -> Result<Refreshed> {
        let Self { app, manager, cancel, .. } = self;
        let name = manager.name()?;
        let (aws, credentials) = manager.open(cancel).await?;
        let user = user_of_profile(app, job, aws, credentials, cancel).await?;
        manager.check_namespace(&user)?;
        let journal = journal(app);
        let progress = |event: &Progress| self.bars.step(&job.name, &event.to_string());
        let issuer = Issuer {
            aws,
            manager: credentials,
            manager_profile: name,
            target_profile: &job.name,
            journal: &journal,
            progress: &progress,
            cancel,
            retry: &RetryPolicy::default(),
        };
        let lock = manager.user_lock(&user);
        let guard = lock.lock().await;
        let issued = issue_for_user(&issuer, &user, self.duration, self.keep_key).await?;
        drop(guard);
        let user = issued.user.name.as_str();
        let mut written = true;
        match issued.kept {
            None => written = deliver(app, job, &issued.credentials, user, IssuedBy::Manager)?,
            Some(kept) => {
                let key = Some(kept.key());
                match write(app, job, &issued.credentials, user, key, IssuedBy::Manager) {
                    // The profile holds the key. If the journal can't be cleared, the next run finds that out.
                    Ok(()) => kept.kept().unwrap_or_else(|e| app.out.warn(e.to_string())),
                    Err(error) => return Err(error.with_undo_result(kept.discard(&issuer).await)),
                }
            }
        }
        Ok(refreshed(issued.credentials, written, user, issued.of_manager))
    }

    /// The department service issues them, if its rules allow it.
    async fn with_service(&self, job: &RefreshJob, client: &Client) -> Result<Refreshed> {
        let app = self.app;
        let user = match job.known_user() {
            Some(user) => user,
            // No owner is recorded, so the profile's name is the user's.
            None => UserName::parse(&job.name)?,
        };
        let credentials = department::issue_for_user(app, client, &user, app.requested_duration()?).await?;
        let written = deliver(app, job, &credentials, user.as_str(), IssuedBy::Service(client.origin()))?;
        Ok(refreshed(credentials, written, user.as_str(), false))
    }
}

/// The recorded owner, else the user of the key in the profile, else the profile's name.
async fn user_of_profile(
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

fn refreshed(credentials: Credentials, written: bool, user: &str, without_mfa: bool) -> Refreshed {
    let expires = credentials.expiration.map_or_else(|| "unknown".into(), |at| at.to_string());
    Refreshed { credentials, written, user: user.to_owned(), expires, without_mfa }
}

pub fn undetermined(app: &App, name: &str, cause: AwsError) -> Error {
    let why = match &cause {
        // The user's key. The manager's would be refused with another code.
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
