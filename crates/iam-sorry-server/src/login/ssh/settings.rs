//! `[login.ssh]`: where keys come from.

use std::path::PathBuf;

use serde::Deserialize;

use crate::login::error::SettingsError;

/// `[login.ssh]`: where keys come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SshSettings {
    /// From the directory of `[login.ldap]`, if there is one.
    pub directory: bool,
    /// Registered by people who were signed in.
    pub registered: bool,
    /// From a file of people (`people_file`).
    pub file: Option<PathBuf>,
}

impl Default for SshSettings {
    fn default() -> Self {
        Self { directory: true, registered: true, file: None }
    }
}

impl SshSettings {
    pub(crate) fn check(&self, with_directory: bool) -> Result<(), SettingsError> {
        if self.file.is_none() && !with_directory {
            let what = "nobody's key could be known: give login.ssh.file, or [login.ldap]";
            return Err(SettingsError::new("login.ssh", what));
        }
        if !self.directory && !self.registered && self.file.is_none() {
            return Err(SettingsError::new("login.ssh", "every source of keys is off"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_with_which_nobody_gets_in_are_refused() {
        let check = |text: &str, directory| toml::from_str::<SshSettings>(text).unwrap().check(directory);
        assert!(check("", true).is_ok());
        assert!(check("", false).is_err());
        assert!(check("file = \"/x\"", false).is_ok());
        assert!(check("directory = false\nregistered = false", true).is_err());
    }
}
