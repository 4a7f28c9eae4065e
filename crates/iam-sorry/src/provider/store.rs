//! Puts new credentials into their profile.

use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::ssh::login::Origin;
use secrecy::{ExposeSecret, SecretString};

use crate::app::App;
use crate::error::{Error, Result};
use crate::profile::{EXPIRATION, ID, KEPT_ID, KEPT_SECRET, OWNER, Profile, SECRET, SERVER, TOKEN};
use crate::sealing;

use super::job::RefreshJob;

/// Who issued the credentials; recorded in the profile.
#[derive(Clone, Copy)]
pub enum IssuedBy<'a> {
    OwnKey,
    Manager,
    Service(&'a Origin),
}

/// Writes the credentials. False if that failed and the job tolerates it.
pub fn deliver(
    app: &App,
    job: &RefreshJob,
    credentials: &Credentials,
    user: &str,
    issued_by: IssuedBy<'_>,
) -> Result<bool> {
    match write(app, job, credentials, user, None, issued_by) {
        Err(error) if job.write_is_optional => {
            app.out.warn(format!("The renewed credentials of '{}' are not written: {error}", job.name));
            Ok(false)
        }
        written => written.map(|()| true),
    }
}

/// Writes the credentials to the profile. A permanent key is sealed beside them: a new one, or the user's own that was
/// in their place. Even one that AWS refused is kept: it may be inactive for now, or belong to another account.
pub fn write(
    app: &App,
    job: &RefreshJob,
    credentials: &Credentials,
    user: &str,
    new: Option<&AccessKey>,
    issued_by: IssuedBy<'_>,
) -> Result<()> {
    let name = &job.name;
    let keep = new.or(job.own_key.as_ref().filter(|_| job.seal_own_key));
    let mut to_seal: Vec<(&'static str, SecretString)> = Vec::new();
    if let Some(key) = keep {
        to_seal.extend([(KEPT_ID, key.id.as_str().into()), (KEPT_SECRET, key.secret.clone())]);
    }
    // Temporary credentials that were sealed stay sealed.
    if job.profile.as_ref().and_then(Profile::active_key).is_some_and(|k| k.is_sealed() && k.token.is_some())
    {
        to_seal.push((ID, credentials.access_key_id.as_str().into()));
        to_seal.push((SECRET, credentials.secret_access_key.clone()));
        to_seal.extend(credentials.session_token.clone().map(|token| (TOKEN, token)));
    }
    let sealed = if to_seal.is_empty() {
        Vec::new()
    } else {
        sealing::seal(app, name, job.profile.as_ref(), &to_seal)?
    };
    app.update(&app.credentials, |document| {
        match &job.profile {
            Some(profile) => sealing::check_unchanged(document, profile)?,
            None if document.contains(name) => {
                return Err(Error::other(format!(
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
        match issued_by {
            IssuedBy::OwnKey => {}
            IssuedBy::Manager => {
                document.remove(name, SERVER);
            }
            // So that it can refresh them unattended while the session lasts.
            IssuedBy::Service(origin) => document.set(name, SERVER, origin.as_str())?,
        }
        sealing::store(document, name, &sealed)
    })
}
