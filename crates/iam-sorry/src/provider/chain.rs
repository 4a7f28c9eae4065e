//! Decides where a profile's credentials come from.
//!
//! Stored credentials that are valid are handed out at once, without runtime, TLS or SDK. Everything else costs one
//! request to AWS, which all processes that need the result share (`singleflight`). Expired credentials are never
//! handed out.

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

/// Which credentials the caller wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProvideOptions {
    /// A session in place of permanent keys.
    pub session: bool,
    /// Create a profile that does not exist, if `--profile MANAGER` names a manager.
    pub create: bool,
}

/// A profile and its credentials.
pub struct ProfileCredentials {
    pub profile: Profile,
    pub credentials: Credentials,
}

/// Credentials of profile `name`, valid now.
///
/// # Errors
/// Kind `Profile` if there are none and no source of any; `Aws` if the request failed; `Key` if a sealed value can't be
/// opened.
pub fn credentials(app: &App, name: &str, options: ProvideOptions) -> Result<ProfileCredentials> {
    let chain = ProviderChain { app, config: app.load(&app.config)? };
    let in_progress = InProgress::new(&app.settings.in_progress);
    let Some(profile) = chain.find_requested(name)? else {
        let manager = app.global.profile.as_deref().filter(|manager| options.create && *manager != name);
        let Some(manager) = manager else { return Err(app.not_found("Profile", name)) };
        let credentials = chain.create(name, manager)?;
        return Ok(ProfileCredentials { profile: app.profile(name)?, credentials });
    };
    let credentials = chain.provide(&profile, options.session, &in_progress)?;
    Ok(ProfileCredentials { profile, credentials })
}

/// The config file as it was at the start. Of the credentials file, only the profiles that are needed are read.
pub struct ProviderChain<'a> {
    pub(super) app: &'a App,
    config: Document,
}

impl ProviderChain<'_> {
    /// The profile that the caller wants, with the file's warnings.
    fn find_requested(&self, name: &str) -> Result<Option<Profile>> {
        let loaded = self.app.credentials.load_for(name)?;
        self.app.show_notices(&loaded.notices);
        Ok(Profile::find(name, &loaded.document, &self.config))
    }

    /// A profile that another one refers to.
    pub(super) fn find(&self, name: &str) -> Option<Profile> {
        let loaded = self.app.credentials.load_for(name).ok()?;
        Profile::find(name, &loaded.document, &self.config)
    }

    /// As AWS tools do, a role is assumed even if the profile has keys too (which may be the role's source).
    fn provide(&self, profile: &Profile, session: bool, in_progress: &InProgress) -> Result<Credentials> {
        if profile.is_assumable_role() {
            return self.role(profile, in_progress);
        }
        self.provide_without_role(profile, session, in_progress)
    }

    fn provide_without_role(
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
            None => match profile.setting(PROCESS).and_then(process::own_line_profile) {
                Some(next) => self.follow_own_line(profile, &next, session, in_progress),
                None => self.app.usable_credentials(profile),
            },
        }
    }

    /// Credentials to assume a role with; if need be, from another program's credential_process.
    pub(super) fn role_source_credentials(
        &self,
        profile: &Profile,
        in_progress: &InProgress,
    ) -> Result<Credentials> {
        match profile.setting(PROCESS).filter(|_| profile.usable_key().is_none()) {
            Some(line) if process::own_line_profile(line).is_none() => {
                process::run(self.app, profile, line, &in_progress.with(self.app, &profile.name)?)
            }
            _ => self.provide_without_role(profile, false, in_progress),
        }
    }

    /// Follows `credential_process = iam-sorry credential-process NEXT` without starting a process.
    fn follow_own_line(
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
        self.provide(&next, session, &in_progress)
    }

    /// Cached credentials, else the result of `work`, shared by all processes that need it at the same time.
    pub(super) fn cached_or(
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
        // Before the lock: a process that waits for a lock of its own parent would wait for ever.
        let in_progress = in_progress.with(app, name)?;
        let ready = || cache.fresh(app.now()).map(Ok);
        let got = singleflight::run(&paths, key, ready, || {
            let credentials = work(&in_progress)?;
            if let Err(e) = cache.write(&credentials, app.now()) {
                app.out.warn(format!("The credentials of '{name}' could not be kept for the next call: {e}"));
            }
            Ok(credentials)
        });
        got.or_else(|error| self.fall_back(name, error, cache.valid(app.now()).map(Ok)))
    }

    /// Falls back to the old credentials while they are valid.
    pub(super) fn fall_back(
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
