//! Sign-in by SSH key as a source of identities: whose key it is by the file of people, and which other sources count.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ssh::PublicKey;

use super::people_file::{ISSUER, PeopleFile};
use super::settings::SshSettings;
use crate::login::error::{LoginError, RejectReason, SettingsError};
use crate::login::source::{AttemptRoute, Dialogue, IdentitySource, Offer, Sought};

/// Its id among the offers.
pub const OFFER: &str = "ssh-key";

/// Sign-in by SSH key, with the people of the file, if there is one.
pub struct SshKeys {
    settings: SshSettings,
    file: Option<PeopleFile>,
}

impl SshKeys {
    /// Reads the file of people, if there is one.
    ///
    /// # Errors
    /// [`SettingsError`] saying what is wrong with the file.
    pub fn new(settings: SshSettings) -> Result<Self, SettingsError> {
        let file = settings.file.clone().map(PeopleFile::new).transpose();
        let file = file.map_err(|error| SettingsError::new("login.ssh.file", &error))?;
        Ok(Self { settings, file })
    }

    /// Whether keys that the directory knows count.
    pub fn from_directory(&self) -> bool {
        self.settings.directory
    }

    /// Whether keys that people registered count.
    pub fn from_registered(&self) -> bool {
        self.settings.registered
    }

    /// Whose key it is by the file.
    ///
    /// # Errors
    /// [`LoginError`]; [`RejectReason::UnknownKey`] also without a file.
    pub fn person_of_key(&self, key: &PublicKey) -> Result<Identity, LoginError> {
        match &self.file {
            Some(file) => file.person_of_key(key),
            None => Err(LoginError::Refused(RejectReason::UnknownKey)),
        }
    }

    /// The groups of the people in the file.
    ///
    /// # Errors
    /// [`LoginError::Broken`]
    pub fn groups(&self) -> Result<BTreeSet<String>, LoginError> {
        self.file.as_ref().map_or_else(|| Ok(Default::default()), PeopleFile::groups)
    }

    /// Somebody in the file, as they are now.
    ///
    /// # Errors
    /// [`LoginError`]
    pub fn person(&self, subject: &str) -> Result<Identity, LoginError> {
        match &self.file {
            Some(file) => file.person(subject),
            None => Err(LoginError::Refused(RejectReason::UnknownPerson)),
        }
    }
}

impl IdentitySource for SshKeys {
    /// Of the people in the file. Whom the directory's or a registered key signs in comes from another source.
    fn issuer(&self) -> Option<&str> {
        self.file.as_ref().map(|_| ISSUER)
    }

    fn offer(&self) -> Offer {
        Offer { id: OFFER.to_owned(), method: Method::SshKey, label: "SSH key".to_owned() }
    }

    fn attempts(&self) -> Vec<AttemptRoute> {
        vec![AttemptRoute::all("/api/v1/login/ssh"), AttemptRoute::all("/api/v1/login/ssh/challenge")]
    }

    fn dialogue(&self) -> Dialogue<'_> {
        Dialogue::Challenge { arguments: Some("") }
    }

    fn lookup<'a>(&'a self, sought: Sought<'a>) -> BoxFuture<'a, Result<Identity, LoginError>> {
        let person = self.person(sought.subject).map(|person| Identity { method: sought.method, ..person });
        std::future::ready(person).boxed()
    }
}
