//! Settings for a directory that a test started, and what else the tests share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use iam_sorry_core::identity::Identity;
use iam_sorry_core::ssh::PublicKey;
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_server::login::ldap::{Directory, LdapSettings};
use iam_sorry_server::login::{LoginError, RejectReason};
use testkit::Slapd;

/// The settings, in the form that an operator gives them.
pub struct Setup {
    pub urls: Vec<String>,
    pub start_tls: bool,
    pub ca_file: Option<PathBuf>,
    pub anonymous: bool,
    pub service_dn: String,
    pub password: String,
    pub users_base: String,
    pub groups_base: String,
    pub more: String,
}

impl Setup {
    pub fn plain(slapd: &Slapd) -> Self {
        Self {
            urls: vec![slapd.url()],
            start_tls: false,
            ca_file: None,
            anonymous: false,
            service_dn: slapd.service_dn(),
            password: slapd.service_password().to_owned(),
            users_base: slapd.people_base(),
            groups_base: slapd.groups_base(),
            more: String::new(),
        }
    }

    pub fn ldaps(slapd: &Slapd) -> Self {
        Self { urls: vec![slapd.tls_url()], ca_file: Some(slapd.ca_file()), ..Self::plain(slapd) }
    }

    pub fn start_tls(slapd: &Slapd) -> Self {
        Self { start_tls: true, ca_file: Some(slapd.ca_file()), ..Self::plain(slapd) }
    }

    /// `[login.ldap]`, without the heading. The password lies in `folder`.
    pub fn toml(&self, folder: &tempfile::TempDir) -> String {
        let mut text = format!(
            "name = \"corp\"\nurls = {:?}\nstart_tls = {}\nusers_base = {:?}\ngroups_base = {:?}\n",
            self.urls, self.start_tls, self.users_base, self.groups_base
        );
        if let Some(file) = &self.ca_file {
            text += &format!("ca_file = {file:?}\n");
        }
        if !self.anonymous {
            let file = folder.path().join("bind-password");
            fs::write(&file, &self.password).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            text += &format!("bind_dn = {:?}\nbind_password = {{ file = {file:?} }}\n", self.service_dn);
        }
        text + &self.more
    }

    pub fn directory(&self) -> Directory {
        let folder = tempfile::tempdir().unwrap();
        let settings: LdapSettings = toml::from_str(&self.toml(&folder)).unwrap();
        Directory::new(settings).unwrap()
    }

    pub async fn sign_in(
        &self,
        directory: &Directory,
        name: &str,
        password: &str,
    ) -> Result<Identity, LoginError> {
        let candidate = directory.find(name).await?;
        directory.prove(&candidate, &password.to_owned().into(), now()).await
    }
}

pub fn now() -> Timestamp {
    later(0)
}

pub fn later(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_795_374_000 + seconds).unwrap()
}

/// `name: group group`
pub fn names(identity: &Identity) -> String {
    format!("{}: {}", identity.name, identity.groups.labels().join(" "))
}

/// Whose key it is, where it is one person's.
pub async fn person_of_key(
    directory: &Directory,
    key: &PublicKey,
    now: Timestamp,
) -> Result<Identity, LoginError> {
    let mut holders = directory.holders_of_key(key, None, now).await?;
    match (holders.pop(), holders.is_empty()) {
        (Some(holder), true) => directory.person_of_holder(holder).await,
        (Some(_), false) => Err(LoginError::Refused(RejectReason::SeveralPeople)),
        (None, _) => Err(LoginError::Refused(RejectReason::UnknownKey)),
    }
}

/// A public key that nobody has the private half of.
pub fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32]).unwrap()
}
