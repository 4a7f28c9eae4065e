//! `[login.ldap]`: how to reach the directory, and where people and groups are in it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::login::error::SettingsError;
use crate::secret_ref::SecretRef;

/// The directory that passwords, groups and (where it has them) SSH keys are asked of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LdapSettings {
    /// The issuer in people's ids (`corp/<uuid>`): lower-case letters, digits and hyphens. Never change it.
    pub name: String,
    /// What kind it is; gives the defaults below.
    #[serde(default)]
    pub kind: Kind,
    /// `ldaps://host[:port]` or `ldap://host[:port]`; the next one serves while one is down.
    pub urls: Vec<String>,
    /// Whether `ldap://` is turned into TLS (RFC 4511, section 4.14). Needed except on loopback.
    #[serde(default)]
    pub start_tls: bool,
    /// PEM file with the only CAs to trust; else the system's.
    pub ca_file: Option<PathBuf>,
    /// Who searches; without it, anonymously.
    pub bind_dn: Option<String>,
    /// The password of `bind_dn`.
    pub bind_password: Option<SecretRef>,
    /// Where people are.
    pub users_base: String,
    /// Which of them may sign in. OpenLDAP: `(objectClass=person)`, Active Directory: `(&(objectCategory=person)(objectClass=user))`.
    pub user_filter: Option<String>,
    /// The login name. OpenLDAP: `uid`, Active Directory: `sAMAccountName`.
    pub name_attribute: Option<String>,
    /// What never changes and is never given to anybody else. OpenLDAP: `entryUUID`, Active Directory: `objectGUID`.
    pub subject_attribute: Option<String>,
    /// Where people's public SSH keys are.
    #[serde(default = "ssh_public_key")]
    pub ssh_key_attribute: String,
    /// Where groups are; without it nobody has any.
    pub groups_base: Option<String>,
    /// Which of them count. OpenLDAP: groupOfNames, groupOfUniqueNames and posixGroup, Active Directory: security groups.
    pub group_filter: Option<String>,
    /// What groups are called in the rules.
    #[serde(default = "cn")]
    pub group_name_attribute: String,
    /// What never changes of a group: rules can name it as `NAME/ID`, NAME being the directory's. OpenLDAP: `entryUUID`, Active
    /// Directory: `objectGUID`.
    pub group_id_attribute: Option<String>,
    /// Whether the groups that a person's groups are in count too.
    #[serde(default = "yes")]
    pub nested_groups: bool,
    /// An entry that unknown names are tried against, so that they cost the directory a password check too: one that
    /// nobody uses, with a random password and no lock-out.
    pub decoy_dn: Option<String>,
    /// How long the directory may take for one step.
    #[serde(default = "five")]
    pub timeout_seconds: u64,
}

/// The kinds of directory that are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// OpenLDAP, 389 Directory Server and their like.
    #[default]
    Openldap,
    /// Active Directory, Samba included.
    ActiveDirectory,
}

/// A server, read from its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub host: String,
    pub port: u16,
    pub transport: Transport,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// TLS from the first byte.
    Ldaps,
    /// TLS after the first exchange; without it the connection is given up.
    StartTls,
    /// None: to this machine only.
    Plain,
}

impl LdapSettings {
    /// Checks what can be checked without the directory.
    ///
    /// # Errors
    /// [`SettingsError`] naming the setting and the way out.
    pub fn check(&self) -> Result<(), SettingsError> {
        let name = &self.name;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 32 || !name.chars().all(plain) || name == "dev" {
            return Err(wrong("name", "give it lower-case letters, digits and hyphens, such as \"corp\""));
        }
        self.servers()?;
        match (&self.bind_dn, &self.bind_password) {
            (Some(dn), Some(_)) if !dn.trim().is_empty() => {}
            (None, None) => {}
            // An empty DN with a password is an anonymous bind to some servers (RFC 4513, section 5.1.1).
            _ => return Err(wrong("bind_dn", "give bind_dn and bind_password together, or neither")),
        }
        for (setting, base) in
            [("users_base", Some(&self.users_base)), ("groups_base", self.groups_base.as_ref())]
        {
            if base.is_some_and(|base| !base.contains('=')) {
                return Err(wrong(setting, "give a DN, such as \"ou=people,dc=example,dc=org\""));
            }
        }
        for (setting, filter) in
            [("user_filter", self.user_filter.as_ref()), ("group_filter", self.group_filter.as_ref())]
        {
            let good =
                |filter: &String| filter.starts_with('(') && ldap3::parse_filter(filter.as_bytes()).is_ok();
            if filter.is_some_and(|filter| !good(filter)) {
                return Err(wrong(
                    setting,
                    "it is no LDAP filter (RFC 4515), such as \"(objectClass=person)\"",
                ));
            }
        }
        for (setting, attribute) in [
            ("name_attribute", self.name_attribute()),
            ("subject_attribute", self.subject_attribute()),
            ("ssh_key_attribute", &self.ssh_key_attribute),
            ("group_name_attribute", &self.group_name_attribute),
            ("group_id_attribute", self.group_id_attribute()),
        ] {
            if !is_attribute(attribute) {
                return Err(wrong(setting, "it is no name of an attribute, such as \"uid\""));
            }
        }
        if !(1..=60).contains(&self.timeout_seconds) {
            return Err(wrong("timeout_seconds", "give 1 to 60"));
        }
        Ok(())
    }

    pub(super) fn servers(&self) -> Result<Vec<Server>, SettingsError> {
        if self.urls.is_empty() {
            return Err(wrong("urls", "give at least one, such as [\"ldaps://ldap.example.org\"]"));
        }
        self.urls.iter().map(|url| self.server(url)).collect()
    }

    fn server(&self, url: &str) -> Result<Server, SettingsError> {
        let form = || wrong("urls", &format!("'{url}' is not ldaps://HOST[:PORT] or ldap://HOST[:PORT]"));
        let (tls, rest) = match (url.strip_prefix("ldaps://"), url.strip_prefix("ldap://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(form()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            None => {
                if tls {
                    636
                } else {
                    389
                }
            }
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(form)?,
        };
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match v6 {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_err() => return Err(form()),
            Some(_) if tls || self.start_tls => {
                return Err(wrong(
                    "urls",
                    "certificates are for names: give the host's name, not an IPv6 address",
                ));
            }
            None if host.is_empty() || !host.chars().all(named) => return Err(form()),
            _ => {}
        }
        let transport = match (tls, self.start_tls) {
            (true, true) => {
                return Err(wrong("start_tls", &format!("'{url}' is TLS already: leave start_tls out")));
            }
            (true, false) => Transport::Ldaps,
            (false, true) => Transport::StartTls,
            (false, false) if is_loopback(v6.unwrap_or(host)) => Transport::Plain,
            (false, false) => {
                return Err(wrong(
                    "urls",
                    &format!(
                        "'{url}' would send passwords in the clear\nGive an ldaps:// URL, or set start_tls = true."
                    ),
                ));
            }
        };
        Ok(Server { host: v6.unwrap_or(host).to_owned(), port, transport })
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    pub(super) fn user_filter(&self) -> &str {
        self.user_filter.as_deref().unwrap_or(match self.kind {
            Kind::Openldap => "(objectClass=person)",
            Kind::ActiveDirectory => "(&(objectCategory=person)(objectClass=user))",
        })
    }

    pub(super) fn name_attribute(&self) -> &str {
        self.name_attribute.as_deref().unwrap_or(match self.kind {
            Kind::Openldap => "uid",
            Kind::ActiveDirectory => "sAMAccountName",
        })
    }

    pub(super) fn subject_attribute(&self) -> &str {
        self.subject_attribute.as_deref().unwrap_or(match self.kind {
            Kind::Openldap => "entryUUID",
            Kind::ActiveDirectory => "objectGUID",
        })
    }

    pub(super) fn group_id_attribute(&self) -> &str {
        self.group_id_attribute.as_deref().unwrap_or(match self.kind {
            Kind::Openldap => "entryUUID",
            Kind::ActiveDirectory => "objectGUID",
        })
    }

    pub(super) fn group_filter(&self) -> &str {
        self.group_filter.as_deref().unwrap_or(match self.kind {
            Kind::Openldap => {
                "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))"
            }
            // Distribution lists are no groups to Windows either: LDAP_MATCHING_RULE_BIT_AND with the bit
            // GROUP_TYPE_SECURITY_ENABLED of groupType (MS-ADTS, section 2.2.12).
            Kind::ActiveDirectory => "(&(objectClass=group)(groupType:1.2.840.113556.1.4.803:=2147483648))",
        })
    }
}

fn wrong(setting: &str, what: &str) -> SettingsError {
    SettingsError::new(&format!("login.ldap.{setting}"), what)
}

/// `localhost` is checked again when connected: what it resolves to is not ours to say.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// RFC 4512, section 1.4: a descriptor or a dotted number, without options.
fn is_attribute(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 64 && name.chars().all(rest)
}

fn ssh_public_key() -> String {
    "sshPublicKey".to_owned()
}

fn cn() -> String {
    "cn".to_owned()
}

fn yes() -> bool {
    true
}

fn five() -> u64 {
    5
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "name = \"corp\"\nusers_base = \"ou=people,dc=example,dc=org\"\n";

    fn settings(more: &str) -> LdapSettings {
        toml::from_str(&format!("{MINIMAL}{more}")).unwrap()
    }

    fn refused(more: &str) -> String {
        settings(more).check().unwrap_err().to_string()
    }

    #[test]
    fn passwords_never_travel_in_the_clear() {
        for url in ["ldap://ldap.example.org", "ldap://10.0.0.1:389", "ldap://localhost.example.org"] {
            let text = refused(&format!("urls = [\"{url}\"]"));
            assert!(text.contains("in the clear") && text.contains("start_tls"), "{text}");
            settings(&format!("urls = [\"{url}\"]\nstart_tls = true")).check().unwrap();
        }
        for url in
            ["ldap://127.0.0.1:3389", "ldap://localhost", "ldap://[::1]:389", "ldaps://ldap.example.org"]
        {
            settings(&format!("urls = [\"{url}\"]")).check().unwrap();
        }
        assert!(
            refused("urls = [\"ldaps://a\", \"ldap://b\"]").contains("in the clear"),
            "one bad server is enough"
        );
    }

    #[test]
    fn what_can_not_work_is_said_at_once() {
        for (more, word) in [
            ("urls = []", "urls"),
            ("urls = [\"https://x\"]", "urls"),
            ("urls = [\"ldaps://x/dc=a\"]", "urls"),
            ("urls = [\"ldaps://user@x\"]", "urls"),
            ("urls = [\"ldaps://x:99999\"]", "urls"),
            ("urls = [\"ldaps://[::1]\"]", "IPv6"),
            ("urls = [\"ldaps://x\"]\nstart_tls = true", "TLS already"),
            ("urls = [\"ldaps://x\"]\nbind_dn = \"cn=a\"", "together"),
            ("urls = [\"ldaps://x\"]\nbind_dn = \"\"\nbind_password = { variable = \"X\" }", "together"),
            ("urls = [\"ldaps://x\"]\nuser_filter = \"objectClass=person\"", "user_filter"),
            ("urls = [\"ldaps://x\"]\nuser_filter = \"(a=b)(c=d)\"", "user_filter"),
            ("urls = [\"ldaps://x\"]\ngroup_filter = \"((\"", "group_filter"),
            ("urls = [\"ldaps://x\"]\nname_attribute = \"uid)(x=*\"", "name_attribute"),
            ("urls = [\"ldaps://x\"]\ngroups_base = \"groups\"", "groups_base"),
            ("urls = [\"ldaps://x\"]\ntimeout_seconds = 0", "timeout_seconds"),
        ] {
            let text = refused(more);
            assert!(text.contains(word), "{more}: {text}");
        }
        let with = |name: &str| MINIMAL.replace("corp", name) + "urls = [\"ldaps://x\"]";
        for name in ["", "a/b", "Corp", "dev", "a b"] {
            let settings: LdapSettings = toml::from_str(&with(name)).unwrap();
            assert!(settings.check().is_err(), "{name}");
        }
        assert!(toml::from_str::<LdapSettings>(&format!("{MINIMAL}urls = []\npassword = \"x\"")).is_err());
    }
}
