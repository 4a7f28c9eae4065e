//! `[audit]` of the configuration.

use std::path::PathBuf;

use serde::Deserialize;

use crate::audit::sinks::SinkSettings;

/// `[audit]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSettings {
    /// The private key that checkpoints are signed with (`iam-sorryd audit new-key FILE`).
    pub key_file: Option<PathBuf>,
    /// Where the last signed state is kept outside the database; beside the key (`KEY_FILE.signed`) where it is not set.
    pub state_file: Option<PathBuf>,
    /// Sign after so many records, 1 to 100,000.
    pub checkpoint_records: u64,
    /// Sign after so many seconds where anything was recorded, 1 to 3,600.
    pub checkpoint_seconds: u64,
    /// Where records are sent besides the database.
    #[serde(rename = "sink")]
    pub sinks: Vec<SinkSettings>,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            key_file: None,
            state_file: None,
            checkpoint_records: 1_000,
            checkpoint_seconds: 60,
            sinks: Vec::new(),
        }
    }
}

impl AuditSettings {
    /// Where the last signed state is kept; nowhere without a key.
    pub fn state_path(&self) -> Option<PathBuf> {
        let key = self.key_file.as_ref()?;
        Some(self.state_file.clone().unwrap_or_else(|| {
            let mut name = key.clone().into_os_string();
            name.push(".signed");
            name.into()
        }))
    }

    /// What one field can't see by itself.
    ///
    /// # Errors
    /// A text that names the setting and the way out.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=100_000).contains(&self.checkpoint_records) {
            return Err("audit.checkpoint_records must be between 1 and 100000.".to_owned());
        }
        if !(1..=3_600).contains(&self.checkpoint_seconds) {
            return Err("audit.checkpoint_seconds must be between 1 and 3600.".to_owned());
        }
        if self.state_file.is_some() && self.key_file.is_none() {
            return Err("audit.state_file needs audit.key_file: without a key nothing is signed.".to_owned());
        }
        for (index, sink) in self.sinks.iter().enumerate() {
            sink.check()?;
            if self.sinks[..index].iter().any(|other| other.name == sink.name) {
                return Err(format!(
                    "Two audit sinks are called {:?}.\nGive each a name of its own: their progress is kept by it.",
                    sink.name
                ));
            }
        }
        Ok(())
    }
}
