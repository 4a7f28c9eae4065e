//! Temporary credentials that near their end: renewed by the user's own kept key, else through the manager, and written
//! back to their profile.

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::ssh::login::Origin;
use iam_sorry_core::timestamp::human_duration;

use crate::app::DEFAULT_MANAGER;
use crate::error::{Error, Result};
use crate::profile::{Profile, ROLE, SERVER, StoredKey};

use super::cache::{CacheEntry, RENEWAL_MARGIN};
use super::cache_path::{CacheKey, CachePaths};
use super::chain::ProviderChain;
use super::singleflight::FileIdentity;
use super::{department, refresh, singleflight};

/// Who makes the new set.
enum RenewalSource<'a> {
    OwnKey {
        else_manager: Option<&'a str>,
    },
    Manager(&'a str),
    Service(Origin),
    /// A role's, through the service.
    Role(Origin, String),
}

impl ProviderChain<'_> {
    /// The set as it lies there while 20 minutes of it are left, or where nobody wrote down when it ends.
    pub(super) fn temporary(&self, profile: &Profile, key: StoredKey<'_>) -> Result<Credentials> {
        let app = self.app;
        let Some(at) = profile.expiration() else { return app.open(profile, key) };
        let left = at.seconds_after(app.now());
        if left >= RENEWAL_MARGIN {
            return app.open(profile, key);
        }
        let renewed = match (self.kept_out(&profile.name), self.way(profile)) {
            (Some(kept_out), _) => return Ok(kept_out),
            (None, Some(way)) => self.renewed(&profile.name, &way),
            (None, None) => Err(self.no_way(profile)),
        };
        renewed.or_else(|error| {
            let valid = at.seconds_after(app.now()) > 0;
            let old = valid.then(|| app.open(profile, key));
            self.instead(&profile.name, error, old)
        })
    }

    /// A profile that says whose it is, and has lost its keys.
    pub(super) fn missing(&self, profile: &Profile) -> Result<Credentials> {
        match self.way(profile) {
            Some(way) => self.renewed(&profile.name, &way),
            None => self.app.usable_credentials(profile),
        }
    }

    /// A profile that does not exist yet, for the IAM user of that name.
    pub(super) fn make(&self, name: &str, manager: &str) -> Result<Credentials> {
        self.renewed(name, &RenewalSource::Manager(manager))
    }

    /// One renewal for all who ask at the same time; who waited finds it in the file.
    fn renewed(&self, name: &str, way: &RenewalSource<'_>) -> Result<Credentials> {
        let app = self.app;
        let file = &app.settings.credentials_file;
        let (paths, key) = (CachePaths::find(app)?, self.key_of(name));
        let cache = CacheEntry::new(&paths, &key);
        let mut looked_at = None;
        let ready = || {
            if let Some(credentials) = cache.fresh(app.now()) {
                return Some(Ok(credentials));
            }
            let now = FileIdentity::of(file);
            if looked_at == Some(now) {
                return None;
            }
            looked_at = Some(now);
            self.in_the_file(name)
        };
        singleflight::run(&paths, &key, ready, || {
            let (manager, server) = match way {
                RenewalSource::OwnKey { else_manager } => (*else_manager, None),
                RenewalSource::Manager(name) => (Some(*name), None),
                RenewalSource::Service(origin) => (None, Some(origin)),
                RenewalSource::Role(origin, arn) => {
                    return department::renew_role(app, arn, name, Some(origin));
                }
            };
            let renewed = refresh::renew(app, name, manager, server)?;
            if !renewed.written
                && let Err(e) = cache.write(&renewed.credentials, app.now())
            {
                app.out.warn(format!("The renewed credentials of '{name}' could not be kept: {e}"));
            }
            Ok(renewed.credentials)
        })
    }

    /// One file and profile is one piece of work, by whatever links it is reached.
    fn key_of(&self, name: &str) -> CacheKey {
        let file = &self.app.settings.credentials_file;
        let whole = file.canonicalize().unwrap_or_else(|_| file.clone());
        CacheKey::of(&["renewed", &whole.to_string_lossy(), name])
    }

    /// A renewed set that a read-only home kept out of the profile.
    fn kept_out(&self, name: &str) -> Option<Credentials> {
        let paths = CachePaths::find(self.app).ok()?;
        CacheEntry::new(&paths, &self.key_of(name)).fresh(self.app.now())
    }

    /// The set that another process wrote meanwhile.
    fn in_the_file(&self, name: &str) -> Option<Result<Credentials>> {
        let app = self.app;
        let (credentials, config) = (app.credentials.load().ok()?.document, app.config.load().ok()?.document);
        let profile = Profile::find(name, &credentials, &config)?;
        let key = profile.active_key()?;
        let fresh = profile.expiration()?.seconds_after(app.now()) >= RENEWAL_MARGIN;
        fresh.then(|| app.open(&profile, key))
    }

    /// Through a manager only where we know that the set is an IAM user's: other tools write role sessions of theirs.
    fn way(&self, profile: &Profile) -> Option<RenewalSource<'_>> {
        let manager = self.manager_for(&profile.name);
        if profile.kept_key().is_some() {
            return Some(RenewalSource::OwnKey { else_manager: manager });
        }
        // The service that made them, unless somebody names a manager on the command line.
        let server = profile.field(SERVER).filter(|_| self.app.global.profile.is_none());
        if let Some(origin) = server.and_then(|url| Origin::parse(url).ok()) {
            return Some(match profile.field(ROLE) {
                Some(arn) => RenewalSource::Role(origin, arn.to_owned()),
                None => RenewalSource::Service(origin),
            });
        }
        profile.owner().and(manager).map(RenewalSource::Manager)
    }

    /// `--profile`, AWS_PROFILE, the settings file, the manager that we made. SDKs that call us may have AWS_PROFILE name the very profile that is
    /// asked for, or one that holds no keys: then it doesn't mean a manager.
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

    fn no_way(&self, profile: &Profile) -> Error {
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
