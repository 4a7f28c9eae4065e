//! The profiles whose credentials are being got: what stops one that needs itself.

use crate::app::App;
use crate::error::{Error, Result};

/// The profiles under way, outermost first, those of an iam-sorry that started a program that started us included.
#[derive(Clone, Debug)]
pub struct InProgress(Vec<String>);

impl InProgress {
    /// Those that an iam-sorry above this one is getting credentials for.
    pub fn new(names: &[String]) -> Self {
        Self(names.to_vec())
    }

    /// One deeper.
    pub fn with(&self, app: &App, name: &str) -> Result<Self> {
        self.check(app, name)?;
        let mut names = self.0.clone();
        names.push(name.to_owned());
        Ok(Self(names))
    }

    /// Stops a profile that needs itself, which would go on until the machine has no process left (aws-vault#1176).
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

    /// For the environment of a program that we start.
    pub fn lines(&self) -> String {
        self.0.join("\n")
    }
}
