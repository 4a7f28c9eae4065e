//! Credentials of a profile, whatever it takes: as they lie there, renewed, a role's, a session's.
//!
//! What is there and valid is handed out at once, with no runtime, TLS or SDK. Everything else is one request to AWS for
//! all who ask at the same time (`flight`), and an expired set is never handed out.

mod cache;
mod flight;
mod place;
mod process;
mod renew;
mod role;
mod session;

use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::timestamp::human_duration;

use crate::app::App;
use crate::failure::{Failure, Kind, Result};
use crate::profile::{PROCESS, Profile};
use cache::{Cache, Key};
use place::Place;

/// What has less left is renewed first: AWS CLI asks again 15 minutes before the end, so with less it would ask twice
/// for one command.
const MARGIN: i64 = 20 * 60;

/// How the credentials are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want {
    /// A session in place of permanent keys.
    pub session: bool,
    /// A profile that doesn't exist is made, where `--profile MANAGER` says by whom.
    pub make: bool,
}

/// A profile and what it came to.
pub struct Supplied {
    pub profile: Profile,
    pub credentials: Credentials,
}

/// Credentials of profile `name`, valid now.
///
/// # Errors
/// Kind `Profile` where there are none and no way to get them; `Aws` where AWS was asked in vain; `Key` where a sealed
/// value could not be opened.
pub fn credentials(app: &App, name: &str, want: Want) -> Result<Supplied> {
    let supply = Supply { app, config: app.load(&app.config)? };
    let trail = Trail(app.settings.under_way.clone());
    let Some(profile) = supply.find_first(name)? else {
        let manager = app.global.profile.as_deref().filter(|manager| want.make && *manager != name);
        let Some(manager) = manager else { return Err(app.not_found("Profile", name)) };
        let credentials = supply.make(name, manager)?;
        return Ok(Supplied { profile: app.profile(name)?, credentials });
    };
    let credentials = supply.of(&profile, want.session, &trail)?;
    Ok(Supplied { profile, credentials })
}

/// The config file as it was when the work began; of the credentials file, only the profiles that come up are read.
struct Supply<'a> {
    app: &'a App,
    config: Document,
}

impl Supply<'_> {
    /// The profile that was asked for; what is wrong with the file is told here.
    fn find_first(&self, name: &str) -> Result<Option<Profile>> {
        let loaded = self.app.credentials.load_for(name)?;
        self.app.show_notices(&loaded.notices);
        Ok(Profile::find(name, &loaded.document, &self.config))
    }

    /// One that another leads to.
    fn find(&self, name: &str) -> Option<Profile> {
        let loaded = self.app.credentials.load_for(name).ok()?;
        Profile::find(name, &loaded.document, &self.config)
    }

    /// As AWS tools do: a role is assumed even where the profile has keys too (they may be its source).
    fn of(&self, profile: &Profile, session: bool, trail: &Trail) -> Result<Credentials> {
        if role::is_role(profile) {
            return self.role(profile, trail);
        }
        self.without_role(profile, session, trail)
    }

    fn without_role(&self, profile: &Profile, session: bool, trail: &Trail) -> Result<Credentials> {
        match profile.usable_key() {
            Some(key) if key.token.is_some() => self.temporary(profile, key),
            Some(key) if session => self.session(profile, key, trail),
            Some(key) => self.app.open(profile, key),
            None if profile.owner().is_some() => self.missing(profile),
            None => match profile.setting(PROCESS).and_then(process::profile_of_our_line) {
                Some(next) => self.through_our_own_line(profile, &next, session, trail),
                None => self.app.usable_credentials(profile),
            },
        }
    }

    /// As the source of a role: another program's credential_process is run for it.
    fn of_source(&self, profile: &Profile, trail: &Trail) -> Result<Credentials> {
        match profile.setting(PROCESS).filter(|_| profile.usable_key().is_none()) {
            Some(line) if process::profile_of_our_line(line).is_none() => {
                process::run(self.app, profile, line, &trail.with(self.app, &profile.name)?)
            }
            _ => self.without_role(profile, false, trail),
        }
    }

    /// `credential_process = iam-sorry credential-process NEXT`: nothing is started for it.
    fn through_our_own_line(
        &self,
        profile: &Profile,
        next: &str,
        session: bool,
        trail: &Trail,
    ) -> Result<Credentials> {
        let trail = trail.with(self.app, &profile.name)?;
        let next = self.find(next).ok_or_else(|| {
            let config = self.app.settings.config_file.display();
            self.app
                .not_found("Profile", next)
                .hint(format!("credential_process of [profile {}] in {config} names it", profile.name))
        })?;
        trail.check(self.app, &next.name)?;
        self.of(&next, session, &trail)
    }

    /// Credentials that lie in the cache, or else are got by `work`, once for all who ask at the same time.
    fn cached(
        &self,
        name: &str,
        key: &Key,
        trail: &Trail,
        work: impl FnOnce(&Trail) -> Result<Credentials>,
    ) -> Result<Credentials> {
        let app = self.app;
        let place = Place::find(app)?;
        let cache = Cache::new(&place, key);
        if let Some(credentials) = cache.fresh(app.now()) {
            return Ok(credentials);
        }
        // Before the lock: who waits for a lock that an iam-sorry above us holds waits for ever.
        let trail = trail.with(app, name)?;
        let ready = || cache.fresh(app.now()).map(Ok);
        let got = flight::once(&place, key, ready, || {
            let credentials = work(&trail)?;
            if let Err(e) = cache.write(&credentials, app.now()) {
                app.out.warn(format!("The credentials of '{name}' could not be kept for the next call: {e}"));
            }
            Ok(credentials)
        });
        got.or_else(|failure| self.instead(name, failure, cache.valid(app.now()).map(Ok)))
    }

    /// What could not be renewed is handed out as long as it is valid, and not a second longer.
    fn instead(&self, name: &str, failure: Failure, old: Option<Result<Credentials>>) -> Result<Credentials> {
        if failure.kind == Kind::Interrupted {
            return Err(failure);
        }
        let Some(old) = old else { return Err(failure) };
        let old = old?;
        let left = old.seconds_left(self.app.now()).unwrap_or(0);
        if left <= 0 {
            return Err(failure);
        }
        self.app.out.warn(format!(
            "The credentials of '{name}' are valid for another {} and were not renewed: {failure}",
            human_duration(left)
        ));
        Ok(old)
    }
}

/// The profiles under way, outermost first, those of an iam-sorry that started a program that started us included.
#[derive(Clone, Debug)]
struct Trail(Vec<String>);

impl Trail {
    /// One deeper.
    fn with(&self, app: &App, name: &str) -> Result<Self> {
        self.check(app, name)?;
        let mut names = self.0.clone();
        names.push(name.to_owned());
        Ok(Self(names))
    }

    /// Stops a profile that needs itself, which would go on until the machine has no process left (aws-vault#1176).
    fn check(&self, app: &App, name: &str) -> Result<()> {
        if !self.0.iter().any(|under_way| under_way == name) {
            return Ok(());
        }
        let way: Vec<&str> = self.0.iter().map(String::as_str).chain([name]).collect();
        let (credentials, config) = (&app.settings.credentials_file, &app.settings.config_file);
        Err(Failure::profile(format!(
            "Profile '{name}' needs its own credentials to get credentials: {}",
            way.join(" -> ")
        ))
        .hint(format!("Look at its credential_process and source_profile in {}", config.display()))
        .hint(format!("Or put keys of its own into [{name}] in {}", credentials.display())))
    }

    /// For the environment of a program that we start.
    fn lines(&self) -> String {
        self.0.join("\n")
    }
}
