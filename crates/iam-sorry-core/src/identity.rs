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
