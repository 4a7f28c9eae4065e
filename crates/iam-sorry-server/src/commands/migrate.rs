//! `iam-sorryd migrate`: the database's schema.

use iam_sorry_store::Store;

use super::{ConfigFile, Failure, print};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

/// Brings the database to this version's schema. Safe to repeat; stop the service first where the notes of a release
/// say so.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = arguments.file.load()?.store_settings().map_err(Failure::found)?;
    let report = Store::migrate(&settings).map_err(Failure::new)?;
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
