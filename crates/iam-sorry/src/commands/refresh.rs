//! `refresh NAME...`, and the original's form `iam-sorry NAME`: writes temporary credentials of IAM users to their
//! profiles.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use iam_sorry_aws::lookup::user_of_key;
use iam_sorry_core::aws_files::Document;

use crate::app::App;
use crate::error::{Error, Result};
use crate::profile::{OWNER, Profile, ROLE, TOKEN};
use crate::progress::Bars;
use crate::provider::manager::{Manager, no_manager};
use crate::provider::refresh::{Refreshed, Refresher, undetermined};
use crate::provider::{RefreshJob, department};
use crate::recovery::{self, RecoveryMode};
use crate::{aws, service, terminal};

use super::service::role;

/// Concurrent refreshes. IAM's rate limits are per account, so more would only be throttled.
const AT_ONCE: usize = 8;

/// The arguments of `refresh`.
#[derive(Debug, Default)]
pub struct RefreshRequest {
    pub names: Vec<String>,
    pub all: bool,
    pub keep_key: bool,
}

pub fn run(app: &App, request: &RefreshRequest) -> Result<()> {
    let duration = app.duration()?;
    let (credentials, config) = app.documents()?;
    let mut names = request.names.clone();
    if request.all {
        names = own_profiles(&credentials);
        // A temporary manager is refreshed by its own manager.
        names.retain(|name| app.manager_name() != Some(name));
        if names.is_empty() {
            return Err(Error::profile("There is no profile yet that iam-sorry made")
                .hint("Make one: iam-sorry --profile MANAGER NAME"));
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    // Roles, whose credentials only the department service can issue again.
    let (roles, names): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| credentials.value(name, ROLE).is_some());
    for name in &roles {
        let arn = credentials.value(name, ROLE).unwrap_or_default();
        role::refresh(app, arn, name)?;
    }
    if names.is_empty() {
        return Ok(());
    }
    // Checks come before the first request.
    let server = service::for_credentials(app)?;
    let manager_name = if server.is_none() { app.manager_name() } else { None };
    let plan_one =
        |name| RefreshJob::plan(app, name, app.manager_name(), (&credentials, &config), request.keep_key);
    let jobs: Vec<RefreshJob> = names.iter().map(|name| plan_one(name)).collect::<Result<_>>()?;
    let manager = Manager::new(app, manager_name, &config, &credentials);
    let service = match server.filter(|_| jobs.iter().any(|job| job.own_key.is_none())) {
        Some(_) if request.keep_key => {
            return Err(Error::usage(
                "--keep-key goes with a manager; a department service keeps no keys in profiles",
            )
            .hint("A key of the user's own: iam-sorry keys create NAME --as PROFILE --encrypt"));
        }
        Some(origin) => Some(department::open(app, &origin)?),
        None => None,
    };
    for job in jobs.iter().filter(|job| job.own_key.is_none()) {
        job.check_name()?;
        if service.is_some() {
            continue;
        }
        manager.name()?;
        if let Some(user) = job.known_user() {
            manager.check_namespace(&user)?;
        }
    }
    recovery::finish(app, RecoveryMode::Full)?;
    let bars = Bars::new(app.out, jobs.len());
    let results = {
        let (jobs, bars) = (&jobs, &bars);
        aws::block_on(|cancel| async move {
            let service = service.map(|service| service.with_cancel(cancel.clone()));
            if service.is_none() && jobs.iter().any(|job| job.own_key.is_none()) {
                manager.open(&cancel).await?;
            }
            let (manager, keep_key) = (&manager, request.keep_key);
            let refresher = &Refresher { app, manager, service, duration, keep_key, bars, cancel };
            let work = jobs.iter().map(async |job| refresher.refresh(job).await);
            Ok(stream::iter(work).buffered(AT_ONCE).collect().await)
        })?
    };
    bars.clear();
    report(app, &jobs, results)
}

/// Without NAME: prompts to refresh `default`, naming its user.
pub fn default_profile(app: &App) -> Result<()> {
    let manager = app.manager_name().ok_or_else(no_manager)?;
    let (credentials, config) = app.documents()?;
    let profile = Profile::find("default", &credentials, &config)
        .filter(|_| credentials.contains("default"))
        .ok_or_else(|| {
            Error::profile("'default' profile does not exist in credentials file")
                .hint(format!("Name a profile or user: iam-sorry --profile {manager} NAME"))
        })?;
    let key =
        profile.usable_key().ok_or_else(|| Error::profile("'default' profile has no aws_access_key_id"))?;
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
    run(app, &RefreshRequest { names: vec!["default".into()], ..RefreshRequest::default() })
}

/// Profiles with credentials that iam-sorry wrote: an owner or role is recorded, and there is a session token.
fn own_profiles(credentials: &Document) -> Vec<String> {
    let whose =
        |name: &str| credentials.value(name, OWNER).or_else(|| credentials.value(name, ROLE)).is_some();
    let ours = |name: &&str| whose(name) && credentials.value(name, TOKEN).is_some();
    credentials.profiles().into_iter().filter(ours).map(str::to_owned).collect()
}

fn report(app: &App, jobs: &[RefreshJob], results: Vec<Result<Refreshed>>) -> Result<()> {
    let total = results.len();
    let mut failures = Vec::new();
    // A closed stdout must not hide the errors.
    let mut printed = Ok(());
    for (job, result) in jobs.iter().zip(results) {
        match result {
            Ok(done) => {
                let lines = [
                    format!("Successfully updated profile '{}'", job.name),
                    format!("IAM user: {}", done.user),
                    format!("Credentials expire at: {}", done.expires),
                ];
                printed = printed.and_then(|()| lines.iter().try_for_each(|line| app.out.done(line)));
                if done.without_mfa {
                    app.out.progress(
                        "Made without MFA, so these credentials can't call IAM (AWS's rule for sessions)",
                    );
                }
            }
            Err(error) => {
                failures.push(match job.remaining_credentials(app) {
                    Some(line) => error.hint(line),
                    None => error,
                });
            }
        }
    }
    let Some(last) = failures.pop() else { return printed };
    if total == 1 {
        return Err(last);
    }
    let count = failures.len() + 1;
    for error in &failures {
        app.out.error(error);
    }
    Err(last.hint(format!("{count} of {total} profiles could not be refreshed")))
}
