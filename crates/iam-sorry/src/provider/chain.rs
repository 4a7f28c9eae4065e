//! Credentials of a profile, whatever it takes: as they lie there, renewed, a role's, a session's.
//!
//! What is there and valid is handed out at once, with no runtime, TLS or SDK. Everything else is one request to AWS for
//! all who ask at the same time (`singleflight`), and an expired set is never handed out.

use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::timestamp::human_duration;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::profile::{PROCESS, Profile};

use super::cache::CacheEntry;
use super::cache_path::{CacheKey, CachePaths};
use super::in_progress::InProgress;
use super::{process, singleflight};

/// How the credentials are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProvideOptions {
    /// A session in place of permanent keys.
    pub session: bool,
    /// A profile that doesn't exist is made, where `--profile MANAGER` says by whom.
    pub make: bool,
}

/// A profile and what it came to.
pub struct ProfileCredentials {
    pub profile: Profile,
    pub credentials: Credentials,
}

/// Credentials of profile `name`, valid now.
///
/// # Errors
/// ErrorKind `Profile` where there are none and no way to get them; `Aws` where AWS was asked in vain; `Key` where a sealed
/// value could not be opened.
pub fn credentials(app: &App, name: &str, options: ProvideOptions) -> Result<ProfileCredentials> {
    let chain = ProviderChain { app, config: app.load(&app.config)? };
    let in_progress = InProgress::new(&app.settings.in_progress);
    let Some(profile) = chain.find_first(name)? else {
        let manager = app.global.profile.as_deref().filter(|manager| options.make && *manager != name);
        let Some(manager) = manager else { return Err(app.not_found("Profile", name)) };
        let credentials = chain.make(name, manager)?;
        return Ok(ProfileCredentials { profile: app.profile(name)?, credentials });
    };
    let credentials = chain.of(&profile, options.session, &in_progress)?;
    Ok(ProfileCredentials { profile, credentials })
}

/// The config file as it was when the work began; of the credentials file, only the profiles that come up are read.
pub struct ProviderChain<'a> {
    pub(super) app: &'a App,
    config: Document,
}

impl ProviderChain<'_> {
    /// The profile that was asked for; what is wrong with the file is told here.
    fn find_first(&self, name: &str) -> Result<Option<Profile>> {
        let loaded = self.app.credentials.load_for(name)?;
        self.app.show_notices(&loaded.notices);
        Ok(Profile::find(name, &loaded.document, &self.config))
    }

    /// One that another leads to.
    pub(super) fn find(&self, name: &str) -> Option<Profile> {
        let loaded = self.app.credentials.load_for(name).ok()?;
        Profile::find(name, &loaded.document, &self.config)
    }

    /// As AWS tools do: a role is assumed even where the profile has keys too (they may be its source).
    fn of(&self, profile: &Profile, session: bool, in_progress: &InProgress) -> Result<Credentials> {
        if profile.is_assumable_role() {
            return self.role(profile, in_progress);
        }
        self.without_role(profile, session, in_progress)
    }

    fn without_role(
        &self,
        profile: &Profile,
        session: bool,
        in_progress: &InProgress,
    ) -> Result<Credentials> {
        match profile.usable_key() {
            Some(key) if key.token.is_some() => self.temporary(profile, key),
            Some(key) if session => self.session(profile, key, in_progress),
            Some(key) => self.app.open(profile, key),
            None if profile.owner().is_some() => self.missing(profile),
            None => match profile.setting(PROCESS).and_then(process::profile_of_our_line) {
                Some(next) => self.through_our_own_line(profile, &next, session, in_progress),
                None => self.app.usable_credentials(profile),
            },
        }
    }

    /// As the source of a role: another program's credential_process is run for it.
    pub(super) fn of_source(&self, profile: &Profile, in_progress: &InProgress) -> Result<Credentials> {
        match profile.setting(PROCESS).filter(|_| profile.usable_key().is_none()) {
            Some(line) if process::profile_of_our_line(line).is_none() => {
                process::run(self.app, profile, line, &in_progress.with(self.app, &profile.name)?)
            }
            _ => self.without_role(profile, false, in_progress),
        }
    }

    /// `credential_process = iam-sorry credential-process NEXT`: nothing is started for it.
    fn through_our_own_line(
        &self,
        profile: &Profile,
        next: &str,
        session: bool,
        in_progress: &InProgress,
    ) -> Result<Credentials> {
        let in_progress = in_progress.with(self.app, &profile.name)?;
        let next = self.find(next).ok_or_else(|| {
            let config = self.app.settings.config_file.display();
            self.app
                .not_found("Profile", next)
                .hint(format!("credential_process of [profile {}] in {config} names it", profile.name))
        })?;
        in_progress.check(self.app, &next.name)?;
        self.of(&next, session, &in_progress)
    }

    /// Credentials that lie in the cache, or else are got by `work`, once for all who ask at the same time.
    pub(super) fn cached(
        &self,
        name: &str,
        key: &CacheKey,
        in_progress: &InProgress,
        work: impl FnOnce(&InProgress) -> Result<Credentials>,
    ) -> Result<Credentials> {
        let app = self.app;
        let paths = CachePaths::find(app)?;
        let cache = CacheEntry::new(&paths, key);
        if let Some(credentials) = cache.fresh(app.now()) {
            return Ok(credentials);
        }
        // Before the lock: who waits for a lock that an iam-sorry above us holds waits for ever.
        let in_progress = in_progress.with(app, name)?;
        let ready = || cache.fresh(app.now()).map(Ok);
        let got = singleflight::run(&paths, key, ready, || {
            let credentials = work(&in_progress)?;
            if let Err(e) = cache.write(&credentials, app.now()) {
                app.out.warn(format!("The credentials of '{name}' could not be kept for the next call: {e}"));
            }
            Ok(credentials)
        });
        got.or_else(|error| self.instead(name, error, cache.valid(app.now()).map(Ok)))
    }

    /// What could not be renewed is handed out as long as it is valid, and not a second longer.
    pub(super) fn instead(
        &self,
        name: &str,
        error: Error,
        old: Option<Result<Credentials>>,
    ) -> Result<Credentials> {
        if error.kind == ErrorKind::Interrupted {
            return Err(error);
        }
        let Some(old) = old else { return Err(error) };
        let old = old?;
        let left = old.seconds_left(self.app.now()).unwrap_or(0);
        if left <= 0 {
            return Err(error);
        }
        self.app.out.warn(format!(
            "The credentials of '{name}' are valid for another {} and were not renewed: {error}",
            human_duration(left)
        ));
        Ok(old)
    }
}
