//! Who somebody is, as a sign-in proved it: the same for every sign-in method.

use std::fmt;
use std::str::FromStr;

use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Serialize};

use crate::group::Groups;

// A new method is a variant here and a source in the server's `login/`. Every `match` over it names every variant, so that
// nothing compiles until each place has decided what a new one means.
/// How a person proved who they are: the sign-in method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

    /// Whether an SSH key proved it, so that what the sign-in is worth depends on who says that the key is the person's
    /// ([`KeyOrigin`]).
    pub fn is_by_ssh_key(self) -> bool {
        match self {
            Self::SshKey => true,
            Self::Ldap | Self::DevLink => false,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no sign-in method. Its message lists them all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownMethod(String);

impl FromStr for Method {
    type Err = UnknownMethod;

    /// Reads [`Method::as_str`].
    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        // serde knows every variant: no list of them can be forgotten.
        Self::deserialize(text.into_deserializer())
            .map_err(|error: serde::de::value::Error| UnknownMethod(error.to_string()))
    }
}

/// How a session came to whoever has it. The sign-in method says what proved the person; this says over which channel the
/// session was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Via {
    /// The person signed in on the service's own page; the session is that browser's cookie.
    Browser,
    /// A program signed in over the API, and got the token as the answer.
    Api,
}

impl Via {
    /// The name in records and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownVia(String);

impl FromStr for Via {
    type Err = UnknownVia;

    /// Reads [`Via::as_str`].
    fn from_str(text: &str) -> Result<Self, UnknownVia> {
        Self::deserialize(text.into_deserializer())
            .map_err(|error: serde::de::value::Error| UnknownVia(error.to_string()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_channels_are_read_by_the_names_they_are_written_by() {
        for method in [Method::SshKey, Method::Ldap, Method::DevLink] {
            assert_eq!(method.as_str().parse(), Ok(method));
            assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
        }
        for via in [Via::Browser, Via::Api] {
            assert_eq!(via.as_str().parse(), Ok(via));
            assert_eq!(serde_json::to_value(via).unwrap(), via.as_str());
        }
        assert!("Browser".parse::<Via>().is_err());
        let unknown = "Ldap".parse::<Method>().unwrap_err().to_string();
        assert!(unknown.contains("`ssh-key`, `ldap`, `dev-link`"), "{unknown}");
    }
}
