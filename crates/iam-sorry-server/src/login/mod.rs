//! The ways to sign in. Each proves who somebody is and gives an [`Identity`], or a [`LoginError`]; nothing else. What
//! follows is the same for all and is in `sessions/sign_in`: limits, audit record, session, the texts that people read.
//! So a new way can't forget any of it, and none of them can hand out a token.
//!
//! What comes next fits in so, each with a module here, a [`Method`] in the core and a door in `sessions/sign_in`:
//!
//! | way         | how it becomes an `Identity`                                                                       |
//! |-------------|----------------------------------------------------------------------------------------------------|
//! | OIDC        | `begin(browser) -> redirect`, `finish(browser, response)`: two steps like the SSH key's; the state that lies between is a one-time row in the store, as a challenge is; issuer = the provider's name here, subject = `sub` |
//! | SAML        | the same two steps; subject = the persistent NameID; the id of the assertion is stored once, against replay |
//! | Kerberos    | one step: a SPNEGO token gives the principal, [`ldap::Directory`] the subject and the groups       |
//! | device code | no way of its own: a session that another way opened, approved for another machine's request       |
//!
//! Whoever is known by a key or a ticket alone is looked up in the directory at every sign-in, so that an account that
//! was disabled can't sign in by what was registered before, and groups are as they are now.

pub mod dev;
pub mod ldap;
pub mod limits;
pub(crate) mod singleflight;
pub mod ssh;
pub mod ssh_file;

use std::sync::Arc;

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use serde::Deserialize;

pub use limits::LimitSettings;

/// `[login]`: the ways that are offered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginSettings {
    /// By SSH key.
    pub ssh: Option<ssh::SshSettings>,
    /// By the password that a directory knows.
    pub ldap: Option<ldap::LdapSettings>,
    /// How often it may be tried.
    pub limits: LimitSettings,
}

impl LoginSettings {
    /// Checks what can be checked without any other machine.
    ///
    /// # Errors
    /// [`SettingsError`] naming the setting and the way out.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.ssh.is_none() && self.ldap.is_none() {
            let what = "nobody could sign in: give [login.ssh], [login.ldap] or both";
            return Err(SettingsError::new("login", what));
        }
        self.limits.check()?;
        if let Some(ldap) = &self.ldap {
            ldap.check()?;
        }
        if let Some(ssh) = &self.ssh {
            ssh.check(self.ldap.is_some())?;
        }
        Ok(())
    }
}

/// The ways to sign in, ready.
#[derive(Clone, Default)]
pub struct LoginMethods {
    /// By SSH key.
    pub ssh: Option<Arc<ssh::SshKeys>>,
    /// The directory: passwords, and whose keys are whose.
    pub directory: Option<Arc<ldap::Directory>>,
    /// The link of `serve --dev`.
    pub dev: Option<Arc<dev::DevLink>>,
}

impl LoginMethods {
    /// Makes them from checked settings; the directory is not asked yet.
    ///
    /// # Errors
    /// [`SettingsError`]: a secret, a CA file or a file of keys that can't be read.
    pub fn new(settings: &LoginSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let directory = settings.ldap.clone().map(ldap::Directory::new).transpose()?.map(Arc::new);
        let ssh = settings.ssh.clone().map(ssh::SshKeys::new).transpose()?.map(Arc::new);
        Ok(Self { ssh, directory, dev: None })
    }

    /// What is offered, for those who ask before signing in.
    pub fn methods(&self) -> Vec<Method> {
        let offered = [
            (Method::SshKey, self.ssh.is_some()),
            (Method::Ldap, self.directory.is_some()),
            (Method::DevLink, self.dev.is_some()),
        ];
        offered.into_iter().filter(|(_, there)| *there).map(|(method, _)| method).collect()
    }
}

/// A setting that can't work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {what}")]
pub struct SettingsError {
    setting: String,
    what: String,
}

impl SettingsError {
    pub(crate) fn new(setting: &str, what: &str) -> Self {
        Self { setting: setting.to_owned(), what: what.to_owned() }
    }
}

/// Why nobody was proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// They are not who they say, or may not sign in. The person learns that much and no more.
    #[error("{0}")]
    Refused(RejectReason),
    /// Whom to ask could not be asked: nobody knows. For the log.
    #[error("the directory can't be asked: {0}")]
    Unavailable(String),
    /// What was found makes no sense; the operator has to look. For the log.
    #[error("{0}")]
    Broken(String),
}

/// What was wrong: for the audit trail, never for the person, who could be somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// No such person.
    #[error("unknown-person")]
    UnknownPerson,
    /// What was typed can be no name.
    #[error("impossible-name")]
    ImpossibleName,
    /// The name, or the key, is that of several people.
    #[error("several-people")]
    SeveralPeople,
    /// The directory refuses the password.
    #[error("wrong-password")]
    WrongPassword,
    /// None was given, or one that is never sent.
    #[error("empty-password")]
    EmptyPassword,
    /// The account is disabled.
    #[error("disabled")]
    Disabled,
    /// The account is locked.
    #[error("locked")]
    Locked,
    /// The account has ended.
    #[error("expired")]
    Expired,
    /// The password has ended or must be changed first.
    #[error("password-expired")]
    PasswordExpired,
    /// More groups than can be followed: with some of them missing, a rule that forbids could be missed.
    #[error("too-many-groups")]
    TooManyGroups,
    /// The challenge is unknown, used, too old, or another's.
    #[error("no-such-challenge")]
    Challenge,
    /// The signature is not that key's over that challenge and our origin.
    #[error("wrong-signature")]
    Signature,
    /// The key is nobody's, or not that of the person who was named.
    #[error("unknown-key")]
    UnknownKey,
    /// The key was registered without a signature by it, so whose it is nobody knows.
    #[error("unproved-key")]
    UnprovedKey,
    /// The link was used, is too old, or never was.
    #[error("no-such-link")]
    Link,
    /// Tried too often.
    #[error("too-often")]
    TooOften,
}

/// Puts an identity together.
pub(crate) fn identity(
    issuer: &str,
    subject: &str,
    name: &str,
    groups: impl IntoIterator<Item = Group>,
    method: Method,
) -> Identity {
    Identity {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        name: name.to_owned(),
        groups: groups.into_iter().collect(),
        method,
    }
}
