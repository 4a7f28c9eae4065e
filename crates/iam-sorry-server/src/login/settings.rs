//! `[login]`: the sign-in methods that are offered.

use serde::Deserialize;

use super::error::SettingsError;
use super::ldap::LdapSettings;
use super::limits::LimitSettings;
use super::ssh::SshSettings;

/// `[login]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginSettings {
    /// By SSH key.
    pub ssh: Option<SshSettings>,
    /// By the password that a directory knows.
    pub ldap: Option<LdapSettings>,
    /// How often an attempt may fail.
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
