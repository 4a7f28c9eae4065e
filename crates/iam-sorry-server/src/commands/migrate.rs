//! `iam-sorryd migrate`: the database's schema.

use iam_sorry_store::Store;

use super::config_file::ConfigFile;
use super::output::{Failure, print};
use super::parts::signs_of_another;
use super::restored::continue_trail;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Makes a new, empty database although there was one before; its trail begins with a record that says so
    #[arg(long)]
    new: bool,
}

/// Brings the database to this version's schema. Safe to repeat; stop the service first where the notes of a release
/// say so.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.file.load()?;
    let settings = config.store_settings().map_err(Failure::found)?;
    let exists = Store::exists(&settings).map_err(Failure::new)?;
    let signs = if exists { Vec::new() } else { signs_of_another(&config, &settings) };
    if exists && arguments.new {
        return Err(Failure::new(
            "There is a database already, and --new is for where there is none.\nMove it away first, or run: iam-sorryd \
             migrate",
        ));
    }
    if !signs.is_empty() && !arguments.new {
        return Err(Failure::new(format!(
            "There is no database, but there was one: {}.\nPut it back, or restore a backup and run: iam-sorryd audit restored \
             --reason TEXT\nOr begin a new one without what it knew: iam-sorryd migrate --new",
            signs.join("; ")
        )));
    }
    let report = Store::migrate(&settings).map_err(Failure::new)?;
    if !signs.is_empty() {
        let found = format!("no database; {}", signs.join("; "));
        continue_trail(&config, "a new database (migrate --new)", Some(&found))?;
    }
    if report.applied.is_empty() {
        return print(format_args!("The database has schema {}, as this version needs.", report.to));
    }
    print(format_args!(
        "The database is brought from schema {} to {}: {}",
        report.from,
        report.to,
        report.applied.join(", ")
    ))
}
