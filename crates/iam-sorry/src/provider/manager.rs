//! The manager: the profile whose keys ask IAM for others.

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

/// The manager's way to AWS, opened when it is first needed.
pub struct Manager<'a> {
    app: &'a App,
    name: Option<&'a str>,
    profile: Option<Profile>,
    opened: OnceCell<(Aws, Credentials)>,
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl<'a> Manager<'a> {
    pub fn new(app: &'a App, name: Option<&'a str>, config: &Document, credentials: &Document) -> Self {
        let profile = name.and_then(|name| Profile::find(name, credentials, config));
        Self { app, name, profile, opened: OnceCell::new(), turns: Mutex::default() }
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

    /// A namespace that is written down with the manager is kept to before AWS is asked. What it may do is decided by
    /// its policy in IAM; this only says no sooner, and why.
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
        .hint(format!("Where its policy allows more than that, take {NAMESPACE} out of [{name}] in {file}")))
    }

    /// Opens its keys; with an mfa_serial, IAM is asked with an MFA session of theirs.
    pub async fn open(&self, cancel: &Cancel) -> Result<&(Aws, Credentials)> {
        self.opened.get_or_try_init(|| self.open_anew(cancel)).await
    }

    /// Profiles of one user take turns: IAM allows two keys, and of two that appear at once neither could be told from
    /// the other after a lost answer.
    pub(super) fn turn_of(&self, user: &UserName) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(user.as_str().to_lowercase()).or_default().clone()
    }

    async fn open_anew(&self, cancel: &Cancel) -> Result<(Aws, Credentials)> {
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
        let asked = session_from_key(&aws, &key, SessionDuration::HOUR, Some(&mfa), None);
        let session = cancel.unless(asked).await?;
        Ok((aws, session.credentials))
    }
}
