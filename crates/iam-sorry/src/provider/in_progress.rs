//! Detects profiles that need their own credentials.

use crate::app::App;
use crate::error::{Error, Result};

/// The profiles whose credentials are being obtained, outermost first, including those of parent processes.
#[derive(Clone, Debug)]
pub struct InProgress(Vec<String>);

impl InProgress {
    /// Starts with the profiles of the parent processes.
    pub fn new(names: &[String]) -> Self {
        Self(names.to_vec())
    }

    /// With one more profile.
    pub fn with(&self, app: &App, name: &str) -> Result<Self> {
        self.check(app, name)?;
        let mut names = self.0.clone();
        names.push(name.to_owned());
        Ok(Self(names))
    }

    /// Fails for a profile that needs itself, which would otherwise start processes until the machine has none left
    /// (aws-vault#1176).
    pub fn check(&self, app: &App, name: &str) -> Result<()> {
        if !self.0.iter().any(|in_progress| in_progress == name) {
            return Ok(());
        }
        let way: Vec<&str> = self.0.iter().map(String::as_str).chain([name]).collect();
        let (credentials, config) = (&app.settings.credentials_file, &app.settings.config_file);
        Err(Error::profile(format!(
            "Profile '{name}' needs its own credentials to get credentials: {}",
            way.join(" -> ")
        ))
        .hint(format!("Look at its credential_process and source_profile in {}", config.display()))
        .hint(format!("Or put keys of its own into [{name}] in {}", credentials.display())))
    }

    /// The value of the environment variable for child processes.
    pub fn lines(&self) -> String {
        self.0.join("\n")
    }
}
