//! The registry of sign-in methods: which there are, in the order in which they are offered.

use std::collections::BTreeSet;
use std::sync::Arc;

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ssh::login::Origin;

use super::dev::DevLink;
use super::error::{LoginError, RejectReason, SettingsError};
use super::ldap::Directory;
use super::settings::LoginSettings;
use super::source::{AttemptRoute, Dialogue, IdentitySource, Offer, PasswordDialogue, Sought};
use super::ssh::SshKeys;

/// The sign-in methods, ready.
#[derive(Clone, Default)]
pub struct LoginMethods {
    sources: Vec<Arc<dyn IdentitySource>>,
    /// Those of them that also say whose SSH key and whose group it is.
    directories: Vec<Arc<Directory>>,
    /// Those of them that have doors of their own.
    ssh: Option<Arc<SshKeys>>,
    dev: Option<Arc<DevLink>>,
}

impl LoginMethods {
    /// Makes them from checked settings; no directory is asked yet.
    ///
    /// # Errors
    /// [`SettingsError`]: a secret, a CA file or a file of people that can't be read; two sources of one name.
    pub fn new(settings: &LoginSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let mut methods = Self::default();
        if let Some(ldap) = &settings.ldap {
            methods = methods.with_directory(Directory::new(ldap.clone())?)?;
        }
        if let Some(ssh) = &settings.ssh {
            methods = methods.with_ssh_keys(SshKeys::new(ssh.clone())?)?;
        }
        Ok(methods)
    }

    /// And a directory.
    ///
    /// # Errors
    /// [`SettingsError`] if there is a source of its name.
    pub fn with_directory(self, directory: Directory) -> Result<Self, SettingsError> {
        let directory = Arc::new(directory);
        let mut methods = self.with(Arc::clone(&directory) as Arc<dyn IdentitySource>)?;
        methods.directories.push(directory);
        Ok(methods)
    }

    /// And sign-in by SSH key.
    ///
    /// # Errors
    /// [`SettingsError`] if it is there already, or a source has the name of its file of people.
    pub fn with_ssh_keys(self, keys: SshKeys) -> Result<Self, SettingsError> {
        let keys = Arc::new(keys);
        let methods = self.with(Arc::clone(&keys) as Arc<dyn IdentitySource>)?;
        Ok(Self { ssh: Some(keys), ..methods })
    }

    /// And the link of `serve --dev`.
    ///
    /// # Errors
    /// [`SettingsError`] if it is there already.
    pub fn with_dev_link(self) -> Result<Self, SettingsError> {
        let link = Arc::new(DevLink);
        let methods = self.with(Arc::clone(&link) as Arc<dyn IdentitySource>)?;
        Ok(Self { dev: Some(link), ..methods })
    }

    /// And any other source.
    ///
    /// # Errors
    /// [`SettingsError`] if there is a source of its name, or an offer of its id: people would be taken for one another.
    pub fn with(mut self, source: Arc<dyn IdentitySource>) -> Result<Self, SettingsError> {
        if let Some(issuer) = source.issuer()
            && self.of_issuer(issuer).is_some()
        {
            let what = format!("two sources of people are called {issuer:?}: give one of them another name");
            return Err(SettingsError::new("login", &what));
        }
        let id = source.offer().id;
        if self.offers().any(|offer| offer.id == id) {
            let what = format!("two ways to sign in are called {id:?}: give one of them another name");
            return Err(SettingsError::new("login", &what));
        }
        self.sources.push(source);
        Ok(self)
    }

    /// What is offered, in order.
    pub fn offers(&self) -> impl Iterator<Item = Offer> {
        self.sources.iter().map(|source| source.offer())
    }

    /// The offers with their dialogues, in order.
    pub fn dialogues(&self) -> impl Iterator<Item = (Offer, Dialogue<'_>)> {
        self.sources.iter().map(|source| (source.offer(), source.dialogue()))
    }

    /// The methods that are offered, each once, in order.
    pub fn methods(&self) -> Vec<Method> {
        let mut methods = Vec::new();
        for method in self.offers().map(|offer| offer.method) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        methods
    }

    /// The routes whose requests are attempts to sign in, and by what.
    pub fn attempts(&self) -> Vec<(AttemptRoute, Method)> {
        let of = |source: &Arc<dyn IdentitySource>| {
            let method = source.offer().method;
            source.attempts().into_iter().map(move |route| (route, method)).collect::<Vec<_>>()
        };
        self.sources.iter().flat_map(of).collect()
    }

    /// The origins of all providers that a page of the service may send people to.
    pub fn leads_to(&self) -> BTreeSet<String> {
        let of = |source: &Arc<dyn IdentitySource>| match source.dialogue() {
            Dialogue::Redirect { leads_to, .. } => leads_to,
            Dialogue::Password(_) | Dialogue::Challenge { .. } => Vec::new(),
        };
        self.sources.iter().flat_map(of).map(|origin: Origin| origin.to_string()).collect()
    }

    /// The source that checks passwords.
    pub fn password(&self) -> Option<&dyn PasswordDialogue> {
        self.sources.iter().find_map(|source| match source.dialogue() {
            Dialogue::Password(dialogue) => Some(dialogue),
            Dialogue::Challenge { .. } | Dialogue::Redirect { .. } => None,
        })
    }

    /// The directories, in order: they say whose SSH key and whose group it is.
    pub fn directories(&self) -> &[Arc<Directory>] {
        &self.directories
    }

    /// Sign-in by SSH key.
    pub fn ssh_keys(&self) -> Option<&SshKeys> {
        self.ssh.as_deref()
    }

    /// The link of `serve --dev`.
    pub fn dev_link(&self) -> Option<&DevLink> {
        self.dev.as_deref()
    }

    /// The person as their issuer has them now; nobody if that issuer is no longer a source.
    ///
    /// # Errors
    /// [`LoginError`]
    pub async fn lookup(&self, issuer: &str, sought: Sought<'_>) -> Result<Identity, LoginError> {
        match self.of_issuer(issuer) {
            Some(source) => source.lookup(sought).await,
            None => Err(LoginError::Refused(RejectReason::UnknownPerson)),
        }
    }

    fn of_issuer(&self, issuer: &str) -> Option<&dyn IdentitySource> {
        self.sources.iter().find(|source| source.issuer() == Some(issuer)).map(AsRef::as_ref)
    }
}
