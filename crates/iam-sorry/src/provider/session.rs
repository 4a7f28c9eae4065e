//! `--session`: a session of the user in place of permanent keys.

use iam_sorry_aws::issue::session_from_key;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::UserName;

use crate::aws;
use crate::error::Result;
use crate::profile::{Profile, StoredKey};

use super::cache_path::CacheKey;
use super::chain::ProviderChain;
use super::in_progress::InProgress;
use super::mfa::mfa;

impl ProviderChain<'_> {
    /// A GetSessionToken session of `key`, for `--duration` (default 36 h), with MFA if the profile has an mfa_serial.
    pub(super) fn session(
        &self,
        profile: &Profile,
        key: StoredKey<'_>,
        in_progress: &InProgress,
    ) -> Result<Credentials> {
        let app = self.app;
        let duration = app.duration()?;
        let file = app.settings.credentials_file.to_string_lossy();
        let seconds = duration.seconds().to_string();
        let (address, region) = aws::address(app, profile);
        let serial = profile.setting("mfa_serial").unwrap_or_default();
        // The key ID as stored: a new key, or one that was sealed again, gets a new session.
        let parts = ["session", &*file, &profile.name, key.id.1, &seconds, serial, &address, &region];
        self.cached_or(&profile.name, &CacheKey::of(&parts), in_progress, |_| {
            let opened = app.open(profile, key)?;
            let own = AccessKey { id: opened.access_key_id, secret: opened.secret_access_key };
            let aws = aws::connect(app, Some(profile))?;
            let mfa = mfa(app, profile)?;
            let owner = profile.owner().and_then(|owner| UserName::parse(owner).ok());
            aws::block_on(|_| async {
                let session = session_from_key(&aws, &own, duration, mfa.as_ref(), owner.as_ref()).await?;
                Ok(session.credentials)
            })
        })
    }
}
