//! `--config FILE`, which most verbs take.

use std::path::PathBuf;

use super::output::Failure;
use crate::config::Config;

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", default_value = "/etc/iam-sorryd/config.toml")]
    config: PathBuf,
}

impl ConfigFile {
    /// The configuration, checked.
    ///
    /// # Errors
    /// [`Failure`] with every problem.
    pub fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.config).map_err(Failure::found)
    }

    /// The configuration, only read.
    ///
    /// # Errors
    /// [`Failure`] with the one problem.
    pub fn read(&self) -> Result<Config, Failure> {
        Config::read(&self.config).map_err(Failure::found)
    }
}
