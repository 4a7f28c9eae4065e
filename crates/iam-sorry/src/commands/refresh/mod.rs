//! `refresh NAME...`, and the original's form `iam-sorry NAME`: temporary credentials of IAM users into their profiles.

mod job;
mod manager;
mod through;

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use iam_sorry_aws::issue::{Issuer, Progress, Session, issue_for_user, session_from_key};
use iam_sorry_aws::lookup::user_of_key;
use iam_sorry_aws::{Aws, AwsError, Cancel, Timeouts};
use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{SessionDuration, UserName};
use iam_sorry_core::ssh::login::Origin;
use secrecy::{ExposeSecret, SecretString};

use crate::app::App;
use crate::aws;
use crate::commands::encrypt::{seal_under, store, unchanged};
use crate::commands::leftovers::{self, Effort, journal};
use crate::commands::service as through_service;
use crate::failure::{Failure, Kind, Result};
use crate::profile::{EXPIRATION, ID, KEPT_ID, KEPT_SECRET, OWNER, Profile, ROLE, SECRET, SERVER, TOKEN};
use crate::progress::Bars;
use crate::service;
use crate::terminal;

use job::Job;
pub use manager::{Manager, mfa, no_manager};
use through::{Help, Maker, Service, with_service};

/// Refreshes under way at the same time; IAM's rate limits are per account, so more would only be throttled.
const AT_ONCE: usize = 8;

/// What was asked for.
#[derive(Debug, Default)]
pub struct Plan {
    pub names: Vec<String>,
    pub all: bool,
    pub keep_key: bool,
}

pub fn run(app: &App, plan: &Plan) -> Result<()> {
    let duration = app.duration()?;
    let (credentials, config) = app.documents()?;
    let mut names = plan.names.clone();
    if plan.all {
        names = made_by_us(&credentials);
        // A manager that is temporary itself is refreshed by whoever manages it.
        names.retain(|name| app.manager_name() != Some(name));
        if names.is_empty() {
            return Err(Failure::profile("There is no profile yet that iam-sorry made")
                .hint("Make one: iam-sorry --profile MANAGER NAME"));
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    // A role's, which a service gave: nobody else can give it again.
    let (roles, names): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| credentials.value(name, ROLE).is_some());
    for name in &roles {
        let arn = credentials.value(name, ROLE).unwrap_or_default();
        through_service::role(app, arn, name)?;
    }
    if names.is_empty() {
        return Ok(());
    }
    // Everything that can be refused is refused before AWS is asked for anything.
    let server = service::for_credentials(app)?;
    let manager_name = if server.is_none() { app.manager_name() } else { None };
    let plan_one = |name| Job::plan(app, name, app.manager_name(), (&credentials, &config), plan.keep_key);
    let jobs: Vec<Job> = names.iter().map(|name| plan_one(name)).collect::<Result<_>>()?;
    let manager = Manager::new(app, manager_name, &config, &credentials);
    let service = match server.filter(|_| jobs.iter().any(|job| job.own.is_none())) {
        Some(_) if plan.keep_key => {
            return Err(Failure::usage(
                "--keep-key goes with a manager; a department service keeps no keys in profiles",
            )
            .hint("A key of the user's own: iam-sorry keys create NAME --as PROFILE --encrypt"));
        }
        Some(origin) => Some(Service::open(app, &origin)?),
        None => None,
    };
    for job in jobs.iter().filter(|job| job.own.is_none()) {
        job.check_name()?;
        if service.is_some() {
            continue;
        }
        manager.name()?;
        if let Some(user) = job.known_user() {
            manager.check_namespace(&user)?;
        }
    }
    leftovers::finish(app, Effort::Thorough)?;
    let bars = Bars::new(app.out, jobs.len());
    let results = {
        let (jobs, bars) = (&jobs, &bars);
        aws::block_on(|cancel| async move {
            let help = Help { manager: &manager, service: service.map(|service| service.with(&cancel)) };
            if help.service.is_none() && jobs.iter().any(|job| job.own.is_none()) {
                manager.open(&cancel).await?;
            }
            let work = jobs
                .iter()
                .map(|job| refresh_one(app, job, &help, duration, plan.keep_key, bars, cancel.clone()));
            Ok(stream::iter(work).buffered(AT_ONCE).collect().await)
        })?
    };
    bars.clear();
    report(app, &jobs, results)
}

/// What [`renew`] gives.
pub struct Renewed {
    pub credentials: Credentials,
    /// Whether they are in the profile now; where they could not be written, they are valid all the same.
    pub written: bool,
}

/// One profile's credentials anew, for somebody who waits for them: nothing on stdout, and what can't be written is no
/// failure. `manager` or `server` help where the profile keeps no key of its own.
pub fn renew(app: &App, name: &str, manager: Option<&str>, server: Option<&Origin>) -> Result<Renewed> {
    // What it is renewed for may run for hours, and the next renewal costs as much as this one.
    let duration = app.duration()?;
    let duration = if duration.seconds() < 3600 { SessionDuration::HOUR } else { duration };
    let (credentials, config) = app.documents()?;
    let mut job = Job::plan(app, name, None, (&credentials, &config), false)?;
    job.hand_out_unwritten = true;
    let manager = Manager::new(app, manager, &config, &credentials);
    let service = server.map(|origin| Service::open(app, origin)).transpose()?;
    if job.own.is_none() && service.is_none() {
        job.check_name()?;
        manager.name()?;
        // The key of a renewal that was killed a moment ago is in the way of this one's: IAM allows two.
        leftovers::finish(app, Effort::InPassing)?;
    }
    let bars = Bars::new(app.out, 1);
    let done = aws::block_on(|cancel| async {
        let help = Help { manager: &manager, service: service.map(|service| service.with(&cancel)) };
        refresh_one(app, &job, &help, duration, false, &bars, cancel).await
    });
    bars.clear();
    done.map(|done| Renewed { credentials: done.credentials, written: done.written })
}

/// Without NAME: says whose `default` is, and asks.
pub fn default_profile(app: &App) -> Result<()> {
    let manager = app.manager_name().ok_or_else(no_manager)?;
    let (credentials, config) = app.documents()?;
    let profile = Profile::find("default", &credentials, &config)
        .filter(|_| credentials.contains("default"))
        .ok_or_else(|| {
            Failure::profile("'default' profile does not exist in credentials file")
                .hint(format!("Name a profile or user: iam-sorry --profile {manager} NAME"))
        })?;
    let key =
        profile.usable_key().ok_or_else(|| Failure::profile("'default' profile has no aws_access_key_id"))?;
    let user = match profile.owner() {
        Some(owner) => owner.to_owned(),
        None => {
            let id = app.open(&profile, key)?.access_key_id;
            let manager = Manager::new(app, app.manager_name(), &config, &credentials);
            let user = aws::block_on(|cancel| async move {
                let (aws, manager) = manager.open(&cancel).await?;
                cancel
                    .unless(user_of_key(aws, manager, &id))
                    .await
                    .map_err(|e| undetermined(app, "default", e))
            })?;
            user.to_string()
        }
    };
    app.out.progress(format!("No profile specified. Found 'default' profile with user: {user}"));
    if !terminal::confirm(app, "Do you want to refresh credentials for the 'default' profile?")? {
        return app.out.line("Aborted.");
    }
    run(app, &Plan { names: vec!["default".into()], ..Plan::default() })
}

fn undetermined(app: &App, name: &str, cause: AwsError) -> Failure {
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
    Failure::new(Kind::Aws, format!("Could not determine IAM user for profile '{name}'")).hint(why).hint(format!(
        "Write 'credentials_owner = USER' into [{name}], or remove that section, then: iam-sorry --profile {manager} {name}"
    ))
}

/// Every profile with credentials that we wrote: their owner or role is recorded, and they expire.
fn made_by_us(credentials: &Document) -> Vec<String> {
    let whose =
        |name: &str| credentials.value(name, OWNER).or_else(|| credentials.value(name, ROLE)).is_some();
    let ours = |name: &&str| whose(name) && credentials.value(name, TOKEN).is_some();
    credentials.profiles().into_iter().filter(ours).map(str::to_owned).collect()
}

/// What one refresh came to.
struct Done {
    credentials: Credentials,
    written: bool,
    user: String,
    expires: String,
    without_mfa: bool,
}

async fn refresh_one(
    app: &App,
    job: &Job,
    help: &Help<'_>,
    duration: SessionDuration,
    keep_key: bool,
    bars: &Bars,
    cancel: Cancel,
) -> Result<Done> {
    bars.step(&job.name, "Requesting temporary credentials");
    if let Some(own) = &job.own {
        match with_own_key(app, job, own, duration, &cancel).await {
            // The key in the profile is dead; the manager can still help.
            Err(Lapsed(key_id)) if help.service.is_some() || help.manager.name().is_ok() => {
                let whom = if help.service.is_some() { "service" } else { "manager" };
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
    match &help.service {
        Some(Service(client)) => with_service(app, job, client).await,
        None => with_manager(app, job, help.manager, duration, keep_key, bars, cancel).await,
    }
}

/// AWS does not know this access key any more.
struct Lapsed(String);

/// The user's own permanent key asks STS: no manager, no key made.
async fn with_own_key(
    app: &App,
    job: &Job,
    own: &AccessKey,
    duration: SessionDuration,
    cancel: &Cancel,
) -> std::result::Result<Result<Done>, Lapsed> {
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
            Failure::new(
                Kind::Aws,
                format!("The permanent keys of profile '{}' are not an IAM user's", job.name),
            )
            .hint("The account's root user gets no temporary credentials here: use an IAM user")
        })?;
        let written = deliver(app, job, &credentials, user.as_str(), Maker::OwnKey)?;
        Ok(Ok(done(credentials, written, user.as_str(), mfa.is_none())))
    };
    match work.await {
        Ok(Err(lapsed)) => Err(lapsed),
        Ok(Ok(done)) => Ok(Ok(done)),
        Err(failure) => Ok(Err(failure)),
    }
}

/// The manager makes a key for the user, for as long as it takes.
async fn with_manager(
    app: &App,
    job: &Job,
    manager: &Manager<'_>,
    duration: SessionDuration,
    keep_key: bool,
    bars: &Bars,
    cancel: Cancel,
) -> Result<Done> {
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
        None => written = deliver(app, job, &issued.credentials, user, Maker::Manager)?,
        Some(kept) => match write(app, job, &issued.credentials, user, Some(kept.key()), Maker::Manager) {
            // The profile holds it, which is what the next run finds out where the journal could not be cleared.
            Ok(()) => kept.kept().unwrap_or_else(|e| app.out.warn(e.to_string())),
            Err(failure) => return Err(failure.unless_undone(kept.discard(&issuer).await)),
        },
    }
    Ok(done(issued.credentials, written, user, issued.of_manager))
}

/// The recorded owner, else whose the key in the profile is, else the name itself.
async fn user_behind(
    app: &App,
    job: &Job,
    aws: &Aws,
    manager: &Credentials,
    cancel: &Cancel,
) -> Result<UserName> {
    let by_name = || UserName::parse(&job.name).map_err(Failure::from);
    let Some(profile) = &job.profile else { return by_name() };
    if let Some(owner) = profile.owner() {
        return UserName::parse(owner)
            .map_err(|e| Failure::profile(format!("Profile '{}': credentials_owner: {e}", job.name)));
    }
    let Some(key) = profile.active_key() else { return by_name() };
    let id = app.open(profile, key)?.access_key_id;
    cancel.unless(user_of_key(aws, manager, &id)).await.map_err(|e| undetermined(app, &job.name, e))
}

fn done(credentials: Credentials, written: bool, user: &str, without_mfa: bool) -> Done {
    let expires = credentials.expiration.map_or_else(|| "unknown".into(), |at| at.to_string());
    Done { credentials, written, user: user.to_owned(), expires, without_mfa }
}

/// Writes the credentials down; false where that failed and they are wanted all the same.
fn deliver(app: &App, job: &Job, credentials: &Credentials, user: &str, maker: Maker<'_>) -> Result<bool> {
    match write(app, job, credentials, user, None, maker) {
        Err(failure) if job.hand_out_unwritten => {
            app.out.warn(format!("The renewed credentials of '{}' are not written: {failure}", job.name));
            Ok(false)
        }
        written => written.map(|()| true),
    }
}

/// Puts the credentials into the profile. A permanent key goes in sealed beside them: a new one, or the user's own that
/// lay in their place. Also one that AWS did not accept: it may be inactive for now, or of another account.
fn write(
    app: &App,
    job: &Job,
    credentials: &Credentials,
    user: &str,
    new: Option<&AccessKey>,
    maker: Maker<'_>,
) -> Result<()> {
    let name = &job.name;
    let keep = new.or(job.own.as_ref().filter(|_| job.own_to_seal));
    let mut to_seal: Vec<(&'static str, SecretString)> = Vec::new();
    if let Some(key) = keep {
        to_seal.extend([(KEPT_ID, key.id.as_str().into()), (KEPT_SECRET, key.secret.clone())]);
    }
    // A temporary set that was sealed stays so.
    if job.profile.as_ref().and_then(Profile::active_key).is_some_and(|k| k.is_sealed() && k.token.is_some())
    {
        to_seal.push((ID, credentials.access_key_id.as_str().into()));
        to_seal.push((SECRET, credentials.secret_access_key.clone()));
        to_seal.extend(credentials.session_token.clone().map(|token| (TOKEN, token)));
    }
    let sealed =
        if to_seal.is_empty() { Vec::new() } else { seal_under(app, name, job.profile.as_ref(), &to_seal)? };
    app.update(&app.credentials, |document| {
        match &job.profile {
            Some(profile) => unchanged(document, profile)?,
            None if document.contains(name) => {
                return Err(Failure::other(format!(
                    "Profile '{name}' appeared meanwhile; nothing was written"
                ))
                .hint("Run the command again"));
            }
            None => {}
        }
        document.set(name, ID, &credentials.access_key_id)?;
        document.set(name, SECRET, credentials.secret_access_key.expose_secret())?;
        if let Some(token) = &credentials.session_token {
            document.set(name, TOKEN, token.expose_secret())?;
        }
        document.set(name, OWNER, user)?;
        if let Some(at) = credentials.expiration {
            document.set(name, EXPIRATION, &at.to_string())?;
        }
        match maker {
            Maker::OwnKey => {}
            Maker::Manager => {
                document.remove(name, SERVER);
            }
            // So that it can be renewed there, unattended, while the session lasts.
            Maker::Service(origin) => document.set(name, SERVER, origin.as_str())?,
        }
        store(document, name, &sealed)
    })
}

fn report(app: &App, jobs: &[Job], results: Vec<Result<Done>>) -> Result<()> {
    let total = results.len();
    let mut failures = Vec::new();
    // A reader of stdout that went away must not hide what failed.
    let mut told = Ok(());
    for (job, result) in jobs.iter().zip(results) {
        match result {
            Ok(done) => {
                let lines = [
                    format!("Successfully updated profile '{}'", job.name),
                    format!("IAM user: {}", done.user),
                    format!("Credentials expire at: {}", done.expires),
                ];
                told = told.and_then(|()| lines.iter().try_for_each(|line| app.out.done(line)));
                if done.without_mfa {
                    app.out.progress(
                        "Made without MFA, so these credentials can't call IAM (AWS's rule for sessions)",
                    );
                }
            }
            Err(failure) => {
                failures.push(match job.what_stays(app) {
                    Some(line) => failure.hint(line),
                    None => failure,
                });
            }
        }
    }
    let Some(last) = failures.pop() else { return told };
    if total == 1 {
        return Err(last);
    }
    let count = failures.len() + 1;
    for failure in &failures {
        app.out.error(failure);
    }
    Err(last.hint(format!("{count} of {total} profiles could not be refreshed")))
}
