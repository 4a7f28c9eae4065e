//! Who somebody is, as a sign-in proved it: the same for every way of signing in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::group::Groups;

/// How a person proved who they are. A new way of signing in is a new variant here and a new module in the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub enum Method {
    /// A signature by a registered SSH key.
    SshKey,
    /// A password that an LDAP directory or Active Directory accepted.
    Ldap,
    /// The one-time link of `serve --dev`.
    DevLink,
}

impl Method {
    /// The name in rules, records and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SshKey => "ssh-key",
            Self::Ldap => "ldap",
            Self::DevLink => "dev-link",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who says that an SSH key is its person's: what a sign-in by that key is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum KeyOrigin {
    /// The directory (`sshPublicKey`).
    Directory,
    /// The service's file of people.
    File,
    /// The person, who had signed in by a key that did not come from a password or a link either.
    SshKey,
    /// The person, who had signed in by a password, or by a key that was registered so.
    Ldap,
    /// The same by the link of `serve --dev`.
    DevLink,
}

impl KeyOrigin {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Directory, Self::File, Self::SshKey, Self::Ldap, Self::DevLink];

    /// The name in rules, records and the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::SshKey => "ssh-key",
            Self::Ldap => "ldap",
            Self::DevLink => "dev-link",
        }
    }

    /// Reads [`KeyOrigin::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == text)
    }

    /// Of a key that is registered by somebody who signed in by `method`, and by a key of origin `key` where it was by
    /// key. A chain of keys is worth what it began with: a password does not become an SSH key by registering two.
    /// `None`: the session is from before origins were kept.
    pub fn of_key_registered_by(method: Method, key: Option<Self>) -> Option<Self> {
        match method {
            Method::Ldap => Some(Self::Ldap),
            Method::DevLink => Some(Self::DevLink),
            Method::SshKey => key.map(|key| match key {
                Self::Directory | Self::File | Self::SshKey => Self::SshKey,
                Self::Ldap => Self::Ldap,
                Self::DevLink => Self::DevLink,
            }),
        }
    }
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A person who signed in. `issuer` and `subject` together are stable and never given to anybody else; `name` is what
/// people read and may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Who vouches: the name of the directory or provider in the configuration, such as `corp`.
    pub issuer: String,
    /// The issuer's stable name for the person: an LDAP entryUUID or objectGUID, an OIDC `sub`.
    pub subject: String,
    /// The login name, folded as the issuer compares names (`alice`).
    pub name: String,
    /// Groups, nested ones included.
    pub groups: Groups,
    /// How they signed in.
    pub method: Method,
}

impl Identity {
    /// `issuer/subject`: the person's key in rules, store and audit. The issuer has no slash (the configuration sees to
    /// it), so two people never share one.
    pub fn id(&self) -> String {
        format!("{}/{}", self.issuer, self.subject)
    }
}
