//! One profile to refresh: all that can be known, and refused, before AWS is asked.

use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::AccessKey;
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::human_duration;
use secrecy::SecretString;

use crate::app::App;
use crate::error::{Error, Result};
use crate::profile::{self, KEPT_ID, OWNER, Profile};
use crate::sealing;

/// One profile to refresh, and what is known of it before AWS is asked.
pub struct RefreshJob {
    pub name: String,
    /// As it is in the files; `None` where it will be new.
    pub profile: Option<Profile>,
    /// The user's own permanent key, opened.
    pub own: Option<AccessKey>,
    /// It lies where the temporary credentials will, or as plain text, and shall be kept, sealed, beside them.
    pub own_to_seal: bool,
    /// Somebody waits for the credentials themselves: a profile that can't be written is no failure.
    pub hand_out_unwritten: bool,
}

impl RefreshJob {
    /// `manager` is the profile that must not be overwritten.
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
        // A name that could not be written must not cost a key.
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
        let own_to_seal = own_key.is_some_and(|key| !key.is_sealed() || key.id.0 != KEPT_ID);
        let own = match (&profile, own_key) {
            (Some(profile), Some(key)) => {
                let opened = app.open(profile, key)?;
                Some(AccessKey { id: opened.access_key_id, secret: opened.secret_access_key })
            }
            _ => None,
        };
        let job = Self { name: name.to_owned(), profile, own, own_to_seal, hand_out_unwritten: false };
        // Sealing may need a passphrase or be impossible: found out before a key is made, not after.
        if job.own_to_seal || keep_key {
            // A trial: it finds and unlocks the key, which then stays unlocked.
            sealing::seal(app, name, job.profile.as_ref(), &[(KEPT_ID, SecretString::from("trial"))])?;
        }
        Ok(job)
    }

    /// Where nothing else says whose it is, the name is the user's, so it must be one.
    pub fn check_name(&self) -> Result<()> {
        match &self.profile {
            Some(profile) if profile.owner().is_some() || profile.active_key().is_some() => Ok(()),
            _ => UserName::parse(&self.name).map(drop).map_err(|e| Error::usage(e.to_string())),
        }
    }

    /// The user, where AWS need not be asked.
    pub fn known_user(&self) -> Option<UserName> {
        let name = match &self.profile {
            Some(profile) if profile.owner().is_some() => profile.owner()?,
            Some(profile) if profile.active_key().is_some() => return None,
            _ => &self.name,
        };
        UserName::parse(name).ok()
    }

    /// "its credentials are valid for another 3 h", for an error.
    pub fn what_stays(&self, app: &App) -> Option<String> {
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
