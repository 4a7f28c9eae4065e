//! The manager: the profile whose keys make keys for other users.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use iam_sorry_aws::issue::session_from_key;
use iam_sorry_aws::{Aws, Cancel};
use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{Namespace, SessionDuration, UserName};
use tokio::sync::OnceCell;

use crate::app::App;
use crate::aws;
use crate::error::{Error, Result};
use crate::profile::{NAMESPACE, Profile};

use super::mfa::mfa;

pub fn no_manager() -> Error {
    Error::usage("No manager profile specified. Use --profile or set AWS_PROFILE environment variable")
        .hint("iam-sorry --profile usermanager NAME")
}

/// The manager's client and credentials, opened when they are first needed.
pub struct Manager<'a> {
    app: &'a App,
    name: Option<&'a str>,
    profile: Option<Profile>,
    opened: OnceCell<(Aws, Credentials)>,
    user_locks: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl<'a> Manager<'a> {
    pub fn new(app: &'a App, name: Option<&'a str>, config: &Document, credentials: &Document) -> Self {
        let profile = name.and_then(|name| Profile::find(name, credentials, config));
        Self { app, name, profile, opened: OnceCell::new(), user_locks: Mutex::default() }
    }

    pub fn name(&self) -> Result<&str> {
        let name = self.name.ok_or_else(no_manager)?;
        match &self.profile {
            Some(profile) if profile.usable_key().is_some() => Ok(name),
            Some(_) => {
                Err(Error::profile(format!("Manager profile '{name}' missing access key or secret key"))
                    .hint(format!(
                        "Put them into [{name}] in {}",
                        self.app.settings.credentials_file.display()
                    )))
            }
            None => Err(self
                .app
                .not_found("Manager profile", name)
                .hint(format!("[{name}]\naws_access_key_id = AKIA...\naws_secret_access_key = ..."))),
        }
    }

    /// Checks the namespace that is recorded with the manager, before any request. IAM's policy decides what the
    /// manager may do; this only refuses earlier, with a reason.
    pub fn check_namespace(&self, user: &UserName) -> Result<()> {
        let Some(profile) = &self.profile else { return Ok(()) };
        let Some(written) = profile.field(NAMESPACE) else { return Ok(()) };
        let namespace = Namespace::parse(written)?;
        if namespace.contains(user) {
            return Ok(());
        }
        let (name, file) = (&profile.name, self.app.settings.credentials_file.display());
        Err(Error::usage(format!(
            "Manager profile '{name}' is for the users '{namespace}' and '{namespace}-*', and '{user}' is not one of them"
        ))
        .hint("Name that user's manager: --profile MANAGER")
        .hint(format!("If its policy allows more than that, take {NAMESPACE} out of [{name}] in {file}")))
    }

    /// Opens its keys. If it has an mfa_serial, the credentials are those of an MFA session.
    pub async fn open(&self, cancel: &Cancel) -> Result<&(Aws, Credentials)> {
        self.opened.get_or_try_init(|| self.open_session(cancel)).await
    }

    /// A lock per user. IAM allows two keys, and after a lost response two new keys could not be told apart.
    pub(super) fn user_lock(&self, user: &UserName) -> Arc<tokio::sync::Mutex<()>> {
        let mut user_locks = self.user_locks.lock().unwrap_or_else(PoisonError::into_inner);
        user_locks.entry(user.as_str().to_lowercase()).or_default().clone()
    }

    async fn open_session(&self, cancel: &Cancel) -> Result<(Aws, Credentials)> {
        let name = self.name()?;
        let profile = self.profile.as_ref().ok_or_else(no_manager)?;
        let credentials = self.app.usable_credentials(profile)?;
        let aws = aws::connect(self.app, Some(profile))?;
        if !credentials.is_permanent() {
            return Ok((aws, credentials));
        }
        let Some(mfa) = mfa(self.app, profile)? else { return Ok((aws, credentials)) };
        self.app.out.progress(format!("Opening a session of '{name}' with MFA..."));
        let key = AccessKey { id: credentials.access_key_id, secret: credentials.secret_access_key };
        let request = session_from_key(&aws, &key, SessionDuration::HOUR, Some(&mfa), None);
        let session = cancel.unless(request).await?;
        Ok((aws, session.credentials))
    }
}
