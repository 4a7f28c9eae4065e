//! Temporary credentials in a profile: refreshed before they expire, and written back to the profile.

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::ssh::login::Origin;
use iam_sorry_core::timestamp::human_duration;

use crate::app::DEFAULT_MANAGER;
use crate::error::{Error, Result};
use crate::profile::{Profile, ROLE, SERVER, StoredKey};

use super::cache::{CacheEntry, REFRESH_MARGIN};
use super::cache_path::{CacheKey, CachePaths};
use super::chain::ProviderChain;
use super::singleflight::FileIdentity;
use super::{department, refresh, singleflight};

/// Who issues new credentials.
enum RefreshSource<'a> {
    OwnKey {
        else_manager: Option<&'a str>,
    },
    Manager(&'a str),
    Service(Origin),
    /// A role's credentials, through the service.
    Role(Origin, String),
}

impl ProviderChain<'_> {
    /// The stored credentials, if 20 minutes of them are left or no expiration is recorded; else new ones.
    pub(super) fn temporary(&self, profile: &Profile, key: StoredKey<'_>) -> Result<Credentials> {
        let app = self.app;
        let Some(at) = profile.expiration() else { return app.open(profile, key) };
        let left = at.seconds_after(app.now());
        if left >= REFRESH_MARGIN {
            return app.open(profile, key);
        }
        let refreshed = match (self.cached_refresh(&profile.name), self.refresh_source(profile)) {
            (Some(cached_refresh), _) => return Ok(cached_refresh),
            (None, Some(source)) => self.refresh(&profile.name, &source),
            (None, None) => Err(self.not_refreshable(profile)),
        };
        refreshed.or_else(|error| {
            let valid = at.seconds_after(app.now()) > 0;
            let old = valid.then(|| app.open(profile, key));
            self.fall_back(&profile.name, error, old)
        })
    }

    /// A profile with a recorded owner but without keys.
    pub(super) fn missing(&self, profile: &Profile) -> Result<Credentials> {
        match self.refresh_source(profile) {
            Some(source) => self.refresh(&profile.name, &source),
            None => self.app.usable_credentials(profile),
        }
    }

    /// A profile that does not exist yet, for the IAM user of that name.
    pub(super) fn create(&self, name: &str, manager: &str) -> Result<Credentials> {
        self.refresh(name, &RefreshSource::Manager(manager))
    }

    /// Refreshes once for all processes that need it; those that waited find the result in the file.
    fn refresh(&self, name: &str, source: &RefreshSource<'_>) -> Result<Credentials> {
        let app = self.app;
        let file = &app.settings.credentials_file;
        let (paths, key) = (CachePaths::find(app)?, self.refresh_key(name));
        let cache = CacheEntry::new(&paths, &key);
        let mut seen = None;
        let ready = || {
            if let Some(credentials) = cache.fresh(app.now()) {
                return Some(Ok(credentials));
            }
            let now = FileIdentity::of(file);
            if seen == Some(now) {
                return None;
            }
            seen = Some(now);
            self.refreshed_in_file(name)
        };
        singleflight::run(&paths, &key, ready, || {
            let (manager, server) = match source {
                RefreshSource::OwnKey { else_manager } => (*else_manager, None),
                RefreshSource::Manager(name) => (Some(*name), None),
                RefreshSource::Service(origin) => (None, Some(origin)),
                RefreshSource::Role(origin, arn) => {
                    return department::refresh_role(app, arn, name, Some(origin));
                }
            };
            let refreshed = refresh::refresh_profile(app, name, manager, server)?;
            if !refreshed.written
                && let Err(e) = cache.write(&refreshed.credentials, app.now())
            {
                app.out.warn(format!("The renewed credentials of '{name}' could not be kept: {e}"));
            }
            Ok(refreshed.credentials)
        })
    }

    /// The same for every path that leads to the credentials file.
    fn refresh_key(&self, name: &str) -> CacheKey {
        let file = &self.app.settings.credentials_file;
        let canonical = file.canonicalize().unwrap_or_else(|_| file.clone());
        CacheKey::of(&["renewed", &canonical.to_string_lossy(), name])
    }

    /// Refreshed credentials that could not be written to the profile, in a read-only home.
    fn cached_refresh(&self, name: &str) -> Option<Credentials> {
        let paths = CachePaths::find(self.app).ok()?;
        CacheEntry::new(&paths, &self.refresh_key(name)).fresh(self.app.now())
    }

    /// Credentials that another process has written since.
    fn refreshed_in_file(&self, name: &str) -> Option<Result<Credentials>> {
        let app = self.app;
        let (credentials, config) = (app.credentials.load().ok()?.document, app.config.load().ok()?.document);
        let profile = Profile::find(name, &credentials, &config)?;
        let key = profile.active_key()?;
        let fresh = profile.expiration()?.seconds_after(app.now()) >= REFRESH_MARGIN;
        fresh.then(|| app.open(&profile, key))
    }

    /// Through a manager only if an owner is recorded: other tools store sessions of roles.
    fn refresh_source(&self, profile: &Profile) -> Option<RefreshSource<'_>> {
        let manager = self.manager_for(&profile.name);
        if profile.kept_key().is_some() {
            return Some(RefreshSource::OwnKey { else_manager: manager });
        }
        // The service that issued them, unless the command line names a manager.
        let server = profile.field(SERVER).filter(|_| self.app.global.profile.is_none());
        if let Some(origin) = server.and_then(|url| Origin::parse(url).ok()) {
            return Some(match profile.field(ROLE) {
                Some(arn) => RefreshSource::Role(origin, arn.to_owned()),
                None => RefreshSource::Service(origin),
            });
        }
        profile.owner().and(manager).map(RefreshSource::Manager)
    }

    /// `--profile`, AWS_PROFILE, the settings file's manager, or the default manager. An SDK that calls iam-sorry may
    /// set AWS_PROFILE to the requested profile itself, or to one without keys; neither is a manager.
    fn manager_for(&self, name: &str) -> Option<&str> {
        let settings = &self.app.settings;
        if let Some(flag) = self.app.global.profile.as_deref() {
            return (flag != name).then_some(flag);
        }
        let can =
            |manager: &&str| *manager != name && self.find(manager).is_some_and(|m| m.usable_key().is_some());
        let named = [&settings.profile, &settings.profile_in_file].into_iter().flatten();
        named.map(String::as_str).chain([DEFAULT_MANAGER]).find(can)
    }

    fn not_refreshable(&self, profile: &Profile) -> Error {
        let name = &profile.name;
        let when = match profile.expiration().map(|at| (at, at.seconds_after(self.app.now()))) {
            Some((at, left)) if left <= 0 => format!("expired {} ago, at {at}", human_duration(-left)),
            Some((at, left)) => format!("expire in {}, at {at}", human_duration(left)),
            None => "are missing".to_owned(),
        };
        let error = Error::profile(format!("The credentials of profile '{name}' {when}"));
        if profile.owner().is_none() {
            return error.hint(
                "Another tool made them (there is no credentials_owner), so they are renewed with that tool",
            );
        }
        error
            .hint(format!("Refresh them: iam-sorry --profile MANAGER {name}"))
            .hint("With profile = \"MANAGER\" in ~/.config/iam-sorry/config.toml that is done by itself")
    }
}
