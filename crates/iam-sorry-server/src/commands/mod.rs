//! The verbs of `iam-sorryd`. Only here are exit codes chosen and text printed.

mod audit;
mod check_config;
mod config_file;
mod migrate;
mod output;
mod parts;
mod policy;
mod restored;
mod rules;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use config_file::ConfigFile;
pub use output::{Failure, notice, print};

/// The department service: people sign in, rules decide, IAM actions are done on their behalf, and everything is written
/// down under their names.
#[derive(Debug, Parser)]
#[command(name = "iam-sorryd", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "\
Try it on this machine, with no directory and no database:
    iam-sorryd serve --dev

Run it:
    iam-sorryd check-config --config /etc/iam-sorryd/config.toml
    iam-sorryd migrate --config /etc/iam-sorryd/config.toml
    iam-sorryd serve --config /etc/iam-sorryd/config.toml

Exit: 0; 1 it could not be done; 2 wrong arguments; 3 something is wrong in the configuration, rules or records.")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the service until SIGTERM or Ctrl-C; what is under way is finished first
    Serve(serve::Arguments),
    /// Reads the configuration and the files it names, and says what is wrong; shows no secret
    CheckConfig(check_config::Arguments),
    /// Brings the database to this version's schema; makes it where there is none
    Migrate(migrate::Arguments),
    /// Prints the least IAM policy for the service's own AWS identity
    Policy(policy::Arguments),
    /// Exports and verifies the audit trail; makes the key that signs it
    Audit(audit::Arguments),
    /// Checks, tries and explains rules, those in force or others
    Rules(rules::Arguments),
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    // Sessions, secrets of the directory and AWS keys are in this process's memory; whatever it writes is private.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match arguments.verb {
        Verb::Serve(arguments) => serve::run(&arguments),
        Verb::CheckConfig(arguments) => check_config::run(&arguments),
        Verb::Migrate(arguments) => migrate::run(&arguments),
        Verb::Policy(arguments) => policy::run(&arguments),
        Verb::Audit(arguments) => audit::run(&arguments),
        Verb::Rules(arguments) => rules::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
