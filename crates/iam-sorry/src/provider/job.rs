//! One profile to refresh: everything that can be checked, and refused, before the first request.

use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::AccessKey;
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::human_duration;
use secrecy::SecretString;

use crate::app::App;
use crate::error::{Error, Result};
use crate::profile::{self, KEPT_ID, OWNER, Profile};
use crate::sealing;

/// A profile to refresh, with what is known before the first request.
pub struct RefreshJob {
    pub name: String,
    /// The stored profile; `None` if it does not exist yet.
    pub profile: Option<Profile>,
    /// The user's own permanent key, opened.
    pub own_key: Option<AccessKey>,
    /// Whether to seal that key beside the temporary credentials: it is in their place, or plain.
    pub seal_own_key: bool,
    /// The caller waits for the credentials, so a profile that can't be written is no error.
    pub write_is_optional: bool,
}

impl RefreshJob {
    /// `manager` is the manager profile, which is never overwritten.
    pub fn plan(
        app: &App,
        name: &str,
        manager: Option<&str>,
        (credentials, config): (&Document, &Document),
        keep_key: bool,
    ) -> Result<Self> {
        if manager == Some(name) {
            return Err(Error::usage(format!(
                "'{name}' is the manager profile; it is never overwritten with temporary credentials"
            ))
            .hint(format!("Name another profile or user: iam-sorry --profile {name} NAME"))
            .hint(
                "A session made without MFA can't call IAM, so the manager itself would have no use for one",
            ));
        }
        // An invalid name must not cost a key.
        credentials.clone().set(name, OWNER, "x")?;
        let profile = Profile::find(name, credentials, config);
        if let Some(profile) = &profile {
            use profile::ProfileKind::{Process, Role, Sso};
            if let kind @ (Role | Sso | Process) = profile.kind() {
                return Err(Error::profile(format!(
                    "Profile '{name}' is a {} profile: AWS tools get its credentials by themselves",
                    kind.as_str()
                ))
                .hint(format!("Use it: aws --profile {name} ...")));
            }
            if profile.kept_key().is_some() && profile.active_key().is_none() {
                return Err(Error::profile(format!(
                    "Profile '{name}' serves its permanent keys through credential_process; they are not overwritten"
                ))
                .hint(format!("Use it: iam-sorry exec {name} -- COMMAND")));
            }
        }
        let own_key = profile.as_ref().and_then(Profile::permanent_key);
        let seal_own_key = own_key.is_some_and(|key| !key.is_sealed() || key.id.0 != KEPT_ID);
        let own_key = match (&profile, own_key) {
            (Some(profile), Some(key)) => {
                let opened = app.open(profile, key)?;
                Some(AccessKey { id: opened.access_key_id, secret: opened.secret_access_key })
            }
            _ => None,
        };
        let job = Self { name: name.to_owned(), profile, own_key, seal_own_key, write_is_optional: false };
        // Sealing may prompt or be impossible. That must come out before a key is made.
        if job.seal_own_key || keep_key {
            // A trial: it finds and unlocks the SSH key, which then stays unlocked.
            sealing::seal(app, name, job.profile.as_ref(), &[(KEPT_ID, SecretString::from("trial"))])?;
        }
        Ok(job)
    }

    /// If no user is recorded, the profile's name must be the user's.
    pub fn check_name(&self) -> Result<()> {
        match &self.profile {
            Some(profile) if profile.owner().is_some() || profile.active_key().is_some() => Ok(()),
            _ => UserName::parse(&self.name).map(drop).map_err(|e| Error::usage(e.to_string())),
        }
    }

    /// The IAM user, if it is known without a request.
    pub fn known_user(&self) -> Option<UserName> {
        let name = match &self.profile {
            Some(profile) if profile.owner().is_some() => profile.owner()?,
            Some(profile) if profile.active_key().is_some() => return None,
            _ => &self.name,
        };
        UserName::parse(name).ok()
    }

    /// A line for an error, about the credentials that remain in the profile.
    pub fn remaining_credentials(&self, app: &App) -> Option<String> {
        let profile = self.profile.as_ref()?;
        let name = &self.name;
        Some(match profile.expiration().map(|at| at.seconds_after(app.now())) {
            Some(left) if left > 0 => {
                format!(
                    "Profile '{name}' was left as it was; its credentials are valid for another {}",
                    human_duration(left)
                )
            }
            Some(left) => {
                format!(
                    "Profile '{name}' was left as it was; its credentials expired {} ago",
                    human_duration(-left)
                )
            }
            None => format!("Profile '{name}' was left as it was"),
        })
    }
}
